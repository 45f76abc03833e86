// SPDX-License-Identifier: Apache-2.0
//! What becomes of a packet: pure code over byte views and table lookups that runs in the kernel and in
//! `cargo test`.
#![no_std]
#![forbid(unsafe_code)]
