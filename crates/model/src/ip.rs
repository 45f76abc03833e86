// SPDX-License-Identifier: Apache-2.0
//! What an address belongs to (Cilium's `pkg/identity`, `IPIdentityPair`).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::NumericIdentity;

/// Transport protocol of a port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Protocol {
    /// TCP, 6.
    Tcp,
    /// UDP, 17.
    Udp,
    /// SCTP, 132.
    Sctp,
}

impl Protocol {
    /// IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// The word that Kubernetes uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A container port with a name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NamedPort {
    /// Its name.
    pub name: Arc<str>,
    /// Its number.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

/// One address or prefix and the identity behind it. The prefix itself is the key of the table that holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IpEntry {
    /// The address (a full-length prefix) or prefix.
    pub prefix: IpNet,
    /// Identity.
    pub identity: NumericIdentity,
    /// Underlay address of the node that has it.
    pub host: Option<IpAddr>,
    /// Encryption key index of that node; 0 none.
    pub key: u8,
    /// Namespace of the pod, empty if none.
    pub namespace: Arc<str>,
    /// Name of the pod, empty if none.
    pub pod: Arc<str>,
    /// Service account of the pod, empty if none.
    pub service_account: Arc<str>,
    /// Named ports, sorted by name.
    pub named_ports: Arc<[NamedPort]>,
    /// Free text of the writer, e.g. `cilium-global:default:node1:61`.
    pub metadata: Arc<str>,
}

impl IpEntry {
    /// An entry without Kubernetes metadata.
    pub fn new(prefix: IpNet, identity: NumericIdentity, host: Option<IpAddr>) -> Self {
        let empty: Arc<str> = "".into();
        Self {
            prefix,
            identity,
            host,
            key: 0,
            namespace: empty.clone(),
            pod: empty.clone(),
            service_account: empty.clone(),
            named_ports: Arc::new([]),
            metadata: empty,
        }
    }
}
