// SPDX-License-Identifier: Apache-2.0
//! The node's state and its sinks: rows of all sources go in, the policy engine and the kernel's maps follow.
//! Synchronous and in one place, so that order is what the code says: an identity before the address that uses
//! it, policy before the pod that it judges.

mod api_server;
mod endpoints;
mod in_force;
mod labels;
mod maps;
mod notes;
mod objects;
mod ports;
mod publish;
mod ready;
mod refused;
mod remote;
mod room;
mod rules;
mod runs;
mod services;
mod underlay;
mod unwritten;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use datapath::{Datapath, IpRow, Kernel};
use ipnet::IpNet;
use model::{
    ClusterId, EndpointId, Labels, Namespace, Node, NodeName, NumericIdentity, Pod, PodKey,
    reserved,
};
use policy::{Engine, Families, Op, PolicyKey};
use tokio::sync::Notify;

use crate::addresses::{Addresses, Claim, Source};
use crate::endpoint::Endpoint;
use crate::held::{Living, Pending};
use crate::ipam::Pool;
use crate::node::LocalNode;
use config::Config;

pub(crate) use endpoints::{CreateError, Gone, NewEndpoint, row_subject};
pub(crate) use labels::{Relabel, label_subject};
pub(crate) use notes::Note;
pub(crate) use runs::{AllRuns, Runs};

/// The node's state.
pub(crate) struct Core<K: Kernel> {
    pub(crate) config: Arc<Config>,
    pub(crate) node: Arc<LocalNode>,
    pub(crate) engine: Engine,
    pub(crate) dp: Datapath<K>,
    /// Labels of every known identity, and whose they are.
    pub(crate) identities: HashMap<NumericIdentity, Labels>,
    pub(crate) addresses: Addresses,
    /// Nodes of the mesh without this one, and what each claims.
    pub(crate) nodes: BTreeMap<NodeName, Known>,
    /// How many nodes publish an underlay address.
    underlay: HashMap<(ClusterId, IpAddr), usize>,
    /// How many nodes claim an address or network.
    claimants: HashMap<IpNet, u32>,
    /// Nodes of this cluster that have an address or network of this one: ours and theirs.
    shared: BTreeMap<NodeName, (IpNet, IpNet)>,
    /// Underlay addresses are not in the kernel as they should be.
    nodes_stale: bool,
    pub(crate) endpoints: BTreeMap<EndpointId, Endpoint>,
    pub(crate) next_endpoint: u16,
    pub(crate) pool4: Option<Pool>,
    pub(crate) pool6: Option<Pool>,
    pub(crate) pending: HashMap<IpAddr, Pending>,
    /// Addresses of pods that are there and whose endpoints are not.
    pub(crate) living: HashMap<IpAddr, Living>,
    pub(crate) pods: HashMap<PodKey, Pod>,
    /// Uid of this node's Node in Kubernetes, once it is known.
    pub(crate) node_uid: Option<String>,
    pub(crate) namespaces: HashMap<Arc<str>, Namespace>,
    pub(crate) problems: Vec<kubernetes::Problem>,
    pub(crate) balancer: services::Balancer,
    /// Where this cluster's API server is.
    api_servers: BTreeSet<IpAddr>,
    named_ports: ports::NamedPorts,
    refused: refused::Refused,
    in_force: in_force::InForce,
    crowded: room::Crowded,
    /// What the objects of policies show of their validity.
    pub(crate) policy_shows: BTreeMap<PolicyKey, kubernetes::Condition>,
    /// Things that went wrong and still are, by what they are about.
    pub(crate) notes: BTreeMap<String, Note>,
    /// How repeated work fares.
    pub(crate) runs: AllRuns,
    /// All first lists are there: policy may be written.
    pub(crate) ready: bool,
    /// Rows of before this start that nobody claims any more are gone from the kernel.
    swept: bool,
    /// Rows of before this start stay until then, if nothing else keeps them.
    sweep_after: Instant,
    /// Other clusters whose pods the kernel knew at start.
    pub(crate) adopted_clusters: BTreeSet<ClusterId>,
    /// Addresses that the kernel refused.
    unwritten: unwritten::Unwritten,
    /// The engine knows more than the kernel.
    dirty: bool,
    /// The revision of policy that the kernel has.
    pub(crate) realized: u64,
    /// What the engine asked for and the kernel was not told yet: a full map stopped it.
    asked: VecDeque<Op>,
    renewal: rules::Renewal,
    /// Nothing of earlier runs is left in the policy maps.
    pruned: bool,
    /// Pod networks of nodes changed.
    pub(crate) routes_changed: Arc<Notify>,
    pub(crate) endpoint_dir: PathBuf,
}

