// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! From a frame to addresses, ports and kind. Reads only; whatever is not understood has a drop reason.

use abi::{Addr, DropReason, FragKey};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::headers::{
    AUTHENTICATION, DESTINATION_OPTIONS, ETH_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6,
    ETHERTYPE_MIN, Extension, FRAGMENT, HOP_BY_HOP, Ipv4, Ipv6, NO_NEXT_HEADER, ROUTING, V4_END,
    V6_END, mapped,
};
use crate::transport::{first_fragment, later_fragment, transport};
use crate::{Packet, Tables};

/// Where an IPv6 header says what comes next.
const NEXT6: usize = 6;
/// Most IPv6 extension headers of a packet.
const MAX_EXTENSIONS: usize = 4;

/// What a packet is to conntrack.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Layer4(pub u8);

impl Layer4 {
    /// TCP, UDP: both directions belong to one flow.
    pub const PORTS: Layer4 = Layer4(0);
    /// Opens or continues a flow of echo requests.
    pub const ECHO_REQUEST: Layer4 = Layer4(1);
    /// Belongs to a flow only as the reply direction.
    pub const ECHO_REPLY: Layer4 = Layer4(2);
    /// ICMP or ICMPv6 error, which embeds the packet that it is about.
    pub const ERROR: Layer4 = Layer4(3);
    /// Neighbour discovery, router discovery, redirect, multicast listener.
    pub const DISCOVERY: Layer4 = Layer4(4);
    /// Any other ICMP; judged packet by packet.
    pub const OTHER: Layer4 = Layer4(5);
}

/// Headers of a packet, in network byte order where a field has more than one byte and no unit.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Parsed {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Source port; the identifier for an echo reply; 0 for other ICMP.
    pub sport: [u8; 2],
    /// Destination port; the identifier for an echo request; 0 for other ICMP.
    pub dport: [u8; 2],
    /// IP protocol of the transport header.
    pub proto: u8,
    /// What the packet is to conntrack.
    pub kind: Layer4,
    /// TCP flags; 0 for other protocols and later fragments.
    pub tcp_flags: u8,
    /// ICMP or ICMPv6 type.
    pub icmp_type: u8,
    /// Offset of the transport header in the frame, bytes.
    pub l4: u16,
    /// Length of network and transport header, bytes.
    pub headers: u16,
    /// IPv4 header checksum.
    pub checksum: [u8; 2],
    /// TTL or hop limit.
    pub ttl: u8,
    /// 1 for IPv4.
    pub v4: u8,
    /// Bytes of the IP packet as its header says.
    pub len: u32,
    /// Fragment identification, host byte order.
    pub id: u32,
    /// IPv4 "don't fragment" (always for IPv6).
    pub dont_fragment: u8,
    /// One of [`Parsed::WHOLE`], [`Parsed::FIRST`], [`Parsed::LATER`].
    pub fragment: u8,
    /// Zero.
    pub pad: [u8; 2],
}

impl Parsed {
    /// Not a fragment.
    pub const WHOLE: u8 = 0;
    /// The fragment with the transport header.
    pub const FIRST: u8 = 1;
    /// Any other fragment.
    pub const LATER: u8 = 2;

    /// Key under which the ports of this packet's datagram are remembered.
    #[inline(always)]
    pub(crate) fn fragment_key(&self) -> FragKey {
        FragKey {
            src: self.src,
            dst: self.dst,
            id: self.id,
            proto: self.proto,
            pad: [0; 3],
        }
    }

    /// Where the IP packet ends in the frame.
    #[inline(always)]
    pub(crate) fn end(&self) -> u32 {
        ETH_LEN as u32 + self.len
    }
}

/// What a frame on a pod's device carries: the ethertype of IPv4, IPv6 or ARP, or why it is dropped.
#[inline(always)]
pub(crate) fn ethertype<P: Packet>(pkt: &P) -> Result<u16, DropReason> {
    if pkt.tagged() {
        return Err(DropReason::VlanFiltered);
    }
    match pkt.read::<u16>(ETH_LEN - 2).map(u16::from_be) {
        Some(known @ (ETHERTYPE_IPV4 | ETHERTYPE_IPV6 | ETHERTYPE_ARP)) => Ok(known),
        Some(other) if other >= ETHERTYPE_MIN => Err(DropReason::UnsupportedL3),
        _ => Err(DropReason::UnsupportedL2),
    }
}

