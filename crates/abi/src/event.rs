// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! What the programs tell the agent through the ring buffer.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Addr;

/// Type of a [`DropEvent`], as in Cilium's monitor protocol (`pkg/monitor/api`).
pub const EVENT_DROP: u8 = 1;
/// Packet bytes kept in an event, from the Ethernet header.
pub const CAPTURE_LEN: usize = 96;

/// A dropped packet (or an audited one: `audit` set). 160 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct DropEvent {
    /// [`EVENT_DROP`].
    pub kind: u8,
    /// [`crate::DropReason`].
    pub reason: u8,
    /// [`crate::ExtError`].
    pub ext: i8,
    /// [`crate::Direction`] as seen by `endpoint`.
    pub direction: u8,
    /// Endpoint that was judged; 0 if none was known.
    pub endpoint: u16,
    /// 1: reported but not dropped (outer source check in audit mode).
    pub audit: u8,
    /// IP protocol, 0 if not parsed.
    pub proto: u8,
    /// Identity of the packet's source.
    pub src_identity: u32,
    /// Identity of the packet's destination, 0 if unknown.
    pub dst_identity: u32,
    /// [`crate::RowVerdict::rule`] that decided.
    pub rule: u32,
    /// Device on which the packet was.
    pub ifindex: u32,
    /// Flow hash of the packet.
    pub hash: u32,
    /// Length of the packet.
    pub len: u32,
    /// Bytes in `capture` that are valid.
    pub captured: u32,
    /// Zero.
    pub pad: u32,
    /// Outer source for packets that came by tunnel.
    pub node: Addr,
    /// `bpf_ktime_get_ns`.
    pub time: u64,
    /// The packet, from its Ethernet header.
    pub capture: [u8; CAPTURE_LEN],
}

const _: () = assert!(size_of::<DropEvent>() == 160);
