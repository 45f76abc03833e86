// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Writes what a service's flow has in place of addresses and ports, in packets and in the ICMP errors about them.

use abi::{Addr, flow_flags};
use zerocopy::transmute;

use crate::checksum::{self, Change};
use crate::headers::{ETH_LEN, TCP, UDP, V4_END, V6_END};
use crate::parse::quoted_transport;
use crate::service::loopback;
use crate::{Layer4, Packet, Parsed, Sum, Tables, Work};

const TTL4_AT: usize = ETH_LEN + 8;
const SUM4_AT: usize = ETH_LEN + 10;
const SRC4_AT: usize = ETH_LEN + 12;
const DST4_AT: usize = ETH_LEN + 16;
const SRC6_AT: usize = ETH_LEN + 8;
const DST6_AT: usize = ETH_LEN + 24;
/// Where the checksum is in a transport header.
const TCP_SUM: usize = 16;
const UDP_SUM: usize = 6;
const ICMP_SUM: usize = 2;

/// Bytes of the pseudo header, of UDP or not.
const fn pseudo(udp: bool) -> Sum {
    Sum { pseudo: true, udp }
}

/// Bytes of the message itself.
const fn message(udp: bool) -> Sum {
    Sum { pseudo: false, udp }
}

/// Readdresses what the pod sends to `work.flow.nat`. False: it could not be written.
#[inline(always)]
pub(crate) fn to_backend<P: Packet, T: Tables>(pkt: &mut P, tables: &T, work: &mut Work) -> bool {
    let (flow, packet) = (&work.flow, &mut work.packet);
    if flow.flags & flow_flags::LOOPED == 0
        && let Some(written) = plain::<P, false>(pkt, packet, &flow.nat, flow.nat_port)
    {
        return written;
    }
    any_to_backend(pkt, tables, work)
}

#[inline(never)]
fn any_to_backend<P: Packet, T: Tables>(pkt: &mut P, tables: &T, work: &mut Work) -> bool {
    if work.packet.kind == Layer4::ERROR {
        return quoted::<P, false>(pkt, work) && outer::<P, false>(pkt, work);
    }
    let (flow, packet) = (&work.flow, &mut work.packet);
    if !rewrite::<P, false>(pkt, packet, &flow.nat, flow.nat_port) {
        return false;
    }
    let both = flow_flags::SERVICE | flow_flags::LOOPED;
    if flow.flags & both != both {
        return true;
    }
    let Some(config) = tables.config() else {
        return false;
    };
    let (client, port) = (loopback(config, packet.v4 == 1), packet.sport);
    rewrite::<P, true>(pkt, packet, &client, port)
}

/// Has what the backend answers come from the service; `RECEIVED`: it comes straight from a device, which may have supplied
/// the sum of the packet. The stack takes that off what it sends, and so does a pod's. False: it could not be written.
#[inline(always)]
pub(crate) fn from_backend<P: Packet, const RECEIVED: bool>(pkt: &mut P, work: &mut Work) -> bool {
    let (flow, packet) = (&work.flow, &mut work.packet);
    let before = packet.src;
    if let Some(written) = plain::<P, true>(pkt, packet, &flow.nat, flow.nat_port) {
        if RECEIVED && packet.v4 == 1 {
            // The header's checksum takes the change out of the sum of all, and the transport's once more.
            pkt.supplied(flow.nat.octets4(), before.octets4());
        }
        return written;
    }
    any_from_backend(pkt, work)
}

#[inline(never)]
fn any_from_backend<P: Packet>(pkt: &mut P, work: &mut Work) -> bool {
    if work.packet.kind == Layer4::ERROR {
        let by_peer = work.packet.src == work.key.remote;
        return quoted::<P, true>(pkt, work) && (!by_peer || outer::<P, true>(pkt, work));
    }
    let (flow, packet) = (&work.flow, &mut work.packet);
    rewrite::<P, true>(pkt, packet, &flow.nat, flow.nat_port)
}

