// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Carries a decision out: redirects, tunnel keys, counters and events.

use abi::{CAPTURE_LEN, Counter, DropEvent, DropReason, EVENT_DROP, config_flags};
use aya_ebpf::{
    bindings::{BPF_F_ZERO_CSUM_TX, TC_ACT_OK, TC_ACT_SHOT, bpf_tunnel_key},
    helpers::{
        bpf_get_hash_recalc, bpf_ktime_get_ns, bpf_redirect, bpf_redirect_peer,
        bpf_skb_change_type, bpf_skb_load_bytes, bpf_skb_set_tunnel_key,
    },
};
use fastpath::{Packet, Step, TUNNEL_TTL, Tables, Tunnel, Work};

use crate::maps::{EVENTS, METRICS, SCRATCH, Scratch};
use crate::packet::{Skb, field};
use crate::tables::Kernel;
use crate::underlay;

/// `skb.tc_index` of a packet that has its tunnel key: [`crate::to_overlay`] lets it pass.
pub(crate) const KEYED: u16 = 0x1577;
/// `skb.pkt_type` of a packet for this host.
const PACKET_HOST: u32 = 0;

/// This processor's state. A program is not interrupted by another on the same processor.
#[inline(always)]
pub(crate) fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: each processor has its own value, and only the one running program of the processor uses it.
    SCRATCH
        .get_ptr_mut(0)
        .map(|scratch| unsafe { &mut *scratch })
}

/// Does what was decided and returns the program's result.
#[inline(always)]
pub(crate) fn carry_out(skb: &mut Skb, step: Step, scratch: &mut Scratch) -> i32 {
    let report = &scratch.work.report;
    let direction = u32::from(report.direction);
    if report.reason != 0 {
        tell(skb, scratch);
    }
    let report = &scratch.work.report;
    match step {
        Step::Drop => return TC_ACT_SHOT,
        // A refusal that the sender is told about is a drop, and the answer no packet of anybody.
        _ if report.reason != 0 && report.audit == 0 => {}
        _ => count(0, direction, skb.len()),
    }
    match step {
        Step::PassToNode => {
            for_this_host(skb);
            TC_ACT_OK
        }
        Step::Deliver => {
            for_this_host(skb);
            // SAFETY: a helper with plain arguments.
            unsafe { bpf_redirect_peer(report.ifindex, 0) as i32 }
        }
        Step::Tunnel => tunnel(skb, &report.tunnel),
        Step::Encapsulate => {
            if set_key(skb, &report.tunnel) {
                TC_ACT_OK
            } else {
                TC_ACT_SHOT
            }
        }
        _ => TC_ACT_OK,
    }
}

#[inline(always)]
fn for_this_host(skb: &Skb) {
    if field!(skb.skb, pkt_type) != PACKET_HOST {
        // SAFETY: a helper call on the context. It cannot fail for this type.
        unsafe { bpf_skb_change_type(skb.skb, PACKET_HOST) };
    }
}

#[inline(always)]
fn tunnel(skb: &mut Skb, tunnel: &Tunnel) -> i32 {
    let Some(config) = Kernel.config() else {
        return TC_ACT_SHOT;
    };
    if config.flags & config_flags::BYPASS_STACK != 0
        && let Some(result) = underlay::send(skb, tunnel, config)
    {
        return result;
    }
    if !set_key(skb, tunnel) {
        return TC_ACT_SHOT;
    }
    // SAFETY: the context is valid and `tc_index` may be written by classifiers; the redirect takes plain
    // arguments.
    unsafe {
        (*skb.skb).tc_index = u32::from(KEYED);
        bpf_redirect(config.vxlan_ifindex, 0) as i32
    }
}

