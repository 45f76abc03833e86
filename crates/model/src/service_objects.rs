// SPDX-License-Identifier: Apache-2.0
//! Services and their endpoints as a cluster's objects tell them.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::Protocol;

/// Namespace and name of an object.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NamespacedName {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// That of an address.
    pub fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Family::Ipv4,
            IpAddr::V6(_) => Family::Ipv6,
        }
    }
}

/// A service object, trimmed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// Namespace and name.
    pub key: NamespacedName,
    /// Its ClusterIPs; none if it is headless, an external name, or another proxy's.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
    /// Seconds for which a client keeps its endpoint; 0: no affinity.
    pub affinity: u32,
    /// `internalTrafficPolicy: Local`: only endpoints of the client's node answer.
    pub local_only: bool,
}

/// A port of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServicePort {
    /// Its name, empty if it has none; endpoints tell their port by it.
    pub name: Arc<str>,
    /// Port, 1..65535.
    pub port: u16,
    /// Protocol.
    pub proto: Protocol,
}

/// Some endpoints of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointSlice {
    /// Namespace and name.
    pub key: NamespacedName,
    /// Name of the service, in the same namespace; empty if it is nobody's.
    pub service: Arc<str>,
    /// Of all addresses.
    pub family: Family,
    /// Ports that every endpoint has.
    pub ports: Vec<SlicePort>,
    /// The endpoints.
    pub endpoints: Vec<SliceEndpoint>,
}

/// A port of a slice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlicePort {
    /// Name of the service's port.
    pub name: Arc<str>,
    /// Port, 1..65535; `None`: every port, so that of the service.
    pub port: Option<u16>,
    /// Protocol.
    pub proto: Protocol,
}

/// An endpoint and its conditions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SliceEndpoint {
    /// Its address.
    pub addr: IpAddr,
    /// Its node, empty if unknown.
    pub node: Arc<str>,
    /// It takes connections.
    pub ready: bool,
    /// It answers, whether it is about to end or not.
    pub serving: bool,
    /// It is about to end.
    pub terminating: bool,
}
