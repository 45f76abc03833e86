// SPDX-License-Identifier: Apache-2.0
//! Maps of another layout are taken over: what an agent of another version left, older or newer. New maps get what the old
//! ones hold, field by field; then the programs are replaced, and what they wrote meanwhile follows.
//!
//! ```text
//! <bpf_root>/isthmus/v<version>/layout      an array of one text: what the maps look like; the maps are whole
//! ```

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::pins::{self, maps_directory};
use super::sys::{self, MapInfo};
use super::transfer::Transfer;
use super::{Linux, resize};
use crate::layout::{conversions, describe};
use crate::{Error, Map, Result, Settings};

/// Longest description that is read, bytes.
const MAX_TEXT: u32 = 1 << 16;

/// What an agent of another layout left.
pub(super) struct Former {
    directory: PathBuf,
    text: String,
}

/// Where the description of the maps in a version's `directory` is pinned.
fn marker(directory: &Path) -> PathBuf {
    directory.join("layout")
}

fn own_directory(root: &Path) -> PathBuf {
    let maps = maps_directory(root);
    maps.parent().expect("it has one").to_owned()
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |error| Error::PinDirectory {
        path: path.clone(),
        error,
    }
}

/// What is to be taken over: whole maps of another layout, if there are none of this one.
pub(super) fn former(root: &Path) -> Result<Option<Former>> {
    if sys::open(&marker(&own_directory(root))).is_ok() {
        return Ok(None);
    }
    let found = pins::other_versions(root)?.into_iter().rev();
    let mut found = found.filter_map(|directory| {
        let text = read(&marker(&directory)).ok()?;
        Some(Former { directory, text })
    });
    Ok(found.next())
}

fn read(path: &Path) -> io::Result<String> {
    let fd = sys::open(path)?;
    let info = sys::map_info(fd.as_fd())?;
    if info.kind != sys::MAP_TYPE_ARRAY || info.key_size != 4 || info.value_size > MAX_TEXT {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = vec![0; info.value_size as usize];
    sys::lookup(&fd, &0_u32.to_ne_bytes(), &mut text)?;
    String::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Says what the maps of this layout look like, for agents of others.
pub(super) fn mark(root: &Path) -> Result<()> {
    let path = marker(&own_directory(root));
    if sys::open(&path).is_ok() {
        return Ok(());
    }
    let text = describe();
    let info = MapInfo {
        kind: sys::MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: text.len() as u32,
        max_entries: 1,
        ..MapInfo::default()
    };
    let made = sys::create("ist_layout", info).and_then(|fd| {
        sys::update(&fd, &0_u32.to_ne_bytes(), text.as_bytes(), sys::ANY)?;
        sys::pin(fd.as_fd(), &path)
    });
    made.map_err(failed(&path))
}

/// Takes over what `former` left. Programs that were attached are this version's afterwards.
pub(super) fn carry(root: &Path, settings: &Settings, former: &Former) -> Result<()> {
    let own = own_directory(root);
    // What an attempt that did not end has left.
    match std::fs::remove_dir_all(&own) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&own)(error)),
        _ => {}
    }
    let directory = maps_directory(root);
    std::fs::create_dir_all(&directory).map_err(failed(&directory))?;
    let mut known = conversions(&former.text);
    let mut transfers = Vec::new();
    let mut handles = Vec::with_capacity(Map::ALL.len());
    for map in Map::ALL.iter().copied() {
        let mut wanted = pins::shape(map, settings);
        let old = sys::open(&former.directory.join("maps").join(map.name()));
        if let (Ok(old), Some(conversion)) = (old, known.remove(&map)) {
            let found = sys::map_info(old.as_fd()).map_err(failed(&former.directory))?;
            // It gets the limit of the settings later, as any map.
            if resize::resizable(map) {
                wanted.max_entries = found.max_entries;
            }
            let sizes = (found.key_size as usize, found.value_size as usize);
            transfers.push(Transfer::converted(map, old, sizes, conversion));
        }
        let path = directory.join(map.name());
        let fd = pins::create(map, wanted, &path)?;
        handles.push(pins::handle(map, fd, wanted.max_entries, path)?);
    }
    let mut linux = Linux::with(root, handles)?;
    // What packets change comes last: less of it is to be brought up to date.
    transfers.sort_by_key(|transfer| transfer.map() == Map::Flows);
    for transfer in &mut transfers {
        transfer.copy(&linux.handle(transfer.map()).fd)?;
    }
    linux.replace_programs()?;
    for transfer in &transfers {
        transfer.catch_up(&linux.handle(transfer.map()).fd)?;
    }
    mark(root)?;
    let old = marker(&former.directory);
    std::fs::remove_file(&old).map_err(failed(&old))
}
