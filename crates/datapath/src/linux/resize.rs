// SPDX-License-Identifier: Apache-2.0
//! Another limit for a map that is in use: a second map of the new size, filled from the first, then the programs, then
//! the pin.
//!
//! ```text
//! <bpf_root>/isthmus/v<abi::VERSION>/next/<map>      the second map, until it takes the first one's pin
//! ```
//!
//! A process that dies on the way leaves the second map, and the next one goes on with it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::pins::maps_directory;
use super::sys::{self, MapInfo};
use super::transfer::Transfer;
use crate::{Error, KeptLimit, Map, Result, Shape};

/// A map on its way to another size.
#[derive(Debug)]
pub(super) struct Resize {
    transfer: Transfer,
    pin: PathBuf,
    next: PathBuf,
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
    let transfer = Transfer::new(map, old, false);
    if map.shape() != Shape::Ring && wanted.max_entries < found.max_entries {
        let used = transfer.count()?;
        if used > wanted.max_entries {
            let reason = format!("{used} entries are in use");
            return Ok(Err((transfer.give_back(), stays(reason))));
        }
    }
    let next = next_path(root, map);
    let made = sys::create(map.name(), wanted).and_then(|fd| {
        std::fs::create_dir_all(next.parent().expect("has a directory"))?;
        sys::pin(fd.as_fd(), &next)?;
        Ok(fd)
    });
    Ok(match made {
        Ok(fd) => Ok((Resize::new(root, transfer), fd)),
        Err(error) => Err((
            transfer.give_back(),
            stays(format!("the kernel makes no other map: {error}")),
        )),
    })
}

impl Resize {
    /// `old` gives way to what another process left at [`next_path`].
    pub(super) fn resumed(root: &Path, map: Map, old: OwnedFd) -> Self {
        Self::new(root, Transfer::new(map, old, true))
    }

    fn new(root: &Path, transfer: Transfer) -> Self {
        Self {
            pin: maps_directory(root).join(transfer.map().name()),
            next: next_path(root, transfer.map()),
            transfer,
        }
    }

    /// The map.
    pub(super) fn map(&self) -> Map {
        self.transfer.map()
    }

    /// What goes from the first map to the second.
    pub(super) fn transfer(&mut self) -> &mut Transfer {
        &mut self.transfer
    }

    /// The limit of the first map.
    pub(super) fn old_limit(&self) -> Result<u32> {
        match sys::map_info(self.transfer.from().as_fd()) {
            Ok(info) => Ok(info.max_entries),
            Err(error) => Err(Error::PinMap {
                map: self.map(),
                path: self.pin.clone(),
                error,
            }),
        }
    }

    /// Gives the second map the first one's pin.
    pub(super) fn finish(self) -> Result<PathBuf> {
        match std::fs::rename(&self.next, &self.pin) {
            Ok(()) => Ok(self.pin),
            Err(error) => Err(Error::PinMap {
                map: self.map(),
                path: self.pin,
                error,
            }),
        }
    }

    /// Gives the second map up.
    pub(super) fn give_up(self) -> Result<()> {
        std::fs::remove_file(&self.next).map_err(|error| Error::PinMap {
            map: self.map(),
            path: self.next,
            error,
        })
    }
}
