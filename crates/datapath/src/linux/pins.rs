// SPDX-License-Identifier: Apache-2.0
//! Creating, pinning and adopting maps; scanning them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::Handle;
use super::shared::Shared;
use super::sys::{self, Batch, MapInfo};
use crate::kernel::{Cursor, Scan, hex};
use crate::{Error, Map, Result, Settings, Shape};

/// Where the maps of this layout are pinned.
pub(super) fn maps_directory(root: &Path) -> PathBuf {
    root.join(format!("v{}", abi::VERSION)).join("maps")
}

/// Opens every map, in the order of [`Map::ALL`].
pub(super) fn open_maps(root: &Path, settings: &Settings) -> Result<Vec<Handle>> {
    let directory = maps_directory(root);
    std::fs::create_dir_all(&directory).map_err(|error| Error::PinDirectory {
        path: directory.clone(),
        error,
    })?;
    Map::ALL
        .iter()
        .map(|map| open_map(*map, &directory.join(map.name()), settings))
        .collect()
}

fn open_map(map: Map, path: &Path, settings: &Settings) -> Result<Handle> {
    let wanted = shape(map, settings);
    let pin_error = |error| Error::PinMap {
        map,
        path: path.to_owned(),
        error,
    };
    let fd = match sys::open(path) {
        Ok(fd) => fd,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let fd = sys::create(map.name(), wanted).map_err(|error| Error::CreateMap {
                map,
                max: wanted.max_entries,
                error,
            })?;
            sys::pin(fd.as_fd(), path).map_err(pin_error)?;
            fd
        }
        Err(error) => return Err(pin_error(error)),
    };
    let found = sys::map_info(fd.as_fd()).map_err(pin_error)?;
    compare(map, path, &found, &wanted)?;
    let shared = match map.shape() {
        Shape::Array => Some(
            Shared::new(&fd, found.max_entries, map.value_size())
                .map_err(|error| Error::MapMemory { map, error })?,
        ),
        _ => None,
    };
    Ok(Handle {
        fd,
        limit: found.max_entries,
        shared,
    })
}

fn shape(map: Map, settings: &Settings) -> MapInfo {
    let (kind, flags) = match map.shape() {
        Shape::Array => (sys::MAP_TYPE_ARRAY, sys::MMAPABLE),
        Shape::PerCpuArray => (sys::MAP_TYPE_PERCPU_ARRAY, 0),
        Shape::Hash => (sys::MAP_TYPE_HASH, sys::NO_PREALLOC),
        Shape::PreallocatedHash => (sys::MAP_TYPE_HASH, 0),
        Shape::LruHash => (sys::MAP_TYPE_LRU_HASH, 0),
        Shape::Trie => (sys::MAP_TYPE_LPM_TRIE, sys::NO_PREALLOC),
        Shape::Ring => (sys::MAP_TYPE_RINGBUF, 0),
    };
    let value_size = if map.shape() == Shape::Ring {
        0
    } else {
        map.value_size() as u32
    };
    MapInfo {
        kind,
        id: 0,
        key_size: map.key_size() as u32,
        value_size,
        max_entries: map.limit(settings),
        flags,
    }
}

/// A pinned map must have our layout. Its limit may differ for maps whose limit is a setting: the map is
/// adopted as it is, and [`crate::Datapath::map_pressure`] shows the limit in force.
fn compare(map: Map, path: &Path, found: &MapInfo, wanted: &MapInfo) -> Result<()> {
    let fixed = map.shape() == Shape::Array || map.shape() == Shape::PerCpuArray;
    let limit = if fixed {
        found.max_entries
    } else {
        wanted.max_entries
    };
    let properties = [
        ("type", found.kind, wanted.kind),
        ("key size", found.key_size, wanted.key_size),
        ("value size", found.value_size, wanted.value_size),
        ("flags", found.flags, wanted.flags),
        ("entries", limit, wanted.max_entries),
    ];
    for (what, found, expected) in properties {
        if found != expected {
            return Err(Error::PinnedMapDiffers {
                map,
                path: path.to_owned(),
                what,
                found,
                expected,
            });
        }
    }
    Ok(())
}

/// One batch of a scan of a hash or trie.
pub(super) fn scan(
    fd: &OwnedFd,
    map: Map,
    cursor: &mut Cursor,
    limit: u32,
    visit: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<Scan> {
    let (key_size, value_size) = (map.key_size(), map.value_size());
    let mut count = limit.max(64);
    loop {
        let mut batch = Batch {
            position: vec![0; key_size.max(4)],
            keys: vec![0; key_size * count as usize],
            values: vec![0; value_size * count as usize],
        };
        match sys::lookup_batch(fd, cursor.position.as_deref(), &mut batch, count) {
            Ok((found, more)) => {
                let keys = batch.keys.chunks_exact(key_size);
                let values = batch.values.chunks_exact(value_size);
                for (key, value) in keys.zip(values).take(found as usize) {
                    visit(key, value);
                }
                cursor.position = more.then_some(batch.position);
                return Ok(if more { Scan::More } else { Scan::Done });
            }
            // One bucket holds more than the buffer.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && count < 1 << 24 => {
                count *= 2;
            }
            Err(error) => {
                let key = hex(cursor.position.as_deref().unwrap_or_default());
                return Err(Error::Read { map, key, error });
            }
        }
    }
}

/// Removes `v<n>/` of every other version; returns their names.
pub(super) fn remove_old_versions(root: &Path) -> Result<Vec<String>> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| Error::PinDirectory { path, error }
    };
    let current = format!("v{}", abi::VERSION);
    let mut removed = Vec::new();
    for entry in std::fs::read_dir(root).map_err(failed(root))? {
        let entry = entry.map_err(failed(root))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let version = name
            .strip_prefix('v')
            .is_some_and(|n| n.parse::<u32>().is_ok());
        if version && name != current {
            std::fs::remove_dir_all(entry.path()).map_err(failed(&entry.path()))?;
            removed.push(name);
        }
    }
    Ok(removed)
}
