// SPDX-License-Identifier: Apache-2.0
//! Policy objects as written, free of Kubernetes: `None` is an absent field, an empty list is a present one
//! (Cilium's `pkg/policy/api`).

use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;
use model::{Operator, Requirement, Selector, keys};
use serde::{Deserialize, Serialize};

/// Kind of a policy object.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum PolicyKind {
    /// `cilium.io/v2 CiliumNetworkPolicy`.
    CiliumNetworkPolicy,
    /// `cilium.io/v2 CiliumClusterwideNetworkPolicy`.
    CiliumClusterwideNetworkPolicy,
    /// `networking.k8s.io/v1 NetworkPolicy`, compiled by its reader.
    NetworkPolicy,
}

impl PolicyKind {
    /// The Kubernetes kind.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CiliumNetworkPolicy => "CiliumNetworkPolicy",
            Self::CiliumClusterwideNetworkPolicy => "CiliumClusterwideNetworkPolicy",
            Self::NetworkPolicy => "NetworkPolicy",
        }
    }

    /// The short name that people type.
    pub const fn short(self) -> &'static str {
        match self {
            Self::CiliumNetworkPolicy => "cnp",
            Self::CiliumClusterwideNetworkPolicy => "ccnp",
            Self::NetworkPolicy => "netpol",
        }
    }
}

/// Identifies a policy object.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct PolicyKey {
    /// Its kind.
    pub kind: PolicyKind,
    /// Its namespace; empty for cluster scope.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for PolicyKey {
    /// `cnp namespace/name`, `ccnp name`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind.short())?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

/// One policy object: replaced and refused as a whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PolicyObject {
    /// Kind, namespace and name.
    pub key: PolicyKey,
    /// UID, empty if the source has none.
    pub uid: String,
    /// The user's labels of the object, `source:key=value`.
    pub labels: Vec<String>,
    /// `spec` and `specs`.
    pub rules: Vec<Rule>,
}

impl PolicyObject {
    /// A namespace that a rule's subject names and that is not the policy's own, by which it goes instead.
    pub fn foreign_namespace(&self) -> Option<&str> {
        if self.key.kind != PolicyKind::CiliumNetworkPolicy {
            return None;
        }
        let mut subjects = self
            .rules
            .iter()
            .flat_map(|rule| rule.subject.requirements());
        subjects.find_map(|requirement| {
            let named = named_namespace(requirement)?;
            (named != self.key.namespace).then_some(named)
        })
    }
}

/// The namespace that a requirement names.
pub(crate) fn named_namespace(requirement: &Requirement) -> Option<&str> {
    match &requirement.operator {
        Operator::In(values) if values.len() == 1 && requirement.is_about(keys::NAMESPACE) => {
            values.first().map(String::as_str)
        }
        _ => None,
    }
}

/// One rule.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Rule {
    /// `endpointSelector` as written; this crate scopes it to namespace.
    pub subject: Selector,
    /// `ingress`.
    pub ingress: Option<Vec<Entry>>,
    /// `ingressDeny`.
    pub ingress_deny: Option<Vec<Entry>>,
    /// `egress`.
    pub egress: Option<Vec<Entry>>,
    /// `egressDeny`.
    pub egress_deny: Option<Vec<Entry>>,
    /// `enableDefaultDeny`.
    pub default_deny: DefaultDeny,
    /// `description`; no effect.
    pub description: String,
}

impl Rule {
    /// The elements of all lists.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        let lists = [
            &self.ingress,
            &self.ingress_deny,
            &self.egress,
            &self.egress_deny,
        ];
        lists.into_iter().flatten().flatten()
    }
}

/// `enableDefaultDeny`: `None` is decided by which lists the rule has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct DefaultDeny {
    /// For ingress.
    pub ingress: Option<bool>,
    /// For egress.
    pub egress: Option<bool>,
}

/// One element of a list: peers and ports must both match.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Entry {
    /// `from…` or `to…`.
    pub peers: Peers,
    /// All elements of `toPorts[].ports[]`. `None` without `toPorts` or with `toPorts: []`; an empty list stands for
    /// `toPorts` whose elements have no ports and matches nothing.
    pub ports: Option<Vec<PortRule>>,
    /// Elements of the same lists that name a port of a container; then `ports` is present too.
    pub named_ports: Vec<NamedPortRule>,
}

