// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Services: which backend a pod's flow goes to. The choice is part of the decision about the flow: a second entry, under
//! the backend's address, takes the answers, and both halves move together.

use abi::{
    Addr, Affinity, AffinityKey, BackendKey, Flow, MemberKey, NodeConfig, Service, ServiceKey,
    flow_flags, member_flags,
};

use crate::flow::{alive, reopens, touch};
use crate::headers::{TCP, TCP_ACK, TCP_SYN};
use crate::judge::{apply, fresh, read_epoch};
use crate::store::store;
use crate::{FlowRef, Layer4, Tables, Work};

/// Chances to find a backend whose answers could not be mistaken for those of another flow.
const ATTEMPTS: u32 = 4;

/// What became of a packet that may be for a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Choice {
    /// It is for no service that is translated here, or a flow that was opened otherwise.
    NoService,
    /// It goes to `work.flow.nat`.
    Backend,
    /// The service has nobody.
    Nobody,
    /// The backend of the flow is gone, and the flow cannot go on with another.
    Gone,
    /// Every backend that was tried has a flow with the pod's port already.
    Busy,
}

/// Exchanges the two halves of a service's flow in `work.key` and `work.flow`.
#[inline(always)]
pub(crate) fn turn(work: &mut Work) {
    core::mem::swap(&mut work.key.remote, &mut work.flow.nat);
    core::mem::swap(&mut work.key.remote_port, &mut work.flow.nat_port);
    work.flow.flags ^= flow_flags::SERVICE | flow_flags::BACKEND;
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
    let halves = flow_flags::SERVICE | flow_flags::BACKEND;
    if flow.flags & (halves | flow_flags::LOOPED) == 0 {
        return;
    }
    work.flow.nat = flow.nat;
    work.flow.nat_port = flow.nat_port;
    work.flow.endpoint = flow.endpoint;
    if changed && flow.flags & halves != 0 {
        follow(tables, work, from_local);
    }
}

