// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Internet checksums after a change of addresses and ports (RFC 1071, RFC 1624). Words are added as they lie in memory: the
//! carry goes round, whatever the byte order.

use abi::Addr;
use zerocopy::transmute;

use crate::Parsed;
use crate::headers::{ETH_LEN, UDP};

/// What a packet has in another's place: an address of the same family, and a port.
pub(crate) struct Change<'a> {
    pub(crate) from: &'a Addr,
    pub(crate) to: &'a Addr,
    pub(crate) ports: [[u8; 2]; 2],
}

/// Sum of an address' words, below 2^18 for IPv4 and 2^20 for IPv6.
#[inline(always)]
fn words(addr: &Addr, v4: bool) -> u32 {
    let [a, b, c, d]: [u32; 4] = transmute!(*addr);
    let halves = |word: u32| (word & 0xffff) + (word >> 16);
    match v4 {
        true => halves(d),
        false => halves(a) + halves(b) + halves(c) + halves(d),
    }
}

#[inline(always)]
fn folded(sum: u32) -> u32 {
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) + (sum >> 16)
}

/// What is added to a sum that has `from` to have it with `to`.
#[inline(always)]
fn difference(from: &Addr, to: &Addr, v4: bool) -> u32 {
    let most = if v4 { 2 } else { 8 };
    words(to, v4) + most * 0xffff - words(from, v4)
}

/// The checksum of an IPv4 header after one address took the place of another.
#[inline(always)]
pub(crate) fn header(checksum: [u8; 2], from: &Addr, to: &Addr) -> [u8; 2] {
    let sum = u32::from(!u16::from_ne_bytes(checksum)) + difference(from, to, true);
    (!(folded(sum) as u16)).to_ne_bytes()
}

/// The transport checksum after `change`, if it is surely one over the whole message, and is not absent.
///
/// A device or the segmentation finishes the others. Until then they hold the sum of the pseudo header: what does not is
/// finished. GSO packets are not asked about: whose length is in their pseudo header depends on who made them.
#[inline(always)]
pub(crate) fn finished(
    checksum: [u8; 2],
    packet: &Parsed,
    change: &Change<'_>,
    v4: bool,
) -> Option<[u8; 2]> {
    let now = u32::from(u16::from_ne_bytes(checksum));
    let message = packet.len - (u32::from(packet.l4) - ETH_LEN as u32);
    let pseudo = words(&packet.src, v4)
        + words(&packet.dst, v4)
        + u32::from(u16::from_ne_bytes([0, packet.proto]))
        + u32::from((message as u16).to_be());
    // One of two zeros: the same sum.
    if matches!(folded(pseudo + (0xffff - now)), 0 | 0xffff) || now == 0 {
        return None;
    }
    let [old, new] = change.ports.map(|port| u32::from(u16::from_ne_bytes(port)));
    let sum = (0xffff - now) + difference(change.from, change.to, v4) + new + (0xffff - old);
    Some(match (packet.proto, !(folded(sum) as u16)) {
        (UDP, 0) => [0xff; 2],
        (_, sum) => sum.to_ne_bytes(),
    })
}
