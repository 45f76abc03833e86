// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! The slow path: judge a flow from the point of view of one local endpoint and remember the decision.
//!
//! The verdict is always that of the opening direction, whichever direction the packet has. So a revoked flow
//! stops both ways, and replies to an allowed flow need no rule. Epochs are read before what they stand for.

use abi::{
    Addr, Direction, DropReason, Endpoint, ExtError, Flow, NodeConfig, NodeKey, addr_bucket,
    config_flags, endpoint_flags, flow_flags, identity_bucket, next_hop,
};

use crate::flow::{alive, belongs, moved, opens, reopens, touch};
use crate::headers::{ECHO_REQUEST, ECHO_REQUEST6, ICMP, ICMPV6, TCP};
use crate::policy::{self, FIRST_IDENTITY, HOST, Question, REMOTE_NODE};
use crate::resolve::resolve;
use crate::store::store;
use crate::{FlowRef, Tables, Work};

/// Whether the entry's decision still holds for packets of its endpoint.
#[inline(always)]
pub(crate) fn current<T: Tables>(
    tables: &T,
    flow: &Flow,
    endpoint: &Endpoint,
    from_local: bool,
    now: u32,
) -> bool {
    alive(flow, now)
        && flow.flags & (flow_flags::TRANSLATED | one_way(from_local)) == 0
        && endpoint.flags & endpoint_flags::READY != 0
        && flow.epoch
            == Flow::epoch_of(
                endpoint.epoch,
                tables.epoch(flow.addr_bucket),
                tables.epoch(flow.identity_bucket),
            )
}

/// The flag of entries that packets of this direction have no part in.
#[inline(always)]
pub(crate) fn one_way(from_local: bool) -> u16 {
    match from_local {
        true => flow_flags::BACKEND,
        false => flow_flags::SERVICE,
    }
}

/// Looks for the entry under `work.key`, and leaves in `work.present` whether [`begin`] has to look again.
#[inline(always)]
pub(crate) fn find<T: Tables>(tables: &T, work: &mut Work) -> Option<T::Flow> {
    let entry = tables.flow(&work.key);
    work.present = u16::from(entry.is_some());
    entry
}

/// Begins judging the packet for `endpoint`: puts the live entry of its flow into `work.flow`, or a fresh one
/// opened by this packet. `work.key` is set, and [`find`] was asked for it. True: there is a live entry.
#[inline(never)]
pub(crate) fn begin<T: Tables>(
    tables: &T,
    work: &mut Work,
    endpoint: u32,
    from_local: bool,
) -> bool {
    let now = tables.now();
    let seen = core::mem::take(&mut work.present) != 0;
    work.live = 0;
    work.remember = u8::from(opens(work.packet.kind));
    if seen && let Some(entry) = tables.flow(&work.key) {
        entry.copy_to(&mut work.flow);
        work.present = 1 + work.flow.endpoint;
        let taken = alive(&work.flow, now)
            && u32::from(work.flow.endpoint) == endpoint
            && !reopens(&work.flow, work.packet.tcp_flags);
        if taken && work.flow.flags & (flow_flags::TRANSLATED | one_way(from_local)) != 0 {
            // It holds no decision about this packet, which stands for itself and leaves the entry to those that it is for.
            work.remember = 0;
        } else if taken {
            work.live = u8::from(belongs(&work.flow, work.packet.kind, from_local));
            work.remember = work.live;
        }
    }
    if work.live == 0 {
        fresh(work, endpoint, from_local, now);
    }
    read_epoch(tables, work);
    work.live == 1
}

/// Makes `work.flow` that of an opening packet.
#[inline(never)]
pub(crate) fn fresh(work: &mut Work, endpoint: u32, from_local: bool, now: u32) {
    work.flow = Flow {
        flags: if from_local {
            flow_flags::OPENED_BY_LOCAL
        } else {
            0
        },
        endpoint: endpoint as u16,
        created: now,
        ..Flow::default()
    };
}

/// Reads the epoch of the address that the decision is about, before what it stands for.
#[inline(always)]
pub(crate) fn read_epoch<T: Tables>(tables: &T, work: &mut Work) {
    read_epoch_of(tables, work, &work.flow.subject(work.key.remote));
}

/// Reads the epoch of `addr` into `work.addr_epoch`, its bucket into `work.flow`.
#[inline(always)]
pub(crate) fn read_epoch_of<T: Tables>(tables: &T, work: &mut Work, addr: &Addr) {
    let bucket = addr_bucket(addr);
    work.flow.addr_bucket = bucket;
    work.addr_epoch = tables.epoch(bucket);
}

