// SPDX-License-Identifier: Apache-2.0
//! ICMP errors: an error about a live, allowed flow passes, whoever on the path sent it.

use abi::{Addr, FlowKey, addr_bucket};

use crate::flow::{alive, belongs};
use crate::headers::{
    ECHO_REPLY, ECHO_REPLY6, ECHO_REQUEST, ECHO_REQUEST6, ICMP, ICMPV6, Icmp, Ipv4, Ipv6, SCTP,
    TCP, UDP,
};
use crate::judge::{current, decide, refresh_remote};
use crate::{FlowRef, Layer4, Packet, Tables, Work};

/// Whether the error in `work.packet`, sent by (`from_local`) or to `endpoint`, is about a live flow of that
/// endpoint that is still allowed. Then `work.key` and `work.flow` are that flow's; else they mean nothing.
#[inline(never)]
pub(crate) fn related<P: Packet, T: Tables>(
    pkt: &P,
    tables: &T,
    work: &mut Work,
    endpoint: u32,
    from_local: bool,
) -> bool {
    let Some(kind) = embedded(pkt, work, from_local) else {
        return false;
    };
    let outer = if from_local {
        work.packet.src
    } else {
        work.packet.dst
    };
    let (Some(entry), Some(target), Some(config)) = (
        tables.flow(&work.key),
        tables.endpoint(endpoint),
        tables.config(),
    ) else {
        return false;
    };
    work.flow = entry.get();
    let now = tables.now();
    // The packet that the error is about went the other way.
    if outer != work.key.local
        || !alive(&work.flow, now)
        || u32::from(work.flow.endpoint) != endpoint
        || !belongs(&work.flow, kind, !from_local)
    {
        return false;
    }
    if current(tables, &work.flow, target, now) {
        return true;
    }
    work.live = 1;
    work.remember = 1;
    work.present = work.flow.endpoint + 1;
    work.flow.addr_bucket = addr_bucket(&work.key.remote);
    work.flow.addr_epoch = tables.epoch(work.flow.addr_bucket);
    refresh_remote(tables, config, work) && decide(tables, work, endpoint, from_local, false)
}

/// Puts the key of the embedded packet's flow into `work.key`, as the endpoint sees it.
#[inline(always)]
fn embedded<P: Packet>(pkt: &P, work: &mut Work, from_local: bool) -> Option<Layer4> {
    let at = usize::from(work.packet.l4) + 8;
    let (src, dst, proto, l4) = if work.packet.v4 == 1 {
        let ip = pkt.load::<Ipv4>(at)?;
        let header = usize::from(ip.version_ihl & 15) * 4;
        if ip.version_ihl >> 4 != 4 || header < 20 || u16::from_be(ip.fragment) & 0x1fff != 0 {
            return None;
        }
        (
            Addr::v4(ip.src.to_ne_bytes()),
            Addr::v4(ip.dst.to_ne_bytes()),
            ip.proto,
            at + header,
        )
    } else {
        let ip = pkt.load::<Ipv6>(at)?;
        (ip.src, ip.dst, ip.next, at + 40)
    };
    let first = pkt.load::<Icmp>(l4)?;
    let kind = match (proto, first.kind) {
        (TCP | UDP | SCTP, _) => Layer4::PORTS,
        (ICMP, ECHO_REQUEST) | (ICMPV6, ECHO_REQUEST6) => Layer4::ECHO_REQUEST,
        (ICMP, ECHO_REPLY) | (ICMPV6, ECHO_REPLY6) => Layer4::ECHO_REPLY,
        _ => return None,
    };
    let [a, b] = u16::to_ne_bytes(first.id);
    let (sport, dport) = match kind {
        Layer4::PORTS => ([first.kind, first.code], first.checksum.to_ne_bytes()),
        _ => ([a, b], [a, b]),
    };
    let (local, remote, local_port, remote_port) = if from_local {
        (dst, src, dport, sport)
    } else {
        (src, dst, sport, dport)
    };
    work.key = FlowKey {
        local,
        remote,
        local_port,
        remote_port,
        proto,
        pad: [0; 3],
    };
    Some(kind)
}