/// Reads by constant offsets (`DIRECT`), or at any offset.
#[inline(always)]
pub(crate) fn fetch<const DIRECT: bool, P, T>(pkt: &P, offset: usize) -> Option<T>
where
    P: Packet,
    T: FromBytes + IntoBytes + Immutable + Copy,
{
    if DIRECT {
        pkt.read(offset)
    } else {
        pkt.load(offset)
    }
}

/// Parses an IPv4 or IPv6 packet into `out`; `Some` is why it cannot be forwarded.
///
/// Headers outside the linear part are fetched the slow way.
#[inline(always)]
pub fn parse<P: Packet, T: Tables>(
    pkt: &mut P,
    tables: &T,
    ethertype: u16,
    out: &mut Parsed,
) -> Option<DropReason> {
    let v4 = ethertype == ETHERTYPE_IPV4;
    let reason = if v4 {
        ipv4::<true, P, T>(pkt, tables, out)
    } else {
        ipv6::<true, P, T>(pkt, tables, out)
    };
    match reason {
        Some(DropReason::InvalidPacket | DropReason::TruncatedHeader)
            if pkt.linear() < pkt.len() =>
        {
            again(pkt, tables, v4, out)
        }
        reason => reason,
    }
}

const PULL: u32 = 128;

#[inline(never)]
fn again<P: Packet, T: Tables>(
    pkt: &mut P,
    tables: &T,
    v4: bool,
    out: &mut Parsed,
) -> Option<DropReason> {
    if !pkt.pull(PULL) {
        return Some(DropReason::InvalidPacket);
    }
    if v4 {
        ipv4::<false, P, T>(pkt, tables, out)
    } else {
        ipv6::<false, P, T>(pkt, tables, out)
    }
}

#[inline(always)]
fn ipv4<const DIRECT: bool, P: Packet, T: Tables>(
    pkt: &P,
    tables: &T,
    out: &mut Parsed,
) -> Option<DropReason> {
    let Some(ip) = fetch::<DIRECT, P, Ipv4>(pkt, ETH_LEN) else {
        return Some(DropReason::InvalidPacket);
    };
    let header = u32::from(ip.version_ihl & 15) * 4;
    let len = u32::from(u16::from_be(ip.len));
    if ip.version_ihl >> 4 != 4 || header < 20 || len < header || len + ETH_LEN as u32 > pkt.len() {
        return Some(DropReason::InvalidPacket);
    }
    let fragment = u16::from_be(ip.fragment);
    out.src = mapped(ip.src);
    out.dst = mapped(ip.dst);
    out.proto = ip.proto;
    out.checksum = ip.checksum.to_ne_bytes();
    out.ttl = ip.ttl;
    out.v4 = 1;
    out.len = len;
    out.id = u32::from(u16::from_be(ip.id));
    out.dont_fragment = u8::from(fragment & 0x4000 != 0);
    out.fragment = fragment_of(fragment & 0x1fff, fragment & 0x2000 != 0);
    out.l4 = (ETH_LEN as u32 + header) as u16;
    if header == 20 && out.fragment == Parsed::WHOLE {
        return transport::<DIRECT, P>(pkt, out, V4_END);
    }
    elsewhere(pkt, tables, out)
}

#[inline(always)]
fn fragment_of(offset: u16, more: bool) -> u8 {
    match (offset, more) {
        (0, false) => Parsed::WHOLE,
        (0, true) => Parsed::FIRST,
        _ => Parsed::LATER,
    }
}

