// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! The two entries of a service's flow: one under the address that the pod sends to, and one under the backend's, which takes
//! the answers. Both move together.

use abi::{Flow, NodeConfig, SHARE_OF_ALL, flow_flags};

use crate::flow::{alive, reopens, touch};
use crate::judge::apply;
use crate::store::store;
use crate::{FlowRef, Insert, Tables, Work};

const HALVES: u16 = flow_flags::SERVICE | flow_flags::BACKEND;

/// What became of both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kept {
    /// They are there.
    Both,
    /// Answers of the backend belong to another flow of the pod's port.
    Busy,
    /// Not allowed, or no room: as the report says.
    Refused,
}

/// Exchanges the two halves of a service's flow in `work.key` and `work.flow`.
#[inline(always)]
pub(crate) fn turn(work: &mut Work) {
    core::mem::swap(&mut work.key.remote, &mut work.flow.nat);
    core::mem::swap(&mut work.key.remote_port, &mut work.flow.nat_port);
    work.flow.flags ^= HALVES;
}

/// Takes the translation of an established flow over into `work.flow`. Its other half follows what the packet changed.
#[inline(always)]
pub(crate) fn take_over<T: Tables>(
    tables: &T,
    work: &mut Work,
    flow: &Flow,
    changed: bool,
    from_local: bool,
) {
    work.flow.flags = flow.flags;
    if flow.flags & (HALVES | flow_flags::LOOPED) == 0 {
        return;
    }
    work.flow.nat = flow.nat;
    work.flow.nat_port = flow.nat_port;
    work.flow.endpoint = flow.endpoint;
    if changed && flow.flags & HALVES != 0 {
        follow(tables, work, from_local);
    }
}

/// Remembers both halves of a service's flow that the pod's packet opened or goes on with, and that
/// [`crate::judge::decide`] allowed. The half for the answers comes first: nothing is sent whose answers would be strangers.
#[inline(never)]
pub(crate) fn keep_halves<T: Tables>(tables: &T, work: &mut Work) -> Kept {
    let Some(config) = tables.config() else {
        return Kept::Refused;
    };
    let endpoint = u32::from(work.report.endpoint);
    work.flow.rule = work.report.rule;
    apply(tables.now(), config, work, true);
    let present = work.present;
    let new = work.live == 0;
    if new && present == 0 && create(tables, config, work, endpoint) {
        return Kept::Both;
    }
    turn(work);
    let taken = is_taken(tables, work);
    let kept = !(new && taken) && store(tables, config, work, endpoint);
    turn(work);
    work.present = present;
    if new && taken {
        return Kept::Busy;
    }
    match kept && store(tables, config, work, endpoint) {
        true => Kept::Both,
        false => Kept::Refused,
    }
}

/// Makes both entries, which nearly every new flow gets without a look at what is there. False: something is there, or there
/// may be no room.
#[inline(always)]
fn create<T: Tables>(tables: &T, config: &NodeConfig, work: &mut Work, endpoint: u32) -> bool {
    if tables.share(endpoint) + 2 > config.flow_share {
        return false;
    }
    turn(work);
    let answers = tables.create_flow(&work.key, &work.flow);
    turn(work);
    if answers != Insert::Created {
        return false;
    }
    let sent = tables.create_flow(&work.key, &work.flow);
    let made = 1 + i32::from(sent == Insert::Created);
    tables.add_share(endpoint, made);
    tables.add_share(SHARE_OF_ALL, made);
    sent != Insert::Full
}

/// [`is_taken`] for `work.key` and `work.flow` the other way round.
#[inline(always)]
pub(crate) fn answers_are_taken<T: Tables>(tables: &T, work: &mut Work) -> bool {
    let present = work.present;
    turn(work);
    let taken = is_taken(tables, work);
    turn(work);
    work.present = present;
    taken
}

/// Whether the key of the half for the answers belongs to another flow. Leaves in `work.present` what was found.
#[inline(never)]
fn is_taken<T: Tables>(tables: &T, work: &mut Work) -> bool {
    work.present = 0;
    let Some(entry) = tables.flow(&work.key) else {
        return false;
    };
    let flow = entry.get();
    work.present = 1 + flow.endpoint;
    alive(&flow, tables.now())
        && flow.endpoint == work.flow.endpoint
        && !reopens(&flow, work.packet.tcp_flags)
        && !(flow.flags & flow_flags::BACKEND != 0
            && flow.nat == work.flow.nat
            && flow.nat_port == work.flow.nat_port)
}

/// Whether the entry under `work.key` is the half of a service's flow that is in `work.flow`.
#[inline(always)]
pub(crate) fn is_half(entry: &Flow, work: &Work) -> bool {
    entry.endpoint == work.flow.endpoint
        && entry.flags & HALVES == work.flow.flags & HALVES
        && entry.nat == work.flow.nat
        && entry.nat_port == work.flow.nat_port
}

/// Has the other half of a service's flow follow a packet that changed the half in `work.key` and `work.flow`.
#[inline(never)]
fn follow<T: Tables>(tables: &T, work: &mut Work, from_local: bool) {
    let Some(config) = tables.config() else {
        return;
    };
    turn(work);
    if let Some(entry) = tables.flow(&work.key) {
        let other = entry.get();
        if is_half(&other, work) {
            touch(
                entry,
                &other,
                from_local,
                &work.packet,
                tables.now(),
                config,
            );
        }
    }
    turn(work);
}
