// SPDX-License-Identifier: Apache-2.0
//! What the rows of services are made of.

use abi::{Backend, FEW, Few, MemberKey, ServiceKey};
use model::{Frontend, Protocol};

use super::At;
use crate::{addr, ip_addr};

/// The key of a service.
pub(super) fn service_key(frontend: &Frontend) -> ServiceKey {
    ServiceKey {
        addr: addr(frontend.addr),
        port: frontend.port.to_be_bytes(),
        proto: frontend.proto.number(),
        pad: 0,
    }
}

/// The key of a backend among the members.
pub(super) fn member_key(service: u32, (addr, port): At) -> MemberKey {
    MemberKey {
        addr,
        service,
        port,
        pad: [0; 2],
    }
}

/// Seconds in the unit of the programs' clock (`ktime >> 30`): never longer than asked for, and not nothing.
pub(super) fn ticks(seconds: u32) -> u32 {
    let ticks = (u64::from(seconds) * 1_000_000_000) >> 30;
    u32::try_from(ticks)
        .unwrap_or(u32::MAX)
        .max(u32::from(seconds != 0))
}

/// The seconds, but for rounding, of so many units of the programs' clock.
pub(super) fn seconds(ticks: u32) -> u32 {
    let seconds = (u64::from(ticks) << 30).div_ceil(1_000_000_000);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// The service of a key.
pub(super) fn frontend(key: &ServiceKey) -> Option<Frontend> {
    let proto = [Protocol::Tcp, Protocol::Udp]
        .into_iter()
        .find(|proto| proto.number() == key.proto)?;
    Some(Frontend {
        addr: ip_addr(&key.addr)?,
        port: u16::from_be_bytes(key.port),
        proto,
    })
}

/// The row of a backend.
pub(super) fn backend((addr, port): &At) -> Backend {
    Backend {
        addr: *addr,
        port: *port,
        pad: [0; 2],
    }
}

/// The backends that a service's own row has.
pub(super) fn few(slots: &[At]) -> Few {
    let mut few = [Backend::default(); FEW];
    for (to, at) in few.iter_mut().zip(slots) {
        *to = backend(at);
    }
    few
}
