// SPDX-License-Identifier: Apache-2.0
//! Numeric security identities and how clusters share the number space (Cilium's
//! `pkg/identity/numericidentity.go`).

use std::fmt;
use std::ops::RangeInclusive;

use crate::{ClusterId, Labels};

/// A security identity: 24 bits that travel as VNI; the top byte is a scope that never leaves the node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct NumericIdentity(pub u32);

impl fmt::Display for NumericIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl NumericIdentity {
    /// Scope byte of node-local CIDR identities, shifted into place.
    pub const SCOPE_LOCAL: u32 = 0x0100_0000;
    /// Scope byte of node-local remote-node identities, shifted into place.
    pub const SCOPE_REMOTE_NODE: u32 = 0x0200_0000;

    /// Whether the number is one of the reserved ones, which mean the same in every cluster.
    pub const fn is_reserved(self) -> bool {
        self.0 < 256
    }

    /// Whether the number never leaves the node.
    pub const fn is_local_scope(self) -> bool {
        self.0 >> 24 != 0
    }
}

/// Reserved identities: numbers and names.
pub mod reserved {
    use super::NumericIdentity as N;

    /// Unknown, or any.
    pub const UNKNOWN: N = N(0);
    /// This node.
    pub const HOST: N = N(1);
    /// Outside the mesh, single stack or in a VNI.
    pub const WORLD: N = N(2);
    /// A pod that is not managed.
    pub const UNMANAGED: N = N(3);
    /// A node's health endpoint.
    pub const HEALTH: N = N(4);
    /// A pod without labels yet.
    pub const INIT: N = N(5);
    /// Another node, of any cluster.
    pub const REMOTE_NODE: N = N(6);
    /// The API server.
    pub const KUBE_APISERVER: N = N(7);
    /// The ingress proxy.
    pub const INGRESS: N = N(8);
    /// Outside, IPv4, dual stack.
    pub const WORLD_IPV4: N = N(9);
    /// Outside, IPv6, dual stack.
    pub const WORLD_IPV6: N = N(10);

    /// All reserved identities that a list shows, with the label keys (source `reserved`) each carries.
    pub const ALL: &[(N, &[&str])] = &[
        (HOST, &["host"]),
        (WORLD, &["world"]),
        (UNMANAGED, &["unmanaged"]),
        (HEALTH, &["health"]),
        (INIT, &["init"]),
        (REMOTE_NODE, &["remote-node"]),
        (KUBE_APISERVER, &["kube-apiserver", "remote-node"]),
        (INGRESS, &["ingress"]),
        (WORLD_IPV4, &["world-ipv4"]),
        (WORLD_IPV6, &["world-ipv6"]),
    ];

    /// The labels of a reserved identity.
    pub fn labels(identity: N) -> Option<super::Labels> {
        let (_, keys) = ALL.iter().find(|(n, _)| *n == identity)?;
        Some(
            keys.iter()
                .map(|key| crate::Label::new("reserved", key, ""))
                .collect(),
        )
    }
}

/// How the 24 bits are divided: 8+16 with 255 clusters, 9+15 with 511. All members of a mesh use the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdentityScheme {
    max_clusters: u16,
}

/// `max-connected-clusters` is neither 255 nor 511.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "max-connected-clusters is {0}: only 255 and 511 are possible, and every cluster of a mesh needs the same"
)]
pub struct SchemeError(pub u32);

impl Default for IdentityScheme {
    fn default() -> Self {
        Self { max_clusters: 255 }
    }
}

impl IdentityScheme {
    /// The scheme for `max-connected-clusters`.
    pub const fn new(max_connected_clusters: u32) -> Result<Self, SchemeError> {
        match max_connected_clusters {
            255 => Ok(Self { max_clusters: 255 }),
            511 => Ok(Self { max_clusters: 511 }),
            other => Err(SchemeError(other)),
        }
    }

    /// Largest cluster id: 255 or 511.
    pub const fn max_clusters(self) -> u16 {
        self.max_clusters
    }

    /// Bits of an identity that are local to its cluster: 16 or 15.
    pub const fn shift(self) -> u32 {
        if self.max_clusters == 255 { 16 } else { 15 }
    }

    /// The identities that `cluster` allocates from. Starts at 256 for id 0, at the shift itself otherwise.
    pub const fn range(self, cluster: ClusterId) -> RangeInclusive<u32> {
        let base = (cluster.0 as u32) << self.shift();
        let last = base + (1 << self.shift()) - 1;
        if cluster.0 == 0 {
            256..=last
        } else {
            base..=last
        }
    }

    /// The cluster whose range holds `identity`; `None` for reserved and node-local numbers.
    pub const fn cluster_of(self, identity: NumericIdentity) -> Option<ClusterId> {
        if identity.is_reserved() || identity.is_local_scope() {
            return None;
        }
        Some(ClusterId((identity.0 >> self.shift()) as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let small = IdentityScheme::default();
        assert_eq!(small.range(ClusterId(0)), 256..=65535);
        assert_eq!(small.range(ClusterId(1)), 65536..=131071);
        assert_eq!(small.range(ClusterId(255)), 16711680..=16777215);
        let large = IdentityScheme::new(511).expect("511 is valid");
        assert_eq!(large.range(ClusterId(1)), 32768..=65535);
        assert_eq!(large.range(ClusterId(511)), 16744448..=16777215);
        assert_eq!(
            large.cluster_of(NumericIdentity(16744448)),
            Some(ClusterId(511))
        );
        assert_eq!(small.cluster_of(NumericIdentity(255)), None);
        assert!(IdentityScheme::new(256).is_err());
    }
}
