// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Transport headers, and the memory that lets later fragments have ports.

use abi::{DropReason, FragPorts};

use crate::headers::{
    ECHO_REPLY, ECHO_REPLY6, ECHO_REQUEST, ECHO_REQUEST6, ETH_LEN, ICMP, ICMPV6, Icmp, Ports, TCP,
    Tcp, UDP,
};
use crate::parse::fetch;
use crate::{Layer4, Packet, Parsed, Tables};

/// Reads the transport header at `at` (also in `out.l4`).
#[inline(always)]
pub(crate) fn transport<const DIRECT: bool, P: Packet>(
    pkt: &P,
    out: &mut Parsed,
    at: usize,
) -> Option<DropReason> {
    out.tcp_flags = 0;
    out.icmp_type = 0;
    match out.proto {
        TCP => tcp::<DIRECT, P>(pkt, out, at),
        UDP => udp::<DIRECT, P>(pkt, out, at),
        ICMP if out.v4 == 1 => icmp::<DIRECT, P>(pkt, out, at),
        ICMPV6 if out.v4 == 0 => icmp::<DIRECT, P>(pkt, out, at),
        _ => Some(DropReason::UnknownL4),
    }
}

#[inline(always)]
fn tcp<const DIRECT: bool, P: Packet>(pkt: &P, out: &mut Parsed, at: usize) -> Option<DropReason> {
    let Some(tcp) = fetch::<DIRECT, P, Tcp>(pkt, at) else {
        return Some(DropReason::TruncatedHeader);
    };
    let header = u32::from(tcp.offset >> 4) * 4;
    if header < 20 || at as u32 + header > out.end() {
        return Some(DropReason::TruncatedHeader);
    }
    out.kind = Layer4::PORTS;
    out.sport = tcp.src.to_ne_bytes();
    out.dport = tcp.dst.to_ne_bytes();
    out.tcp_flags = tcp.flags;
    out.headers = (at as u32 + header - ETH_LEN as u32) as u16;
    None
}

#[inline(always)]
fn udp<const DIRECT: bool, P: Packet>(pkt: &P, out: &mut Parsed, at: usize) -> Option<DropReason> {
    let Some(ports) = fetch::<DIRECT, P, Ports>(pkt, at) else {
        return Some(DropReason::TruncatedHeader);
    };
    if at as u32 + 8 > out.end() {
        return Some(DropReason::TruncatedHeader);
    }
    out.kind = Layer4::PORTS;
    out.sport = ports.src.to_ne_bytes();
    out.dport = ports.dst.to_ne_bytes();
    out.headers = (at as u32 + 8 - ETH_LEN as u32) as u16;
    None
}

#[inline(always)]
fn icmp<const DIRECT: bool, P: Packet>(pkt: &P, out: &mut Parsed, at: usize) -> Option<DropReason> {
    let Some(icmp) = fetch::<DIRECT, P, Icmp>(pkt, at) else {
        return Some(DropReason::TruncatedHeader);
    };
    if at as u32 + 8 > out.end() {
        return Some(DropReason::TruncatedHeader);
    }
    out.icmp_type = icmp.kind;
    out.kind = if out.v4 == 1 {
        kind4(icmp.kind)
    } else {
        kind6(icmp.kind)
    };
    (out.sport, out.dport) = echo_ports(out.kind, icmp.id.to_ne_bytes());
    out.headers = (at as u32 + 8 - ETH_LEN as u32) as u16;
    None
}

/// Source and destination port of ICMP: the identifier stands for who is asked, so that both sides may ask with one.
#[inline(always)]
pub(crate) fn echo_ports(kind: Layer4, id: [u8; 2]) -> ([u8; 2], [u8; 2]) {
    match kind {
        Layer4::ECHO_REQUEST => ([0; 2], id),
        Layer4::ECHO_REPLY => (id, [0; 2]),
        _ => ([0; 2], [0; 2]),
    }
}

#[inline(always)]
fn kind4(icmp: u8) -> Layer4 {
    match icmp {
        ECHO_REQUEST => Layer4::ECHO_REQUEST,
        ECHO_REPLY => Layer4::ECHO_REPLY,
        3 | 11 | 12 => Layer4::ERROR,
        _ => Layer4::OTHER,
    }
}

#[inline(always)]
fn kind6(icmp: u8) -> Layer4 {
    match icmp {
        ECHO_REQUEST6 => Layer4::ECHO_REQUEST,
        ECHO_REPLY6 => Layer4::ECHO_REPLY,
        1..=4 => Layer4::ERROR,
        130..=137 | 143 => Layer4::DISCOVERY,
        _ => Layer4::OTHER,
    }
}

/// Reads the transport header of a first fragment.
#[inline(always)]
pub(crate) fn first_fragment<P: Packet>(
    pkt: &P,
    out: &mut Parsed,
    at: usize,
) -> Option<DropReason> {
    refused(out).or_else(|| transport::<false, P>(pkt, out, at))
}

/// Remembers the ports of a first fragment that is let through: what is refused must not tell where the rest of
/// somebody's datagram belongs.
#[inline(always)]
pub(crate) fn remember<T: Tables>(tables: &T, packet: &Parsed) {
    if packet.fragment == Parsed::FIRST {
        remember_first(tables, packet);
    }
}

#[inline(never)]
fn remember_first<T: Tables>(tables: &T, packet: &Parsed) {
    let ports = FragPorts {
        src: packet.sport,
        dst: packet.dport,
    };
    tables.remember_fragment(&packet.fragment_key(), ports);
}

/// Gives a later fragment the ports of its first.
#[inline(always)]
pub(crate) fn later_fragment<T: Tables>(tables: &T, out: &mut Parsed) -> Option<DropReason> {
    if let Some(reason) = refused(out) {
        return Some(reason);
    }
    let Some(ports) = tables.fragment(&out.fragment_key()) else {
        return Some(DropReason::FirstFragmentNotFound);
    };
    out.tcp_flags = 0;
    out.icmp_type = 0;
    out.kind = Layer4::PORTS;
    out.sport = ports.src;
    out.dport = ports.dst;
    out.headers = out.l4 - ETH_LEN as u16;
    None
}

/// Only what has ports may come in fragments: later fragments of ICMP could not be told apart.
#[inline(always)]
fn refused(out: &Parsed) -> Option<DropReason> {
    match out.proto {
        TCP | UDP => None,
        ICMP if out.v4 == 1 => Some(DropReason::InvalidPacket),
        ICMPV6 if out.v4 == 0 => Some(DropReason::InvalidPacket),
        _ => Some(DropReason::UnknownL4),
    }
}
