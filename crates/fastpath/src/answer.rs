// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! What a pod gets back for what it sent: ICMP errors (too big for the tunnel, hop limit used up, a service without
//! backends) and the end of connections whose backend is gone.

use abi::{Addr, DropReason, Endpoint};
use zerocopy::IntoBytes;

use crate::headers::{ETH_LEN, ICMP, ICMPV6, TCP, TCP_ACK, TCP_RST, TCP_SYN, Tcp};
use crate::{Layer4, Packet, Parsed, Step, Tables, Work};

/// Bytes of the packet that "fragmentation needed" embeds: enough for its header, options, and 8 bytes more.
const EMBED4_BIG: usize = 68;
/// Bytes that "port unreachable" embeds: every packet has as many.
const EMBED4_SHORT: usize = 28;
/// Bytes that "packet too big" embeds.
const EMBED6_BIG: usize = 96;
/// Bytes that other ICMPv6 errors embed: every packet that gets so far has as many.
const EMBED6_SHORT: usize = 48;
const FRAME4_BIG: usize = ETH_LEN + 28 + EMBED4_BIG;
const FRAME4_SHORT: usize = ETH_LEN + 28 + EMBED4_SHORT;
const FRAME6_BIG: usize = ETH_LEN + 48 + EMBED6_BIG;
const FRAME6_SHORT: usize = ETH_LEN + 48 + EMBED6_SHORT;

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
        let from = router(config.router4, work);
        let mtu = config.tunnel_mtu as u16;
        error4::<FRAME4_BIG, EMBED4_BIG, P>(pkt, work, from, own, 4, mtu)
    } else {
        let from = router(config.router6, work);
        let mtu = config.tunnel_mtu.to_be_bytes();
        error6::<FRAME6_BIG, EMBED6_BIG, P>(pkt, work, from, own, [2, 0], mtu)
    };
    finish(work, own, sent, DropReason::FragmentationNeeded)
}

/// Drops a packet whose last hop this is, and answers the sending pod. Of IPv4 it is told nothing, as with Cilium.
#[inline(never)]
pub(crate) fn time_exceeded<P: Packet, T: Tables>(
    pkt: &mut P,
    tables: &T,
    work: &mut Work,
) -> Step {
    if work.packet.v4 == 1 || work.packet.kind == Layer4::ERROR {
        return work.report.drop(DropReason::TtlExceeded);
    }
    let (Some(config), Some(own)) = (
        tables.config(),
        tables.endpoint(u32::from(work.report.endpoint)),
    ) else {
        return work.report.drop(DropReason::TtlExceeded);
    };
    let from = router(config.router6, work);
    let sent = error6::<FRAME6_SHORT, EMBED6_SHORT, P>(pkt, work, from, own, [3, 0], [0; 4]);
    finish(work, own, sent, DropReason::TtlExceeded)
}

/// Answers the sending pod in the service's name that nobody is at its port, by ICMP.
#[inline(never)]
pub(crate) fn unreachable<P: Packet, T: Tables>(pkt: &mut P, tables: &T, work: &mut Work) -> Step {
    let _ = work.report.drop(DropReason::NoBackend);
    let Some(own) = tables.endpoint(u32::from(work.report.endpoint)) else {
        return Step::Drop;
    };
    let from = work.packet.dst;
    let sent = if work.packet.v4 == 1 {
        error4::<FRAME4_SHORT, EMBED4_SHORT, P>(pkt, work, from, own, 3, 0)
    } else {
        error6::<FRAME6_SHORT, EMBED6_SHORT, P>(pkt, work, from, own, [1, 4], [0; 4])
    };
    finish(work, own, sent, DropReason::NoBackend)
}

/// Ends the TCP connection of the sending pod, or its attempt at one, in the service's name. An attempt has to be refused by
/// TCP itself: the answer comes while the pod still holds its socket, and then an ICMP error waits for the next attempt.
#[inline(never)]
pub(crate) fn reset<P: Packet, T: Tables>(pkt: &mut P, tables: &T, work: &mut Work) -> Step {
    let _ = work.report.drop(DropReason::NoBackend);
    let Some(own) = tables.endpoint(u32::from(work.report.endpoint)) else {
        return Step::Drop;
    };
    let whole = work.packet.fragment != Parsed::LATER;
    let Some(tcp) = pkt
        .load::<Tcp>(usize::from(work.packet.l4))
        .filter(|_| whole)
    else {
        return Step::Drop;
    };
    let reset = match work.packet.tcp_flags & (TCP_RST | TCP_ACK | TCP_SYN) {
        TCP_SYN => Reset {
            seq: 0,
            ack: (u32::from_be(tcp.seq)).wrapping_add(1).to_be(),
            flags: TCP_RST | TCP_ACK,
        },
        TCP_ACK => Reset {
            seq: tcp.ack,
            ack: 0,
            flags: TCP_RST,
        },
        // What is a reset itself has no answer.
        _ => return Step::Drop,
    };
    let sent = if work.packet.v4 == 1 {
        reset4(pkt, work, own, &reset)
    } else {
        reset6(pkt, work, own, &reset)
    };
    finish(work, own, sent, DropReason::NoBackend)
}

