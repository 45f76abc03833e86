// SPDX-License-Identifier: Apache-2.0
//! The compiled BPF object, as the build script left it.

/// ELF object with all programs and maps of [`abi`], aligned as aya's parser wants it.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/isthmus.bpf.o"));