/// A node and the claims that follow from it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) source: Source,
    pub(crate) node: Arc<Node>,
    claims: Vec<IpNet>,
}

impl<K: Kernel> Core<K> {
    /// The state of a node that knows nothing yet; `dp` keeps what the kernel holds.
    pub(crate) fn new(config: Arc<Config>, node: Arc<LocalNode>, dp: Datapath<K>) -> Self {
        let engine = Engine::new(policy::Settings {
            scheme: config.scheme,
            cluster_id: config.cluster_id,
            cluster: config.cluster.clone(),
            default_local_cluster: config.default_local_cluster,
            families: match (config.ipv4, config.ipv6) {
                (true, true) => Families::Dual,
                (true, false) => Families::Ipv4,
                _ => Families::Ipv6,
            },
            mode: config.policy_mode,
            allow_localhost: config.allow_localhost,
            max_classes: rules::MAX_CLASSES,
            room: room::room(dp.kernel()),
        });
        let mut core = Self {
            pool4: node.pods4.map(|net| Pool::new(net.into())),
            pool6: node.pods6.map(|net| Pool::new(net.into())),
            endpoint_dir: config.state_dir.join("state/endpoints"),
            identities: reserved::ALL
                .iter()
                .filter_map(|(id, _)| Some((*id, reserved::labels(*id)?)))
                .collect(),
            balancer: services::Balancer::new(&config),
            api_servers: BTreeSet::new(),
            named_ports: ports::NamedPorts::default(),
            refused: refused::Refused::default(),
            in_force: in_force::InForce::default(),
            crowded: room::Crowded::default(),
            engine,
            dp,
            config,
            node,
            addresses: Addresses::default(),
            nodes: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            next_endpoint: 1,
            pending: HashMap::new(),
            living: HashMap::new(),
            pods: HashMap::new(),
            node_uid: None,
            namespaces: HashMap::new(),
            problems: Vec::new(),
            policy_shows: BTreeMap::new(),
            notes: BTreeMap::new(),
            runs: AllRuns::default(),
            ready: false,
            swept: false,
            sweep_after: Instant::now(),
            adopted_clusters: BTreeSet::new(),
            unwritten: unwritten::Unwritten::default(),
            dirty: false,
            realized: 0,
            asked: VecDeque::new(),
            renewal: rules::Renewal::default(),
            underlay: HashMap::new(),
            claimants: HashMap::new(),
            shared: BTreeMap::new(),
            nodes_stale: false,
            pruned: true,
            routes_changed: Arc::default(),
        };
        for kept in core.dp.kernel().kept_limits().to_vec() {
            core.note(&format!("kernel map {}", kept.map), Some(kept));
        }
        core.claim_own_addresses();
        core.adopt_addresses();
        core
    }

    /// What the kernel holds from before this start: prefixes of policies keep their identities, and whose pods are
    /// known tells for whom policy has to wait.
    fn adopt_addresses(&mut self) {
        let rows = match self.dp.ips() {
            Ok(rows) => rows,
            Err(error) => return self.note("address maps", Some(error)),
        };
        let scheme = self.config.scheme;
        let clusters = rows
            .iter()
            .filter_map(|(_, row)| scheme.cluster_of(row.identity));
        self.adopted_clusters = clusters
            .filter(|id| *id != self.config.cluster_id)
            .collect();
        let local = rows
            .into_iter()
            .filter(|(_, row)| row.identity.0 & 0xff00_0000 == NumericIdentity::SCOPE_LOCAL);
        let adopted = self
            .engine
            .adopt(local.map(|(prefix, row)| (prefix, row.identity)));
        for (prefix, identity) in adopted {
            self.addresses
                .claim(prefix, Source::Policy, rules::cidr_claim(identity));
        }
    }

