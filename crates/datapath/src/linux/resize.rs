// SPDX-License-Identifier: Apache-2.0
//! Another limit for a map that is in use: a second map of the new size, filled from the first, then the programs, then
//! the pin.
//!
//! ```text
//! <bpf_root>/isthmus/v<abi::VERSION>/next/<map>      the second map, until it takes the first one's pin
//! ```
//!
//! The programs write conntrack while it is copied. So it is copied again once no program writes to the first
//! map any more: what is missing is added, and what the second map holds unchanged since the first copy is
//! brought up to date. What programs have written to the second map since is newer, and stays. A process that dies on
//! the way leaves the second map, and the next one goes on with it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use abi::Flow;
use zerocopy::FromBytes;

use super::pins::{maps_directory, scan};
use super::sys::{self, MapInfo};
use crate::kernel::{Cursor, Scan, hex};
use crate::{Error, KeptLimit, Map, Result, Shape};

/// Entries per batch.
const BATCH: u32 = 4096;

/// A map on its way to another size.
#[derive(Debug)]
pub(super) struct Resize {
    map: Map,
    old: OwnedFd,
    pin: PathBuf,
    next: PathBuf,
    /// Hashes of keys and of the values that the first copy gave them.
    copied: HashMap<u64, u64>,
    /// Another process began it: some programs may use the second map, and what it was given first is not known.
    resumed: bool,
}

/// Where the second map of `map` is pinned.
pub(super) fn next_path(root: &Path, map: Map) -> PathBuf {
    maps_directory(root).with_file_name("next").join(map.name())
}

/// Whether the limit of a map may change while it is in use.
pub(super) fn resizable(map: Map) -> bool {
    !matches!(map.shape(), Shape::Array | Shape::PerCpuArray)
}

/// Makes the second map, empty, and pins it. `Err` says why the first one has to do.
pub(super) fn begin(
    root: &Path,
    map: Map,
    old: OwnedFd,
    found: &MapInfo,
    wanted: MapInfo,
) -> Result<std::result::Result<(Resize, OwnedFd), (OwnedFd, KeptLimit)>> {
    let stays = |reason| KeptLimit {
        map,
        wanted: wanted.max_entries,
        limit: found.max_entries,
        reason,
    };
    if map.shape() != Shape::Ring && wanted.max_entries < found.max_entries {
        let used = count(&old, map)?;
        if used > wanted.max_entries {
            let reason = format!("{used} entries are in use");
            return Ok(Err((old, stays(reason))));
        }
    }
    let next = next_path(root, map);
    let made = sys::create(map.name(), wanted).and_then(|fd| {
        std::fs::create_dir_all(next.parent().expect("has a directory"))?;
        sys::pin(fd.as_fd(), &next)?;
        Ok(fd)
    });
    Ok(match made {
        Ok(fd) => Ok((Resize::new(root, map, old), fd)),
        Err(error) => Err((
            old,
            stays(format!("the kernel makes no other map: {error}")),
        )),
    })
}

impl Resize {
    /// `old` gives way to what another process left at [`next_path`].
    pub(super) fn resumed(root: &Path, map: Map, old: OwnedFd) -> Self {
        Self {
            resumed: true,
            ..Self::new(root, map, old)
        }
    }

    fn new(root: &Path, map: Map, old: OwnedFd) -> Self {
        Self {
            resumed: false,
            map,
            old,
            pin: maps_directory(root).join(map.name()),
            next: next_path(root, map),
            copied: HashMap::new(),
        }
    }

    /// The map.
    pub(super) fn map(&self) -> Map {
        self.map
    }

    /// The limit of the first map.
    pub(super) fn old_limit(&self) -> Result<u32> {
        match sys::map_info(self.old.as_fd()) {
            Ok(info) => Ok(info.max_entries),
            Err(error) => Err(Error::PinMap {
                map: self.map,
                path: self.pin.clone(),
                error,
            }),
        }
    }