/// Whether `flow` was opened by its local endpoint.
#[inline(always)]
pub(crate) fn opened_by_local(flow: &Flow) -> bool {
    flow.flags & flow_flags::OPENED_BY_LOCAL != 0
}

/// Takes note that the stack sends the packet for pod `endpoint`, translated: answers have to find the way back through it.
/// A flow of the pod itself with the same addresses and ports is left alone. False: no room, the reason is in the report.
#[inline(always)]
pub(crate) fn note_translated<T: Tables>(
    tables: &T,
    config: &NodeConfig,
    work: &mut Work,
    endpoint: u32,
) -> bool {
    let now = tables.now();
    work.present = 0;
    work.live = 0;
    if let Some(entry) = tables.flow(&work.key) {
        entry.copy_to(&mut work.flow);
        work.present = 1 + work.flow.endpoint;
        if alive(&work.flow, now)
            && u32::from(work.flow.endpoint) == endpoint
            && !reopens(&work.flow, work.packet.tcp_flags)
        {
            let flow = work.flow;
            if flow.flags & flow_flags::TRANSLATED == 0 {
                return true;
            }
            if flow.remote_identity == work.report.dst_identity {
                touch(entry, &flow, true, &work.packet, now, config);
                return true;
            }
        }
    }
    if !opens(work.packet.kind) {
        return true;
    }
    work.flow = Flow {
        flags: flow_flags::OPENED_BY_LOCAL | flow_flags::TRANSLATED,
        endpoint: endpoint as u16,
        created: now,
        remote_identity: work.report.dst_identity,
        next_hop: next_hop::STACK,
        ..Flow::default()
    };
    apply(now, config, work, true);
    store(tables, config, work, endpoint)
}

/// Whether the packet is an answer in a flow of pod `endpoint` that the stack translated: from the identity that the pod's
/// packets go to, which is `work.flow.remote_identity`. If so, the flow goes on. [`find`] was asked for `work.key`.
#[inline(always)]
pub(crate) fn answers_translated<T: Tables>(
    tables: &T,
    config: &NodeConfig,
    work: &Work,
    endpoint: u32,
) -> bool {
    if work.present == 0 {
        return false;
    }
    let Some(entry) = tables.flow(&work.key) else {
        return false;
    };
    let now = tables.now();
    let flow = entry.get();
    let answers = flow.flags & flow_flags::TRANSLATED != 0
        && u32::from(flow.endpoint) == endpoint
        && flow.remote_identity == work.flow.remote_identity
        && alive(&flow, now)
        && belongs(&flow, work.packet.kind, false)
        && !reopens(&flow, work.packet.tcp_flags);
    if answers {
        touch(entry, &flow, false, &work.packet, now, config);
    }
    answers
}

/// Asks the tables again who the remote side of a live entry is, for a packet that does not tell by itself.
/// False: the entry may not be used any more, the reason is in the report.
#[inline(always)]
pub(crate) fn refresh_remote<T: Tables>(tables: &T, config: &NodeConfig, work: &mut Work) -> bool {
    let remote = work.flow.subject(work.key.remote);
    let flow = &mut work.flow;
    let by_local = opened_by_local(flow);
    if !by_local && flow.flags & flow_flags::FROM_TUNNEL != 0 {
        return outer_source(tables, config, work);
    }
    if !by_local && flow.flags & flow_flags::HOST != 0 {
        flow.remote_identity = HOST;
        return true;
    }
    let by_stack = !by_local && flow.next_hop == next_hop::STACK;
    resolve(tables, config, &remote, flow);
    if by_stack {
        came_by_stack(flow);
    }
    true
}

/// A flow that the stack brought in is never host's, and is answered through the stack: something there may
/// have translated it.
#[inline(always)]
pub(crate) fn came_by_stack(flow: &mut Flow) {
    if flow.flags & flow_flags::HOST != 0 {
        flow.remote_identity = REMOTE_NODE;
        flow.flags &= !flow_flags::HOST;
    }
    flow.next_hop = next_hop::STACK;
}

