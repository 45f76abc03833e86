// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Services: which backend a pod's flow goes to. The choice is part of the decision about the flow.

use core::hint::black_box;

use abi::{
    Addr, Affinity, AffinityKey, BackendKey, MemberKey, NodeConfig, Service, ServiceKey,
    flow_flags, member_flags,
};

use crate::halves::{answers_are_taken, is_half, turn};
use crate::headers::{TCP, TCP_ACK, TCP_SYN};
use crate::judge::{fresh, read_epoch, read_epoch_of};
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
}

/// Finds out where a pod's packet goes if it is for a service. [`crate::judge::begin`] was asked for its flow.
#[inline(always)]
pub(crate) fn choose<T: Tables>(tables: &T, work: &mut Work) -> Choice {
    if work.packet.kind != Layer4::PORTS {
        return Choice::NoService;
    }
    let service = tables.service(&key(work));
    let ours = work.live == 1 && work.flow.flags & flow_flags::SERVICE != 0;
    let tcp = work.packet.proto == TCP;
    let opens = work.packet.tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN;
    match service {
        Some(service) if ours && member(tables, work, service) != 0 => Choice::Backend,
        // An attempt that nobody answered may still find somebody else.
        _ if ours && tcp && !opens => {
            close(tables, work);
            Choice::Gone
        }
        // Whatever translated what came before in this flow goes on with it.
        Some(_) if tcp && !opens => Choice::NoService,
        Some(service) => select(tables, work, service),
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

/// Leaves both entries of the flow to whoever opens the next ones with the same ports.
#[inline(never)]
fn close<T: Tables>(tables: &T, work: &mut Work) {
    close_half(tables, work);
    turn(work);
    close_half(tables, work);
    turn(work);
}

/// Ends the entry under `work.key` if it is the half in `work.flow`.
#[inline(always)]
fn close_half<T: Tables>(tables: &T, work: &Work) {
    if let (Some(entry), Some(config)) = (tables.flow(&work.key), tables.config()) {
        let flow = entry.get();
        if is_half(&flow, work) {
            let closed = flow_flags::TX_CLOSING | flow_flags::RX_CLOSING;
            entry.transition(flow.flags | closed, flow.tx_flags, flow.rx_flags);
            entry.refresh(tables.now().wrapping_add(config.timeout_fin));
        }
    }
}

/// Chooses a backend for a new flow.
#[inline(always)]
fn select<T: Tables>(tables: &T, work: &mut Work, service: &Service) -> Choice {
    if work.live == 1 {
        again(tables, work);
    }
    work.flow.flags |= flow_flags::SERVICE;
    let mut found = attempt(tables, work, service, true);
    for _ in 1..ATTEMPTS {
        found = found || retry(tables, work, true);
    }
    match found {
        true => Choice::Backend,
        false => Choice::Nobody,
    }
}

/// Chooses another backend for a new flow: one whose answers could not be mistaken for those of another flow. False: none that
/// was tried.
#[inline(never)]
pub(crate) fn another<T: Tables>(tables: &T, work: &mut Work) -> bool {
    let mut found = false;
    for _ in 1..ATTEMPTS {
        found = found || (retry(tables, work, false) && !answers_are_taken(tables, work));
    }
    found
}

/// Another attempt. The numbers of backends change while they are read, so it asks for the service again.
#[inline(never)]
fn retry<T: Tables>(tables: &T, work: &mut Work, sticks: bool) -> bool {
    read_epoch_of(tables, work, &{ work.key.remote });
    match tables.service(&key(work)) {
        Some(service) => attempt(tables, work, service, sticks),
        None => false,
    }
}

/// Chooses a backend: with `sticks` the one that the client had, if the service remembers clients.
#[inline(always)]
fn attempt<T: Tables>(tables: &T, work: &mut Work, service: &Service, sticks: bool) -> bool {
    let kept = sticks && service.affinity != 0 && recall(tables, work, service);
    (kept || any(tables, work, service)) && take(tables, work, service)
}

/// Whether the flow may go to the backend in `work.flow`, which has the epoch of the service's address.
#[inline(never)]
fn take<T: Tables>(tables: &T, work: &mut Work, service: &Service) -> bool {
    // The service's epoch rises after every change of its rows, which may be another's by then. And a backend that goes is
    // out of reach and no member first, then the service's epoch rises, and then its own. So with the service's as it was
    // before the choice, it is this service's backend still, or the flow is judged again.
    let (bucket, epoch) = (work.flow.addr_bucket, work.addr_epoch);
    read_epoch(tables, work);
    if tables.epoch(bucket) != epoch {
        return false;
    }
    work.flow.flags &= !flow_flags::LOOPED;
    if work.flow.nat == work.packet.src {
        work.flow.flags |= flow_flags::LOOPED;
    }
    if service.affinity != 0 {
        stick(tables, work, service);
    }
    true
}

#[inline(always)]
fn any<T: Tables>(tables: &T, work: &mut Work, service: &Service) -> bool {
    if service.count == 0 {
        return false;
    }
    let index = ((u64::from(tables.random()) * u64::from(service.count)) >> 32) as u32;
    // The verifier wants the bounds of the number that is used, which the compiler would check in what it is made of.
    let few = service.few.get(black_box(index) as usize);
    let few = few.filter(|backend| backend.port != [0; 2]);
    let backend = few.or_else(|| {
        let service = service.id;
        tables.backend(&BackendKey { service, index })
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

/// The client's address towards its own server, IPv4: Cilium's `ipv4-service-loopback-address`.
const LOOPBACK4: Addr = Addr::v4([169, 254, 42, 1]);

/// The address that a pod has for itself behind a service.
#[inline(always)]
pub(crate) fn loopback(config: &NodeConfig, v4: bool) -> Addr {
    if v4 { LOOPBACK4 } else { config.router6 }
}
