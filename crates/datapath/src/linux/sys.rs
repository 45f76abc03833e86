// SPDX-License-Identifier: Apache-2.0
//! bpf(2): the commands on maps that the datapath needs. aya has no batches, no take, and hides the errno
//! behind per-map types; everything here returns the kernel's own error.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP: libc::c_long = 1;
const MAP_UPDATE: libc::c_long = 2;
const MAP_DELETE: libc::c_long = 3;
const OBJ_PIN: libc::c_long = 6;
const OBJ_GET: libc::c_long = 7;
const OBJ_INFO: libc::c_long = 15;
const MAP_TAKE: libc::c_long = 21;
const MAP_LOOKUP_BATCH: libc::c_long = 24;

pub(super) const MAP_TYPE_HASH: u32 = 1;
pub(super) const MAP_TYPE_ARRAY: u32 = 2;
pub(super) const MAP_TYPE_PERCPU_ARRAY: u32 = 6;
pub(super) const MAP_TYPE_LRU_HASH: u32 = 9;
pub(super) const MAP_TYPE_LPM_TRIE: u32 = 11;
pub(super) const MAP_TYPE_RINGBUF: u32 = 27;

pub(super) const NO_PREALLOC: u32 = 1;
pub(super) const MMAPABLE: u32 = 1 << 10;

pub(super) const ANY: u64 = 0;
pub(super) const NOEXIST: u64 = 1;

/// First words of `bpf_map_info`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct MapInfo {
    pub(super) kind: u32,
    pub(super) id: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) flags: u32,
}

/// `bpf_link_info` of a TCX link.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct TcxInfo {
    pub(super) kind: u32,
    pub(super) id: u32,
    pub(super) program: u32,
    pad: u32,
    pub(super) ifindex: u32,
    pub(super) attach: u32,
}

#[derive(Default)]
#[repr(C)]
struct CreateAttr {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner: u32,
    node: u32,
    name: [u8; 16],
}

#[derive(Default)]
#[repr(C)]
struct ElemAttr {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[derive(Default)]
#[repr(C)]
struct BatchAttr {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    elem_flags: u64,
    flags: u64,
}

#[derive(Default)]
#[repr(C)]
struct PathAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

#[derive(Default)]
#[repr(C)]
struct InfoAttr {
    fd: u32,
    len: u32,
    info: u64,
}

/// One bpf(2) call.
///
/// # Safety
/// Every address in `attr` must point to memory that is large enough for what `command` reads or writes there
/// and that lives until the call returns.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is a live, exclusive reference of the size given; what it points to is the caller's promise.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<T>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel has just returned this descriptor, nothing else owns it; descriptors fit an i32.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd() as u32
}

fn address(bytes: &[u8]) -> u64 {
    bytes.as_ptr() as u64
}

/// Creates a map.
pub(super) fn create(name: &str, info: MapInfo) -> io::Result<OwnedFd> {
    let mut attr = CreateAttr {
        kind: info.kind,
        key_size: info.key_size,
        value_size: info.value_size,
        max_entries: info.max_entries,
        flags: info.flags,
        ..CreateAttr::default()
    };
    for (to, from) in attr.name.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: MAP_CREATE follows no address of this attribute.
    unsafe { bpf(MAP_CREATE, &mut attr) }.map(owned)
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Pins what `fd` is.
pub(super) fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attr = PathAttr {
        path: path.as_ptr() as u64,
        fd: number(fd),
        flags: 0,
    };
    // SAFETY: the path is zero-terminated and lives until the end of this function.
    unsafe { bpf(OBJ_PIN, &mut attr) }.map(drop)
}

/// Opens what is pinned at `path`.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attr = PathAttr {
        path: path.as_ptr() as u64,
        ..PathAttr::default()
    };
    // SAFETY: the path is zero-terminated and lives until the end of this function.
    unsafe { bpf(OBJ_GET, &mut attr) }.map(owned)
}

