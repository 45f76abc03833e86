// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Remembers decisions in conntrack, as far as there is room: for an endpoint its share, for all the table.
//!
//! Whoever may send to pods can fill their shares, with a port per packet. So the last quarter of each share, and of the
//! table, is for what the pods themselves begin, and a flow without room is not refused if its packets can be judged one by
//! one: each by its own direction, answers by the other one.

use abi::{DropReason, ExtError, Flow, NodeConfig, SHARE_OF_ALL, flow_flags, next_hop};

use crate::headers::{TCP, TCP_ACK, TCP_SYN};
use crate::judge::{opened_by_local, refuse};
use crate::policy::is_pod;
use crate::{Insert, Tables, Work};

/// Flows whose packets are not what they seem without their entry.
const NEEDS_ENTRY: u16 =
    flow_flags::SERVICE | flow_flags::BACKEND | flow_flags::LOOPED | flow_flags::TRANSLATED;

/// Writes `work.flow`, or leaves its packets to be judged one by one. False: no room, the reason is in the report.
#[inline(always)]
pub(crate) fn store<T: Tables>(
    tables: &T,
    config: &NodeConfig,
    work: &mut Work,
    endpoint: u32,
) -> bool {
    let before = work.present;
    let own = u32::from(before) == endpoint + 1;
    if !own && !has_room(tables, config, work, endpoint) {
        if stands_alone(&work.flow) {
            return true;
        }
        if tables.share(endpoint) >= config.share_for_others() {
            work.report.ext = ExtError::ShareExceeded as i8 as u8;
        }
        return refuse(work, DropReason::FlowTableFull);
    }
    let result = if before == 0 {
        tables.create_flow(&work.key, &work.flow)
    } else if tables.overwrite_flow(&work.key, &work.flow) {
        if own { Insert::Exists } else { Insert::Created }
    } else {
        Insert::Full
    };
    match result {
        Insert::Exists => true,
        Insert::Created => {
            tables.add_share(endpoint, 1);
            match before {
                0 => tables.add_share(SHARE_OF_ALL, 1),
                _ => tables.add_share(u32::from(before) - 1, -1),
            }
            true
        }
        Insert::Full => stands_alone(&work.flow) || refuse(work, DropReason::FlowTableFull),
    }
}

/// Whether the flow may have an entry. What may be an answer does not count as begun by the pod: its server would spend the
/// pod's part on those who ask.
#[inline(always)]
fn has_room<T: Tables>(tables: &T, config: &NodeConfig, work: &Work, endpoint: u32) -> bool {
    let connects = opened_by_local(&work.flow)
        && work.packet.proto == TCP
        && work.packet.tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN;
    let share = tables.share(endpoint);
    if connects || work.flow.flags & NEEDS_ENTRY != 0 {
        return share < config.flow_share;
    }
    share < config.share_for_others() && tables.share(SHARE_OF_ALL) < config.flow_room
}

/// Whether answers find their way without the entry: back to pods by the tunnel, to all others through the stack.
#[inline(always)]
fn stands_alone(flow: &Flow) -> bool {
    if flow.flags & NEEDS_ENTRY != 0 {
        return false;
    }
    if opened_by_local(flow) {
        return true;
    }
    match flow.next_hop {
        next_hop::TUNNEL => is_pod(flow.remote_identity),
        // The stack may have translated what one pod of the node sends to another.
        next_hop::STACK => flow.peer_endpoint == 0,
        _ => true,
    }
}
