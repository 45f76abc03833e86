// SPDX-License-Identifier: Apache-2.0
//! Nodes of the mesh (Cilium's `pkg/node/types`, `Node`).

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::{ClusterId, ClusterName};

/// A node's name, unique in the mesh: cluster and name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeName {
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its name there.
    pub name: Arc<str>,
}

impl fmt::Display for NodeName {
    /// `cluster/node`, bare if the cluster has the default name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cluster.as_str() == ClusterName::DEFAULT {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.cluster, self.name)
        }
    }
}

/// What an address of a node is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum AddressType {
    /// Name.
    Hostname,
    /// Reachable from outside.
    ExternalIp,
    /// The underlay.
    InternalIp,
    /// Name outside.
    ExternalDns,
    /// Name inside.
    InternalDns,
    /// The router address in the pods' network.
    CiliumInternalIp,
}

/// One address of a node.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeAddress {
    /// What it is for.
    pub kind: AddressType,
    /// The address.
    pub ip: IpAddr,
}

/// A node as published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Its cluster's number.
    pub cluster_id: ClusterId,
    /// Addresses in the order of the writer.
    pub addresses: Vec<NodeAddress>,
    /// IPv4 pod network.
    pub ipv4_alloc: Option<IpNet>,
    /// IPv6 pod network.
    pub ipv6_alloc: Option<IpNet>,
    /// Further pod networks, both families.
    pub secondary_alloc: Vec<IpNet>,
    /// Health endpoint addresses.
    pub health: Vec<IpAddr>,
    /// Ingress proxy addresses.
    pub ingress: Vec<IpAddr>,
    /// Encryption key index; 0 none, 255 WireGuard.
    pub encryption_key: u8,
    /// WireGuard public key, base64, empty if none.
    pub wireguard_pub_key: String,
    /// Kernel boot id, empty if unknown.
    pub boot_id: String,
    /// Labels of the node object.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the node object.
    pub annotations: BTreeMap<String, String>,
}

impl Node {
    /// A node that has these addresses, and nothing else.
    pub fn new(name: NodeName, cluster_id: ClusterId, addresses: Vec<NodeAddress>) -> Self {
        Self {
            name,
            cluster_id,
            addresses,
            ipv4_alloc: None,
            ipv6_alloc: None,
            secondary_alloc: Vec::new(),
            health: Vec::new(),
            ingress: Vec::new(),
            encryption_key: 0,
            wireguard_pub_key: String::new(),
            boot_id: String::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }

    /// The underlay address of a family: first InternalIP, else the last ExternalIP, else the first other address
    /// that is not the router's.
    pub fn underlay(&self, v4: bool) -> Option<IpAddr> {
        let family = || self.addresses.iter().filter(|a| a.ip.is_ipv4() == v4);
        let of = |kind| family().filter(move |a| a.kind == kind);
        of(AddressType::InternalIp)
            .next()
            .or_else(|| of(AddressType::ExternalIp).next_back())
            .or_else(|| family().find(|a| a.kind != AddressType::CiliumInternalIp))
            .map(|a| a.ip)
    }

    /// The address that packets of this node carry outside: IPv4 if there is one.
    pub fn tunnel_endpoint(&self) -> Option<IpAddr> {
        self.underlay(true).or_else(|| self.underlay(false))
    }

    /// The router addresses.
    pub fn routers(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses
            .iter()
            .filter(|a| a.kind == AddressType::CiliumInternalIp)
            .map(|a| a.ip)
    }

    /// All pod networks.
    pub fn pod_cidrs(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.ipv4_alloc
            .iter()
            .chain(&self.ipv6_alloc)
            .chain(&self.secondary_alloc)
            .copied()
    }
}
