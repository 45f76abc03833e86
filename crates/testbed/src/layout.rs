// SPDX-License-Identifier: Apache-2.0
//! Where the files of a lab are, and the record from which another process can enter it or end it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use serde::{Deserialize, Serialize};

use crate::error::{Doing, LabError, Result};
use crate::namespace::Place;
use crate::process::start_time;

/// All labs of this machine.
pub const ROOT: &str = "/run/isthmus-lab";
/// How often a directory is made whose parent goes away meanwhile.
const MOST_TRIES: usize = 1000;

/// What labs keep on disk, because it is too much for the memory that /run often is.
pub const DATA: &str = "/var/lib/isthmus-lab";

/// The list of control groups in a lab's directory.
const GROUPS: &str = "cgroups";

/// Where an agent and its clients expect the socket; each node's own directory is laid over it.
pub const AGENT_RUN: &str = "/var/run/cilium";

/// The directory of one lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout(PathBuf);

impl Layout {
    /// The lab named `name`, which need not exist.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(Path::new(ROOT).join(name))
    }

    /// Every lab that has a directory.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let Ok(entries) = fs::read_dir(ROOT) else {
            return Vec::new();
        };
        entries.flatten().map(|entry| Self(entry.path())).collect()
    }

    /// Makes the directories, on a mount whose new submounts reach every namespace made from it.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn create(&self) -> Result<()> {
        make(&self.0).doing("create", &self.0)?;
        let none = None::<&str>;
        mount(Some(&self.0), &self.0, none, MsFlags::MS_BIND, none)
            .doing("mount on itself", &self.0)?;
        mount(none, &self.0, none, MsFlags::MS_SHARED, none).doing("share", &self.0)?;
        for dir in ["netns", "proc", "log", "bin"] {
            self.dir(dir)?;
        }
        fs::create_dir_all(AGENT_RUN).doing("create mount point", AGENT_RUN)
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Its last component.
    #[must_use]
    pub fn name(&self) -> String {
        self.0
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// A directory inside, made if it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn dir(&self, name: impl AsRef<Path>) -> Result<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir_all(&path).doing("create", &path)?;
        Ok(path)
    }

    /// The lab's directory on disk.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        Path::new(DATA).join(self.name())
    }

    /// A directory on disk, made if it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn data_dir(&self, name: impl AsRef<Path>) -> Result<PathBuf> {
        let path = self.data().join(name);
        fs::create_dir_all(&path).doing("create", &path)?;
        Ok(path)
    }

    /// Writes down control groups before they are made, so that the teardown finds them.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn record_groups<'a>(&self, groups: impl IntoIterator<Item = &'a Path>) -> Result<()> {
        let path = self.0.join(GROUPS);
        let mut file = fs::File::options()
            .create(true)
            .append(true)
            .open(&path)
            .doing("open", &path)?;
        for group in groups {
            writeln!(file, "{}", group.display()).doing("write", &path)?;
        }
        Ok(())
    }

    /// The control groups that were written down.
    #[must_use]
    pub fn groups(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string(self.0.join(GROUPS)).unwrap_or_default();
        text.lines().map(PathBuf::from).collect()
    }

    /// The file that keeps the network namespace `name` alive.
    #[must_use]
    pub fn netns(&self, name: &str) -> PathBuf {
        self.0.join("netns").join(flat(name))
    }

    /// The log of the process `name`.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.0.join("log").join(flat(name)).with_extension("log")
    }

    /// The record of the process `name`.
    #[must_use]
    pub fn process(&self, name: &str) -> PathBuf {
        self.0.join("proc").join(flat(name))
    }

    /// Reads the record.
    ///
    /// # Errors
    /// There is no such lab, or it is still being made.
    pub fn record(&self) -> Result<Record> {
        let path = self.0.join("lab.json");
        let text = fs::read(&path).doing("read the lab's record", &path)?;
        serde_json::from_slice(&text)
            .map_err(std::io::Error::other)
            .doing("parse", &path)
    }

    /// Replaces the record in one step.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_record(&self, record: &Record) -> Result<()> {
        let path = self.0.join("lab.json");
        let new = self.0.join("lab.json.new");
        let text = serde_json::to_vec_pretty(record)
            .map_err(std::io::Error::other)
            .doing("serialise", &path)?;
        fs::write(&new, text).doing("write", &new)?;
        fs::rename(&new, &path).doing("replace", &path)
    }
}