#[inline(always)]
fn reset4<P: Packet>(pkt: &mut P, work: &mut Work, own: &Endpoint, reset: &Reset) -> bool {
    let (from, ports) = (work.packet.dst, (work.packet.dport, work.packet.sport));
    let frame = &mut work.frame;
    frame[0..6].copy_from_slice(&own.mac);
    frame[6..12].copy_from_slice(&own.host_mac);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14..26].copy_from_slice(&[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, TCP, 0, 0]);
    frame[26..30].copy_from_slice(&from.octets4());
    frame[30..34].copy_from_slice(&own.ipv4.octets4());
    if let Some(header) = frame[14..].first_chunk::<20>() {
        let sum = checksum(pkt.sum(header));
        frame[24..26].copy_from_slice(&sum);
    }
    segment(&mut frame[34..54], ports, reset);
    if let Some(covered) = frame[26..].first_chunk::<28>() {
        let sum = checksum(pkt.sum(covered) + 20 + u32::from(TCP));
        frame[50..52].copy_from_slice(&sum);
    }
    frame
        .first_chunk::<54>()
        .is_some_and(|frame| pkt.replace(frame))
}

#[inline(always)]
fn reset6<P: Packet>(pkt: &mut P, work: &mut Work, own: &Endpoint, reset: &Reset) -> bool {
    let (from, ports) = (work.packet.dst, (work.packet.dport, work.packet.sport));
    let frame = &mut work.frame;
    frame[0..6].copy_from_slice(&own.mac);
    frame[6..12].copy_from_slice(&own.host_mac);
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    frame[14..22].copy_from_slice(&[0x60, 0, 0, 0, 0, 20, TCP, 64]);
    frame[22..38].copy_from_slice(from.as_bytes());
    frame[38..54].copy_from_slice(own.ipv6.as_bytes());
    segment(&mut frame[54..74], ports, reset);
    if let Some(covered) = frame[22..].first_chunk::<52>() {
        let sum = checksum(pkt.sum(covered) + 20 + u32::from(TCP));
        frame[70..72].copy_from_slice(&sum);
    }
    frame
        .first_chunk::<74>()
        .is_some_and(|frame| pkt.replace(frame))
}

/// Numbers of a TCP segment that resets, in network byte order (RFC 9293, 3.10.7).
struct Reset {
    seq: u32,
    ack: u32,
    flags: u8,
}

/// A TCP header that resets, its checksum zero.
#[inline(always)]
fn segment(out: &mut [u8], (sport, dport): ([u8; 2], [u8; 2]), reset: &Reset) {
    out[0..2].copy_from_slice(&sport);
    out[2..4].copy_from_slice(&dport);
    out[4..8].copy_from_slice(&reset.seq.to_ne_bytes());
    out[8..12].copy_from_slice(&reset.ack.to_ne_bytes());
    out[12..20].copy_from_slice(&[0x50, reset.flags, 0, 0, 0, 0, 0, 0]);
}

/// Who speaks of the way: the router, or the address at its end if there is none.
#[inline(always)]
fn router(addr: Addr, work: &Work) -> Addr {
    if addr == Addr::NONE {
        work.packet.dst
    } else {
        addr
    }
}

#[inline(always)]
fn finish(work: &mut Work, own: &Endpoint, sent: bool, reason: DropReason) -> Step {
    if !sent {
        return work.report.drop(reason);
    }
    work.report.ifindex = own.ifindex;
    Step::Deliver
}

/// ICMP error of type 3 and code `code` from `from`.
#[inline(always)]
fn error4<const FRAME: usize, const EMBED: usize, P: Packet>(
    pkt: &mut P,
    work: &mut Work,
    from: Addr,
    own: &Endpoint,
    code: u8,
    mtu: u16,
) -> bool {
    let Some(embed) = work.frame[42..].first_chunk_mut::<EMBED>() else {
        return false;
    };
    if !pkt.copy(ETH_LEN, embed) {
        return false;
    }
    let mut sum = pkt.sum(embed);
    let frame = &mut work.frame;
    frame[0..6].copy_from_slice(&own.mac);
    frame[6..12].copy_from_slice(&own.host_mac);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14..26].copy_from_slice(&[0x45, 0, 0, (28 + EMBED) as u8, 0, 0, 0, 0, 64, ICMP, 0, 0]);
    frame[26..30].copy_from_slice(&from.octets4());
    frame[30..34].copy_from_slice(&own.ipv4.octets4());
    if let Some(header) = frame[14..].first_chunk::<20>() {
        let sum = checksum(pkt.sum(header));
        frame[24..26].copy_from_slice(&sum);
    }
    let mtu = mtu.to_be_bytes();
    frame[34..42].copy_from_slice(&[3, code, 0, 0, 0, 0, mtu[0], mtu[1]]);
    if let Some(header) = frame[34..].first_chunk::<8>() {
        sum += pkt.sum(header);
        frame[36..38].copy_from_slice(&checksum(sum));
    }
    frame
        .first_chunk::<FRAME>()
        .is_some_and(|frame| pkt.replace(frame))
}

/// ICMPv6 error of a type and code from `from`.
#[inline(always)]
fn error6<const FRAME: usize, const EMBED: usize, P: Packet>(
    pkt: &mut P,
    work: &mut Work,
    from: Addr,
    own: &Endpoint,
    [kind, code]: [u8; 2],
    word: [u8; 4],
) -> bool {
    let Some(embed) = work.frame[62..].first_chunk_mut::<EMBED>() else {
        return false;
    };
    if !pkt.copy(ETH_LEN, embed) {
        return false;
    }
    let mut sum = pkt.sum(embed);
    let frame = &mut work.frame;
    frame[0..6].copy_from_slice(&own.mac);
    frame[6..12].copy_from_slice(&own.host_mac);
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    frame[14..22].copy_from_slice(&[0x60, 0, 0, 0, 0, (8 + EMBED) as u8, ICMPV6, 64]);
    frame[22..38].copy_from_slice(from.as_bytes());
    frame[38..54].copy_from_slice(own.ipv6.as_bytes());
    frame[54..58].copy_from_slice(&[kind, code, 0, 0]);
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
