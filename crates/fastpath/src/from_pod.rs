// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Packets that a pod sends.

use abi::{
    Addr, Direction, DropReason, Endpoint, ExtError, NodeConfig, endpoint_flags, flow_flags,
    next_hop,
};

use crate::answer::{reset, time_exceeded, too_big, unreachable};
use crate::flow::{belongs, reopens, touch, write_key};
use crate::halves::{Kept, keep_halves, take_over};
use crate::headers::{ETH_LEN, ETHERTYPE_ARP, TCP};
use crate::judge::{begin, current, decide, find, fresh, opened_by_local, refresh_remote};
use crate::mac::deliver;
use crate::neighbour;
use crate::parse::ethertype;
use crate::policy::is_node;
use crate::related::related;
use crate::resolve::{address_of, is_this_host, resolve};
use crate::service::{Choice, another, choose};
use crate::translate::{from_backend, to_backend};
use crate::transport::remember;
use crate::{FlowRef, Layer4, Packet, Step, Tables, Tunnel, Work, parse};

/// Decides a packet on the ingress of a pod's host-side device.
#[inline(always)]
pub fn from_pod<P: Packet, T: Tables>(pkt: &mut P, tables: &T, work: &mut Work) -> Step {
    work.report.begin(Direction::Egress);
    let Some(config) = tables.config() else {
        return work.report.drop(DropReason::EndpointNotReady);
    };
    let ethertype = match ethertype(pkt) {
        Ok(ETHERTYPE_ARP) => return neighbour::arp(pkt, tables, work),
        Ok(ethertype) => ethertype,
        Err(reason) => return unparsed(pkt.ifindex(), tables, work, reason),
    };
    if let Some(reason) = parse(pkt, tables, ethertype, &mut work.packet) {
        return unparsed(pkt.ifindex(), tables, work, reason);
    }
    write_key(&mut work.key, &work.packet, true);
    if !established(pkt, tables, config, work) {
        let step = judge(pkt, tables, work);
        if step != Step::Pass {
            return step;
        }
    }
    remember(tables, &work.packet);
    match work.flow.next_hop {
        next_hop::TUNNEL => tunnel(pkt, tables, config, work),
        next_hop::LOCAL => to_local(pkt, tables, config, work),
        _ => to_stack(pkt, tables, work),
    }
}

/// To the node's stack.
#[inline(always)]
fn to_stack<P: Packet, T: Tables>(pkt: &mut P, tables: &T, work: &mut Work) -> Step {
    pkt.note_sender(u32::from(work.report.endpoint));
    match translated(pkt, tables, work) {
        true => Step::Pass,
        false => work.report.drop(DropReason::WriteFailed),
    }
}

/// Readdresses the packet if its flow goes elsewhere than the pod says. False: it could not be written.
#[inline(always)]
fn translated<P: Packet, T: Tables>(pkt: &mut P, tables: &T, work: &mut Work) -> bool {
    !work.flow.sends_elsewhere() || to_backend(pkt, tables, work)
}

/// The cheap way: an entry whose decision holds. Leaves the next hop in `work.flow`.
#[inline(always)]
fn established<P: Packet, T: Tables>(
    pkt: &P,
    tables: &T,
    config: &NodeConfig,
    work: &mut Work,
) -> bool {
    let Some(entry) = find(tables, work) else {
        return false;
    };
    let flow = entry.get();
    let Some(endpoint) = tables.endpoint(u32::from(flow.endpoint)) else {
        return false;
    };
    let now = tables.now();
    // The key holds the endpoint's own address, so the device is all that is left of the source check.
    if endpoint.ifindex != pkt.ifindex()
        || !current(tables, &flow, endpoint, true, now)
        || !belongs(&flow, work.packet.kind, true)
        || reopens(&flow, work.packet.tcp_flags)
    {
        return false;
    }
    if flow.next_hop == next_hop::LOCAL
        && tables
            .endpoint(u32::from(flow.peer_endpoint))
            .map_or(0, |e| e.identity)
            != flow.remote_identity
    {
        return false;
    }
    let changed = touch(entry, &flow, true, &work.packet, now, config);
    take_over(tables, work, &flow, changed, true);
    work.report.endpoint = flow.endpoint;
    work.report.src_identity = endpoint.identity;
    work.report.dst_identity = flow.remote_identity;
    work.flow.next_hop = flow.next_hop;
    work.flow.node = flow.node;
    work.flow.peer_endpoint = flow.peer_endpoint;
    true
}

/// Gives an unreadable packet its endpoint for the report.
#[inline(never)]
fn unparsed<T: Tables>(ifindex: u32, tables: &T, work: &mut Work, reason: DropReason) -> Step {
    if let Some(endpoint) = tables.device(ifindex).and_then(|id| tables.endpoint(id)) {
        work.report.endpoint = endpoint.id as u16;
        work.report.src_identity = endpoint.identity;
    }
    work.report.drop(reason)
}

