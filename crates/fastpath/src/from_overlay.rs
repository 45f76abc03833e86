// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Packets of other nodes, out of the tunnel. Everything in them may be forged by whoever reaches the UDP port.

use abi::{
    Addr, Direction, DropReason, Endpoint, Flow, NodeConfig, endpoint_flags, flow_flags, next_hop,
};

use crate::flow::{belongs, reopens, touch, write_key};
use crate::halves::take_over;
use crate::headers::{ETH_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::judge::{
    answers_translated, begin, current, decide, find, opened_by_local, outer_source, refresh_remote,
};
use crate::mac::deliver;
use crate::policy::{
    FIRST_IDENTITY, KUBE_APISERVER, REMOTE_NODE, WORLD, is_node, is_pod, is_world,
};
use crate::related::related;
use crate::resolve::{is_this_host, outside, world};
use crate::translate::from_backend;
use crate::transport::remember;
use crate::{FlowRef, Layer4, Packet, Step, Tables, Work, parse};

/// Decides a packet on the ingress of the VXLAN device. `key`: VNI and outer source, if there is any.
#[inline(always)]
pub fn from_overlay<P: Packet, T: Tables>(
    pkt: &mut P,
    tables: &T,
    work: &mut Work,
    key: Option<(u32, Addr)>,
) -> Step {
    work.report.begin(Direction::Ingress);
    let Some(config) = tables.config() else {
        return work.report.drop(DropReason::EndpointNotReady);
    };
    let Some((vni, outer)) = key else {
        return work.report.drop(DropReason::NoTunnelKey);
    };
    work.report.src_identity = vni;
    work.report.node = outer;
    if pkt.tagged() {
        return work.report.drop(DropReason::VlanFiltered);
    }
    let ethertype = match pkt.read::<u16>(ETH_LEN - 2).map(u16::from_be) {
        Some(ethertype @ (ETHERTYPE_IPV4 | ETHERTYPE_IPV6)) => ethertype,
        _ => return work.report.drop(DropReason::UnsupportedL3),
    };
    if let Some(reason) = parse(pkt, tables, ethertype, &mut work.packet) {
        return work.report.drop(reason);
    }
    write_key(&mut work.key, &work.packet, false);
    let mut id = established(tables, config, work, vni);
    if id == 0 {
        let step = judge(pkt, tables, work, vni);
        if step == Step::PassToNode {
            remember(tables, &work.packet);
        }
        if step != Step::Deliver {
            return step;
        }
        id = u32::from(work.report.endpoint);
    }
    if work.packet.ttl <= 1 {
        return work.report.drop(DropReason::TtlExceeded);
    }
    remember(tables, &work.packet);
    if work.flow.flags & flow_flags::BACKEND != 0 && !from_backend::<P, true>(pkt, work) {
        return work.report.drop(DropReason::WriteFailed);
    }
    if work.packet.v4 == 0 && pkt.gso_size() == 0 {
        // IPv6 has no checksum that takes the lower hop limit out of the sum of the packet that a device supplied.
        let ttl = work.packet.ttl;
        pkt.supplied([0, ttl, 0, 0], [0, ttl.wrapping_sub(1), 0, 0]);
    }
    match tables.endpoint(id) {
        Some(endpoint) => deliver(pkt, &work.packet, endpoint, &mut work.report),
        None => work.report.drop(DropReason::EndpointNotReady),
    }
}

/// The cheap way: the receiving endpoint, or 0.
#[inline(always)]
fn established<T: Tables>(tables: &T, config: &NodeConfig, work: &mut Work, vni: u32) -> u32 {
    let Some(entry) = find(tables, work) else {
        return 0;
    };
    let flow = entry.get();
    let id = u32::from(flow.endpoint);
    let Some(endpoint) = tables.endpoint(id) else {
        return 0;
    };
    let now = tables.now();
    if flow.next_hop != next_hop::TUNNEL
        || Addr::v4(flow.node) != work.report.node
        || !claims(vni, flow.remote_identity)
        || own(endpoint, work.packet.v4 == 1) != work.key.local
        || !current(tables, &flow, endpoint, false, now)
        || !belongs(&flow, work.packet.kind, false)
        || reopens(&flow, work.packet.tcp_flags)
    {
        return 0;
    }
    work.report.endpoint = flow.endpoint;
    work.report.dst_identity = endpoint.identity;
    let changed = touch(entry, &flow, false, &work.packet, now, config);
    take_over(tables, work, &flow, changed, false);
    id
}

#[inline(always)]
fn own(endpoint: &Endpoint, v4: bool) -> Addr {
    if v4 { endpoint.ipv4 } else { endpoint.ipv6 }
}

/// Identities that no node sends: host, what world is refined to, and those of services and policies only.
#[inline(always)]
fn may_not_travel(vni: u32) -> bool {
    matches!(vni, 0 | 1 | 9..=14)
}

/// Whether a node sends with this VNI. One with an API server calls itself that, which is for the receiver to know:
/// whoever is allowed for talking to an API server is no node of whatever cluster that says so.
#[inline(always)]
fn of_node(vni: u32) -> bool {
    matches!(vni, REMOTE_NODE | KUBE_APISERVER)
}

/// Whether a packet with this VNI may have the identity of the entry. World and nodes are refined when
/// the flow is judged, and no other VNI leads to what they are refined to.
#[inline(always)]
fn claims(vni: u32, identity: u32) -> bool {
    (vni == identity && !may_not_travel(vni))
        || (of_node(vni) && is_node(identity))
        || (vni == WORLD && is_world(identity))
}

/// Everything that has no current entry. `Deliver`: allowed, to the endpoint in the report.
#[inline(never)]
fn judge<P: Packet, T: Tables>(pkt: &P, tables: &T, work: &mut Work, vni: u32) -> Step {
    let Some(config) = tables.config() else {
        return work.report.drop(DropReason::EndpointNotReady);
    };
    work.flow.node = work.report.node.octets4();
    work.flow.remote_identity = vni;
    if !sender_is_sound(tables, work, vni) {
        return Step::Drop;
    }
    let identity = work.flow.remote_identity;
    work.report.src_identity = identity;
    let id = match tables.local(&work.packet.dst) {
        Some(0) => return Step::PassToNode,
        Some(id) => id,
        None => return work.report.drop(DropReason::StaleIp),
    };
    let Some(endpoint) = tables
        .endpoint(id)
        .filter(|e| e.flags & endpoint_flags::READY != 0)
    else {
        return work.report.drop(DropReason::EndpointNotReady);
    };
    work.report.endpoint = id as u16;
    work.report.dst_identity = endpoint.identity;
    if work.packet.kind == Layer4::DISCOVERY {
        return work.report.drop_quietly(DropReason::InvalidSourceIp);
    }
    if answers_translated(tables, config, work, id) {
        return Step::PassToNode;
    }
    if work.packet.kind == Layer4::ERROR && about_flow(pkt, tables, work, id) {
        return match work.flow.flags & flow_flags::TRANSLATED {
            0 => Step::Deliver,
            _ => Step::PassToNode,
        };
    }
    match flow(tables, config, work, id, identity) {
        true => Step::Deliver,
        false => Step::Drop,
    }
}

/// Whether an ICMP error is about a flow. If not, the work is as before.
#[inline(always)]
fn about_flow<P: Packet, T: Tables>(pkt: &P, tables: &T, work: &mut Work, id: u32) -> bool {
    let report = (
        work.report.reason,
        work.report.ext,
        work.report.audit,
        work.report.src_identity,
    );
    let about = related(pkt, tables, work, id, false);
    if !about {
        write_key(&mut work.key, &work.packet, false);
    }
    (
        work.report.reason,
        work.report.ext,
        work.report.audit,
        work.report.src_identity,
    ) = report;
    about
}

/// Judges the packet's flow. A packet of a flow that the pod opened counts as its reply only if it comes from
/// the identity that the pod talks to, or from what becomes of it; otherwise it stands for itself, and leaves the entry alone.
#[inline(always)]
fn flow<T: Tables>(
    tables: &T,
    config: &NodeConfig,
    work: &mut Work,
    id: u32,
    identity: u32,
) -> bool {
    let node = work.report.node;
    if begin(tables, work, id, false) && opened_by_local(&work.flow) {
        if !refresh_remote(tables, config, work) {
            return false;
        }
        let talks_to = work.flow.remote_identity;
        if identity == talks_to || (is_world(identity) && is_world(talks_to)) {
            return decide(tables, work, id, false, true);
        }
        if changed_identity(config, &work.flow, &node, identity) {
            work.flow.remote_identity = identity;
            return decide(tables, work, id, false, true);
        }
        work.live = 0;
        work.remember = 0;
        work.flow.flags = 0;
    }
    work.flow.flags &= !flow_flags::HOST;
    work.flow.flags |= flow_flags::FROM_TUNNEL;
    work.flow.remote_identity = identity;
    work.flow.next_hop = next_hop::TUNNEL;
    work.flow.node = node.octets4();
    work.flow.peer_endpoint = 0;
    decide(tables, work, id, false, true)
}

/// Whether a pod that answers has another identity than it is known by, of which news are under way. Its node, to which its
/// packets go, is the one that knows; whether the pod here may talk to the new one is for policy to say.
#[inline(always)]
fn changed_identity(config: &NodeConfig, flow: &Flow, node: &Addr, identity: u32) -> bool {
    let (shift, talks_to) = (config.cluster_shift & 31, flow.remote_identity);
    flow.next_hop == next_hop::TUNNEL
        && Addr::v4(flow.node) == *node
        && is_pod(identity)
        && is_pod(talks_to)
        && identity >> shift == talks_to >> shift
}

/// Checks VNI, outer and inner source, and refines the identity into `work.flow.remote_identity`.
#[inline(never)]
fn sender_is_sound<T: Tables>(tables: &T, work: &mut Work, vni: u32) -> bool {
    let Some(config) = tables.config() else {
        return false;
    };
    if may_not_travel(vni) {
        let _ = work.report.drop(DropReason::InvalidIdentity);
        return false;
    }
    if !outer_source(tables, config, work) {
        return false;
    }
    // Nobody but this node sends with its pods' and its own addresses.
    if tables.local(&work.packet.src).is_some() || is_this_host(&work.packet.src) {
        return spoofed(work);
    }
    if vni >= FIRST_IDENTITY {
        return speaks_for(tables, config, &work.packet.src, vni) || spoofed(work);
    }
    let says = outside(tables, &work.packet.src).map_or(0, |info| info.identity);
    if is_pod(says) {
        return spoofed(work);
    }
    if of_node(vni) {
        work.flow.remote_identity = if is_node(says) { says } else { REMOTE_NODE };
    } else if vni == WORLD {
        work.flow.remote_identity = world(config, work.packet.v4 == 1);
    }
    true
}

/// Whether a pod with this identity may have the address: not that of a node or of another cluster's pod. Inside
/// a cluster an address may change its identity, and news of it may be late.
#[inline(always)]
fn speaks_for<T: Tables>(tables: &T, config: &NodeConfig, addr: &Addr, identity: u32) -> bool {
    let says = tables.address(addr).map_or(0, |info| info.identity);
    let shift = config.cluster_shift & 31;
    !is_node(says) && (!is_pod(says) || says >> shift == identity >> shift)
}

#[inline(always)]
fn spoofed(work: &mut Work) -> bool {
    work.report.audit = 0;
    let _ = work.report.drop(DropReason::InvalidSourceIp);
    false
}
