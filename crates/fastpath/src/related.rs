// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! ICMP errors: an error about a live, allowed flow passes if the peer or a router sent it. A pod is no router: it
//! speaks of its own flows only.

use abi::{FlowKey, flow_flags};

use crate::flow::{alive, belongs};
use crate::headers::{
    ECHO_REPLY, ECHO_REPLY6, ECHO_REQUEST, ECHO_REQUEST6, ICMP, ICMPV6, Icmp, Ipv4, TCP, UDP,
    mapped,
};
use crate::judge::{current, decide, one_way, read_epoch, refresh_remote};
use crate::parse::quoted_transport;
use crate::policy::is_pod;
use crate::resolve::outside;
use crate::transport::echo_ports;
use crate::{FlowRef, Layer4, Packet, Tables, Work};

/// Offsets in an IPv6 header.
const SRC6: usize = 8;
const DST6: usize = 24;

/// What an ICMP error is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum About {
    /// No live flow of the endpoint. `work.key` and `work.flow` mean nothing.
    Nothing,
    /// A flow whose decision holds or is not made here; `work.key` and `work.flow` are that flow's.
    Allowed,
    /// A live flow that has to be judged again; likewise.
    Stale,
}

/// Whether the error in `work.packet`, sent by (`from_local`) or to `endpoint`, is about a live flow of that
/// endpoint that is still allowed. Then `work.key` and `work.flow` are that flow's; else they mean nothing.
#[inline(always)]
pub(crate) fn related<P: Packet, T: Tables>(
    pkt: &P,
    tables: &T,
    work: &mut Work,
    endpoint: u32,
    from_local: bool,
) -> bool {
    match about(pkt, tables, work, endpoint, from_local) {
        About::Nothing => false,
        About::Allowed => true,
        About::Stale => {
            let Some(config) = tables.config() else {
                return false;
            };
            refresh_remote(tables, config, work)
                && decide(tables, work, endpoint, from_local, false)
        }
    }
}

#[inline(never)]
fn about<P: Packet, T: Tables>(
    pkt: &P,
    tables: &T,
    work: &mut Work,
    endpoint: u32,
    from_local: bool,
) -> About {
    let kind = if work.packet.v4 == 1 {
        embedded4(pkt, work, from_local)
    } else {
        // Here and not there: one call inside the other is more than the stack has.
        let transport = quoted_transport(pkt, usize::from(work.packet.l4) + 8);
        embedded6(pkt, work, from_local, transport)
    };
    if kind == Layer4::OTHER {
        return About::Nothing;
    }
    let (Some(entry), Some(target)) = (tables.flow(&work.key), tables.endpoint(endpoint)) else {
        return About::Nothing;
    };
    entry.copy_to(&mut work.flow);
    let now = tables.now();
    // The packet that the error is about went the other way.
    let outer = if from_local {
        &work.packet.src
    } else {
        &work.packet.dst
    };
    if *outer != work.key.local
        || !alive(&work.flow, now)
        || work.flow.flags & one_way(from_local) != 0
        || u32::from(work.flow.endpoint) != endpoint
        || !belongs(&work.flow, kind, !from_local)
        || !(from_local || may_report(tables, work))
    {
        return About::Nothing;
    }
    let translated = work.flow.flags & flow_flags::TRANSLATED != 0;
    if translated || current(tables, &work.flow, target, from_local, now) {
        return About::Allowed;
    }
    work.live = 1;
    work.remember = 1;
    work.present = work.flow.endpoint + 1;
    read_epoch(tables, work);
    About::Stale
}

/// Whether the sender of an error may speak of the flow in `work.key` and `work.flow`. `work.report` has its
/// identity, if its way tells.
#[inline(never)]
fn may_report<T: Tables>(tables: &T, work: &Work) -> bool {
    let (src, identity) = (&work.packet.src, work.report.src_identity);
    if is_pod(identity) {
        return *src == work.key.remote && identity == work.flow.remote_identity;
    }
    *src == work.key.remote
        || match tables.local(src) {
            Some(id) => id == 0,
            None => !outside(tables, src).is_some_and(|info| is_pod(info.identity)),
        }
}

/// Puts the key of the embedded IPv4 packet's flow into `work.key`, as the endpoint sees it. `OTHER`: it cannot
/// have one.
#[inline(never)]
fn embedded4<P: Packet>(pkt: &P, work: &mut Work, from_local: bool) -> Layer4 {
    let at = usize::from(work.packet.l4) + 8;
    let Some(ip) = pkt.load::<Ipv4>(at) else {
        return Layer4::OTHER;
    };
    let header = usize::from(ip.version_ihl & 15) * 4;
    if ip.version_ihl >> 4 != 4 || header < 20 || u16::from_be(ip.fragment) & 0x1fff != 0 {
        return Layer4::OTHER;
    }
    let (local, remote) = if from_local {
        (ip.dst, ip.src)
    } else {
        (ip.src, ip.dst)
    };
    work.key.local = mapped(local);
    work.key.remote = mapped(remote);
    ports(pkt, &mut work.key, at + header, ip.proto, from_local)
}

/// The same for IPv6, whose transport header is where [`quoted_transport`] says.
#[inline(never)]
fn embedded6<P: Packet>(pkt: &P, work: &mut Work, from_local: bool, transport: u32) -> Layer4 {
    let at = usize::from(work.packet.l4) + 8;
    let key = &mut work.key;
    let (src, dst) = if from_local {
        (&mut key.remote, &mut key.local)
    } else {
        (&mut key.local, &mut key.remote)
    };
    // Straight into the key: a whole header on the stack is more than this chain of calls has.
    if !pkt.copy(at + SRC6, &mut src.0) || !pkt.copy(at + DST6, &mut dst.0) {
        return Layer4::OTHER;
    }
    let (at, proto) = ((transport >> 8) as usize, transport as u8);
    ports(pkt, &mut work.key, at, proto, from_local)
}

#[inline(always)]
fn ports<P: Packet>(pkt: &P, key: &mut FlowKey, at: usize, proto: u8, from_local: bool) -> Layer4 {
    let Some(first) = pkt.load::<Icmp>(at) else {
        return Layer4::OTHER;
    };
    let kind = match (proto, first.kind) {
        (TCP | UDP, _) => Layer4::PORTS,
        (ICMP, ECHO_REQUEST) | (ICMPV6, ECHO_REQUEST6) => Layer4::ECHO_REQUEST,
        (ICMP, ECHO_REPLY) | (ICMPV6, ECHO_REPLY6) => Layer4::ECHO_REPLY,
        _ => return Layer4::OTHER,
    };
    let (sport, dport) = match kind {
        Layer4::PORTS => ([first.kind, first.code], first.checksum.to_ne_bytes()),
        _ => echo_ports(kind, first.id.to_ne_bytes()),
    };
    key.local_port = if from_local { dport } else { sport };
    key.remote_port = if from_local { sport } else { dport };
    key.proto = proto;
    key.pad = [0; 3];
    kind
}
