// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Straight to the underlay: a packet for another node gets its outer headers here and goes out by the device
//! that the routes name. The VXLAN device would look the route up for each packet, and the node's stack would
//! see it again on its way out.

use abi::NodeConfig;
use aya_ebpf::{
    bindings::{
        BPF_ADJ_ROOM_ENCAP_L2_SHIFT, BPF_F_ADJ_ROOM_ENCAP_L2_ETH, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4,
        BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO, BPF_FIB_LOOKUP_SKIP_NEIGH,
        TC_ACT_SHOT, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, bpf_fib_lookup as FibLookup,
        bpf_redir_neigh,
    },
    helpers::{
        bpf_fib_lookup, bpf_get_hash_recalc, bpf_get_prandom_u32, bpf_ktime_get_coarse_ns,
        bpf_redirect_neigh, bpf_skb_adjust_room,
    },
};
use fastpath::{Inner, OUTER_LEN, Outer, Packet, Tunnel, outer, source_port};

use crate::maps::{HOP_ENTRIES, HOPS};
use crate::packet::{Skb, field};

const AF_INET: u8 = 2;
const UDP: u8 = 17;
const ETH_LEN: u64 = 14;
/// The new headers are tunnel headers to the kernel: it segments and checksums the packet inside them.
const ROOM_FLAGS: u64 = BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 as u64
    | BPF_F_ADJ_ROOM_ENCAP_L4_UDP as u64
    | BPF_F_ADJ_ROOM_ENCAP_L2_ETH as u64
    | BPF_F_ADJ_ROOM_FIXED_GSO as u64
    | ETH_LEN << BPF_ADJ_ROOM_ENCAP_L2_SHIFT;
/// A route is asked for again after `1 << TICK_BITS` nanoseconds, 67 ms: so long a changed one goes unnoticed.
const TICK_BITS: u32 = 26;
/// Routes to one node that are kept at once: with several paths, flows spread over them.
const PATHS: u32 = 8;

/// The way to a node, as this processor found it a moment ago.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Hop {
    /// IPv4 address of the node, network byte order.
    node: u32,
    /// When it was found, in ticks.
    tick: u32,
    /// Device; 0: the stack knows better.
    ifindex: u32,
    /// IPv4 address of the next hop, network byte order.
    gateway: u32,
}

/// Sends the packet; `None`, and the packet as it was, if it has to go through the VXLAN device.
#[inline(always)]
pub(crate) fn send(skb: &mut Skb, tunnel: &Tunnel, config: &NodeConfig) -> Option<i32> {
    let node = u32::from_ne_bytes(tunnel.remote.octets4());
    // SAFETY: a helper call on the context.
    let hash = unsafe { bpf_get_hash_recalc(skb.skb) };
    let hop = hop(skb, tunnel, node, hash, config)?;
    let inner = Inner::read(skb)?;
    let headers = outer(
        &inner,
        Outer {
            tunnel,
            port: config.tunnel_port as u16,
            len: skb.len(),
            hash,
            // SAFETY: a helper without arguments.
            id: unsafe { bpf_get_prandom_u32() } as u16,
        },
    )?;
    // SAFETY: a helper call on the context; no reference into the packet is alive.
    let made =
        unsafe { bpf_skb_adjust_room(skb.skb, OUTER_LEN as i32, BPF_ADJ_ROOM_MAC, ROOM_FLAGS) };
    if made != 0 {
        return None;
    }
    if !skb.write(0, headers) {
        return Some(TC_ACT_SHOT);
    }
    // SAFETY: plain integers and a union of integers: zero is a value.
    let mut next: bpf_redir_neigh = unsafe { core::mem::zeroed() };
    next.nh_family = u32::from(AF_INET);
    next.__bindgen_anon_1.ipv4_nh = hop.gateway;
    // SAFETY: `next` has the size that the helper is told.
    Some(unsafe {
        bpf_redirect_neigh(
            hop.ifindex,
            &mut next,
            size_of::<bpf_redir_neigh>() as i32,
            0,
        ) as i32
    })
}

/// The way to `node` for packets with this hash.
#[inline(always)]
fn hop(skb: &Skb, tunnel: &Tunnel, node: u32, hash: u32, config: &NodeConfig) -> Option<Hop> {
    // SAFETY: a helper without arguments.
    let tick = (unsafe { bpf_ktime_get_coarse_ns() } >> TICK_BITS) as u32;
    let index = (node.wrapping_mul(0x9e37_79b1) >> 16).wrapping_add(hash % PATHS) % HOP_ENTRIES;
    let slot = HOPS.get_ptr_mut(index)?;
    // SAFETY: this processor's own value; a program is not interrupted by another on the same processor.
    let slot = unsafe { &mut *slot };
    if slot.node != node || slot.tick != tick {
        look_up(skb, tunnel, hash, config, slot);
        slot.node = node;
        slot.tick = tick;
    }
    if slot.ifindex == 0 { None } else { Some(*slot) }
}

/// Asks the routes. One with less room than the tunnel's packets may need is left to the stack, which can cut them.
#[inline(never)]
fn look_up(skb: &Skb, tunnel: &Tunnel, hash: u32, config: &NodeConfig, slot: &mut Hop) {
    // SAFETY: plain integers and unions of integers: zero is a value.
    let mut query: FibLookup = unsafe { core::mem::zeroed() };
    query.family = AF_INET;
    query.l4_protocol = UDP;
    query.sport = source_port(hash).to_be();
    query.dport = (config.tunnel_port as u16).to_be();
    query.__bindgen_anon_1.tot_len = (config.tunnel_mtu + OUTER_LEN) as u16;
    query.ifindex = field!(skb.skb, ifindex);
    query.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(tunnel.local.octets4());
    query.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(tunnel.remote.octets4());
    // SAFETY: `query` has the size that the helper is told.
    let found = unsafe {
        bpf_fib_lookup(
            skb.skb.cast(),
            &mut query,
            size_of::<FibLookup>() as i32,
            BPF_FIB_LOOKUP_SKIP_NEIGH,
        )
    };
    let direct = found == 0 && query.family == AF_INET;
    slot.ifindex = if direct { query.ifindex } else { 0 };
    // SAFETY: an answer of this family has this member.
    slot.gateway = unsafe { query.__bindgen_anon_4.ipv4_dst };
}