fn info<T: Default>(fd: BorrowedFd<'_>) -> io::Result<T> {
    let mut found = T::default();
    let mut attr = InfoAttr {
        fd: number(fd),
        len: size_of::<T>() as u32,
        info: std::ptr::from_mut(&mut found) as u64,
    };
    // SAFETY: the kernel writes at most `len` bytes to `found`; T is a struct of integers without padding.
    unsafe { bpf(OBJ_INFO, &mut attr) }?;
    Ok(found)
}

/// What a map is.
pub(super) fn map_info(fd: BorrowedFd<'_>) -> io::Result<MapInfo> {
    info(fd)
}

/// What a TCX link is attached to; `ifindex` 0 when its device is gone.
pub(super) fn tcx_info(fd: BorrowedFd<'_>) -> io::Result<TcxInfo> {
    info(fd)
}

/// `true` if the call worked, `false` if the kernel answered `nothing`.
fn found(result: io::Result<libc::c_long>, nothing: i32) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(nothing) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads an element into `value`, which has the size that the map has (times CPUs for per-CPU maps).
pub(super) fn lookup(fd: &OwnedFd, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    let mut attr = elem(fd, key, value.as_mut_ptr() as u64, 0);
    // SAFETY: key and value have the map's sizes (checked by the callers) and live through the call.
    found(unsafe { bpf(MAP_LOOKUP, &mut attr) }, libc::ENOENT)
}

/// Reads and removes an element.
pub(super) fn take(fd: &OwnedFd, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    let mut attr = elem(fd, key, value.as_mut_ptr() as u64, 0);
    // SAFETY: key and value have the map's sizes (checked by the callers) and live through the call.
    found(unsafe { bpf(MAP_TAKE, &mut attr) }, libc::ENOENT)
}

/// Writes an element; `false` if `mode` is [`NOEXIST`] and there is one.
pub(super) fn update(fd: &OwnedFd, key: &[u8], value: &[u8], mode: u64) -> io::Result<bool> {
    let mut attr = elem(fd, key, address(value), mode);
    // SAFETY: key and value have the map's sizes (checked by the callers) and live through the call.
    found(unsafe { bpf(MAP_UPDATE, &mut attr) }, libc::EEXIST)
}

/// Removes an element.
pub(super) fn delete(fd: &OwnedFd, key: &[u8]) -> io::Result<bool> {
    let mut attr = elem(fd, key, 0, 0);
    // SAFETY: the key has the map's size (checked by the callers) and lives through the call.
    found(unsafe { bpf(MAP_DELETE, &mut attr) }, libc::ENOENT)
}

fn elem(fd: &OwnedFd, key: &[u8], value: u64, flags: u64) -> ElemAttr {
    ElemAttr {
        map: number(fd.as_fd()),
        pad: 0,
        key: address(key),
        value,
        flags,
    }
}

/// Buffers of one batch.
pub(super) struct Batch {
    /// Where the next batch begins; large enough for a key.
    pub(super) position: Vec<u8>,
    pub(super) keys: Vec<u8>,
    pub(super) values: Vec<u8>,
}

/// Reads up to `count` elements from `from` on. Returns how many, and whether there are more.
pub(super) fn lookup_batch(
    fd: &OwnedFd,
    from: Option<&[u8]>,
    batch: &mut Batch,
    count: u32,
) -> io::Result<(u32, bool)> {
    let mut attr = BatchAttr {
        from: from.map_or(0, address),
        to: batch.position.as_mut_ptr() as u64,
        keys: batch.keys.as_mut_ptr() as u64,
        values: batch.values.as_mut_ptr() as u64,
        count,
        map: number(fd.as_fd()),
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: the caller sized keys and values for `count` elements and both positions for a key; all live
    // through the call.
    let more = found(unsafe { bpf(MAP_LOOKUP_BATCH, &mut attr) }, libc::ENOENT)?;
    Ok((attr.count, more))
}

/// Waits until every program run that has begun is over: programs run under RCU, and the global memory
/// barrier waits for an RCU grace period.
pub(super) fn barrier() {
    const GLOBAL: libc::c_long = 1;
    // SAFETY: takes no address. A kernel that refuses it (isolated CPUs) makes it a short sleep instead.
    if unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) } != 0 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
