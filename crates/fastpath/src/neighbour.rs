// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! ARP and neighbour discovery of pods: every IPv4 address but their own is behind the host side of the veth, and of IPv6
//! what is the node's or a pod's there. Whatever else a pod asks for by IPv6 is nowhere on its link, unless it is the router
//! that it had before.

use abi::{Addr, DropReason, Endpoint, endpoint_flags};
use zerocopy::IntoBytes;

use crate::answer::checksum;
use crate::headers::{
    Arp, ETH_LEN, ICMPV6, NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, V6_END,
};
use crate::mac::address;
use crate::{Packet, Step, Tables, Work};

const REQUEST: u16 = 1u16.to_be();
const REPLY: u16 = 2u16.to_be();
const ETHERNET: u16 = 1u16.to_be();
const IPV4: u16 = 0x0800u16.to_be();
const LENGTHS: u16 = 0x0604u16.to_be();
/// Ethernet, IPv6, advertisement, target link-layer option.
const ADVERTISEMENT_LEN: usize = V6_END + 24 + 8;

fn endpoint<'a, P: Packet, T: Tables>(pkt: &P, tables: &'a T) -> Option<&'a Endpoint> {
    let id = tables.device(pkt.ifindex())?;
    tables
        .endpoint(id)
        .filter(|e| e.flags & endpoint_flags::READY != 0)
}

/// Answers an ARP request in place. The pod's answers to the host's own requests pass.
#[inline(never)]
pub(crate) fn arp<P: Packet, T: Tables>(pkt: &mut P, tables: &T, work: &mut Work) -> Step {
    let Some(own) = endpoint(pkt, tables) else {
        return work.report.drop(DropReason::EndpointNotReady);
    };
    work.report.endpoint = own.id as u16;
    work.report.src_identity = own.identity;
    let Some(arp) = pkt.load::<Arp>(ETH_LEN) else {
        return work.report.drop(DropReason::InvalidPacket);
    };
    if arp.hardware != ETHERNET || arp.protocol != IPV4 || arp.lengths != LENGTHS {
        return work.report.drop(DropReason::InvalidPacket);
    }
    let mine = own.ipv4.octets4();
    if arp.sender != mine && arp.sender != [0; 4] {
        return work.report.drop(DropReason::InvalidSourceIp);
    }
    if arp.operation != REQUEST || arp.target == mine {
        return Step::Pass;
    }
    let answer = Arp {
        operation: REPLY,
        sender_mac: own.host_mac,
        sender: arp.target,
        target_mac: own.mac,
        target: arp.sender,
        ..arp
    };
    if !pkt.write(ETH_LEN, answer) || !address(pkt, own) {
        return work.report.drop(DropReason::WriteFailed);
    }
    work.report.ifindex = own.ifindex;
    Step::Deliver
}

/// Answers a solicitation, lets the pod's own advertisement pass, and refuses the rest: a pod announces
/// nothing and hears of no router but ours.
#[inline(never)]
pub(crate) fn discovery<P: Packet, T: Tables>(
    pkt: &mut P,
    tables: &T,
    work: &mut Work,
    id: u32,
) -> Step {
    let (Some(own), Some(config)) = (tables.endpoint(id), tables.config()) else {
        return work.report.drop(DropReason::EndpointNotReady);
    };
    // Router solicitations and reports of groups are shorter than what names a target.
    if !matches!(
        work.packet.icmp_type,
        NEIGHBOUR_ADVERTISEMENT | NEIGHBOUR_SOLICITATION
    ) {
        return work.report.drop_quietly(DropReason::InvalidSourceIp);
    }
    let Some(target) = pkt.load::<Addr>(usize::from(work.packet.l4) + 8) else {
        return work.report.drop(DropReason::TruncatedHeader);
    };
    let source = &work.packet.src;
    let mine = *source == own.ipv6 || (source.0[0] == 0xfe && source.0[1] & 0xc0 == 0x80);
    if !mine || work.packet.ttl != 255 || usize::from(work.packet.l4) != V6_END {
        return work.report.drop_quietly(DropReason::InvalidSourceIp);
    }
    match work.packet.icmp_type {
        NEIGHBOUR_ADVERTISEMENT if target == own.ipv6 => return Step::Pass,
        NEIGHBOUR_SOLICITATION if target != own.ipv6 && target.0[0] != 0xff => {}
        _ => return work.report.drop_quietly(DropReason::InvalidSourceIp),
    }
    let router = target == config.router6
        || own.flags & endpoint_flags::OTHER_ROUTER != 0 && tables.local(&target).is_none();
    if !router && tables.local(&target).is_none() {
        return work.report.drop(DropReason::UnknownL3Target);
    }
    write_advertisement(pkt, work, own, &target, router);
    let sent = match work.frame.first_chunk::<ADVERTISEMENT_LEN>() {
        Some(frame) => pkt.replace(frame),
        None => false,
    };
    if !sent {
        return work.report.drop(DropReason::WriteFailed);
    }
    work.report.ifindex = own.ifindex;
    Step::Deliver
}

/// Solicited, override, and router for the router's own address.
#[inline(always)]
fn write_advertisement<P: Packet>(
    pkt: &P,
    work: &mut Work,
    own: &Endpoint,
    target: &Addr,
    router: bool,
) {
    let to = work.packet.src;
    let frame = &mut work.frame;
    frame[0..6].copy_from_slice(&own.mac);
    frame[6..12].copy_from_slice(&own.host_mac);
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    frame[14..22].copy_from_slice(&[0x60, 0, 0, 0, 0, 32, ICMPV6, 255]);
    frame[22..38].copy_from_slice(target.as_bytes());
    frame[38..54].copy_from_slice(to.as_bytes());
    let flags = if router { 0xe0 } else { 0x60 };
    frame[54..62].copy_from_slice(&[NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0]);
    frame[62..78].copy_from_slice(target.as_bytes());
    frame[78..80].copy_from_slice(&[2, 1]);
    frame[80..86].copy_from_slice(&own.host_mac);
    // Addresses and message are adjacent; the rest of the pseudo header is length and protocol.
    let mut sum = 32 + u32::from(ICMPV6);
    if let Some(bytes) = frame[22..].first_chunk::<64>() {
        sum += pkt.sum(bytes);
    }
    frame[56..58].copy_from_slice(&checksum(sum));
}
