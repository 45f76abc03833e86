// SPDX-License-Identifier: Apache-2.0
//! The entries of a map on their way to another, while programs go on: they write the first map, then, device by device,
//! the second.
//!
//! The programs write conntrack while it is copied. So it is copied again once no program writes to the first
//! map any more: what is missing is added, and what the second map holds unchanged since the first copy is
//! brought up to date. What programs have written to the second map since is newer, and stays.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::OwnedFd;

use abi::Flow;
use zerocopy::FromBytes;

use super::pins::scan;
use super::sys;
use crate::kernel::{Cursor, Scan, hex};
use crate::layout::Conversion;
use crate::{Error, Map, Result, Shape};

/// Entries per batch.
const BATCH: u32 = 4096;

/// What a map gives to another.
#[derive(Debug)]
pub(super) struct Transfer {
    map: Map,
    from: OwnedFd,
    /// Bytes of a key and of a value there.
    sizes: (usize, usize),
    /// `None`: both have this layout.
    conversion: Option<Conversion>,
    /// Hashes of keys and of the values that the first copy gave them.
    copied: HashMap<u64, u64>,
    /// Another process began it: some programs may use the second map, and what it was given first is not known.
    resumed: bool,
}

impl Transfer {
    /// From a map of this layout.
    pub(super) fn new(map: Map, from: OwnedFd, resumed: bool) -> Self {
        Self {
            map,
            from,
            sizes: (map.key_size(), map.value_size()),
            conversion: None,
            copied: HashMap::new(),
            resumed,
        }
    }

    /// From a map of another layout with keys and values of `sizes`.
    pub(super) fn converted(
        map: Map,
        from: OwnedFd,
        sizes: (usize, usize),
        conversion: Conversion,
    ) -> Self {
        Self {
            sizes,
            conversion: Some(conversion),
            ..Self::new(map, from, false)
        }
    }

    /// The map.
    pub(super) fn map(&self) -> Map {
        self.map
    }

    /// The first map.
    pub(super) fn from(&self) -> &OwnedFd {
        &self.from
    }

    /// Gives the first map back.
    pub(super) fn give_back(self) -> OwnedFd {
        self.from
    }

    /// Copies everything that `new` lacks.
    pub(super) fn copy(&mut self, new: &OwnedFd) -> Result<()> {
        if self.map.shape() == Shape::Ring {
            return Ok(());
        }
        let mut copied = std::mem::take(&mut self.copied);
        let changes = self.programs_write();
        let is_array = self.map.shape() == Shape::Array;
        self.each(|key, value| {
            if is_array {
                // A new array is zero.
                if value.iter().any(|byte| *byte != 0) {
                    self.update(new, key, value, sys::ANY)?;
                }
                return Ok(());
            }
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

    /// Brings `new` up to date with what programs wrote to the first map since [`Transfer::copy`]. For when no program
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

    /// How many entries the first map has.
    pub(super) fn count(&self) -> Result<u32> {
        let mut entries = 0;
        self.each(|_, _| {
            entries += 1;
            Ok(())
        })?;
        Ok(entries)
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
            let mut take = |key: &[u8], value: &[u8]| {
                if result.is_err() {
                    return;
                }
                match &self.conversion {
                    None => result = visit(key, value),
                    Some(conversion) => {
                        if let Some((key, value)) = conversion.entry(key, value) {
                            result = visit(&key, &value);
                        }
                    }
                }
            };
            let state = scan(
                &self.from,
                self.map,
                self.sizes,
                &mut cursor,
                BATCH,
                &mut take,
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

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
