// SPDX-License-Identifier: Apache-2.0
//! Who a peer is, and which selectors match it.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use model::{
    ClusterId, ClusterName, IdentityScheme, Label, Labels, NumericIdentity, Selector, keys,
    reserved,
};

use crate::cidrs::CidrSet;
use crate::index::Handle;
use crate::ports::Named;
use crate::{Entity, kind};

/// Address families of the pods' network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Families {
    /// IPv4 only: outside is `world`.
    Ipv4,
    /// IPv6 only: outside is `world`.
    Ipv6,
    /// Both: outside is `world-ipv4` and `world-ipv6`.
    Dual,
}

/// What matching needs to know of the own cluster.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) scheme: IdentityScheme,
    pub(crate) cluster_id: ClusterId,
    pub(crate) cluster: ClusterName,
    pub(crate) families: Families,
}

/// A peer selector in use, scoped.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum PeerSelector {
    Labels(Selector),
    Entity(Entity),
    Cidr(CidrSet),
    /// Who has a port of this name, protocol and number.
    Port(Named),
}

/// A peer as far as its identity tells. Without labels only its number speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer<'a> {
    pub(crate) kind: u32,
    pub(crate) labels: Option<&'a Labels>,
    /// What is outside the mesh: its addresses.
    pub(crate) prefix: Option<IpNet>,
    /// Ports that it names.
    pub(crate) ports: &'a [Named],
}

impl Home {
    /// What an identity falls back to without a class. The same function runs in the kernel.
    pub(crate) fn kind_of(&self, identity: NumericIdentity) -> u32 {
        match (identity, identity.0 & 0xff00_0000) {
            (_, NumericIdentity::SCOPE_LOCAL) => kind::WORLD,
            (_, NumericIdentity::SCOPE_REMOTE_NODE) => kind::REMOTE_NODE,
            (reserved::WORLD | reserved::WORLD_IPV4 | reserved::WORLD_IPV6, _) => kind::WORLD,
            (reserved::REMOTE_NODE, _) => kind::REMOTE_NODE,
            _ => match self.scheme.cluster_of(identity) {
                Some(id) if id == self.cluster_id => kind::OWN_CLUSTER,
                Some(_) => kind::OTHER_CLUSTER,
                None => kind::OTHER,
            },
        }
    }

    /// The addresses of a reserved world identity.
    pub(crate) fn world_prefix(&self, identity: NumericIdentity) -> Option<IpNet> {
        let v4 = || Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0).into();
        let v6 = || Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0).into();
        match (identity, self.families) {
            (reserved::WORLD, Families::Ipv4) | (reserved::WORLD_IPV4, _) => Some(v4()),
            (reserved::WORLD, Families::Ipv6) | (reserved::WORLD_IPV6, _) => Some(v6()),
            _ => None,
        }
    }

    /// The identity of addresses outside every prefix.
    pub(crate) fn world_of(&self, prefix: IpNet) -> NumericIdentity {
        match (self.families, prefix) {
            (Families::Dual, IpNet::V4(_)) => reserved::WORLD_IPV4,
            (Families::Dual, IpNet::V6(_)) => reserved::WORLD_IPV6,
            _ => reserved::WORLD,
        }
    }

    /// The labels of the identity of a prefix.
    pub(crate) fn cidr_labels(&self, prefix: IpNet) -> Labels {
        let world = reserved::labels(self.world_of(prefix)).expect("world is reserved");
        world.iter().cloned().chain([Label::cidr(prefix)]).collect()
    }
}

impl Home {
    /// Labels of which an identity has one if an entity matches it otherwise than by its number.
    pub(crate) fn handles(&self, entity: Entity) -> Vec<Handle> {
        let key = |name: &str| Handle::Key(name.to_owned());
        let near = NEAR.into_iter().map(key);
        match entity {
            Entity::All | Entity::None => Vec::new(),
            Entity::World => ["world", "world-ipv4", "world-ipv6"].map(key).into(),
            Entity::Cluster => {
                let own = self.cluster.as_str().to_owned();
                near.chain([Handle::Value(keys::CLUSTER.to_owned(), own)])
                    .collect()
            }
            Entity::ClusterMesh => near.chain([key(keys::CLUSTER)]).collect(),
            named => vec![key(named.as_str())],
        }
    }
}

impl PeerSelector {
    /// Whether it matches. What is not known is not matched by labels, nor by the absence of labels.
    pub(crate) fn matches(&self, home: &Home, peer: Peer<'_>) -> bool {
        match self {
            Self::Labels(selector) => peer.labels.is_some_and(|labels| selector.matches(labels)),
            Self::Entity(entity) => entity_matches(*entity, home, peer),
            Self::Port(port) => peer.ports.contains(port),
            Self::Cidr(set) => peer.prefix.is_some_and(|prefix| set.contains(prefix)),
        }
    }
}

fn entity_matches(entity: Entity, home: &Home, peer: Peer<'_>) -> bool {
    let labelled = |name| {
        peer.labels
            .is_some_and(|labels| labels.get("reserved", name).is_some())
    };
    let cluster = || Some(peer.labels?.get("k8s", keys::CLUSTER)?.value());
    match entity {
        Entity::All => true,
        Entity::None => false,
        Entity::World => {
            peer.kind == kind::WORLD
                || ["world", "world-ipv4", "world-ipv6"]
                    .into_iter()
                    .any(labelled)
        }
        Entity::RemoteNode => peer.kind == kind::REMOTE_NODE || labelled("remote-node"),
        Entity::Cluster => is_near(peer) || cluster() == Some(home.cluster.as_str()),
        Entity::ClusterMesh => {
            is_near(peer) || peer.kind == kind::OTHER_CLUSTER || cluster().is_some()
        }
        _ => labelled(entity.as_str()),
    }
}

/// Labels, source `reserved`, of what is in every cluster.
const NEAR: [&str; 7] = [
    "host",
    "remote-node",
    "init",
    "ingress",
    "health",
    "unmanaged",
    "kube-apiserver",
];

/// Own cluster by number, a node, or one of the reserved identities that are in every cluster.
fn is_near(peer: Peer<'_>) -> bool {
    let labelled = |name: &&str| {
        peer.labels
            .is_some_and(|l| l.get("reserved", name).is_some())
    };
    matches!(peer.kind, kind::OWN_CLUSTER | kind::REMOTE_NODE) || NEAR.iter().any(labelled)
}
