// SPDX-License-Identifier: Apache-2.0
//! One agent per node: the directories that an agent keeps are locked while it runs. The kernel frees the locks with
//! the process, however it ends.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// Why this agent may not run here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Somebody holds the lock.
    #[error(
        "an agent already uses {dir}: only one agent can run on a node; stop the other one, or give this one its own --socket-path, --state-dir and --bpf-root"
    )]
    Taken {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory cannot be locked.
    #[error(
        "cannot lock directory {dir}: {source}; check --socket-path, --state-dir and --bpf-root"
    )]
    Lock {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Directories that are this agent's as long as the value lives.
#[must_use]
#[derive(Debug)]
pub(crate) struct Locks {
    _dirs: Vec<File>,
}

impl Locks {
    /// Locks every directory, or none. Two names of one directory are one lock.
    pub(crate) fn take(dirs: &[&Path]) -> Result<Self, LockError> {
        let mut names = dirs
            .iter()
            .map(|dir| {
                std::fs::canonicalize(dir).map_err(|source| LockError::Lock {
                    dir: dir.to_path_buf(),
                    source,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        names.sort();
        names.dedup();
        let dirs = names.into_iter().map(lock).collect::<Result<_, _>>()?;
        Ok(Self { _dirs: dirs })
    }
}

fn lock(dir: PathBuf) -> Result<File, LockError> {
    let file = File::open(&dir).map_err(|source| LockError::Lock {
        dir: dir.clone(),
        source,
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LockError::Taken { dir }),
        Err(TryLockError::Error(source)) => Err(LockError::Lock { dir, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_until_it_ends() {
        let (a, b) = (tempfile::tempdir(), tempfile::tempdir());
        let (a, b) = (a.expect("a directory"), b.expect("a directory"));
        let first = Locks::take(&[a.path(), b.path(), a.path()]).expect("free");
        let text = Locks::take(&[b.path()]).expect_err("taken").to_string();
        assert!(text.starts_with("an agent already uses "), "{text}");
        drop(first);
        drop(Locks::take(&[b.path()]).expect("free again"));
        let text = Locks::take(&[&a.path().join("none")])
            .expect_err("no directory")
            .to_string();
        assert!(text.contains("cannot lock directory"), "{text}");
    }
}
