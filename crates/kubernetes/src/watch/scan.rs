// SPDX-License-Identifier: Apache-2.0
//! Looking at a directory: which files there are, and the texts of those that are not as they were.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Problem;

/// Largest file that is read.
const MAX_FILE: u64 = 8 << 20;
/// Most bytes of all files together.
const MAX_BYTES: u64 = 256 << 20;
/// Most files that are read.
const MAX_FILES: usize = 4096;
/// Names that are looked at; a directory with more is not one of manifests.
const MAX_NAMES: usize = 65_536;
/// A change that is younger when a file is read may be followed by one that leaves the same stamp.
const SURE: Duration = Duration::from_secs(1);

/// What tells that a file is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    file: (u64, u64),
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn age(&self) -> Duration {
        let changed = Duration::from_secs(self.changed.0.max(0).unsigned_abs());
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.unwrap_or_default().saturating_sub(changed)
    }
}

/// Manifests by name, each with its stamp if there is a file behind the name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Listing {
    files: BTreeMap<String, Option<Stamp>>,
}

impl Listing {
    pub(super) fn of(dir: &Path) -> std::io::Result<Self> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(dir)?.take(MAX_NAMES) {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            let manifest = path
                .extension()
                .is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
            if !name.starts_with('.') && manifest {
                let stamp = std::fs::metadata(&path).ok().map(|m| Stamp::of(&m));
                files.insert(name.to_owned(), stamp);
            }
        }
        Ok(Self { files })
    }
}

/// Device and inode of what a path leads to.
pub(super) fn inode(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Remembers what was read.
#[derive(Debug, Default)]
pub(super) struct Reader {
    known: BTreeMap<String, Known>,
    problems: BTreeMap<String, Problem>,
}

#[derive(Debug)]
struct Known {
    stamp: Option<Stamp>,
    /// The stamp cannot be that of another content.
    sure: bool,
    len: u64,
}

impl Reader {
    /// Whether everything is as it was read.
    pub(super) fn is_known(&self, listing: &Listing) -> bool {
        self.problems.is_empty()
            && listing.files.len() == self.known.len()
            && listing.files.iter().all(|(name, stamp)| {
                let known = self.known.get(name);
                known.is_some_and(|known| known.sure && known.stamp == *stamp)
            })
    }

    /// Files that cannot be read, or are too many.
    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.values()
    }

    /// Texts of the files that are not as they were (`None`: as it was, perhaps in an earlier run). Who is being written, or
    /// cannot be read, stays as it was.
    pub(super) fn read(
        &mut self,
        dir: &Path,
        listing: &Listing,
        writing: &[OsString],
    ) -> BTreeMap<String, Option<String>> {
        let mut texts = BTreeMap::new();
        self.problems.clear();
        self.known
            .retain(|name, _| listing.files.contains_key(name));
        // Files that are known go first: a new one must not push them out.
        let (old, new): (BTreeSet<_>, BTreeSet<_>) = listing
            .files
            .keys()
            .partition(|name| self.known.contains_key(*name));
        let mut bytes: u64 = self.known.values().map(|known| known.len).sum();
        for name in old.into_iter().chain(new) {
            let known = self.known.get(name);
            let is_known = known.is_some();
            let before = known.map_or(0, |known| known.len);
            let stamp = listing.files[name];
            if known.is_some_and(|known| known.sure && known.stamp == stamp) {
                texts.insert(name.clone(), None);
                continue;
            }
            if !is_known && texts.len() >= MAX_FILES {
                let reason =
                    format!("more than {MAX_FILES} files: put several objects into one file");
                self.problem(name, reason, false);
                continue;
            }
            if writing.iter().any(|busy| busy.as_os_str() == name.as_str()) {
                texts.insert(name.clone(), None);
                continue;
            }
            let free = MAX_BYTES.saturating_sub(bytes - before).min(MAX_FILE);
            match read_file(&dir.join(name), free) {
                Ok((text, stamp)) => {
                    bytes = bytes - before + text.len() as u64;
                    let known = Known {
                        stamp: Some(stamp),
                        sure: stamp.age() > SURE,
                        len: text.len() as u64,
                    };
                    self.known.insert(name.clone(), known);
                    texts.insert(name.clone(), Some(text));
                }
                Err(error) => {
                    texts.insert(name.clone(), None);
                    self.problem(name, error.to_string(), is_known);
                }
            }
        }
        texts
    }

    fn problem(&mut self, file: &str, reason: String, previous_stays: bool) {
        let problem = Problem::of_file(file, reason, previous_stays);
        self.problems.insert(file.to_owned(), problem);
    }
}

/// The text and its stamp, if nobody changed it meanwhile.
fn read_file(path: &Path, max: u64) -> std::io::Result<(String, Stamp)> {
    // A pipe would make us wait for its writer.
    let mut file: File = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > max {
        return Err(std::io::Error::other(format!(
            "not a regular file of at most {max} bytes"
        )));
    }
    let before = Stamp::of(&metadata);
    let mut text = String::new();
    file.by_ref().take(max + 1).read_to_string(&mut text)?;
    let after = Stamp::of(&file.metadata()?);
    if before != after || text.len() as u64 != after.len {
        return Err(std::io::Error::other(
            "it changed while it was read; it is read again",
        ));
    }
    Ok((text, after))
}
