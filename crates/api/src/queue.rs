// SPDX-License-Identifier: Apache-2.0
//! Deletions that wait for an agent: files in `<run dir>/deleteQueue`, as the Cilium plugin writes them.
//!
//! A writer holds the lock file shared and asks the agent once more, the agent takes the files with the lock exclusively, at
//! its start and now and then: so either the writer finds the agent answering, or the agent sees the file.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::EndpointRef;
use crate::digest::hexadecimal;
use crate::models::EndpointBatchDelete;

const DIRECTORY: &str = "deleteQueue";
const LOCK: &str = "lockfile";
const SUFFIX: &str = "delete";
/// Most deletions that wait.
const MAX: usize = 256;
/// Longest deletion, bytes.
const CONTENT_MAX: u64 = 4096;
/// Longest wait of a plugin for the lock. The agent holds it for no longer than it reads the files.
const WAIT_TO_ADD: Duration = Duration::from_secs(2);
/// Longest wait of the agent: plugins hold it while they ask.
const WAIT_TO_TAKE: Duration = Duration::from_secs(20);
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Why the queue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// A step with a file.
    #[error("{step} {path}: {source}", path = .path.display())]
    Failed {
        /// What was tried.
        step: &'static str,
        /// File or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Too many deletions wait.
    #[error(
        "{path} holds {count} deletions already; start the agent, which works them off",
        path = .path.display()
    )]
    Full {
        /// The queue.
        path: PathBuf,
        /// How many it holds.
        count: usize,
    },
}

/// What is to be deleted.
#[derive(Clone, PartialEq, Debug)]
pub enum Deletion {
    /// One interface of a container.
    Endpoint(EndpointRef),
    /// All of a container.
    Container(EndpointBatchDelete),
}

impl Deletion {
    fn content(&self) -> String {
        match self {
            Deletion::Endpoint(id) => id.to_string(),
            Deletion::Container(batch) => serde_json::to_string(batch)
                .expect("a model has no maps with other keys than strings"),
        }
    }

    fn file_name(&self) -> String {
        format!("{}.{SUFFIX}", hexadecimal(self.content().as_bytes()))
    }

    /// Reads the content of a queued file.
    fn parse(text: &str) -> Option<Self> {
        if text.starts_with('{') {
            let batch: EndpointBatchDelete = serde_json::from_str(text).ok()?;
            return (!batch.container_id.is_empty()).then_some(Deletion::Container(batch));
        }
        match text.parse().ok()? {
            id @ EndpointRef::Attachment { .. } => Some(Deletion::Endpoint(id)),
            _ => None,
        }
    }
}

/// Takes back a deletion that still waits, for an endpoint that is made anew under the same name: at its next start the
/// agent would delete that one. Absent is fine.
///
/// # Errors
/// [`QueueError::Failed`].
pub fn withdraw(run_dir: &Path, deletion: &Deletion) -> Result<(), QueueError> {
    remove(&run_dir.join(DIRECTORY).join(deletion.file_name()))
}

/// The queue, locked until this is dropped.
pub struct Queue {
    directory: PathBuf,
    _lock: File,
}

#[derive(Clone, Copy)]
enum Hold {
    Shared,
    Exclusive,
}

impl Queue {
    /// Locks the queue for adding, beside others that add.
    ///
    /// # Errors
    /// [`QueueError::Failed`], also when the lock is not free within 2 s.
    pub fn lock_for_adding(run_dir: &Path) -> Result<Self, QueueError> {
        Self::lock(run_dir, Hold::Shared, WAIT_TO_ADD)
    }

    /// Locks the queue for working it off, alone.
    ///
    /// # Errors
    /// [`QueueError::Failed`], also when the lock is not free within 20 s.
    pub fn lock_for_taking(run_dir: &Path) -> Result<Self, QueueError> {
        Self::lock(run_dir, Hold::Exclusive, WAIT_TO_TAKE)
    }

