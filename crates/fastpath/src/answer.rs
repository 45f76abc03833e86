// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! ICMP errors that a pod gets back for what it sent: too big for the tunnel, hop limit used up.

use abi::{Addr, DropReason, Endpoint, NodeConfig};
use zerocopy::IntoBytes;

use crate::headers::{ETH_LEN, ICMP, ICMPV6};
use crate::{Packet, Step, Tables, Work};

/// Bytes of the packet that an IPv4 error embeds: enough for its header, options, and 8 bytes more.
const EMBED4: usize = 68;
/// Bytes that "packet too big" embeds.
const EMBED6_BIG: usize = 96;
/// Bytes that "time exceeded" embeds; every packet that gets so far has as many.
const EMBED6_TIME: usize = 48;
const FRAME4: usize = ETH_LEN + 28 + EMBED4;
const FRAME6_BIG: usize = ETH_LEN + 48 + EMBED6_BIG;
const FRAME6_TIME: usize = ETH_LEN + 48 + EMBED6_TIME;

/// The checksum field for a sum of 16-bit words.
#[inline(always)]
pub(crate) fn checksum(sum: u32) -> [u8; 2] {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    (!(sum as u16)).to_be_bytes()
}

/// Answers the sending pod that the tunnel takes less, with the size that fits.
#[inline(never)]
pub(crate) fn too_big<P: Packet, T: Tables>(pkt: &mut P, tables: &T, work: &mut Work) -> Step {
    let (Some(config), Some(own)) = (
        tables.config(),
        tables.endpoint(u32::from(work.report.endpoint)),
    ) else {
        return work.report.drop(DropReason::FragmentationNeeded);
    };
    let sent = if work.packet.v4 == 1 {
        needs_fragmentation(pkt, work, config, own)
    } else {
        let mtu = config.tunnel_mtu.to_be_bytes();
        error6::<FRAME6_BIG, EMBED6_BIG, P>(pkt, work, config, own, 2, mtu)
    };
    finish(work, own, sent, DropReason::FragmentationNeeded)
}

/// Answers the sending pod that its IPv6 packet used up its hop limit here.
#[inline(never)]
pub(crate) fn time_exceeded<P: Packet, T: Tables>(
    pkt: &mut P,
    tables: &T,
    work: &mut Work,
) -> Step {
    let (Some(config), Some(own)) = (
        tables.config(),
        tables.endpoint(u32::from(work.report.endpoint)),
    ) else {
        return work.report.drop(DropReason::TtlExceeded);
    };
    let sent = error6::<FRAME6_TIME, EMBED6_TIME, P>(pkt, work, config, own, 3, [0; 4]);
    finish(work, own, sent, DropReason::TtlExceeded)
}

#[inline(always)]
fn finish(work: &mut Work, own: &Endpoint, sent: bool, reason: DropReason) -> Step {
    if !sent {
        return work.report.drop(reason);
    }
    work.report.ifindex = own.ifindex;
    Step::Deliver
}

/// ICMP 3/4 from the router's address.
#[inline(always)]
fn needs_fragmentation<P: Packet>(
    pkt: &mut P,
    work: &mut Work,
    config: &NodeConfig,
    own: &Endpoint,
) -> bool {
    let Some(embed) = work.frame[42..].first_chunk_mut::<EMBED4>() else {
        return false;
    };
    if !pkt.copy(ETH_LEN, embed) {
        return false;
    }
    let from = if config.router4 == Addr::NONE {
        work.packet.dst
    } else {
        config.router4
    };
    let frame = &mut work.frame;
    frame[0..6].copy_from_slice(&own.mac);
    frame[6..12].copy_from_slice(&own.host_mac);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14..26].copy_from_slice(&[0x45, 0, 0, (28 + EMBED4) as u8, 0, 0, 0, 0, 64, ICMP, 0, 0]);
    frame[26..30].copy_from_slice(&from.octets4());
    frame[30..34].copy_from_slice(&own.ipv4.octets4());
    if let Some(header) = frame[14..].first_chunk::<20>() {
        let sum = checksum(pkt.sum(header));
        frame[24..26].copy_from_slice(&sum);
    }
    let mtu = (config.tunnel_mtu as u16).to_be_bytes();
    frame[34..42].copy_from_slice(&[3, 4, 0, 0, 0, 0, mtu[0], mtu[1]]);
    if let Some(message) = frame[34..].first_chunk::<{ 8 + EMBED4 }>() {
        let sum = checksum(pkt.sum(message));
        frame[36..38].copy_from_slice(&sum);
    }
    frame
        .first_chunk::<FRAME4>()
        .is_some_and(|frame| pkt.replace(frame))
}

/// ICMPv6 error of type `kind`, code 0, from the router's address.
#[inline(always)]
fn error6<const FRAME: usize, const EMBED: usize, P: Packet>(
    pkt: &mut P,
    work: &mut Work,
    config: &NodeConfig,
    own: &Endpoint,
    kind: u8,
    word: [u8; 4],
) -> bool {
    let Some(embed) = work.frame[62..].first_chunk_mut::<EMBED>() else {
        return false;
    };
    if !pkt.copy(ETH_LEN, embed) {
        return false;
    }
    let mut sum = pkt.sum(embed);
    let from = if config.router6 == Addr::NONE {
        work.packet.dst
    } else {
        config.router6
    };
    let frame = &mut work.frame;
    frame[0..6].copy_from_slice(&own.mac);
    frame[6..12].copy_from_slice(&own.host_mac);
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    frame[14..22].copy_from_slice(&[0x60, 0, 0, 0, 0, (8 + EMBED) as u8, ICMPV6, 64]);
    frame[22..38].copy_from_slice(from.as_bytes());
    frame[38..54].copy_from_slice(own.ipv6.as_bytes());
    frame[54..58].copy_from_slice(&[kind, 0, 0, 0]);
    frame[58..62].copy_from_slice(&word);
    sum += 8 + EMBED as u32 + u32::from(ICMPV6);
    if let Some(rest) = frame[22..].first_chunk::<40>() {
        sum += pkt.sum(rest);
    }
    frame[56..58].copy_from_slice(&checksum(sum));
    frame
        .first_chunk::<FRAME>()
        .is_some_and(|frame| pkt.replace(frame))
}
