// SPDX-License-Identifier: Apache-2.0
//! Source translation of what leaves the mesh: pod → world and pod → other nodes get the node's address.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink::nft::{DevicePattern, Masquerade, Nft, TableSpec, TunnelSpec};

use super::POD_DEVICE_PREFIX;
use crate::Result;

/// Name of our table of translations (family inet).
pub const NFT_TABLE: &str = "isthmus";
/// Name of our table about the tunnel.
pub const NFT_TUNNEL: &str = "isthmus-tunnel";

/// What is translated.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MasqueradeSpec {
    /// This node's pod CIDRs. Of their families everything is translated that comes from pods.
    pub pods: BTreeSet<IpNet>,
    /// Destinations that see pods' own addresses: the cluster's pod CIDRs, native routing CIDRs.
    pub native: BTreeSet<IpNet>,
    /// Name of the VXLAN device: what leaves by it stays in the mesh.
    pub overlay: String,
}

/// The table of a specification.
pub fn masquerade_table(spec: &MasqueradeSpec) -> TableSpec {
    let except_outputs = vec![
        DevicePattern::Exact(spec.overlay.clone()),
        DevicePattern::Prefix(POD_DEVICE_PREFIX.into()),
    ];
    // A pod may have an address of networks that the node had before.
    let families: BTreeSet<IpNet> = spec.pods.iter().map(whole_family).collect();
    let inputs = families.into_iter();
    let inputs = inputs.map(|net| (DevicePattern::Prefix(POD_DEVICE_PREFIX.into()), net));
    TableSpec {
        name: NFT_TABLE.into(),
        masquerade: Masquerade {
            sources: spec.pods.iter().copied().collect(),
            inputs: inputs.collect(),
            except_destinations: spec.native.union(&spec.pods).copied().collect(),
            except_outputs,
            except_marks: Vec::new(),
        },
    }
}

fn whole_family(net: &IpNet) -> IpNet {
    match net {
        IpNet::V4(_) => IpNet::V4(Ipv4Net::default()),
        IpNet::V6(_) => IpNet::V6(Ipv6Net::default()),
    }
}

/// Makes our table exactly that, in one transaction. Flows that are translated already go on.
pub fn ensure_masquerade(nft: &Nft, spec: &MasqueradeSpec) -> Result<()> {
    Ok(nft.ensure_table(&masquerade_table(spec))?)
}

/// Whether our table of translations is there: whoever flushes all tables takes it along.
pub fn has_masquerade(nft: &Nft) -> Result<bool> {
    Ok(nft.read_table(NFT_TABLE)?.is_some())
}

/// Whether our table about the tunnel is there.
pub fn has_tunnel_rules(nft: &Nft) -> Result<bool> {
    Ok(nft.read_table(NFT_TUNNEL)?.is_some())
}

/// Has the kernel's connection tracking, which translation brings with it, leave the tunnel alone, and nothing be translated
/// to the tunnel's port: whoever can have a service lead there would speak for the node that forwards. Without it packets go
/// as well, at the price of an entry per flow in the tunnel and of that guard.
pub fn ensure_tunnel_rules(nft: &Nft, tunnel: SocketAddr) -> Result<()> {
    Ok(nft.ensure_tunnels(&TunnelSpec {
        name: NFT_TUNNEL.into(),
        tunnels: vec![tunnel],
    })?)
}

/// Removes our tables; absent is fine. Goes on after an error.
pub fn remove_masquerade(nft: &Nft) -> Result<()> {
    let tables = [NFT_TABLE, NFT_TUNNEL];
    let removed = tables.map(|table| nft.delete_table(table));
    Ok(removed
        .into_iter()
        .collect::<std::result::Result<(), _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_with_addresses_of_other_networks_are_translated() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let spec = MasqueradeSpec {
            pods: [net("10.5.1.0/24"), net("10.5.2.0/24")].into(),
            ..MasqueradeSpec::default()
        };
        let pods = DevicePattern::Prefix(POD_DEVICE_PREFIX.into());
        let inputs = masquerade_table(&spec).masquerade.inputs;
        assert_eq!(inputs, [(pods, net("0.0.0.0/0"))]);
    }
}