    /// [`Queue::take`] if anything waits.
    ///
    /// # Errors
    /// As [`Queue::lock_for_taking`].
    pub fn take_waiting(run_dir: &Path) -> Result<Vec<EndpointRef>, QueueError> {
        let directory = run_dir.join(DIRECTORY);
        let waits = fs::read_dir(&directory).is_ok_and(|mut entries| {
            entries.any(|entry| entry.is_ok_and(|entry| is_queued(&entry.path())))
        });
        if !waits {
            return Ok(Vec::new());
        }
        Self::lock_for_taking(run_dir)?.take()
    }

    fn lock(run_dir: &Path, hold: Hold, wait: Duration) -> Result<Self, QueueError> {
        let directory = run_dir.join(DIRECTORY);
        fs::create_dir_all(&directory).map_err(|e| failed("make", &directory, e))?;
        let path = directory.join(LOCK);
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| failed("open", &path, e))?;
        let start = Instant::now();
        loop {
            let tried = match hold {
                Hold::Shared => lock.try_lock_shared(),
                Hold::Exclusive => lock.try_lock(),
            };
            match tried {
                Ok(()) => {
                    return Ok(Self {
                        directory,
                        _lock: lock,
                    });
                }
                Err(TryLockError::WouldBlock) if start.elapsed() < wait => {
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(TryLockError::WouldBlock) => {
                    let text = format!("somebody holds it for {} s", wait.as_secs());
                    let error = io::Error::new(io::ErrorKind::TimedOut, text);
                    return Err(failed("lock", &path, error));
                }
                Err(TryLockError::Error(e)) => return Err(failed("lock", &path, e)),
            }
        }
    }

    /// Adds a deletion. The same one again is the same file.
    ///
    /// # Errors
    /// [`QueueError::Failed`], [`QueueError::Full`].
    pub fn add(&self, deletion: &Deletion) -> Result<PathBuf, QueueError> {
        let name = deletion.file_name();
        let path = self.directory.join(&name);
        let count = self.files()?.len();
        if count >= MAX && !path.exists() {
            return Err(QueueError::Full {
                path: self.directory.clone(),
                count,
            });
        }
        let part = self
            .directory
            .join(format!("{name}.{}", std::process::id()));
        fs::write(&part, deletion.content()).map_err(|e| failed("write", &part, e))?;
        fs::rename(&part, &path).map_err(|e| failed("name", &path, e))?;
        Ok(path)
    }

    /// Everything that waits, with its file; `None` for a file that is not understood. The files stay until they
    /// are given to [`Queue::done`].
    ///
    /// # Errors
    /// [`QueueError::Failed`] if the directory cannot be read.
    pub fn list(&self) -> Result<Vec<(PathBuf, Option<Deletion>)>, QueueError> {
        let files = self.files()?;
        Ok(files
            .into_iter()
            .take(MAX)
            .map(|path| {
                let deletion = read(&path).and_then(|text| Deletion::parse(&text));
                (path, deletion)
            })
            .collect())
    }

    /// Everything that waits. Each file is removed as it is read; one that is not understood is named, and removed too.
    ///
    /// # Errors
    /// As [`Queue::list`].
    pub fn take(&self) -> Result<Vec<EndpointRef>, QueueError> {
        let mut taken = Vec::new();
        for (path, deletion) in self.list()? {
            match deletion {
                Some(Deletion::Endpoint(which)) => taken.push(which),
                Some(Deletion::Container(batch)) => taken.push(EndpointRef::Attachment {
                    container: batch.container_id,
                    interface: None,
                }),
                None => {
                    tracing::warn!(file = %path.display(), "a queued deletion is not understood and dropped");
                }
            }
            if let Err(error) = self.done(&path) {
                tracing::warn!(%error, "cannot remove a queued deletion");
            }
        }
        Ok(taken)
    }

    /// Removes a file of the queue. Absent is fine.
    ///
    /// # Errors
    /// [`QueueError::Failed`].
    pub fn done(&self, path: &Path) -> Result<(), QueueError> {
        remove(path)
    }

