// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! The BPF programs of a node: entry points, maps and helper calls. What becomes of a packet is decided in
//! `fastpath`.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(
    internal_features,
    reason = "the only way to a 32-bit atomic addition on this target"
)]

mod maps;
mod outcome;
mod packet;
mod tables;
mod underlay;

use abi::Addr;
use aya_ebpf::{
    bindings::{TC_ACT_OK, TC_ACT_SHOT, bpf_tunnel_key},
    helpers::bpf_skb_get_tunnel_key,
    macros::classifier,
    programs::TcContext,
};
use outcome::{KEYED, carry_out, scratch};
use packet::{Skb, field};
use tables::Kernel;

/// Packets that a pod sends: ingress of the host side of its veth.
#[classifier]
pub fn from_pod(ctx: TcContext) -> i32 {
    let Some(scratch) = scratch() else {
        return TC_ACT_SHOT;
    };
    let mut skb = Skb { skb: ctx.skb.skb };
    let step = fastpath::from_pod(&mut skb, &Kernel, &mut scratch.work);
    carry_out(&mut skb, step, scratch)
}

/// Packets that the stack sends to a pod: egress of the host side of its veth.
#[classifier]
pub fn to_pod(ctx: TcContext) -> i32 {
    let Some(scratch) = scratch() else {
        return TC_ACT_SHOT;
    };
    let mut skb = Skb { skb: ctx.skb.skb };
    let step = fastpath::to_pod(&mut skb, &Kernel, &mut scratch.work);
    carry_out(&mut skb, step, scratch)
}

/// Packets of other nodes: ingress of the VXLAN device.
#[classifier]
pub fn from_overlay(ctx: TcContext) -> i32 {
    let Some(scratch) = scratch() else {
        return TC_ACT_SHOT;
    };
    let mut skb = Skb { skb: ctx.skb.skb };
    let key = tunnel_key(&skb);
    let step = fastpath::from_overlay(&mut skb, &Kernel, &mut scratch.work, key);
    carry_out(&mut skb, step, scratch)
}

/// Packets of the stack to other nodes' pods, and of pods on their way into the tunnel: egress of the VXLAN
/// device.
#[classifier]
pub fn to_overlay(ctx: TcContext) -> i32 {
    let mut skb = Skb { skb: ctx.skb.skb };
    if field!(skb.skb, tc_index) == u32::from(KEYED) {
        // SAFETY: the context is valid and classifiers may write `tc_index`.
        unsafe { (*skb.skb).tc_index = 0 };
        return TC_ACT_OK;
    }
    let Some(scratch) = scratch() else {
        return TC_ACT_SHOT;
    };
    let step = fastpath::to_overlay(&mut skb, &Kernel, &mut scratch.work);
    carry_out(&mut skb, step, scratch)
}

/// VNI and outer source of a packet that came by tunnel.
#[inline(always)]
fn tunnel_key(skb: &Skb) -> Option<(u32, Addr)> {
    // SAFETY: plain integers and a union of integers: zero is a value.
    let mut key: bpf_tunnel_key = unsafe { core::mem::zeroed() };
    // SAFETY: `key` has the size that the helper is told.
    let result =
        unsafe { bpf_skb_get_tunnel_key(skb.skb, &mut key, size_of::<bpf_tunnel_key>() as u32, 0) };
    if result != 0 {
        return None;
    }
    // SAFETY: a packet without the IPv6 flag has the IPv4 member, which the helper sets in host byte order.
    let outer = unsafe { key.__bindgen_anon_1.remote_ipv4 };
    Some((key.tunnel_id, Addr::v4(outer.to_be_bytes())))
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The kernel gives some of the helpers only to programs that come under the GPL, which this crate and those
/// that it is built from offer.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 4] = *b"GPL\0";