#[inline(always)]
fn set_key(skb: &Skb, tunnel: &Tunnel) -> bool {
    // SAFETY: plain integers and a union of integers: zero is a value.
    let mut key: bpf_tunnel_key = unsafe { core::mem::zeroed() };
    key.tunnel_id = tunnel.identity;
    key.tunnel_ttl = TUNNEL_TTL;
    // The helper wants IPv4 addresses in host byte order.
    key.__bindgen_anon_1.remote_ipv4 = u32::from_be_bytes(tunnel.remote.octets4());
    key.__bindgen_anon_3.local_ipv4 = u32::from_be_bytes(tunnel.local.octets4());
    // SAFETY: `key` has the size that the helper is told.
    unsafe {
        bpf_skb_set_tunnel_key(
            skb.skb,
            &mut key,
            size_of::<bpf_tunnel_key>() as u32,
            u64::from(BPF_F_ZERO_CSUM_TX),
        ) == 0
    }
}

#[inline(always)]
fn count(reason: u32, direction: u32, bytes: u32) {
    if let Some(counter) = METRICS.get_ptr_mut(reason * 4 + (direction & 3)) {
        // SAFETY: this processor's own counter.
        let Counter {
            packets,
            bytes: sum,
        } = unsafe { &mut *counter };
        *packets += 1;
        *sum += u64::from(bytes);
    }
}

/// Counts a drop (or an audited packet) and tells whoever listens.
#[inline(never)]
fn tell(skb: &Skb, scratch: &mut Scratch) {
    let report = &scratch.work.report;
    count(
        u32::from(report.reason),
        u32::from(report.direction),
        skb.len(),
    );
    let Some(config) = Kernel.config() else {
        return;
    };
    if config.flags & config_flags::EVENTS == 0 || report.quiet != 0 {
        return;
    }
    if scratch.second != Kernel.now() {
        scratch.second = Kernel.now();
        scratch.events = 0;
    }
    if scratch.events >= config.event_rate {
        return;
    }
    scratch.events += 1;
    event(skb, &scratch.work);
}

#[inline(always)]
fn event(skb: &Skb, work: &Work) {
    let Some(mut entry) = EVENTS.reserve::<DropEvent>(0) else {
        return;
    };
    let report = &work.report;
    let parsed = !matches!(report.reason, PARSE_FIRST..=PARSE_LAST);
    let len = skb.len();
    let ifindex = field!(skb.skb, ifindex);
    // SAFETY: the reservation has room for one event, and every field of it is written here; helpers get
    // valid pointers. Fields are written one by one, because a whole event does not fit the stack.
    unsafe {
        let out = entry.as_mut_ptr();
        (*out).kind = EVENT_DROP;
        (*out).reason = report.reason;
        (*out).ext = report.ext as i8;
        (*out).direction = report.direction;
        (*out).endpoint = report.endpoint;
        (*out).audit = report.audit;
        (*out).proto = if parsed { work.packet.proto } else { 0 };
        (*out).src_identity = report.src_identity;
        (*out).dst_identity = report.dst_identity;
        (*out).rule = report.rule;
        (*out).ifindex = ifindex;
        (*out).hash = bpf_get_hash_recalc(skb.skb);
        (*out).len = len;
        (*out).pad = 0;
        (*out).node = report.node;
        (*out).time = bpf_ktime_get_ns();
        (*out).captured = capture(skb, len, &mut (*out).capture);
    }
    entry.submit(0);
}

/// Reasons of packets whose headers could not be read.
const PARSE_FIRST: u8 = DropReason::InvalidPacket as u8;
const PARSE_LAST: u8 = DropReason::TruncatedHeader as u8;

/// Copies the begin of the packet; the rest of `out` becomes zero.
#[inline(always)]
fn capture(skb: &Skb, len: u32, out: &mut [u8; CAPTURE_LEN]) -> u32 {
    if len >= CAPTURE_LEN as u32 {
        return if skb.copy(0, out) {
            CAPTURE_LEN as u32
        } else {
            0
        };
    }
    *out = [0; CAPTURE_LEN];
    // A helper's length must have bounds that the verifier sees.
    let len = len & 0x7f;
    if len == 0 || len >= CAPTURE_LEN as u32 {
        return 0;
    }
    // SAFETY: `len` is below the capture's length.
    let result = unsafe { bpf_skb_load_bytes(skb.skb.cast(), 0, out.as_mut_ptr().cast(), len) };
    if result == 0 { len } else { 0 }
}
