// SPDX-License-Identifier: Apache-2.0
//! How much a cluster may publish. What one publishes beyond must not be missing to another: the agent's memory and the
//! kernel's maps are all clusters' together.

use model::{AddressType, Labels, Node};

use super::Kind;
use super::cluster::Cluster;
use crate::Refusal;
use crate::validate::claims_of;

/// What one cluster may publish.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) rows: [usize; 3],
    /// Bytes of texts per kind.
    pub(crate) bytes: usize,
    /// Underlay addresses of all its nodes: a quarter of the kernel's map of them.
    underlay: usize,
    /// Addresses and networks that all its nodes claim: a quarter of the kernel's map of either.
    claims: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rows: [20_000, 65_536, 1_000_000],
            bytes: 128 << 20,
            underlay: 65_536,
            claims: 262_144,
        }
    }
}

impl Limits {
    /// Whether another row of `kind` fits beside `others`, with `bytes` of texts in all.
    pub(crate) fn row(&self, kind: Kind, others: usize, bytes: usize) -> Result<(), Refusal> {
        let limit = self.rows[kind as usize];
        if others < limit && bytes <= self.bytes {
            return Ok(());
        }
        let limit = limit.min(others);
        Err(Refusal::TooMany { kind, limit })
    }

    /// How many more rows of `kind` would fit, as far as this is about numbers; none while texts take most of what they may.
    pub(super) fn free(&self, cluster: &Cluster, kind: Kind) -> usize {
        let (rows, bytes) = match kind {
            Kind::Nodes => (cluster.nodes.len(), cluster.node_weight.bytes),
            Kind::Identities => (cluster.known, cluster.label_bytes),
            Kind::Ips => (cluster.ips.len(), cluster.ips.text_bytes()),
        };
        if bytes > self.bytes / 8 * 7 {
            return 0;
        }
        self.rows[kind as usize].saturating_sub(rows)
    }

    /// Whether all nodes together may weigh so much.
    pub(crate) fn nodes(&self, others: usize, weight: NodeWeight) -> Result<(), Refusal> {
        self.row(Kind::Nodes, others, weight.bytes)?;
        for (what, count, limit) in [
            ("underlay addresses", weight.underlay, self.underlay),
            ("addresses and networks", weight.claims, self.claims),
        ] {
            if count > limit {
                return Err(Refusal::NodeShare { what, limit });
            }
        }
        Ok(())
    }
}

/// What a node, or all nodes of a cluster, cost.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct NodeWeight {
    /// Bytes of texts, about.
    bytes: usize,
    pub(super) underlay: usize,
    pub(super) claims: usize,
}

impl NodeWeight {
    pub(crate) fn of(node: &Node) -> Self {
        let maps = node.labels.iter().chain(&node.annotations);
        let texts = maps.map(|(key, value)| key.len() + value.len() + 64);
        let addresses = node.addresses.iter();
        Self {
            bytes: texts.sum::<usize>() + 512,
            underlay: addresses
                .filter(|address| address.kind != AddressType::CiliumInternalIp)
                .count(),
            claims: claims_of(node).len(),
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            underlay: self.underlay + other.underlay,
            claims: self.claims + other.claims,
        }
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes - other.bytes,
            underlay: self.underlay - other.underlay,
            claims: self.claims - other.claims,
        }
    }
}

/// Bytes of labels, about.
pub(crate) fn labels_weight(labels: &Labels) -> usize {
    labels
        .iter()
        .map(|l| l.key().len() + l.value().len() + 64)
        .sum()
}