/// [`rewrite`] for a packet whose headers are where nearly every packet has them, without a helper's call for the checksum.
/// `None`, and nothing is written: it has others, or a checksum that is not known to be finished.
#[inline(always)]
fn plain<P: Packet, const SOURCE: bool>(
    pkt: &mut P,
    packet: &mut Parsed,
    addr: &Addr,
    port: [u8; 2],
) -> Option<bool> {
    if packet.fragment != Parsed::WHOLE || packet.kind != Layer4::PORTS || pkt.gso_size() != 0 {
        return None;
    }
    match (packet.v4, usize::from(packet.l4)) {
        (1, V4_END) => plain_at::<P, SOURCE, V4_END>(pkt, packet, addr, port),
        (0, V6_END) => plain_at::<P, SOURCE, V6_END>(pkt, packet, addr, port),
        _ => None,
    }
}

/// [`plain`] with the transport header `AT`.
#[inline(always)]
fn plain_at<P: Packet, const SOURCE: bool, const AT: usize>(
    pkt: &mut P,
    packet: &mut Parsed,
    addr: &Addr,
    port: [u8; 2],
) -> Option<bool> {
    let (v4, tcp) = (AT == V4_END, packet.proto == TCP);
    let sum = match tcp {
        true => pkt.read(AT + TCP_SUM),
        false => pkt.read(AT + UDP_SUM),
    }?;
    let (before, old) = match SOURCE {
        true => (packet.src, packet.sport),
        false => (packet.dst, packet.dport),
    };
    let change = Change {
        from: &before,
        to: addr,
        ports: [old, port],
    };
    let sum = checksum::finished(sum, packet, &change, v4)?;
    let (addr_of, port_of) = match SOURCE {
        true => (&mut packet.src, &mut packet.sport),
        false => (&mut packet.dst, &mut packet.dport),
    };
    *addr_of = *addr;
    *port_of = port;
    let ports: u32 = transmute!([packet.sport, packet.dport]);
    let addressed = if v4 {
        packet.checksum = checksum::header(packet.checksum, &before, addr);
        let first: u32 = transmute!([[packet.ttl, packet.proto], packet.checksum]);
        let [.., src]: [u32; 4] = transmute!(packet.src);
        let [.., dst]: [u32; 4] = transmute!(packet.dst);
        pkt.write(TTL4_AT, [first, src, dst, ports])
    } else {
        pkt.write(if SOURCE { SRC6_AT } else { DST6_AT }, *addr) && pkt.write(AT, ports)
    };
    let summed = match tcp {
        true => pkt.write(AT + TCP_SUM, sum),
        false => pkt.write(AT + UDP_SUM, sum),
    };
    Some(addressed && summed)
}

/// Replaces source (`SOURCE`) or destination, address and port, in the packet and in `packet`.
#[inline(always)]
fn rewrite<P: Packet, const SOURCE: bool>(
    pkt: &mut P,
    packet: &mut Parsed,
    addr: &Addr,
    port: [u8; 2],
) -> bool {
    let udp = packet.proto == UDP;
    let l4 = usize::from(packet.l4);
    let sum_at = match packet.proto {
        TCP => l4 + TCP_SUM,
        _ => l4 + UDP_SUM,
    };
    let before = if SOURCE { packet.src } else { packet.dst };
    let has_sum = packet.fragment != Parsed::LATER;
    let addressed = if packet.v4 == 1 {
        address4::<P, SOURCE>(pkt, packet, addr)
            && (!has_sum || pkt.resum(sum_at, &before.octets4(), &addr.octets4(), pseudo(udp)))
    } else {
        let at = if SOURCE { SRC6_AT } else { DST6_AT };
        pkt.write(at, *addr) && (!has_sum || pkt.resum(sum_at, &before.0, &addr.0, pseudo(udp)))
    };
    let old = if SOURCE {
        packet.src = *addr;
        core::mem::replace(&mut packet.sport, port)
    } else {
        packet.dst = *addr;
        core::mem::replace(&mut packet.dport, port)
    };
    if !addressed || !has_sum || old == port {
        return addressed;
    }
    pkt.resum(sum_at, &old, &port, message(udp)) && put_port::<P, SOURCE>(pkt, l4, port)
}

