// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Packets that this node's stack sends to a pod: of host sockets, of the world, of whatever translated them.

use abi::{
    Direction, DropReason, Endpoint, ExtError, Flow, NodeConfig, endpoint_flags, flow_flags,
    ip_flags,
};

use crate::flow::{belongs, reopens, touch, write_key};
use crate::halves::take_over;
use crate::headers::ETHERTYPE_ARP;
use crate::ingress::ingress;
use crate::judge::{begin, came_by_stack, current, decide, find, opened_by_local, refresh_remote};
use crate::parse::ethertype;
use crate::policy::{HOST, REMOTE_NODE, is_pod};
use crate::related::related;
use crate::resolve::{outside, world};
use crate::translate::from_backend;
use crate::transport::remember;
use crate::{FlowRef, Layer4, Packet, Parsed, Step, Tables, Work, parse};

/// Decides a packet on the egress of a pod's host-side device.
#[inline(always)]
pub fn to_pod<P: Packet, T: Tables>(pkt: &mut P, tables: &T, work: &mut Work) -> Step {
    work.report.begin(Direction::Ingress);
    let Some(config) = tables.config() else {
        return work.report.drop(DropReason::EndpointNotReady);
    };
    let ethertype = match ethertype(pkt) {
        Ok(ETHERTYPE_ARP) => return Step::Pass,
        Ok(ethertype) => ethertype,
        Err(reason) => return work.report.drop(reason),
    };
    if let Some(reason) = parse(pkt, tables, ethertype, &mut work.packet) {
        return work.report.drop(reason);
    }
    write_key(&mut work.key, &work.packet, false);
    let ingress = ingress(pkt, tables, work.packet.fragment != Parsed::WHOLE);
    if !established(pkt, tables, config, work, ingress) {
        let step = judge(pkt, tables, work, ingress);
        if step != Step::Pass {
            return step;
        }
    }
    remember(tables, &work.packet);
    if work.flow.flags & flow_flags::BACKEND != 0 && !from_backend::<P, false>(pkt, work) {
        return work.report.drop(DropReason::WriteFailed);
    }
    Step::Pass
}

#[inline(always)]
fn established<P: Packet, T: Tables>(
    pkt: &P,
    tables: &T,
    config: &NodeConfig,
    work: &mut Work,
    ingress: u32,
) -> bool {
    let Some(entry) = find(tables, work) else {
        return false;
    };
    let flow = entry.get();
    let Some(endpoint) = tables.endpoint(u32::from(flow.endpoint)) else {
        return false;
    };
    let now = tables.now();
    if endpoint.ifindex != pkt.ifindex()
        || !current(tables, &flow, endpoint, false, now)
        || !belongs(&flow, work.packet.kind, false)
        || reopens(&flow, work.packet.tcp_flags)
        || borrows_host(&flow, ingress)
        || borrows_pod(tables, &flow, ingress)
    {
        return false;
    }
    let changed = touch(entry, &flow, false, &work.packet, now, config);
    take_over(tables, work, &flow, changed, false);
    true
}

/// Whether a forwarded packet would continue a flow that a socket of this node opened.
#[inline(always)]
fn borrows_host(flow: &Flow, ingress: u32) -> bool {
    ingress != 0 && flow.flags & flow_flags::HOST != 0 && !opened_by_local(flow)
}

/// Whether a forwarded packet with the address of a pod of this node came by another device than that pod's.
#[inline(always)]
fn borrows_pod<T: Tables>(tables: &T, flow: &Flow, ingress: u32) -> bool {
    ingress != 0
        && flow.peer_endpoint != 0
        && tables
            .endpoint(u32::from(flow.peer_endpoint))
            .map_or(0, |e| e.ifindex)
            != ingress
}

#[inline(never)]
fn judge<P: Packet, T: Tables>(pkt: &P, tables: &T, work: &mut Work, ingress: u32) -> Step {
    let (Some(config), Some(id)) = (tables.config(), tables.device(pkt.ifindex())) else {
        return work.report.drop(DropReason::EndpointNotReady);
    };
    let Some(endpoint) = tables
        .endpoint(id)
        .filter(|e| e.flags & endpoint_flags::READY != 0)
    else {
        return work.report.drop(DropReason::EndpointNotReady);
    };
    work.report.endpoint = id as u16;
    work.report.dst_identity = endpoint.identity;
    work.flow.flags = 0;
    // Neighbour discovery of this node's own stack; hop limit 255 means it was not forwarded.
    if work.packet.kind == Layer4::DISCOVERY && ingress == 0 {
        return Step::Pass;
    }
    if work.packet.dst != own(endpoint, work.packet.v4 == 1) {
        return work.report.drop(DropReason::StaleIp);
    }
    if work.packet.kind == Layer4::ERROR {
        if related(pkt, tables, work, id, false) {
            return Step::Pass;
        }
        work.report.reason = 0;
        work.report.ext = 0;
        write_key(&mut work.key, &work.packet, false);
    }
    let reply = begin(tables, work, id, false) && opened_by_local(&work.flow);
    let known = if reply {
        let known = refresh_remote(tables, config, work);
        if known && borrows_pod(tables, &work.flow, ingress) {
            return work.report.drop(DropReason::InvalidSourceIp);
        }
        known
    } else {
        source(tables, config, work, ingress)
    };
    if known && decide(tables, work, id, false, true) {
        Step::Pass
    } else {
        Step::Drop
    }
}

#[inline(always)]
fn own(endpoint: &Endpoint, v4: bool) -> abi::Addr {
    if v4 { endpoint.ipv4 } else { endpoint.ipv6 }
}

/// Who the sender is: host if a socket of this node sent the packet, else what the address says, never host.
/// False: nobody who can send by this way.
#[inline(always)]
fn source<T: Tables>(tables: &T, config: &NodeConfig, work: &mut Work, ingress: u32) -> bool {
    let addr = &work.packet.src;
    let flow = &mut work.flow;
    flow.flags &= !flow_flags::FROM_TUNNEL;
    flow.node = [0; 4];
    flow.peer_endpoint = 0;
    came_by_stack(flow);
    if ingress == 0 {
        flow.flags |= flow_flags::HOST;
        flow.remote_identity = HOST;
        return true;
    }
    match tables.local(addr) {
        Some(0) => flow.remote_identity = REMOTE_NODE,
        Some(id) => {
            let Some(sender) = tables.endpoint(id).filter(|e| e.ifindex == ingress) else {
                let _ = work.report.drop(DropReason::InvalidSourceIp);
                return false;
            };
            flow.remote_identity = sender.identity;
            flow.peer_endpoint = id as u16;
        }
        None => match outside(tables, addr) {
            Some(info) if info.flags & ip_flags::TUNNEL != 0 && is_pod(info.identity) => {
                work.report.src_identity = info.identity;
                let ext = ExtError::PodAddressOutsideTunnel;
                let _ = work.report.drop_for(DropReason::InvalidSourceIp, ext);
                return false;
            }
            Some(info) => flow.remote_identity = info.identity,
            None => flow.remote_identity = world(config, addr.is_v4()),
        },
    }
    true
}
