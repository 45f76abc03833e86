// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! The outer headers of a packet that goes to another node, as the kernel's VXLAN device would write them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::headers::{ETHERTYPE_IPV4, UDP};
use crate::{Packet, Tunnel};

/// Bytes that encapsulation puts between a frame's Ethernet header and its network header: IPv4, UDP, VXLAN and
/// the inner Ethernet header.
pub const OUTER_LEN: u32 = 50;
/// Length of [`Frame`]: with the outer Ethernet header.
const FRAME_WORDS: usize = 16;
/// Outer TTL.
pub const TUNNEL_TTL: u8 = 64;
/// "The VNI is valid" (RFC 7348).
const VNI_FLAG: u16 = 0x0800;
/// Source ports, as many as Linux uses by default; the flow's hash chooses, so that links in between share load.
const PORTS: core::ops::Range<u32> = 32768..60999;
const ECN_MASK: u16 = 3;
/// "Congestion experienced" and the code point that stands for it outside (RFC 6040, as Linux does it).
const ECN_CE: u16 = 3;
const ECN_ECT0: u16 = 2;

/// What the inner frame begins with, read before it gets its outer headers.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Inner {
    /// Destination and source MAC and the ethertype, network byte order.
    ethernet: [u16; 7],
    /// The begin of the IP header.
    ip: u16,
}

/// All headers up to the inner network header, as they lie in memory.
pub type Frame = [u32; FRAME_WORDS];

/// What differs from packet to packet, besides the inner frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outer<'a> {
    /// VNI and addresses, both IPv4.
    pub tunnel: &'a Tunnel,
    /// Destination port, host byte order.
    pub port: u16,
    /// Bytes of the inner frame with its Ethernet header.
    pub len: u32,
    /// Hash of the flow.
    pub hash: u32,
    /// IPv4 identification.
    pub id: u16,
}

impl Inner {
    /// Reads it from a whole frame.
    #[inline(always)]
    pub fn read<P: Packet>(pkt: &P) -> Option<Inner> {
        pkt.read(0)
    }

    /// The ECN bits that the outer header gets.
    #[inline(always)]
    fn ecn(&self) -> u16 {
        let ip = u16::from_be(self.ip);
        let traffic_class = match u16::from_be(self.ethernet[6]) {
            ETHERTYPE_IPV4 => ip,
            _ => ip >> 4,
        };
        match traffic_class & ECN_MASK {
            ECN_CE => ECN_ECT0,
            ecn => ecn,
        }
    }
}

/// Source port for a flow's hash, as the kernel's `udp_flow_src_port` spreads it.
#[inline(always)]
pub fn source_port(hash: u32) -> u16 {
    let hash = u64::from(hash ^ (hash << 16));
    let above = (hash * u64::from(PORTS.end - PORTS.start)) >> 32;
    PORTS.start as u16 + above as u16
}

/// The headers for `inner`. `None`: longer than an IPv4 packet can be.
///
/// The outer Ethernet header has no addresses: those of the device and of the neighbour are put there on output.
#[inline(always)]
pub fn outer(inner: &Inner, outer: Outer<'_>) -> Option<Frame> {
    let udp_len = outer.len + 16;
    let ip_len = udp_len + 20;
    if ip_len > 0xffff {
        return None;
    }
    let (ip_len, udp_len) = (ip_len as u16, udp_len as u16);
    let mac = inner.ethernet.map(u16::from_be);
    let (local, remote) = (outer.tunnel.local.octets4(), outer.tunnel.remote.octets4());
    let (local, remote) = (u32::from_be_bytes(local), u32::from_be_bytes(remote));
    let version_tos = 0x4500 | inner.ecn();
    let ttl_proto = u16::from_be_bytes([TUNNEL_TTL, UDP]);
    let sum = [version_tos, ip_len, outer.id, ttl_proto]
        .into_iter()
        .map(u32::from)
        .chain([local >> 16, local & 0xffff, remote >> 16, remote & 0xffff])
        .sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    let vni = outer.tunnel.identity;
    Some([
        0,
        0,
        0,
        pair(ETHERTYPE_IPV4, version_tos),
        pair(ip_len, outer.id),
        pair(0, ttl_proto),
        pair(checksum, (local >> 16) as u16),
        pair(local as u16, (remote >> 16) as u16),
        pair(remote as u16, source_port(outer.hash)),
        pair(outer.port, udp_len),
        // No UDP checksum: the inner packet has its own (RFC 7348, section 5).
        pair(0, VNI_FLAG),
        pair(0, (vni >> 8) as u16),
        pair((vni << 8) as u16, mac[0]),
        pair(mac[1], mac[2]),
        pair(mac[3], mac[4]),
        pair(mac[5], mac[6]),
    ])
}

/// Two 16-bit fields as they follow each other in memory.
#[inline(always)]
fn pair(first: u16, second: u16) -> u32 {
    (u32::from(first) << 16 | u32::from(second)).to_be()
}
