// SPDX-License-Identifier: Apache-2.0
//! Whether a row that a remote cluster publishes may enter a table. Bytes are decoded by `kvstore::schema`; here is
//! what they may say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kvstore::schema::keys;
use kvstore::schema::{decode_identity, decode_ip, decode_node, ip_key, ip_of_key};
use model::{
    ClusterId, ClusterName, IdentityScheme, IpEntry, Labels, Node, NumericIdentity, reserved,
};

use crate::rows::{Kind, Pool, Value};

/// Shortest pod network that a node may claim: nobody takes half of the address space.
const SHORTEST_V4: u8 = 8;
const SHORTEST_V6: u8 = 16;

/// Why a row is refused. The row before stays.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// The bytes do not decode.
    #[error("{0}")]
    Malformed(String),
    /// The key does not name what the value is about.
    #[error("the value is about {found:?}, not about what its key names")]
    KeyMismatch {
        /// What the value names.
        found: String,
    },
    /// A node of another cluster.
    #[error("the node says that it belongs to cluster {found:?}, but {expected} publishes it")]
    ForeignNode {
        /// What it says.
        found: ClusterName,
        /// Whose etcd it is.
        expected: ClusterName,
    },
    /// A node with another id than its cluster advertises.
    #[error(
        "the node says that its cluster has id {found}, but the cluster itself says {expected}"
    )]
    NodeClusterId {
        /// What it says.
        found: ClusterId,
        /// What the cluster configuration says.
        expected: ClusterId,
    },
    /// An identity that belongs to somebody else.
    #[error("identity {identity} is outside the cluster's range {first}..={last}")]
    IdentityRange {
        /// The number.
        identity: NumericIdentity,
        /// First of the range.
        first: u32,
        /// Last of the range.
        last: u32,
    },
    /// Labels that claim another cluster, or none.
    #[error("the labels do not hold exactly k8s:io.cilium.k8s.policy.cluster={expected}")]
    ClusterLabel {
        /// Whose etcd it is.
        expected: ClusterName,
    },
    /// A label that only this node may give: what it selects is no pod.
    #[error("label {label} is not for pods of a cluster to have")]
    ReservedLabel {
        /// The label.
        label: String,
    },
    /// A reserved number that means something of this cluster, or nothing on an address.
    #[error("reserved identity {identity} is not for other clusters to give to addresses")]
    ReservedIdentity {
        /// The number.
        identity: NumericIdentity,
    },
    /// A pod without a node.
    #[error("no host address: it cannot be reached")]
    NoHost,
    /// A pod behind a node that the tunnel does not lead to.
    #[error("host address {host}: it cannot be reached, the tunnel needs IPv4")]
    HostFamily {
        /// Of the pod's node.
        host: IpAddr,
    },
    /// A network that is too large to be somebody's pods.
    #[error(
        "{net} is too large: at least /{SHORTEST_V4} (IPv4) or /{SHORTEST_V6} (IPv6) is expected"
    )]
    TooWide {
        /// The network.
        net: IpNet,
    },
    /// Addresses that nobody may publish.
    #[error("{net} is no address of a pod or node")]
    SpecialAddress {
        /// The address or network.
        net: IpNet,
    },
    /// Inside what belongs to this cluster.
    #[error("{net} overlaps with {claimed} of this cluster")]
    OverlapsOurs {
        /// The address or network.
        net: IpNet,
        /// What we have.
        claimed: IpNet,
    },
    /// Inside what belongs to another remote cluster.
    #[error("{net} overlaps with {claimed} of cluster {holder}")]
    OverlapsOther {
        /// The address or network.
        net: IpNet,
        /// What the other has.
        claimed: IpNet,
        /// The other.
        holder: ClusterName,
    },
    /// Inside another node's pod network.
    #[error("{net} is in the pod network of node {node}, but another node publishes it")]
    OtherNode {
        /// The address or network.
        net: IpNet,
        /// Whose network it is.
        node: String,
    },
    /// Too many rows.
    #[error("more than {limit} {kind} of one cluster")]
    TooMany {
        /// Kind of rows.
        kind: Kind,
        /// The limit.
        limit: usize,
    },
    /// The kernel's maps are full as far as they are for this cluster.
    #[error(
        "the cluster has its share of what fits the kernel, {share} {pool}, and other clusters leave no room for more"
    )]
    Share {
        /// What there is no room for.
        pool: Pool,
        /// The share.
        share: usize,
    },
    /// Too much of the kernel's maps for the nodes of one cluster.
    #[error("more than {limit} {what} of the nodes of one cluster")]
    NodeShare {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

impl Refusal {
    /// Whether the same row may be acceptable when others change.
    pub(crate) fn may_pass_later(&self) -> bool {
        matches!(
            self,
            Refusal::OverlapsOurs { .. }
                | Refusal::OverlapsOther { .. }
                | Refusal::OtherNode { .. }
                | Refusal::TooMany { .. }
                | Refusal::Share { .. }
                | Refusal::NodeShare { .. }
        )
    }

    /// Whether the row is acceptable as soon as there is room. What overlaps with others may do so for ever.
    pub(crate) fn is_about_room(&self) -> bool {
        matches!(self, Refusal::TooMany { .. } | Refusal::Share { .. })
    }
}

/// Who publishes, as far as accepted.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    pub(crate) name: ClusterName,
    pub(crate) id: ClusterId,
    /// It is this cluster.
    pub(crate) own: bool,
    pub(crate) scheme: IdentityScheme,
}

