// SPDX-License-Identifier: Apache-2.0
//! Following a manifest directory: the kernel's notices wake a scan, and a slow scan is the net below them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::{Manifests, ObjectEvent, Problem};

/// Largest file that is read.
const MAX_FILE: u64 = 8 << 20;
/// Most files that are read.
const MAX_FILES: usize = 4096;
/// Scan without a notice.
const NET: Duration = Duration::from_secs(5);
/// Notices that come together make one scan.
const SETTLE: Duration = Duration::from_millis(5);

/// What a scan found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Update {
    /// Changes since the last update, deletions first.
    pub events: Vec<ObjectEvent>,
    /// Everything that is not in force now.
    pub problems: Vec<Problem>,
}

/// The directory cannot be followed at all.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// It cannot be read.
    #[error("cannot read manifest directory {path}: {source}; check --manifests")]
    Read {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The kernel gives no notices.
    #[error(
        "cannot watch manifest directory {path}: {source}; check fs.inotify.max_user_instances"
    )]
    Watch {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: notify::Error,
    },
}

/// A followed directory.
#[derive(Debug)]
pub struct Follow {
    dir: PathBuf,
    manifests: Manifests,
    notices: mpsc::Receiver<()>,
    last_problems: Vec<Problem>,
    first: bool,
    _watcher: notify::RecommendedWatcher,
}

impl Follow {
    /// Begins to follow `dir`. The first [`Follow::next`] answers at once with everything.
    pub fn new(dir: &Path) -> Result<Self, WatchError> {
        std::fs::read_dir(dir).map_err(|source| WatchError::Read {
            path: dir.to_owned(),
            source,
        })?;
        let (tx, notices) = mpsc::channel(1);
        let watch = |source| WatchError::Watch {
            path: dir.to_owned(),
            source,
        };
        let mut watcher =
            notify::recommended_watcher(move |notice: notify::Result<notify::Event>| {
                // Reading the directory is a notice as well: our own scan must not wake the next.
                if notice.is_ok_and(|notice| notice.kind.is_access()) {
                    return;
                }
                // A full channel already holds a wake-up.
                let _ = tx.try_send(());
            })
            .map_err(watch)?;
        watcher
            .watch(dir, RecursiveMode::NonRecursive)
            .map_err(watch)?;
        Ok(Self {
            dir: dir.to_owned(),
            manifests: Manifests::default(),
            notices,
            last_problems: Vec::new(),
            first: true,
            _watcher: watcher,
        })
    }

    /// Waits for the next change. Cancel safe.
    pub async fn next(&mut self) -> Update {
        loop {
            if !self.first {
                if let Ok(Some(())) = tokio::time::timeout(NET, self.notices.recv()).await {
                    tokio::time::sleep(SETTLE).await;
                }
                while self.notices.try_recv().is_ok() {}
            }
            let first = std::mem::take(&mut self.first);
            let (events, mut problems) = match read_dir(&self.dir, self.manifests.texts()) {
                Ok((texts, problems)) => (self.manifests.update(texts), problems),
                Err(error) => (
                    Vec::new(),
                    vec![file_problem(
                        "",
                        format!("cannot read the directory: {error}"),
                        true,
                    )],
                ),
            };
            problems.extend(self.manifests.problems().cloned());
            if first || !events.is_empty() || problems != self.last_problems {
                self.last_problems.clone_from(&problems);
                return Update { events, problems };
            }
        }
    }
}

fn file_problem(file: &str, reason: String, previous_stays: bool) -> Problem {
    Problem {
        file: file.to_owned(),
        document: 0,
        object: None,
        reason,
        previous_stays,
    }
}

/// Texts of all manifests, and files that cannot be read: those keep the text they had.
fn read_dir(
    dir: &Path,
    before: &BTreeMap<String, String>,
) -> std::io::Result<(BTreeMap<String, String>, Vec<Problem>)> {
    let mut texts = BTreeMap::new();
    let mut problems = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let manifest = path
            .extension()
            .is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        if name.starts_with('.') || !manifest {
            continue;
        }
        if texts.len() >= MAX_FILES {
            problems.push(file_problem(
                name,
                format!("more than {MAX_FILES} files: put several objects into one file"),
                false,
            ));
            break;
        }
        match read_file(&path) {
            Ok(text) => {
                texts.insert(name.to_owned(), text);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                texts.extend(before.get(name).map(|text| (name.to_owned(), text.clone())));
                problems.push(file_problem(
                    name,
                    error.to_string(),
                    before.contains_key(name),
                ));
            }
        }
    }
    Ok((texts, problems))
}

fn read_file(path: &Path) -> std::io::Result<String> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(std::io::Error::other(format!(
            "not a regular file of at most {MAX_FILE} bytes"
        )));
    }
    std::fs::read_to_string(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_scan_does_not_wake_the_next() {
        let dir = tempfile::tempdir().expect("temp dir");
        std::fs::write(dir.path().join("a.yaml"), "").expect("write");
        let mut follow = Follow::new(dir.path()).expect("a directory");
        follow.next().await;
        while tokio::time::timeout(Duration::from_millis(50), follow.notices.recv())
            .await
            .is_ok()
        {}
        read_dir(dir.path(), &BTreeMap::new()).expect("readable");
        let woken = tokio::time::timeout(Duration::from_millis(200), follow.notices.recv()).await;
        assert!(woken.is_err(), "reading the directory woke a scan");
        std::fs::write(dir.path().join("b.yaml"), "").expect("write");
        let woken = tokio::time::timeout(Duration::from_secs(5), follow.notices.recv()).await;
        assert_eq!(woken, Ok(Some(())));
    }
}
