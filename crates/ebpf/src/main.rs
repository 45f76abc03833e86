// SPDX-License-Identifier: Apache-2.0
//! The BPF programs of a node: entry points, maps and helper calls. What becomes of a packet is decided in
//! `fastpath`.
#![no_std]
#![no_main]

mod maps;

use aya_ebpf::{bindings::TC_ACT_OK, macros::classifier, programs::TcContext};

#[classifier]
pub fn from_pod(_ctx: TcContext) -> i32 {
    TC_ACT_OK
}

#[classifier]
pub fn to_pod(_ctx: TcContext) -> i32 {
    TC_ACT_OK
}

#[classifier]
pub fn from_overlay(_ctx: TcContext) -> i32 {
    TC_ACT_OK
}

#[classifier]
pub fn to_overlay(_ctx: TcContext) -> i32 {
    TC_ACT_OK
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// Helpers such as `bpf_redirect_peer` are for everybody, but the kernel asks for a licence string.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