impl Entry {
    /// An entry whose ports are numbers.
    pub fn new(peers: Peers, ports: Option<Vec<PortRule>>) -> Self {
        Self {
            peers,
            ports,
            named_ports: Vec::new(),
        }
    }
}

/// Peers of an entry. At most one field is present, else [`crate::validate`] refuses the object.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Peers {
    /// `fromEndpoints`, `toEndpoints` as written; this crate scopes them to namespace and cluster.
    pub endpoints: Option<Vec<Selector>>,
    /// `fromEntities`, `toEntities`.
    pub entities: Option<Vec<Entity>>,
    /// `fromCIDR`, `toCIDR`, `fromCIDRSet`, `toCIDRSet`.
    pub cidrs: Option<Vec<CidrRule>>,
    /// Elements of the same list that are about groups; then `cidrs` is present too.
    pub groups: Vec<GroupRule>,
}

/// Word for a group of peers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Entity {
    /// Everybody.
    All,
    /// Outside the mesh.
    World,
    /// Outside over IPv4.
    WorldIpv4,
    /// Outside over IPv6.
    WorldIpv6,
    /// The own cluster.
    Cluster,
    /// All clusters.
    ClusterMesh,
    /// This node.
    Host,
    /// Other nodes of any cluster.
    RemoteNode,
    /// The API server.
    KubeApiserver,
    /// Health endpoints.
    Health,
    /// Endpoints without labels yet.
    Init,
    /// The ingress proxy.
    Ingress,
    /// Pods that are not managed.
    Unmanaged,
    /// Nobody.
    None,
}

impl Entity {
    /// All words.
    pub const ALL: [Entity; 14] = [
        Self::All,
        Self::World,
        Self::WorldIpv4,
        Self::WorldIpv6,
        Self::Cluster,
        Self::ClusterMesh,
        Self::Host,
        Self::RemoteNode,
        Self::KubeApiserver,
        Self::Health,
        Self::Init,
        Self::Ingress,
        Self::Unmanaged,
        Self::None,
    ];

    /// The word in a policy.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::World => "world",
            Self::WorldIpv4 => "world-ipv4",
            Self::WorldIpv6 => "world-ipv6",
            Self::Cluster => "cluster",
            Self::ClusterMesh => "cluster-mesh",
            Self::Host => "host",
            Self::RemoteNode => "remote-node",
            Self::KubeApiserver => "kube-apiserver",
            Self::Health => "health",
            Self::Init => "init",
            Self::Ingress => "ingress",
            Self::Unmanaged => "unmanaged",
            Self::None => "none",
        }
    }

    /// The entity that `word` names.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|entity| entity.as_str() == word)
    }
}

/// A prefix without some narrower ones.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct CidrRule {
    /// The prefix.
    pub cidr: IpNet,
    /// Taken out of it.
    pub except: Vec<IpNet>,
}

/// Prefixes of groups ([`crate::CidrGroup`]) without some others.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct GroupRule {
    /// Over labels of source `cidrgroup`.
    pub selector: Selector,
    /// Taken out.
    pub except: Vec<IpNet>,
}

/// A port, a range of ports, or (port 0) every port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct PortRule {
    /// First port; 0 is every port of the protocol.
    pub port: u16,
    /// Last port; at most `port` means the single port.
    pub end_port: Option<u16>,
    /// Protocol.
    pub protocol: PortProtocol,
}

/// A port by the name that a container gives it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct NamedPortRule {
    /// Its name.
    pub name: Arc<str>,
    /// Protocol.
    pub protocol: PortProtocol,
}

/// Protocol of a port rule.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// TCP, UDP and SCTP; also when the field is absent.
    Any,
}

impl PortProtocol {
    /// IP protocol numbers.
    pub const fn numbers(self) -> &'static [u8] {
        match self {
            Self::Tcp => &[6],
            Self::Udp => &[17],
            Self::Sctp => &[132],
            Self::Any => &[6, 17, 132],
        }
    }
}