/// Checks that `work.flow.node` may send for `work.flow.remote_identity`. False: drop, as the report says.
#[inline(always)]
pub(crate) fn outer_source<T: Tables>(tables: &T, config: &NodeConfig, work: &mut Work) -> bool {
    if config.flags & (config_flags::OUTER_STRICT | config_flags::OUTER_AUDIT) == 0 {
        return true;
    }
    let identity = work.flow.remote_identity;
    let reserved = identity < FIRST_IDENTITY || identity >> 24 != 0;
    let cluster = if reserved {
        abi::ANY_CLUSTER
    } else {
        identity >> (config.cluster_shift & 31)
    };
    if tables.node(&NodeKey {
        cluster,
        addr: Addr::v4(work.flow.node),
    }) {
        return true;
    }
    let ext = if reserved {
        ExtError::ReservedFromUnknownNode
    } else {
        ExtError::None
    };
    let _ = work.report.drop_for(DropReason::UnknownSender, ext);
    if config.flags & config_flags::OUTER_STRICT != 0 {
        return false;
    }
    work.report.audit = 1;
    true
}

/// Judges `work.flow` for `endpoint` and, if allowed, remembers it. `own`: the packet belongs to the flow
/// (and is no error about it), so it moves the flow's state. False: drop, as the report says.
#[inline(never)]
pub(crate) fn decide<T: Tables>(
    tables: &T,
    work: &mut Work,
    endpoint: u32,
    from_local: bool,
    own: bool,
) -> bool {
    let (Some(config), Some(target)) = (tables.config(), tables.endpoint(endpoint)) else {
        return refuse(work, DropReason::EndpointNotReady);
    };
    let (policy, epoch) = tables.policy_word(target);
    let identity = work.flow.remote_identity;
    let bucket = identity_bucket(identity);
    work.flow.identity_bucket = bucket;
    work.flow.epoch = Flow::epoch_of(epoch, work.addr_epoch, tables.epoch(bucket));
    if from_local {
        work.report.dst_identity = identity;
    } else {
        work.report.src_identity = identity;
    }
    let question = question(work, policy, identity);
    if question.encapsulates(config) {
        return refuse(work, DropReason::Encapsulation);
    }
    // Nothing keeps a pod from itself.
    let itself = work.flow.flags & flow_flags::LOOPED != 0;
    if !itself && !policy::allows(tables, config, question, &mut work.report) {
        work.report.audit = 0;
        return false;
    }
    if work.remember == 0 {
        return true;
    }
    work.flow.rule = work.report.rule;
    if own {
        apply(tables.now(), config, work, from_local);
    }
    store(tables, config, work, endpoint)
}

#[inline(always)]
pub(crate) fn refuse(work: &mut Work, reason: DropReason) -> bool {
    work.report.audit = 0;
    let _ = work.report.drop(reason);
    false
}

/// The question to the policy of the flow's opening direction.
#[inline(always)]
fn question(work: &Work, policy: u32, identity: u32) -> Question {
    let by_local = opened_by_local(&work.flow);
    let port = match work.key.proto {
        // Entries of ICMP are opened by echo requests only; without an entry a packet stands for itself.
        ICMP | ICMPV6 if work.live == 0 => [0, work.packet.icmp_type],
        ICMP => [0, ECHO_REQUEST],
        ICMPV6 => [0, ECHO_REQUEST6],
        _ if by_local && work.flow.flags & flow_flags::SERVICE != 0 => work.flow.nat_port,
        _ if by_local => work.key.remote_port,
        _ => work.key.local_port,
    };
    let direction = if by_local {
        Direction::Egress
    } else {
        Direction::Ingress
    };
    Question {
        policy,
        identity,
        direction,
        proto: work.key.proto,
        port,
    }
}

/// Applies the packet to `work.flow`. A flow begins with the short lifetime whatever its first packet.
#[inline(always)]
pub(crate) fn apply(now: u32, config: &NodeConfig, work: &mut Work, from_local: bool) {
    let packet = &work.packet;
    let flow = &mut work.flow;
    let to = moved(
        flow,
        from_local,
        packet.proto,
        packet.tcp_flags,
        now,
        config,
    );
    flow.flags = to.flags;
    flow.tx_flags = to.tx_flags;
    flow.rx_flags = to.rx_flags;
    flow.expires = to.expires;
    let closed = flow_flags::TX_CLOSING | flow_flags::RX_CLOSING;
    if work.live == 0 && packet.proto == TCP && flow.flags & closed != closed {
        flow.flags &= !flow_flags::SEEN_NON_SYN;
        flow.expires = now.wrapping_add(config.timeout_syn);
    }
}