    fn files(&self) -> Result<Vec<PathBuf>, QueueError> {
        let entries =
            fs::read_dir(&self.directory).map_err(|e| failed("read", &self.directory, e))?;
        Ok(entries
            .filter_map(|entry| entry.ok().map(|e| e.path()))
            .filter(|path| is_queued(path))
            .collect())
    }
}

fn is_queued(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == SUFFIX)
}

fn remove(path: &Path) -> Result<(), QueueError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, e)),
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path)
        .ok()?
        .take(CONTENT_MAX)
        .read_to_string(&mut text)
        .ok()?;
    Some(text)
}

fn failed(step: &'static str, path: &Path, source: io::Error) -> QueueError {
    QueueError::Failed {
        step,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(container: &str) -> Deletion {
        Deletion::Endpoint(EndpointRef::Attachment {
            container: container.to_owned(),
            interface: Some("eth0".to_owned()),
        })
    }

    #[test]
    fn deletions_wait_in_files() {
        let run = tempfile::tempdir().expect("temporary directory");
        let batch = Deletion::Container(EndpointBatchDelete {
            container_id: "b".into(),
        });
        let adding = Queue::lock_for_adding(run.path()).expect("free");
        let path = adding.add(&endpoint("a")).expect("room");
        assert_eq!(
            fs::read_to_string(&path).expect("there"),
            "cni-attachment-id:a:eth0"
        );
        assert_eq!(
            path.file_name().and_then(|n| n.to_str()),
            Some(format!("{}.delete", hexadecimal(b"cni-attachment-id:a:eth0")).as_str())
        );
        adding.add(&endpoint("a")).expect("the same");
        adding.add(&batch).expect("room");
        adding.add(&endpoint("c")).expect("room");
        withdraw(run.path(), &endpoint("c")).expect("there");
        withdraw(run.path(), &endpoint("c")).expect("absent");
        Queue::lock_for_adding(run.path()).expect("shared");
        drop(adding);

        fs::write(run.path().join("deleteQueue/x.delete"), "ipv4:10.0.0.1").expect("writable");
        let taking = Queue::lock_for_taking(run.path()).expect("free");
        let list = taking.list().expect("readable");
        assert_eq!(list.len(), 3);
        for wanted in [Some(endpoint("a")), Some(batch), None] {
            assert!(list.iter().any(|(_, found)| *found == wanted));
        }
        for (path, _) in list {
            taking.done(&path).expect("removable");
        }
        assert!(taking.list().expect("readable").is_empty());
    }

    #[test]
    fn a_queue_that_is_in_use_is_waited_for_and_an_empty_one_is_not() {
        let run = tempfile::tempdir().expect("temporary directory");
        assert_eq!(Queue::take_waiting(run.path()).expect("none"), []);
        let taking = Queue::lock_for_taking(run.path()).expect("free");
        let start = Instant::now();
        let error = Queue::lock_for_adding(run.path()).err().expect("in use");
        assert!(
            error.to_string().contains("somebody holds it for 2 s"),
            "{error}"
        );
        assert!(start.elapsed() < Duration::from_secs(4));
        assert_eq!(Queue::take_waiting(run.path()).expect("nothing waits"), []);
        taking.add(&endpoint("a")).expect("room");
        drop(taking);
        let taken = Queue::take_waiting(run.path()).expect("free");
        assert_eq!(taken.len(), 1);
        assert_eq!(Queue::take_waiting(run.path()).expect("none"), []);
    }

    #[test]
    fn a_full_queue_says_so() {
        let run = tempfile::tempdir().expect("temporary directory");
        let queue = Queue::lock_for_adding(run.path()).expect("free");
        for i in 0..MAX {
            queue.add(&endpoint(&format!("c{i}"))).expect("room");
        }
        queue.add(&endpoint("c7")).expect("already there");
        let error = queue.add(&endpoint("one-more")).expect_err("full");
        assert!(matches!(error, QueueError::Full { count: MAX, .. }));
        assert!(
            error.to_string().contains("holds 256 deletions already"),
            "{error}"
        );
    }
}