/// What may come of a packet without a current entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Admission {
    /// Dropped, as the report says.
    Refused,
    /// The pod has an answer.
    Answered,
    /// It goes the way of `work.flow`, undisputed: an error about a flow that is allowed, or discovery for the node.
    Passed,
    /// It is to be judged: [`begin`] was asked.
    Flow,
}

/// Everything that has no current entry: source check, destination, policy. `Pass` goes on to the next hop. One function
/// after the other, because all of them together do not fit the stack.
#[inline(always)]
fn judge<P: Packet, T: Tables>(pkt: &mut P, tables: &T, work: &mut Work) -> Step {
    match admit(pkt, tables, work) {
        Admission::Refused => return Step::Drop,
        Admission::Answered => return Step::Deliver,
        Admission::Passed => return Step::Pass,
        Admission::Flow => {}
    }
    match choose(tables, work) {
        Choice::NoService if settle(tables, work) => return Step::Pass,
        Choice::NoService => return Step::Drop,
        Choice::Backend => {}
        Choice::Nobody if work.packet.proto != TCP => return unreachable(pkt, tables, work),
        Choice::Nobody | Choice::Gone => return reset(pkt, tables, work),
    }
    work.remember = 0;
    let mut kept = open(tables, work);
    if kept == Kept::Busy && another(tables, work) {
        kept = open(tables, work);
    }
    if kept == Kept::Both {
        return Step::Pass;
    }
    if kept == Kept::Busy {
        let _ = work
            .report
            .drop_for(DropReason::FlowTableFull, ExtError::PortInUse);
    }
    // Who looks at drops wants to see the pod that policy is about.
    let _ = to_backend(pkt, tables, work);
    Step::Drop
}

/// Judges a flow to the backend that was chosen, and remembers it.
#[inline(always)]
fn open<T: Tables>(tables: &T, work: &mut Work) -> Kept {
    match settle(tables, work) {
        true => keep_halves(tables, work),
        false => Kept::Refused,
    }
}

/// Whether the packet is one that this pod may send, and one of a flow.
#[inline(never)]
fn admit<P: Packet, T: Tables>(pkt: &mut P, tables: &T, work: &mut Work) -> Admission {
    let Some(id) = tables.device(pkt.ifindex()) else {
        return refused(work, DropReason::EndpointNotReady);
    };
    let Some(endpoint) = tables
        .endpoint(id)
        .filter(|e| e.flags & endpoint_flags::READY != 0)
    else {
        return refused(work, DropReason::EndpointNotReady);
    };
    work.report.endpoint = id as u16;
    work.report.src_identity = endpoint.identity;
    if work.packet.kind == Layer4::DISCOVERY {
        return match neighbour::discovery(pkt, tables, work, id) {
            Step::Deliver => Admission::Answered,
            Step::Pass => {
                fresh(work, id, true, 0);
                Admission::Passed
            }
            _ => Admission::Refused,
        };
    }
    if work.packet.src != address_of(endpoint, work.packet.v4 == 1) {
        return refused(work, DropReason::InvalidSourceIp);
    }
    if is_this_host(&work.packet.dst) {
        return refused(work, DropReason::StaleIp);
    }
    if work.packet.kind == Layer4::ERROR {
        if related(pkt, tables, work, id, true) && work.key.remote == work.packet.dst {
            return Admission::Passed;
        }
        work.report.begin(Direction::Egress);
        work.report.endpoint = id as u16;
        work.report.src_identity = endpoint.identity;
        write_key(&mut work.key, &work.packet, true);
    }
    begin(tables, work, id, true);
    Admission::Flow
}

#[inline(always)]
fn refused(work: &mut Work, reason: DropReason) -> Admission {
    let _ = work.report.drop(reason);
    Admission::Refused
}

/// Judges the flow in `work.flow` by where it goes. False: drop, as the report says.
#[inline(never)]
fn settle<T: Tables>(tables: &T, work: &mut Work) -> bool {
    let Some(config) = tables.config() else {
        return false;
    };
    if work.live == 1 && !opened_by_local(&work.flow) {
        if !refresh_remote(tables, config, work) {
            return false;
        }
    } else {
        let to = work.flow.subject(work.packet.dst);
        resolve(tables, config, &to, &mut work.flow);
    }
    decide(tables, work, u32::from(work.report.endpoint), true, true)
}

