// SPDX-License-Identifier: Apache-2.0
//! The endpoints of one frontend: what its slices say of each, and which of them take new flows.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::{Backend, EndpointSlice, Family, Frontend, Service, SliceEndpoint};

/// How an endpoint fares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndpointState {
    /// It takes connections.
    Ready,
    /// It does not take connections now.
    NotReady,
    /// It is about to end and answers.
    Terminating,
    /// It is about to end and does not answer.
    TerminatingNotServing,
}

/// What all slices together say of an address and port.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Merged {
    ready: bool,
    serving: bool,
    terminating: bool,
    pub(super) local: bool,
}

impl Merged {
    pub(super) fn state(self) -> EndpointState {
        match self {
            Merged { ready: true, .. } => EndpointState::Ready,
            Merged {
                terminating: false, ..
            } => EndpointState::NotReady,
            Merged { serving: true, .. } => EndpointState::Terminating,
            _ => EndpointState::TerminatingNotServing,
        }
    }
}

/// The endpoints of a frontend by address and port; what several slices name is there once. `node` is this node's name.
pub(super) fn merged<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a EndpointSlice>,
    frontend: &Frontend,
    node: &str,
) -> BTreeMap<(IpAddr, u16), Merged> {
    let family = Family::of(frontend.addr);
    let mut ports = service.ports.iter();
    let port = ports.find(|port| port.port == frontend.port && port.proto == frontend.proto);
    let name = port.map_or("", |port| &port.name);
    let mut merged: BTreeMap<_, Merged> = BTreeMap::new();
    for slice in slices.filter(|slice| slice.family == family) {
        let ports = slice.ports.iter();
        for port in ports.filter(|port| *port.name == *name && port.proto == frontend.proto) {
            let number = port.port.unwrap_or(frontend.port);
            let usable = slice.endpoints.iter();
            for endpoint in usable.filter(|endpoint| refusal(slice, endpoint).is_none()) {
                let of = merged.entry((endpoint.addr, number)).or_default();
                of.ready |= endpoint.ready;
                of.serving |= endpoint.serving;
                of.terminating |= endpoint.terminating;
                of.local |= *endpoint.node == *node;
            }
        }
    }
    merged
}

/// Who takes new flows: those that are ready, of this node if the service wants it; if there is none, those that still
/// answer while they end.
pub(super) fn backends(
    service: &Service,
    merged: &BTreeMap<(IpAddr, u16), Merged>,
) -> Vec<Backend> {
    let eligible = |of: &Merged| !service.local_only || of.local;
    let any_ready = merged.values().any(|of| eligible(of) && of.ready);
    let list = merged.iter().map(|((addr, port), of)| Backend {
        addr: *addr,
        port: *port,
        selectable: eligible(of)
            && if any_ready {
                of.ready
            } else {
                of.serving && of.terminating
            },
    });
    list.collect()
}

/// Why an endpoint is left out.
pub(super) fn refusal(slice: &EndpointSlice, endpoint: &SliceEndpoint) -> Option<&'static str> {
    if Family::of(endpoint.addr) != slice.family {
        return Some("not of the slice's addressType");
    }
    unusable(endpoint.addr)
}

/// Why nothing in a cluster can be reached at an address.
pub(super) fn unusable(addr: IpAddr) -> Option<&'static str> {
    let is_link_local = match addr {
        IpAddr::V4(addr) => addr.is_link_local(),
        IpAddr::V6(addr) => addr.is_unicast_link_local(),
    };
    match addr {
        _ if addr.is_unspecified() => Some("the unspecified address"),
        _ if addr.is_loopback() => Some("a loopback address"),
        _ if addr.is_multicast() => Some("a multicast address"),
        _ if is_link_local => Some("a link-local address"),
        IpAddr::V4(addr) if addr.is_broadcast() => Some("the broadcast address"),
        IpAddr::V6(addr) if addr.to_ipv4_mapped().is_some() => Some("an IPv4-mapped address"),
        _ => None,
    }
}