/// Remembers both halves of a service's flow that the pod's packet opened or goes on with, and that
/// [`crate::judge::decide`] allowed. The half for the answers comes first: nothing is sent whose answers would be strangers.
/// False: no room, as the report says.
#[inline(never)]
pub(crate) fn keep_halves<T: Tables>(tables: &T, work: &mut Work) -> bool {
    let Some(config) = tables.config() else {
        return false;
    };
    let endpoint = u32::from(work.report.endpoint);
    let present = work.present;
    work.flow.rule = work.report.rule;
    apply(tables.now(), config, work, true);
    turn(work);
    work.present = match work.live {
        0 => work.other,
        _ => tables
            .flow(&work.key)
            .map_or(0, |entry| 1 + entry.get().endpoint),
    };
    let kept = store(tables, config, work, endpoint);
    turn(work);
    work.present = present;
    kept && store(tables, config, work, endpoint)
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
        let halves = flow_flags::SERVICE | flow_flags::BACKEND;
        if other.endpoint == work.flow.endpoint
            && other.flags & halves == work.flow.flags & halves
            && other.nat == work.flow.nat
            && other.nat_port == work.flow.nat_port
        {
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

/// Finds out where a pod's packet goes if it is for a service. [`crate::judge::begin`] was asked for its flow.
#[inline(never)]
pub(crate) fn choose<T: Tables>(tables: &T, work: &mut Work) -> Choice {
    if work.packet.kind != Layer4::PORTS {
        return Choice::NoService;
    }
    let service = tables.service(&key(work));
    let ours = work.live == 1 && work.flow.flags & flow_flags::SERVICE != 0;
    let tcp = work.packet.proto == TCP;
    let opens = work.packet.tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN;
    match service {
        Some(service) if ours && member(tables, work, &service) != 0 => Choice::Backend,
        // An attempt that nobody answered may still find somebody else.
        _ if ours && tcp && !opens => {
            close(tables, work);
            Choice::Gone
        }
        // Whatever translated what came before in this flow goes on with it.
        Some(_) if tcp && !opens => Choice::NoService,
        Some(service) => select(tables, work, &service),
        None if ours => {
            again(tables, work);
            Choice::NoService
        }
        None => Choice::NoService,
    }
}

#[inline(always)]
fn key(work: &Work) -> ServiceKey {
    ServiceKey {
        addr: work.packet.dst,
        port: work.packet.dport,
        proto: work.packet.proto,
        pad: 0,
    }
}

/// Bits of [`member_flags`] of the backend in `work.flow`.
#[inline(always)]
fn member<T: Tables>(tables: &T, work: &Work, service: &Service) -> u32 {
    tables.member(&MemberKey {
        addr: work.flow.nat,
        service: service.id,
        port: work.flow.nat_port,
        pad: [0; 2],
    })
}

/// Begins the flow anew.
#[inline(never)]
fn again<T: Tables>(tables: &T, work: &mut Work) {
    work.live = 0;
    work.remember = 1;
    fresh(work, u32::from(work.report.endpoint), true, tables.now());
    read_epoch(tables, work);
}

/// Leaves the entry to whoever opens the next flow with the same ports.
#[inline(always)]
fn close<T: Tables>(tables: &T, work: &Work) {
    if let (Some(entry), Some(config)) = (tables.flow(&work.key), tables.config()) {
        let flow = entry.get();
        let closed = flow_flags::TX_CLOSING | flow_flags::RX_CLOSING;
        entry.transition(flow.flags | closed, flow.tx_flags, flow.rx_flags);
        entry.refresh(tables.now().wrapping_add(config.timeout_fin));
    }
}

/// Chooses a backend for a new flow.
#[inline(never)]
fn select<T: Tables>(tables: &T, work: &mut Work, service: &Service) -> Choice {
    again(tables, work);
    work.flow.flags |= flow_flags::SERVICE;
    let kept = service.affinity != 0 && recall(tables, work, service);
    let mut result = match kept || any(tables, work, service) {
        true => take(tables, work, service),
        false => Choice::Nobody,
    };
    for _ in 1..ATTEMPTS {
        if result == Choice::Backend {
            break;
        }
        result = match (retry(tables, work), result) {
            (Choice::Nobody, Choice::Busy) => Choice::Busy,
            (choice, _) => choice,
        };
    }
    result
}

/// Another attempt. The numbers of backends change while they are read, so it asks for the service again.
#[inline(never)]
fn retry<T: Tables>(tables: &T, work: &mut Work) -> Choice {
    match tables.service(&key(work)) {
        Some(service) if any(tables, work, &service) => take(tables, work, &service),
        _ => Choice::Nobody,
    }
}

/// Whether the flow may go to the backend in `work.flow`: `Nobody`, `Busy`, or `Backend`.
#[inline(never)]
fn take<T: Tables>(tables: &T, work: &mut Work, service: &Service) -> Choice {
    // Before it is asked whether it is a backend still: who goes has the epoch raised afterwards.
    read_epoch(tables, work);
    if member(tables, work, service) & member_flags::SELECTABLE == 0 {
        return Choice::Nobody;
    }
    if is_taken(tables, work) {
        return Choice::Busy;
    }
    if work.flow.nat == work.packet.src {
        work.flow.flags |= flow_flags::LOOPED;
    }
    if service.affinity != 0 {
        stick(tables, work, service);
    }
    Choice::Backend
}

#[inline(always)]
fn any<T: Tables>(tables: &T, work: &mut Work, service: &Service) -> bool {
    if service.count == 0 {
        return false;
    }
    let backend = tables.backend(&BackendKey {
        service: service.id,
        index: tables.random() % service.count,
    });
    let Some(backend) = backend else {
        return false;
    };
    work.flow.nat = backend.addr;
    work.flow.nat_port = backend.port;
    true
}

/// Takes the backend that the client had, if it had one lately.
#[inline(never)]
fn recall<T: Tables>(tables: &T, work: &mut Work, service: &Service) -> bool {
    let known = tables.affinity(&affinity_key(work, service));
    let Some(known) = known.filter(|a| tables.now().wrapping_sub(a.seen) <= service.affinity)
    else {
        return false;
    };
    work.flow.nat = known.addr;
    work.flow.nat_port = known.port;
    member(tables, work, service) & member_flags::SELECTABLE != 0
}

#[inline(never)]
fn stick<T: Tables>(tables: &T, work: &Work, service: &Service) {
    let chosen = Affinity {
        addr: work.flow.nat,
        port: work.flow.nat_port,
        pad: [0; 2],
        seen: tables.now(),
    };
    tables.remember_affinity(&affinity_key(work, service), &chosen);
}

#[inline(always)]
fn affinity_key(work: &Work, service: &Service) -> AffinityKey {
    AffinityKey {
        client: work.packet.src,
        service: service.id,
    }
}

/// Whether answers of the backend in `work.flow` belong to another flow of the pod's port. Leaves in `work.other` what was
/// found.
#[inline(never)]
fn is_taken<T: Tables>(tables: &T, work: &mut Work) -> bool {
    turn(work);
    work.other = 0;
    let taken = tables.flow(&work.key).is_some_and(|entry| {
        let flow = entry.get();
        work.other = 1 + flow.endpoint;
        alive(&flow, tables.now())
            && flow.endpoint == work.flow.endpoint
            && !reopens(&flow, work.packet.tcp_flags)
            && !(flow.flags & flow_flags::BACKEND != 0
                && flow.nat == work.flow.nat
                && flow.nat_port == work.flow.nat_port)
    });
    turn(work);
    taken
}

/// The client's address towards its own server, IPv4: Cilium's `ipv4-service-loopback-address`.
const LOOPBACK4: Addr = Addr::v4([169, 254, 42, 1]);

/// The address that a pod has for itself behind a service.
#[inline(always)]
pub(crate) fn loopback(config: &NodeConfig, v4: bool) -> Addr {
    if v4 { LOOPBACK4 } else { config.router6 }
}