    fn claim_own_addresses(&mut self) {
        let node = self.node.clone();
        for router in node.routers() {
            for pool in [&mut self.pool4, &mut self.pool6].into_iter().flatten() {
                if pool.range().contains(&router) {
                    pool.reserve(router, "router")
                        .expect("the first address of an empty pool");
                }
            }
        }
        for ip in node.routers().chain(node.underlay()) {
            self.addresses.claim(ip.into(), Source::Local, host_claim());
        }
    }

    /// Whether packets of pods to other nodes go past the stack: not where they would escape the host's IPsec.
    pub(crate) fn bypasses_stack(&self) -> bool {
        !self.config.legacy_routing && !self.node.ipsec
    }

    /// Index of the tunnel's device.
    pub(crate) fn overlay(&self) -> u32 {
        self.dp.config().vxlan_ifindex
    }

    /// The underlay is another now: its addresses, its MTU, its IPsec.
    pub(crate) fn move_underlay(&mut self, node: LocalNode) -> Result<(), datapath::Error> {
        let (before, node) = (self.node.clone(), Arc::new(node));
        for ip in before
            .underlay()
            .filter(|ip| !node.underlay().any(|own| own == *ip))
        {
            self.withdraw(&ip.into(), &Source::Local);
        }
        for ip in node.underlay() {
            self.claim(ip.into(), Source::Local, host_claim());
        }
        self.node = node;
        self.label_this_host();
        let others: Vec<NodeName> = self.nodes.keys().cloned().collect();
        others.iter().for_each(|name| self.tell_shared(name));
        self.dp.set_config(self.node_config(self.overlay()))
    }

    /// Identity of the outside, by family.
    fn world(&self, v4: bool) -> NumericIdentity {
        match (self.config.dual_stack(), v4) {
            (false, _) => reserved::WORLD,
            (true, true) => reserved::WORLD_IPV4,
            (true, false) => reserved::WORLD_IPV6,
        }
    }

    /// `source` claims `prefix`: the kernel gets the claim in force.
    pub(crate) fn claim(&mut self, prefix: IpNet, source: Source, claim: Claim) {
        self.settle();
        self.write_claim(prefix, source, claim);
    }

    fn write_claim(&mut self, prefix: IpNet, source: Source, claim: Claim) {
        let (winner, claim) = self.addresses.claim(prefix, source, claim);
        let row = (*winner != Source::Local).then(|| row_of(claim));
        self.write_ip(prefix, row);
    }

    /// `source` no longer claims `prefix`.
    pub(crate) fn withdraw(&mut self, prefix: &IpNet, source: &Source) {
        if let Some(claim) = self.claim_of_a_node(prefix, source) {
            return self.claim(*prefix, source.clone(), claim);
        }
        let winner = self.addresses.withdraw(prefix, source);
        let row = winner
            .filter(|(source, _)| **source != Source::Local)
            .map(|(_, claim)| row_of(claim));
        self.write_ip(*prefix, row);
    }

    /// An identity has these labels.
    pub(crate) fn set_identity(&mut self, identity: NumericIdentity, labels: Labels) {
        if self.identities.get(&identity) != Some(&labels) {
            self.engine.upsert_identity(identity, labels.clone());
            self.identities.insert(identity, labels);
            self.dirty = true;
        }
    }

    /// An identity is gone.
    pub(crate) fn drop_identity(&mut self, identity: NumericIdentity) {
        let used = self
            .endpoints
            .values()
            .any(|endpoint| endpoint.identity == identity);
        if !used && !identity.is_reserved() && self.identities.remove(&identity).is_some() {
            self.engine.remove_identity(identity);
            self.dirty = true;
        }
    }
}

fn host_claim() -> Claim {
    Claim {
        identity: reserved::HOST,
        tunnel: None,
        remote_cluster: false,
        pod: None,
    }
}

fn row_of(claim: &Claim) -> IpRow {
    // The underlay is IPv4: a node without such an address is known, and cannot be reached.
    let tunnel = match claim.tunnel {
        Some(IpAddr::V4(node)) => Some(node),
        Some(IpAddr::V6(_)) | None => None,
    };
    IpRow {
        identity: claim.identity,
        tunnel,
        remote_cluster: claim.remote_cluster,
    }
}

#[cfg(test)]
mod tests;