/// Writes a port; without a call where nearly every packet has it.
#[inline(always)]
fn put_port<P: Packet, const SOURCE: bool>(pkt: &mut P, l4: usize, port: [u8; 2]) -> bool {
    let beside = if SOURCE { 0 } else { 2 };
    match l4 {
        V4_END => pkt.write(V4_END + beside, port),
        V6_END => pkt.write(V6_END + beside, port),
        _ => pkt.put(l4 + beside, port),
    }
}

/// Writes an address of the IPv4 header and its checksum; `packet` has the address of before.
#[inline(always)]
fn address4<P: Packet, const SOURCE: bool>(pkt: &mut P, packet: &mut Parsed, addr: &Addr) -> bool {
    let (at, before) = if SOURCE {
        (SRC4_AT, &packet.src)
    } else {
        (DST4_AT, &packet.dst)
    };
    packet.checksum = checksum::header(packet.checksum, before, addr);
    pkt.write(at, addr.octets4()) && pkt.write(SUM4_AT, packet.checksum)
}

/// Replaces an address of the packet that carries an ICMP error.
#[inline(always)]
fn outer<P: Packet, const SOURCE: bool>(pkt: &mut P, work: &mut Work) -> bool {
    let (addr, packet) = (&work.flow.nat, &mut work.packet);
    let before = if SOURCE { packet.src } else { packet.dst };
    let written = if packet.v4 == 1 {
        address4::<P, SOURCE>(pkt, packet, addr)
    } else {
        let at = if SOURCE { SRC6_AT } else { DST6_AT };
        let sum_at = usize::from(packet.l4) + ICMP_SUM;
        pkt.write(at, *addr) && pkt.resum(sum_at, &before.0, &addr.0, pseudo(false))
    };
    if SOURCE {
        packet.src = *addr;
    } else {
        packet.dst = *addr;
    }
    written
}

/// Has the packet that an ICMP error quotes look as its sender sent it: its destination (`TO_POD`: the pod sent it to the
/// service), else its source (the backend sent it). Transport checksums inside stay: nobody looks at them.
#[inline(never)]
fn quoted<P: Packet, const TO_POD: bool>(pkt: &mut P, work: &mut Work) -> bool {
    let quote = usize::from(work.packet.l4) + 8;
    let sum_at = usize::from(work.packet.l4) + ICMP_SUM;
    let (flow, key) = (&work.flow, &work.key);
    let (addr_at, transport) = if work.packet.v4 == 1 {
        let Some(first) = pkt.load::<u8>(quote) else {
            return false;
        };
        let transport = quote + usize::from(first & 15) * 4;
        (if TO_POD { 16 } else { 12 }, transport)
    } else {
        let transport = quoted_transport(pkt, quote) >> 8;
        (if TO_POD { 24 } else { 8 }, transport as usize)
    };
    let port_at = transport + if TO_POD { 2 } else { 0 };
    let written = if work.packet.v4 == 1 {
        quoted4(pkt, quote, addr_at, &key.remote, &flow.nat)
    } else {
        put_all(pkt, quote + addr_at, &flow.nat)
            && pkt.resum(sum_at, &key.remote.0, &flow.nat.0, message(false))
    };
    written
        && pkt.resum(sum_at, &key.remote_port, &flow.nat_port, message(false))
        && pkt.put(port_at, flow.nat_port)
}

/// An address of the quoted IPv4 header, and its checksum, which takes the change out of the message's sum again.
#[inline(always)]
fn quoted4<P: Packet>(pkt: &mut P, quote: usize, addr_at: usize, from: &Addr, to: &Addr) -> bool {
    let Some(sum) = pkt.load::<[u8; 2]>(quote + 10) else {
        return false;
    };
    let [a, b, c, d] = to.octets4();
    pkt.put(quote + 10, checksum::header(sum, from, to))
        && pkt.put(quote + addr_at, [a, b])
        && pkt.put(quote + addr_at + 2, [c, d])
}

#[inline(always)]
fn put_all<P: Packet>(pkt: &mut P, at: usize, addr: &Addr) -> bool {
    let words: [[u8; 2]; 8] = transmute!(addr.0);
    let mut written = true;
    let mut offset = at;
    for word in words {
        written &= pkt.put(offset, word);
        offset += 2;
    }
    written
}