/// To another node, if the packet fits.
#[inline(always)]
fn tunnel<P: Packet, T: Tables>(
    pkt: &mut P,
    tables: &T,
    config: &NodeConfig,
    work: &mut Work,
) -> Step {
    // The hop is the other node's to count, but only here is somebody who can be told. A node takes what is its own.
    if work.packet.ttl <= 1 && !is_node(work.report.dst_identity) {
        return time_exceeded(pkt, tables, work);
    }
    if !fits(pkt, config, work) {
        // Without "don't fragment" the stack's route to that node fragments, and `to_overlay` sends the pieces.
        if work.packet.dont_fragment == 1 {
            return too_big(pkt, tables, work);
        }
        return to_stack(pkt, tables, work);
    }
    if !translated(pkt, tables, work) {
        return work.report.drop(DropReason::WriteFailed);
    }
    work.report.tunnel = Tunnel {
        identity: work.report.src_identity,
        local: config.node,
        remote: Addr::v4(work.flow.node),
    };
    Step::Tunnel
}

/// Whether the packet, or each segment of it, fits the tunnel.
#[inline(always)]
fn fits<P: Packet>(pkt: &P, config: &NodeConfig, work: &Work) -> bool {
    if pkt.len() <= config.tunnel_mtu + ETH_LEN as u32 {
        return true;
    }
    let segment = pkt.gso_size();
    segment != 0 && segment + u32::from(work.packet.headers) <= config.tunnel_mtu
}

/// To a pod of this node: its own judgement, then the device.
#[inline(always)]
fn to_local<P: Packet, T: Tables>(
    pkt: &mut P,
    tables: &T,
    config: &NodeConfig,
    work: &mut Work,
) -> Step {
    let peer = u32::from(work.flow.peer_endpoint);
    let Some(receiver) = tables
        .endpoint(peer)
        .filter(|e| e.flags & endpoint_flags::READY != 0)
    else {
        return work.report.drop(DropReason::EndpointNotReady);
    };
    if work.packet.ttl <= 1 {
        return time_exceeded(pkt, tables, work);
    }
    if !translated(pkt, tables, work) {
        return work.report.drop(DropReason::WriteFailed);
    }
    let sender = u32::from(work.report.endpoint);
    work.report.direction = Direction::Ingress as u8;
    work.report.endpoint = peer as u16;
    write_key(&mut work.key, &work.packet, false);
    if !received(tables, config, work, receiver, peer) && !receive(pkt, tables, work, peer, sender)
    {
        return Step::Drop;
    }
    if work.flow.flags & flow_flags::BACKEND != 0 && !from_backend::<P, false>(pkt, work) {
        return work.report.drop(DropReason::WriteFailed);
    }
    deliver(pkt, &work.packet, receiver, &mut work.report)
}

/// The cheap way of the receiver.
#[inline(always)]
fn received<T: Tables>(
    tables: &T,
    config: &NodeConfig,
    work: &mut Work,
    receiver: &Endpoint,
    peer: u32,
) -> bool {
    let Some(entry) = find(tables, work) else {
        return false;
    };
    let flow = entry.get();
    let now = tables.now();
    if u32::from(flow.endpoint) != peer
        || flow.remote_identity != work.report.src_identity
        || flow.flags & flow_flags::FROM_TUNNEL != 0
        || !current(tables, &flow, receiver, false, now)
        || !belongs(&flow, work.packet.kind, false)
        || reopens(&flow, work.packet.tcp_flags)
    {
        return false;
    }
    let changed = touch(entry, &flow, false, &work.packet, now, config);
    take_over(tables, work, &flow, changed, false);
    true
}

/// Judges a packet of pod `sender` for its receiver, pod `peer` of this node.
#[inline(never)]
fn receive<P: Packet, T: Tables>(
    pkt: &P,
    tables: &T,
    work: &mut Work,
    peer: u32,
    sender: u32,
) -> bool {
    let (Some(config), Some(receiver)) = (tables.config(), tables.endpoint(peer)) else {
        let _ = work.report.drop(DropReason::EndpointNotReady);
        return false;
    };
    let identity = work.report.src_identity;
    work.report.dst_identity = receiver.identity;
    if work.packet.kind == Layer4::ERROR {
        if related(pkt, tables, work, peer, false) {
            return true;
        }
        work.report.reason = 0;
        work.report.ext = 0;
        write_key(&mut work.key, &work.packet, false);
    }
    if begin(tables, work, peer, false) && opened_by_local(&work.flow) {
        if !refresh_remote(tables, config, work) {
            return false;
        }
    } else {
        work.flow.flags &= !(flow_flags::HOST | flow_flags::FROM_TUNNEL);
        work.flow.remote_identity = identity;
        work.flow.next_hop = next_hop::LOCAL;
        work.flow.node = [0; 4];
        work.flow.peer_endpoint = sender as u16;
        if sender == peer && work.packet.src != address_of(receiver, work.packet.v4 == 1) {
            work.flow.flags |= flow_flags::LOOPED;
            work.flow.nat = address_of(receiver, work.packet.v4 == 1);
            work.flow.nat_port = work.packet.sport;
        }
    }
    decide(tables, work, peer, false, true)
}
