// SPDX-License-Identifier: Apache-2.0
//! Deletions that the CNI plugin queued while no agent was there (as Cilium's does): the lock is
//! held until the API answers, so that the plugin finds one or the other.

use std::fs::File;
use std::path::{Path, PathBuf};

use api::EndpointRef;
use nix::fcntl::{Flock, FlockArg};

/// Largest file that is read.
const MAX_FILE: u64 = 64 * 1024;

/// The queue, locked against plugins.
pub(crate) struct DeleteQueue {
    dir: PathBuf,
    _lock: Flock<File>,
}

impl DeleteQueue {
    /// Takes the lock.
    pub(crate) fn lock(run_dir: &Path) -> std::io::Result<Self> {
        let dir = run_dir.join("deleteQueue");
        std::fs::create_dir_all(&dir)?;
        let file = File::create(dir.join("lockfile"))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| std::io::Error::from(errno))?;
        Ok(Self { dir, _lock: lock })
    }

    /// What shall be deleted; each file is removed as it is read. A file that is not understood is named and removed.
    pub(crate) fn take(&self) -> Vec<EndpointRef> {
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return Vec::new();
        };
        let files = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "delete"));
        let mut list = Vec::new();
        for path in files {
            match read(&path) {
                Ok(which) => list.push(which),
                Err(reason) => {
                    tracing::warn!(file = %path.display(), reason, "a queued deletion is not understood and dropped")
                }
            }
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(file = %path.display(), %error, "cannot remove a queued deletion");
            }
        }
        list
    }
}

fn read(path: &Path) -> Result<EndpointRef, String> {
    if std::fs::metadata(path).map_err(|e| e.to_string())?.len() > MAX_FILE {
        return Err(format!("larger than {MAX_FILE} bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    if text.trim_start().starts_with('{') {
        let batch: api::models::EndpointBatchDelete =
            serde_json::from_str(&text).map_err(|e| e.to_string())?;
        return Ok(EndpointRef::Attachment {
            container: batch.container_id,
            interface: None,
        });
    }
    text.trim()
        .parse()
        .map_err(|e: api::EndpointRefError| e.to_string())
}
