// SPDX-License-Identifier: Apache-2.0
//! This node: what the configuration leaves open is read off the machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use model::{AddressType, Node, NodeAddress, NodeName};
use netlink::{Link, Scope, Socket};

use config::Config;

/// Bytes that the tunnel adds to an IPv4 underlay: outer Ethernet, IPv4, UDP, VXLAN.
pub(crate) const TUNNEL_OVERHEAD: u32 = 50;
/// IPv6 needs links of at least this MTU.
const MIN_MTU: u32 = 1280;

/// What this node is.
#[derive(Clone, Debug)]
pub(crate) struct LocalNode {
    pub(crate) name: NodeName,
    /// Published underlay address, outer source of the tunnel.
    pub(crate) ipv4: Ipv4Addr,
    pub(crate) ipv6: Option<Ipv6Addr>,
    /// MTU of the underlay.
    pub(crate) underlay_mtu: u32,
    pub(crate) pods4: Option<Ipv4Net>,
    pub(crate) pods6: Option<Ipv6Net>,
    pub(crate) router4: Option<Ipv4Addr>,
    pub(crate) router6: Option<Ipv6Addr>,
    pub(crate) boot_id: String,
    /// IPsec policies of this host apply to what leaves it.
    pub(crate) ipsec: bool,
}

/// Why this node cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    /// The kernel does not answer.
    #[error("cannot read this node's network devices: {0}")]
    Netlink(#[from] netlink::Error),
    /// No device given, and no default route to take it from.
    #[error(
        "no underlay device: there is no default route to take it from; name one with --devices"
    )]
    NoDevice,
    /// A device that is not there.
    #[error("underlay device {0} does not exist; check --devices")]
    NoSuchDevice(String),
    /// No IPv4 address on it.
    #[error(
        "underlay device {0} has no IPv4 address, which the tunnel needs; give it one or set --ipv4-node"
    )]
    NoAddress(String),
    /// The tunnel does not fit.
    #[error(
        "MTU {mtu} of the underlay leaves pods {inner} bytes, less than the {MIN_MTU} that IPv6 needs; raise it or set --enable-ipv6=false"
    )]
    SmallMtu {
        /// Of the underlay.
        mtu: u32,
        /// Of pods.
        inner: u32,
    },
}

impl LocalNode {
    /// Reads devices, addresses and routes.
    pub(crate) fn detect(config: &Config, socket: &Socket) -> Result<LocalNode, NodeError> {
        let device = underlay_device(config, socket)?;
        let addresses = socket.addresses_of(device.index)?;
        let global = addresses
            .iter()
            .filter(|a| a.scope == Scope::Global)
            .map(|a| a.net.addr());
        let first4 = global.clone().find_map(|ip| match ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        });
        let first6 = global.clone().find_map(|ip| match ip {
            IpAddr::V6(ip) => Some(ip),
            IpAddr::V4(_) => None,
        });
        let ipv4 = config
            .ipv4_node
            .or(first4)
            .ok_or_else(|| NodeError::NoAddress(device.name.clone()))?;
        let mtu = config.mtu.unwrap_or(device.mtu);
        let inner = mtu.saturating_sub(TUNNEL_OVERHEAD);
        if config.ipv6 && inner < MIN_MTU {
            return Err(NodeError::SmallMtu { mtu, inner });
        }
        let (pods4, pods6) = (config.pods4(ipv4), config.pods6(ipv4));
        Ok(LocalNode {
            name: NodeName {
                cluster: config.cluster.clone(),
                name: config.node.clone(),
            },
            ipv4,
            ipv6: config.ipv6_node.or(first6),
            underlay_mtu: mtu,
            router4: pods4.map(|net| Ipv4Addr::from(u32::from(net.network()) + 1)),
            router6: pods6.map(|net| Ipv6Addr::from(u128::from(net.network()) + 1)),
            pods4,
            pods6,
            boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            ipsec: netlink::ipsec::has_output_policies()?,
        })
    }

    /// This node with the underlay of `found`; `None` if nothing changed. Pods keep their networks, also those that were
    /// derived from an address: pods have addresses of them.
    pub(crate) fn moved_to(&self, found: &LocalNode) -> Option<LocalNode> {
        let underlay = |node: &LocalNode| (node.ipv4, node.ipv6, node.underlay_mtu, node.ipsec);
        (underlay(self) != underlay(found)).then(|| LocalNode {
            ipv4: found.ipv4,
            ipv6: found.ipv6,
            underlay_mtu: found.underlay_mtu,
            ipsec: found.ipsec,
            ..self.clone()
        })
    }

    /// Largest packet of a pod that fits the tunnel.
    pub(crate) fn pod_mtu(&self) -> u32 {
        self.underlay_mtu - TUNNEL_OVERHEAD
    }

    /// Pod networks of this node.
    pub(crate) fn pod_cidrs(&self) -> Vec<IpNet> {
        self.pods4
            .map(IpNet::from)
            .into_iter()
            .chain(self.pods6.map(IpNet::from))
            .collect()
    }

    /// Router addresses.
    pub(crate) fn routers(&self) -> impl Iterator<Item = IpAddr> {
        self.router4
            .map(IpAddr::from)
            .into_iter()
            .chain(self.router6.map(IpAddr::from))
    }

    /// Published underlay addresses.
    pub(crate) fn underlay(&self) -> impl Iterator<Item = IpAddr> {
        std::iter::once(IpAddr::from(self.ipv4)).chain(self.ipv6.map(IpAddr::from))
    }

    /// What is published.
    pub(crate) fn published(&self, config: &Config) -> Node {
        let of = |kind| move |ip| NodeAddress { kind, ip };
        let addresses = self
            .underlay()
            .map(of(AddressType::InternalIp))
            .chain(self.routers().map(of(AddressType::CiliumInternalIp)))
            .collect();
        Node {
            ipv4_alloc: self.pods4.map(IpNet::from),
            ipv6_alloc: self.pods6.map(IpNet::from),
            boot_id: self.boot_id.clone(),
            ..Node::new(self.name.clone(), config.cluster_id, addresses)
        }
    }
}

fn underlay_device(config: &Config, socket: &Socket) -> Result<Link, NodeError> {
    if let Some(name) = config.devices.first() {
        return socket
            .link(name)?
            .ok_or_else(|| NodeError::NoSuchDevice(name.clone()));
    }
    let routes = socket.routes()?;
    let default = routes
        .iter()
        .filter(|route| route.destination.prefix_len() == 0)
        .find_map(|route| route.link);
    socket
        .link(default.ok_or(NodeError::NoDevice)?)?
        .ok_or(NodeError::NoDevice)
}
