// SPDX-License-Identifier: Apache-2.0
//! The directory with one file per remote cluster (as in Cilium's `pkg/clustermesh/common/config.go`): what is in
//! it, and when to look again. Contents decide, not times or inodes, so that symlink swaps and renewed certificates
//! change nothing.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use kvstore::config::Config;
use model::ClusterName;
use notify::{RecursiveMode, Watcher};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::Error;

/// Largest file that is read, in bytes.
const LARGEST: u64 = 256 * 1024;
/// Most files that are looked at.
const MOST_FILES: usize = 4096;

/// A difference in the directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigChange {
    /// The file is new or has changed, and is usable.
    Usable(ClusterName, Config),
    /// The file is new or has changed, and is not usable.
    Unusable {
        /// Its name, which may be no cluster name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is gone.
    Removed {
        /// Its name.
        name: String,
    },
}

/// Content of a file, or why there is none.
type Seen = Result<[u8; 32], String>;

/// The directory as it was seen last.
#[derive(Debug)]
pub struct ConfigDir {
    dir: PathBuf,
    own: ClusterName,
    seen: BTreeMap<String, Seen>,
    /// Names of clusters of an earlier run.
    known: Vec<String>,
}

impl ConfigDir {
    /// Nothing was seen yet. The file named `own` will be ignored.
    pub fn new(dir: &Path, own: ClusterName) -> Self {
        Self {
            dir: dir.to_owned(),
            own,
            seen: BTreeMap::new(),
            known: Vec::new(),
        }
    }

    /// Names the clusters of an earlier run: what has such a name and is no configuration file is one that is damaged.
    pub fn knowing(mut self, names: Vec<String>) -> Self {
        self.known = names;
        self
    }

    /// What changed since the last call. A directory that cannot be read changes nothing.
    pub fn scan(&mut self) -> Result<Vec<ConfigChange>, Error> {
        let failed = |error: std::io::Error| Error::Watch {
            dir: self.dir.clone(),
            reason: error.to_string(),
        };
        let mut names = Vec::new();
        for (count, entry) in std::fs::read_dir(&self.dir).map_err(failed)?.enumerate() {
            if count == MOST_FILES {
                // In no particular order: what is not looked at would count as removed.
                let reason = format!(
                    "it holds more than {MOST_FILES} files: remove what is no configuration of a cluster"
                );
                return Err(failed(std::io::Error::other(reason)));
            }
            let name = entry.map_err(failed)?.file_name();
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
                continue;
            };
            if name != self.own.as_str() {
                names.push(name.to_owned());
            }
        }
        names.sort();
        let mut changes = Vec::new();
        let mut now = BTreeMap::new();
        for name in names {
            let content = match read(&self.dir.join(&name), &name) {
                Found::Configuration(content) => content,
                // Only what is removed ends a cluster, not what is damaged.
                Found::Else if self.seen.contains_key(&name) || self.known.contains(&name) => {
                    Err(format!(
                        "{name:?} is no configuration file any more: it is binary, a certificate, or no file at all"
                    ))
                }
                Found::Else | Found::Nothing => continue,
            };
            let seen = content
                .as_ref()
                .map(|c| Sha256::digest(c).into())
                .map_err(String::clone);
            if self.seen.get(&name) != Some(&seen) {
                changes.push(judge(&name, content));
            }
            now.insert(name, seen);
        }
        let gone = self.seen.keys().filter(|name| !now.contains_key(*name));
        changes.extend(gone.map(|name| ConfigChange::Removed { name: name.clone() }));
        self.seen = now;
        Ok(changes)
    }

    /// Sends `()` when something in the directory changes. The watch ends when the answer is dropped.
    pub fn watch(&self, changed: mpsc::Sender<()>) -> Result<impl Send + Sync + 'static, Error> {
        let failed = |error: notify::Error| Error::Watch {
            dir: self.dir.clone(),
            reason: error.to_string(),
        };
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                let read_only = event.is_ok_and(|event| event.kind.is_access());
                if !read_only {
                    // A full channel already holds a reason to look.
                    let _ = changed.try_send(());
                }
            })
            .map_err(failed)?;
        watcher
            .watch(&self.dir, RecursiveMode::NonRecursive)
            .map_err(failed)?;
        Ok(watcher)
    }
}

/// What there is under a name.
enum Found {
    /// A file that may be a configuration, or why it cannot be read.
    Configuration(Result<String, String>),
    /// Something else: a certificate, a key, a directory.
    Else,
    Nothing,
}

fn read(path: &Path, name: &str) -> Found {
    let is_name = ClusterName::new(name).is_ok();
    let refused = |reason| match is_name {
        true => Found::Configuration(Err(reason)),
        false => Found::Else,
    };
    let unreadable = |error: std::io::Error| {
        refused(format!(
            "cannot read the configuration file {name:?}: {error}"
        ))
    };
    let meta = match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => meta,
        Ok(_) => return Found::Else,
        // A link that leads nowhere has not been removed: where it leads to may be about to come back.
        Err(error) if error.kind() == ErrorKind::NotFound && path.symlink_metadata().is_err() => {
            return Found::Nothing;
        }
        Err(error) => return unreadable(error),
    };
    if meta.len() > LARGEST {
        return refused(format!(
            "the configuration file {name:?} has {} bytes, at most {LARGEST} are read",
            meta.len()
        ));
    }
    let mut content = Vec::new();
    let file =
        std::fs::File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut content));
    if let Err(error) = file {
        return unreadable(error);
    }
    let text = String::from_utf8_lossy(&content);
    if text.contains("endpoints:")
        || (is_name && !text.contains("-----BEGIN") && !text.contains('\u{fffd}'))
    {
        return Found::Configuration(Ok(text.into_owned()));
    }
    Found::Else
}

fn judge(name: &str, content: Result<String, String>) -> ConfigChange {
    let judged = content.and_then(|text| {
        let cluster = ClusterName::new(name)
            .map_err(|error| format!("{error}; the file must be named after the cluster"))?;
        if cluster.as_str() == ClusterName::DEFAULT {
            return Err(
                "a remote cluster cannot be called \"default\": give it a name of its own".into(),
            );
        }
        let config = Config::parse(&text)
            .map_err(|error| format!("configuration file {name:?}: {error}"))?;
        Ok((cluster, config))
    });
    match judged {
        Ok((cluster, config)) => ConfigChange::Usable(cluster, config),
        Err(reason) => ConfigChange::Unusable {
            name: name.to_owned(),
            reason,
        },
    }
}
