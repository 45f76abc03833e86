// SPDX-License-Identifier: Apache-2.0
//! Arrays in memory that the agent shares with the programs. Everything is an atomic word: the programs
//! never see half a word, and words are stored from the last to the first, so that the first one commits.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A mapped array.
#[derive(Debug)]
pub(super) struct Shared {
    start: NonNull<u64>,
    words: usize,
    entries: u32,
    value_size: usize,
}

// SAFETY: the memory is only reached through atomics.
unsafe impl Send for Shared {}
// SAFETY: the memory is only reached through atomics.
unsafe impl Sync for Shared {}

impl Shared {
    /// Maps the array `fd` of `entries` values.
    pub(super) fn new(fd: &OwnedFd, entries: u32, value_size: usize) -> io::Result<Self> {
        let words = entries as usize * value_size.div_ceil(8);
        // SAFETY: a fresh shared mapping of a BPF array made with BPF_F_MMAPABLE; no existing memory is touched.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                words * 8,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            start,
            words,
            entries,
            value_size,
        })
    }

    /// Number of values.
    pub(super) fn entries(&self) -> u32 {
        self.entries
    }

    /// The words of a value; the kernel rounds each value up to 8 bytes.
    fn value(&self, index: u32) -> Option<&[AtomicU64]> {
        if index >= self.entries {
            return None;
        }
        let stride = self.value_size.div_ceil(8);
        // SAFETY: the mapping holds `entries * stride` aligned words and lives as long as `self`; `index` is below
        // `entries`; both sides use only atomic accesses of aligned words or of their halves.
        Some(unsafe {
            std::slice::from_raw_parts(
                self.start
                    .as_ptr()
                    .add(index as usize * stride)
                    .cast::<AtomicU64>(),
                stride,
            )
        })
    }

    /// The first 4 bytes of a value as a counter.
    fn counter(&self, index: u32) -> Option<&AtomicU32> {
        let word = self.value(index)?.first()?;
        // SAFETY: a u64 holds an aligned u32 at its start (the counter: BPF runs on little and big endian alike with
        // the value's first bytes at its lowest address); the kernel itself adds to this u32 atomically.
        Some(unsafe { &*std::ptr::from_ref(word).cast::<AtomicU32>() })
    }

    /// Copies a value out.
    pub(super) fn get(&self, index: u32) -> Option<Vec<u8>> {
        let words = self.value(index)?;
        let mut bytes: Vec<u8> = words
            .iter()
            .flat_map(|word| word.load(Ordering::Acquire).to_ne_bytes())
            .collect();
        bytes.truncate(self.value_size);
        Some(bytes)
    }

    /// Stores a value, last word first, leaving equal words alone.
    pub(super) fn put(&self, index: u32, value: &[u8]) -> Option<()> {
        let words = self.value(index)?;
        for (word, chunk) in words.iter().zip(value.chunks(8)).rev() {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            let new = u64::from_ne_bytes(bytes);
            if word.load(Ordering::Relaxed) != new {
                word.store(new, Ordering::Release);
            }
        }
        Some(())
    }

    /// Adds to the counter at `index`, never below zero.
    pub(super) fn add(&self, index: u32, delta: i32) -> Option<u32> {
        let counter = self.counter(index)?;
        if delta >= 0 {
            return Some(
                counter
                    .fetch_add(delta as u32, Ordering::AcqRel)
                    .wrapping_add(delta as u32),
            );
        }
        let less = |old: u32| Some(old.saturating_sub(delta.unsigned_abs()));
        let old = counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        old.ok().and_then(less)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`; no reference into it outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.words * 8) };
    }
}
