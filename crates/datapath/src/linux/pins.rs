// SPDX-License-Identifier: Apache-2.0
//! Creating, pinning and adopting maps; scanning them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::Handle;
use super::resize::{self, Resize};
use super::shared::Shared;
use super::sys::{self, Batch, MapInfo};
use crate::kernel::{Cursor, Scan, hex};
use crate::{Error, KeptLimit, Map, Result, Settings, Shape};

/// Directories can be made anywhere, and pins in a BPF filesystem only.
pub(super) fn check_root(path: &Path) -> Result<()> {
    let failed = |error| Error::PinDirectory {
        path: path.into(),
        error,
    };
    let found = statfs(path).map_err(|error| failed(error.into()))?;
    match found.filesystem_type() == BPF_FS_MAGIC {
        true => Ok(()),
        false => Err(failed(io::Error::other("it is in another filesystem"))),
    }
}

/// Where the maps of this layout are pinned.
pub(super) fn maps_directory(root: &Path) -> PathBuf {
    root.join(format!("v{}", abi::VERSION)).join("maps")
}

/// The maps, and what is to be done so that all of them have their limits.
pub(super) struct Opened {
    /// In the order of [`Map::ALL`].
    pub(super) handles: Vec<Handle>,
    pub(super) resizes: Vec<Resize>,
}

/// Opens every map. Those in `kept` keep their limit, and those that have to keep it join them.
pub(super) fn open_maps(
    root: &Path,
    settings: &Settings,
    kept: &mut Vec<KeptLimit>,
) -> Result<Opened> {
    let directory = maps_directory(root);
    std::fs::create_dir_all(&directory).map_err(|error| Error::PinDirectory {
        path: directory.clone(),
        error,
    })?;
    let mut opened = Opened {
        handles: Vec::with_capacity(Map::ALL.len()),
        resizes: Vec::new(),
    };
    for map in Map::ALL {
        let handle = open_map(root, *map, settings, kept, &mut opened.resizes)?;
        opened.handles.push(handle);
    }
    Ok(opened)
}

fn open_map(
    root: &Path,
    map: Map,
    settings: &Settings,
    kept: &mut Vec<KeptLimit>,
    resizes: &mut Vec<Resize>,
) -> Result<Handle> {
    let wanted = shape(map, settings);
    let path = maps_directory(root).join(map.name());
    let pin_error = |error| Error::PinMap {
        map,
        path: path.clone(),
        error,
    };
    let mut pin = path.clone();
    let mut fd = match sys::open(&path) {
        Ok(fd) => fd,
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(map, wanted, &path)?,
        Err(error) => return Err(pin_error(error)),
    };
    let mut found = sys::map_info(fd.as_fd()).map_err(pin_error)?;
    compare(map, &path, &found, &wanted)?;
    let next = resize::next_path(root, map);
    let unfinished = match sys::open(&next) {
        Ok(fd) => Some(fd),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(pin_error(error)),
    };
    if let Some(new) = unfinished {
        // Somebody died on the way to another size; some programs may use the second map already.
        found = sys::map_info(new.as_fd()).map_err(pin_error)?;
        compare(map, &next, &found, &wanted)?;
        resizes.push(Resize::resumed(root, map, std::mem::replace(&mut fd, new)));
        pin = next;
    } else if resize::resizable(map)
        && found.max_entries != wanted.max_entries
        && kept.iter().all(|kept| kept.map != map)
    {
        match resize::begin(root, map, fd, &found, wanted)? {
            Ok((resize, new)) => {
                found = sys::map_info(new.as_fd()).map_err(pin_error)?;
                resizes.push(resize);
                fd = new;
                pin = next;
            }
            Err((old, limit)) => {
                kept.push(limit);
                fd = old;
            }
        }
    }
    handle(map, fd, found.max_entries, pin)
}

/// Creates a map and pins it.
pub(super) fn create(map: Map, wanted: MapInfo, path: &Path) -> Result<OwnedFd> {
    let fd = sys::create(map.name(), wanted).map_err(|error| Error::CreateMap {
        map,
        max: wanted.max_entries,
        error,
    })?;
    sys::pin(fd.as_fd(), path).map_err(|error| Error::PinMap {
        map,
        path: path.to_owned(),
        error,
    })?;
    Ok(fd)
}

/// A map of this layout in use.
pub(super) fn handle(map: Map, fd: OwnedFd, limit: u32, pin: PathBuf) -> Result<Handle> {
    let shared = match map.shape() {
        Shape::Array => Some(
            Shared::new(&fd, limit, map.value_size())
                .map_err(|error| Error::MapMemory { map, error })?,
        ),
        _ => None,
    };
    Ok(Handle {
        fd,
        limit,
        shared,
        pin,
    })
}

/// What a map is to be.
pub(super) fn shape(map: Map, settings: &Settings) -> MapInfo {
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

/// A pinned map must have our layout. Its limit may differ if it can be changed.
fn compare(map: Map, path: &Path, found: &MapInfo, wanted: &MapInfo) -> Result<()> {
    let limit = if resize::resizable(map) {
        wanted.max_entries
    } else {
        found.max_entries
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

/// One batch of a scan of a map whose keys and values have these `sizes`.
pub(super) fn scan(
    fd: &OwnedFd,
    map: Map,
    (key_size, value_size): (usize, usize),
    cursor: &mut Cursor,
    limit: u32,
    visit: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<Scan> {
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
    let mut removed = Vec::new();
    for directory in other_versions(root)? {
        std::fs::remove_dir_all(&directory).map_err(failed(&directory))?;
        let name = directory.file_name().unwrap_or_default();
        removed.push(name.to_string_lossy().into_owned());
    }
    Ok(removed)
}

/// The directories of other versions.
pub(super) fn other_versions(root: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| Error::PinDirectory {
        path: root.to_owned(),
        error,
    };
    let current = format!("v{}", abi::VERSION);
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_version = name
            .strip_prefix('v')
            .is_some_and(|n| n.parse::<u32>().is_ok());
        if is_version && name != current {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