    /// Copies everything that `new` lacks.
    pub(super) fn copy(&mut self, new: &OwnedFd) -> Result<()> {
        if self.map.shape() == Shape::Ring {
            return Ok(());
        }
        let mut copied = std::mem::take(&mut self.copied);
        let changes = self.programs_write();
        self.each(|key, value| {
            let added = match self.update(new, key, value, sys::NOEXIST) {
                // It is in use: there is no way back, and less room than wanted is better than none.
                Err(Error::MapFull { .. }) if self.resumed => false,
                result => result?,
            };
            if added && changes {
                copied.insert(hash(key), hash(value));
            }
            Ok(())
        })?;
        self.copied = copied;
        Ok(())
    }

    /// Brings `new` up to date with what programs wrote to the first map since [`Resize::copy`]. For when no program
    /// uses the first map any more. An entry that has no room is dropped, as it is in any full map.
    pub(super) fn catch_up(&self, new: &OwnedFd) -> Result<()> {
        if !self.programs_write() {
            return Ok(());
        }
        let mut there = vec![0; self.map.value_size()];
        self.each(|key, value| {
            let found = sys::lookup(new, key, &mut there).map_err(|e| self.failed(key, e))?;
            let unchanged = self.copied.get(&hash(key)) == Some(&hash(&there));
            let mode = match found {
                false => sys::NOEXIST,
                true if unchanged && there != value => sys::ANY,
                true if self.resumed && self.lives_longer(value, &there) => sys::ANY,
                true => return Ok(()),
            };
            match self.update(new, key, value, mode) {
                Err(Error::MapFull { .. }) => Ok(()),
                result => result.map(drop),
            }
        })
    }

    /// Gives the second map the first one's pin.
    pub(super) fn finish(self) -> Result<PathBuf> {
        match std::fs::rename(&self.next, &self.pin) {
            Ok(()) => Ok(self.pin),
            Err(error) => Err(Error::PinMap {
                map: self.map,
                path: self.pin,
                error,
            }),
        }
    }

    /// Gives the second map up.
    pub(super) fn give_up(self) -> Result<()> {
        std::fs::remove_file(&self.next).map_err(|error| Error::PinMap {
            map: self.map,
            path: self.next,
            error,
        })
    }

    /// Whether a flow's entry was refreshed later than `other`.
    fn lives_longer(&self, value: &[u8], other: &[u8]) -> bool {
        let expires = |bytes| Flow::read_from_bytes(bytes).map(|flow| flow.expires).ok();
        self.map == Map::Flows && expires(value) > expires(other)
    }

    fn programs_write(&self) -> bool {
        matches!(self.map.shape(), Shape::PreallocatedHash | Shape::LruHash)
    }

    fn each(&self, mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let mut cursor = Cursor::default();
        let mut result = Ok(());
        loop {
            let state = scan(
                &self.old,
                self.map,
                &mut cursor,
                BATCH,
                &mut |key, value| {
                    if result.is_ok() {
                        result = visit(key, value);
                    }
                },
            )?;
            if result.is_err() || state == Scan::Done {
                return result;
            }
        }
    }

    fn update(&self, new: &OwnedFd, key: &[u8], value: &[u8], mode: u64) -> Result<bool> {
        sys::update(new, key, value, mode).map_err(|error| self.failed(key, error))
    }

    fn failed(&self, key: &[u8], error: io::Error) -> Error {
        let map = self.map;
        match error.raw_os_error() {
            // Maps of the agent take memory entry by entry.
            Some(libc::E2BIG | libc::ENOSPC | libc::ENOMEM) => Error::MapFull { map, max: 0 },
            _ => Error::Write {
                map,
                key: hex(key),
                error,
            },
        }
    }
}

fn count(fd: &OwnedFd, map: Map) -> Result<u32> {
    let mut cursor = Cursor::default();
    let mut entries = 0;
    while scan(fd, map, &mut cursor, BATCH, &mut |_, _| entries += 1)? == Scan::More {}
    Ok(entries)
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