/// `cluster5/node1` as one path component.
fn flat(name: &str) -> String {
    name.replace('/', "-")
}

/// What another process needs to know of a lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The process that made the lab: (pid, start time).
    pub owner: (i32, u64),
    /// True if it stays when its owner ends.
    pub keep: bool,
    /// Nodes, pods and other hosts by name.
    pub places: BTreeMap<String, Place>,
    /// Process 1 of each node with namespaces of all kinds, by the node's name.
    #[serde(default)]
    pub machines: BTreeMap<String, i32>,
}

impl Record {
    /// A record owned by this process.
    #[must_use]
    pub fn new(keep: bool) -> Self {
        let pid = std::process::id().cast_signed();
        Self {
            owner: (pid, start_time(pid).unwrap_or_default()),
            keep,
            places: BTreeMap::new(),
            machines: BTreeMap::new(),
        }
    }

    /// The process that made this lab and still runs, unless it is this one.
    #[must_use]
    pub fn user(&self) -> Option<i32> {
        let (pid, start) = self.owner;
        let other = pid != std::process::id().cast_signed();
        (other && start_time(pid) == Some(start)).then_some(pid)
    }

    /// True if nobody will take this lab down any more and nobody wants it.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        !self.keep && start_time(self.owner.0) != Some(self.owner.1)
    }

    /// The place called `name`, in full or by an ending that only one has.
    ///
    /// # Errors
    /// None or several fit.
    pub fn place(&self, name: &str) -> Result<&Place> {
        named(&self.places, name).ok_or_else(|| self.unknown(name))
    }

    /// Process 1 of the node called `name`, likewise, if nodes have one.
    #[must_use]
    pub fn machine(&self, name: &str) -> Option<i32> {
        named(&self.machines, name).copied()
    }

    fn unknown(&self, name: &str) -> LabError {
        LabError::Unknown {
            kind: "node or pod",
            name: name.to_owned(),
            known: self.places.keys().cloned().collect::<Vec<_>>().join(", "),
        }
    }
}

/// What has this name, or alone has a name with this ending.
fn named<'a, T>(all: &'a BTreeMap<String, T>, name: &str) -> Option<&'a T> {
    let ending = format!("/{name}");
    let mut fitting = all.iter().filter(|(full, _)| full.ends_with(&ending));
    all.get(name)
        .or_else(|| match (fitting.next(), fitting.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        })
}

/// Makes a directory below one that the last of the other labs may take away at any moment.
fn make(dir: &Path) -> std::io::Result<()> {
    for _ in 0..MOST_TRIES {
        match fs::create_dir_all(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
    fs::create_dir_all(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_begins_while_the_last_of_the_others_ends() {
        let base = tempfile::tempdir().expect("a directory");
        let root = base.path().join("root");
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let _in_use = fs::remove_dir(&root);
                    // Labs end now and then: whoever removes all the time wins each race.
                    std::thread::sleep(std::time::Duration::from_micros(1));
                }
            });
            let lab = root.join("lab");
            let made = (0..5000).map(|_| make(&lab).and_then(|()| fs::remove_dir(&lab)));
            let result: std::io::Result<()> = made.collect();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            result.expect("made");
        });
    }

    #[test]
    fn a_lab_is_in_use_by_another_living_process_only() {
        let own = Record::new(false);
        assert_eq!((own.user(), own.is_abandoned()), (None, false));
        let init = start_time(1).expect("there is a first process");
        let owned_by = |pid, start| Record {
            owner: (pid, start),
            ..own.clone()
        };
        assert_eq!(owned_by(1, init).user(), Some(1));
        // The number was given to another process since.
        let dead = owned_by(1, init + 1);
        assert_eq!((dead.user(), dead.is_abandoned()), (None, true));
    }
}
