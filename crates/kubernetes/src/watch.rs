// SPDX-License-Identifier: Apache-2.0
//! Following a manifest directory: the kernel's notices wake a scan, and a slow scan is the net below them.
//!
//! Files are often not replaced but emptied and written anew, or taken away and put back. So nothing is taken from a
//! directory that has changed within a moment, nor from a file that somebody is writing: a policy would be gone for as
//! long as its file is half there.

mod scan;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::{Manifests, ObjectEvent, Problem, disk};
use scan::{Listing, Reader};

/// Scan without a notice.
const NET: Duration = Duration::from_secs(5);
/// A directory that changed is taken when it is the same after this time.
const SETTLE: Duration = Duration::from_millis(20);
/// A directory that never rests is taken nevertheless after so many looks.
const RESTLESS: usize = 50;
/// A file that is being written is taken nevertheless after this time.
const WRITING: Duration = Duration::from_secs(3);
/// Files that are being written and known as such.
const MAX_WRITING: usize = 4096;

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
}

/// Files that somebody writes, and since when.
type Writing = Arc<Mutex<HashMap<OsString, Instant>>>;

/// A followed directory.
#[derive(Debug)]
pub struct Follow {
    dir: PathBuf,
    manifests: Manifests,
    /// Holds the policies in force.
    file: Option<PathBuf>,
    file_problem: Option<String>,
    reader: Reader,
    notices: mpsc::Receiver<()>,
    tell: mpsc::Sender<()>,
    writing: Writing,
    last_problems: Vec<Problem>,
    first: bool,
    /// `None` while the kernel gives no notices: other programs may have taken all that it has.
    watcher: Option<notify::RecommendedWatcher>,
    /// The directory that is watched: device and inode.
    watched: Option<(u64, u64)>,
}

impl Follow {
    /// Begins to follow `dir`. The first [`Follow::next`] answers at once with everything. `file` holds the policies in
    /// force, so that a refused policy's previous version stays over a restart.
    pub fn new(dir: &Path, file: Option<PathBuf>) -> Result<Self, WatchError> {
        std::fs::read_dir(dir).map_err(|source| WatchError::Read {
            path: dir.to_owned(),
            source,
        })?;
        let (tell, notices) = mpsc::channel(1);
        let mut follow = Self {
            dir: dir.to_owned(),
            manifests: Manifests::default(),
            file,
            file_problem: None,
            reader: Reader::default(),
            notices,
            tell,
            writing: Writing::default(),
            last_problems: Vec::new(),
            first: true,
            watcher: None,
            watched: None,
        };
        // Before the directory is read; what fails is told with what is read.
        let _ = follow.watch();
        follow.restore();
        Ok(follow)
    }

    fn restore(&mut self) {
        let Some(file) = &self.file else { return };
        match disk::read(file) {
            Ok(Some(saved)) => self.manifests.restore(saved, &self.dir),
            Ok(None) => {}
            Err(reason) => self.file_problem = Some(reason),
        }
    }

    fn save(&mut self) {
        if let Some(file) = &self.file {
            self.file_problem = disk::write(file, &self.manifests.saved(&self.dir)).err();
        }
    }

    /// Watches the directory that has the name now.
    fn watch(&mut self) -> notify::Result<()> {
        let now = scan::inode(&self.dir);
        if now.is_none() || now == self.watched {
            return Ok(());
        }
        let watcher = match &mut self.watcher {
            Some(watcher) => watcher,
            none => none.insert(watcher(self.tell.clone(), self.writing.clone())?),
        };
        if self.watched.take().is_some() {
            // What was watched may be gone with its watch.
            let _ = watcher.unwatch(&self.dir);
        }
        watcher.watch(&self.dir, RecursiveMode::NonRecursive)?;
        self.watched = now;
        Ok(())
    }

    /// Waits for the next change. Cancel safe.
    pub async fn next(&mut self) -> Update {
        loop {
            if !self.first {
                // Time is a reason to look as well as a notice.
                let _ = tokio::time::timeout(NET, self.notices.recv()).await;
            }
            let listing = self.settled().await;
            let first = std::mem::take(&mut self.first);
            let mut problems = Vec::new();
            let directory = self.dir.display().to_string();
            if let Err(error) = self.watch() {
                let reason = format!(
                    "cannot be watched, changes are seen after some seconds: {error}; check fs.inotify.max_user_instances"
                );
                problems.push(Problem::of_file(&directory, reason, false));
            }
            let events = match listing {
                Ok(listing) => {
                    let texts = self.reader.read(&self.dir, &listing, &self.being_written());
                    problems.extend(self.reader.problems().cloned());
                    self.manifests.update(texts)
                }
                Err(error) => {
                    let reason = format!("cannot be read: {error}");
                    problems.push(Problem::of_file(&directory, reason, true));
                    self.manifests.tell()
                }
            };
            if let (Some(reason), Some(file)) = (&self.file_problem, &self.file) {
                let name = file.display().to_string();
                problems.push(Problem::of_file(&name, reason.clone(), false));
            }
            // The first time for those that went while nobody looked, and again while the disk is full.
            let unsaved = first || self.file_problem.is_some();
            if unsaved || events.iter().any(ObjectEvent::is_of_policy) {
                self.save();
            }
            problems.extend(self.manifests.problems());
            if first || !events.is_empty() || problems != self.last_problems {
                self.last_problems.clone_from(&problems);
                return Update { events, problems };
            }
        }
    }

    /// The directory once it rests.
    async fn settled(&mut self) -> std::io::Result<Listing> {
        let mut before = Listing::of(&self.dir);
        let same = |now: &Listing| self.reader.is_known(now);
        if self.first || before.as_ref().is_ok_and(same) {
            return before;
        }
        for _ in 0..RESTLESS {
            tokio::time::sleep(SETTLE).await;
            while self.notices.try_recv().is_ok() {}
            let now = Listing::of(&self.dir);
            if let (Ok(before), Ok(now)) = (&before, &now)
                && before == now
            {
                break;
            }
            before = now;
        }
        before
    }

    /// Files to leave as they are.
    fn being_written(&self) -> Vec<OsString> {
        let mut writing = self.writing.lock().expect("no panic while held");
        writing.retain(|_, since| since.elapsed() < WRITING);
        writing.keys().cloned().collect()
    }
}

/// Tells of changes in directories.
fn watcher(tell: mpsc::Sender<()>, writing: Writing) -> notify::Result<notify::RecommendedWatcher> {
    notify::recommended_watcher(move |notice: notify::Result<notify::Event>| {
        if notice.map_or(true, |notice| take_notice(&writing, &notice)) {
            // A full channel already holds a wake-up.
            let _ = tell.try_send(());
        }
    })
}

/// Notes who is being written. Returns whether to look.
fn take_notice(writing: &Writing, notice: &notify::Event) -> bool {
    let mut writing = writing.lock().expect("no panic while held");
    let names = notice.paths.iter().filter_map(|path| path.file_name());
    match notice.kind {
        EventKind::Modify(ModifyKind::Data(_)) => {
            for name in names {
                if writing.len() < MAX_WRITING && !writing.contains_key(name) {
                    writing.insert(name.to_owned(), Instant::now());
                }
            }
            true
        }
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
            for name in names {
                writing.remove(name);
            }
            true
        }
        // Reading the directory is a notice as well: our own scan must not wake the next.
        EventKind::Access(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