#[inline(always)]
fn ipv6<const DIRECT: bool, P: Packet, T: Tables>(
    pkt: &P,
    tables: &T,
    out: &mut Parsed,
) -> Option<DropReason> {
    let Some(ip) = fetch::<DIRECT, P, Ipv6>(pkt, ETH_LEN) else {
        return Some(DropReason::InvalidPacket);
    };
    let len = 40 + u32::from(u16::from_be(ip.len));
    if ip.version >> 4 != 6 || len + ETH_LEN as u32 > pkt.len() || ip.src.is_v4() || ip.dst.is_v4()
    {
        return Some(DropReason::InvalidPacket);
    }
    out.src = ip.src;
    out.dst = ip.dst;
    out.proto = ip.next;
    out.checksum = [0; 2];
    out.ttl = ip.hops;
    out.v4 = 0;
    out.len = len;
    out.id = 0;
    out.dont_fragment = 1;
    out.fragment = Parsed::WHOLE;
    out.l4 = V6_END as u16;
    if is_extension(ip.next) {
        return extensions(pkt, tables, out);
    }
    transport::<DIRECT, P>(pkt, out, V6_END)
}

#[inline(always)]
fn is_extension(next: u8) -> bool {
    matches!(
        next,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | NO_NEXT_HEADER | DESTINATION_OPTIONS
    )
}

/// Walks the extension headers; leaves the transport protocol in `proto` and its place in `l4`.
#[inline(never)]
fn extensions<P: Packet, T: Tables>(pkt: &P, tables: &T, out: &mut Parsed) -> Option<DropReason> {
    let mut next = out.proto;
    let mut at = V6_END as u32;
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(next) {
            break;
        }
        if next == NO_NEXT_HEADER {
            return Some(DropReason::InvalidExtensionHeader);
        }
        let Some(header) = pkt.load::<Extension>(at as usize) else {
            return Some(DropReason::TruncatedHeader);
        };
        at += extension_len(next, &header);
        if next == FRAGMENT {
            let word = u16::from_be(header.offset);
            out.fragment = fragment_of(word >> 3, word & 1 != 0);
            out.id = u32::from_be(header.id);
        }
        next = header.next;
        if out.fragment == Parsed::LATER {
            break;
        }
    }
    out.proto = next;
    if out.fragment != Parsed::LATER && is_extension(next) {
        return Some(DropReason::InvalidExtensionHeader);
    }
    out.l4 = at as u16;
    elsewhere(pkt, tables, out)
}

/// The transport header of a whole IPv6 packet, or a first fragment, that another one quotes at `quote`: its protocol in the
/// low byte, its place above. 0: there is none.
#[inline(never)]
pub(crate) fn quoted_transport<P: Packet>(pkt: &P, quote: usize) -> u32 {
    let at = quote + V6_END - ETH_LEN;
    match pkt.load::<u8>(quote + NEXT6) {
        Some(next) if is_extension(next) => behind_extensions(pkt, at as u32, next),
        Some(next) => (at as u32) << 8 | u32::from(next),
        None => 0,
    }
}

#[inline(always)]
fn behind_extensions<P: Packet>(pkt: &P, mut at: u32, mut next: u8) -> u32 {
    for _ in 0..MAX_EXTENSIONS {
        let Some(header) = pkt.load::<Extension>(at as usize) else {
            return 0;
        };
        if next == FRAGMENT && u16::from_be(header.offset) >> 3 != 0 {
            return 0;
        }
        at += extension_len(next, &header);
        next = header.next;
        if !is_extension(next) {
            return at << 8 | u32::from(next);
        }
    }
    0
}

/// Bytes of an extension header of kind `kind`.
#[inline(always)]
fn extension_len(kind: u8, header: &Extension) -> u32 {
    match kind {
        FRAGMENT => 8,
        AUTHENTICATION => (u32::from(header.len) + 2) * 4,
        _ => (u32::from(header.len) + 1) * 8,
    }
}

/// Transport headers that are not where most packets have them, and fragments.
#[inline(never)]
fn elsewhere<P: Packet, T: Tables>(pkt: &P, tables: &T, out: &mut Parsed) -> Option<DropReason> {
    let at = usize::from(out.l4);
    match out.fragment {
        Parsed::LATER => later_fragment(tables, out),
        Parsed::FIRST => first_fragment(pkt, out, at),
        _ => transport::<false, P>(pkt, out, at),
    }
}