/// Decodes `value`. `prefix` is what was watched, `suffix` the rest of the key.
pub fn decode(kind: Kind, prefix: &str, suffix: &str, value: &[u8]) -> Result<Value, Refusal> {
    let key = format!("{prefix}{suffix}");
    let malformed = |error: kvstore::schema::DecodeError| {
        Refusal::Malformed(format!("{}: {}", error.field, error.reason))
    };
    Ok(match kind {
        Kind::Nodes => Value::Node(decode_node(&key, value).map_err(malformed)?.into()),
        Kind::Identities => Value::Identity(decode_identity(&key, value).map_err(malformed)?),
        Kind::Ips => Value::Ip(Box::new(decode_ip(&key, value).map_err(malformed)?)),
    })
}

/// The identity that the key names.
pub(crate) fn identity_of(suffix: &str) -> Result<NumericIdentity, Refusal> {
    keys::identity_of(&format!("{}/{suffix}", keys::IDENTITY_IDS))
        .ok_or_else(|| Refusal::Malformed("the key is not a decimal number".into()))
}

/// The address that the key names, in the only way of writing it.
pub(crate) fn net_of(suffix: &str) -> Result<IpNet, Refusal> {
    let key = format!("{}/{suffix}", keys::IPS);
    ip_of_key(keys::IPS, &key)
        .ok()
        .filter(|net| ip_key(net) == key)
        .ok_or_else(|| Refusal::Malformed("the key is not an address in its canonical form".into()))
}

/// The only way of writing `net` in a key.
pub(crate) fn suffix_of(net: &IpNet) -> String {
    let mut key = ip_key(net);
    key.split_off(keys::IPS.len() + 1)
}

/// Whether `identity` may be published by `by`.
fn in_range(by: &Publisher, identity: NumericIdentity) -> Result<(), Refusal> {
    let range = by.scheme.range(by.id);
    if range.contains(&identity.0) {
        return Ok(());
    }
    Err(Refusal::IdentityRange {
        identity,
        first: *range.start(),
        last: *range.end(),
    })
}

pub(crate) fn identity(
    by: &Publisher,
    identity: NumericIdentity,
    labels: &Labels,
) -> Result<(), Refusal> {
    in_range(by, identity)?;
    if let Some(label) = labels.iter().find(|label| is_ours_to_give(label)) {
        return Err(Refusal::ReservedLabel {
            label: format!("{}:{}", label.source(), label.key()),
        });
    }
    let mut claims = labels
        .iter()
        .filter(|label| label.key() == model::keys::CLUSTER);
    let first = claims.next();
    // Our own label filter may leave the label out.
    let exact = first.map_or(by.own, |l| {
        l.source() == "k8s" && l.value() == by.name.as_str()
    });
    if exact && claims.next().is_none() {
        Ok(())
    } else {
        Err(Refusal::ClusterLabel {
            expected: by.name.clone(),
        })
    }
}

/// Sources whose labels say what an address is to this node. Selectors for the world, for hosts, for networks and names must not
/// match a pod because its cluster says so. A pod that waits for its labels is `reserved:init` in its own cluster.
fn is_ours_to_give(label: &model::Label) -> bool {
    match label.source() {
        "reserved" => label.key() != "init",
        "cidr" | "cidrgroup" | "fqdn" | "node" => true,
        _ => false,
    }
}

