// SPDX-License-Identifier: Apache-2.0
//! Source translation of what leaves the mesh: pod → world and pod → other nodes get the node's address.

use std::collections::BTreeSet;

use ipnet::IpNet;
use netlink::nft::{DevicePattern, Masquerade, Nft, TableSpec};

use super::POD_DEVICE_PREFIX;
use crate::Result;

/// Name of our table (family inet).
pub const NFT_TABLE: &str = "isthmus";

/// What is translated.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MasqueradeSpec {
    /// This node's pod CIDRs.
    pub pods: BTreeSet<IpNet>,
    /// Destinations that see pods' own addresses: the cluster's pod CIDRs, native routing CIDRs.
    pub native: BTreeSet<IpNet>,
    /// Name of the VXLAN device: what leaves by it stays in the mesh.
    pub overlay: String,
    /// UDP port of the tunnel, which the kernel's connection tracking leaves alone.
    pub tunnel_port: u16,
}

/// The table of a specification.
pub fn masquerade_table(spec: &MasqueradeSpec) -> TableSpec {
    let except_outputs = vec![
        DevicePattern::Exact(spec.overlay.clone()),
        DevicePattern::Prefix(POD_DEVICE_PREFIX.into()),
    ];
    TableSpec {
        name: NFT_TABLE.into(),
        masquerade: Masquerade {
            sources: spec.pods.iter().copied().collect(),
            except_destinations: spec.native.union(&spec.pods).copied().collect(),
            except_outputs,
            except_marks: Vec::new(),
        },
        untracked: vec![spec.tunnel_port],
    }
}

/// Makes our table exactly that, in one transaction. Flows that are translated already go on.
pub fn ensure_masquerade(nft: &Nft, spec: &MasqueradeSpec) -> Result<()> {
    Ok(nft.ensure_table(&masquerade_table(spec))?)
}

/// Removes our table; absent is fine.
pub fn remove_masquerade(nft: &Nft) -> Result<()> {
    Ok(nft.delete_table(NFT_TABLE)?)
}