/// Reserved identities that addresses of another cluster may have.
const FOREIGN: [NumericIdentity; 6] = [
    reserved::HOST,
    reserved::UNMANAGED,
    reserved::HEALTH,
    reserved::INIT,
    reserved::REMOTE_NODE,
    reserved::INGRESS,
];

/// Reserved identities that mean something of its own cluster besides: well-known ones, and those of a fixed mapping.
const OWN: std::ops::RangeInclusive<u32> = 100..=255;

/// Everything about a node but its claims.
pub(crate) fn node(by: &Publisher, suffix: &str, node: &Node) -> Result<(), Refusal> {
    if node.name.cluster != by.name {
        return Err(Refusal::ForeignNode {
            found: node.name.cluster.clone(),
            expected: by.name.clone(),
        });
    }
    if &*node.name.name != suffix {
        return Err(Refusal::KeyMismatch {
            found: node.name.name.to_string(),
        });
    }
    if node.cluster_id != by.id {
        return Err(Refusal::NodeClusterId {
            found: node.cluster_id,
            expected: by.id,
        });
    }
    claims_of(node).into_iter().try_for_each(usable)
}

/// What a node has that nobody else may have: pod networks, and every address that it publishes, for each of them gets an
/// identity.
pub(crate) fn claims_of(node: &Node) -> Vec<IpNet> {
    let addresses = node.addresses.iter().map(|address| address.ip);
    let addresses = addresses
        .chain(node.health.iter().copied())
        .chain(node.ingress.iter().copied());
    let mut claims: Vec<IpNet> = node.pod_cidrs().map(|net| net.trunc()).collect();
    claims.extend(addresses.map(IpNet::from));
    claims.sort();
    claims.dedup();
    claims
}

/// Everything about an address but its claims. The host of another node is seen from here as remote-node.
pub(crate) fn ip(
    by: &Publisher,
    suffix: &str,
    mut entry: Box<IpEntry>,
) -> Result<Box<IpEntry>, Refusal> {
    if net_of(suffix)? != entry.prefix {
        return Err(Refusal::KeyMismatch {
            found: entry.prefix.to_string(),
        });
    }
    if entry.identity == reserved::HOST {
        entry.identity = reserved::REMOTE_NODE;
    }
    if !entry.identity.is_reserved() {
        in_range(by, entry.identity)?;
        match entry.host {
            Some(IpAddr::V4(_)) => {}
            Some(host) => return Err(Refusal::HostFamily { host }),
            None => return Err(Refusal::NoHost),
        }
    } else if !(FOREIGN.contains(&entry.identity) || by.own && OWN.contains(&entry.identity.0)) {
        let identity = entry.identity;
        return Err(Refusal::ReservedIdentity { identity });
    }
    usable(entry.prefix)?;
    if let Some(host) = entry.host {
        usable(host.into())?;
    }
    Ok(entry)
}

/// Networks whose addresses are nobody's pod or node: unspecified, loopback, link-local (cloud metadata is there), multicast,
/// reserved, broadcast; in IPv6 also what stands for IPv4.
const SPECIAL_V4: [(Ipv4Addr, u8); 5] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];
const SPECIAL_V6: [(Ipv6Addr, u8); 4] = [
    // Unspecified, loopback, IPv4-compatible and IPv4-mapped.
    (Ipv6Addr::UNSPECIFIED, 64),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

/// Whether a network may be somebody's pods, or an address somebody's node.
fn usable(net: IpNet) -> Result<(), Refusal> {
    let (shortest, special) = match net {
        IpNet::V4(net) => {
            let is = |(ip, length): &(Ipv4Addr, u8)| {
                Ipv4Net::new(*ip, *length)
                    .is_ok_and(|special| special.contains(&net) || net.contains(&special))
            };
            (SHORTEST_V4, SPECIAL_V4.iter().any(is))
        }
        IpNet::V6(net) => {
            let is = |(ip, length): &(Ipv6Addr, u8)| {
                Ipv6Net::new(*ip, *length)
                    .is_ok_and(|special| special.contains(&net) || net.contains(&special))
            };
            (SHORTEST_V6, SPECIAL_V6.iter().any(is))
        }
    };
    if net.prefix_len() < shortest {
        Err(Refusal::TooWide { net })
    } else if special {
        Err(Refusal::SpecialAddress { net })
    } else {
        Ok(())
    }
}
