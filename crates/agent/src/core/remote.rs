// SPDX-License-Identifier: Apache-2.0
//! Rows of other nodes, of this cluster and of remote ones and what a node claims: its own
//! addresses as host or remote node, its pod networks by way of its tunnel.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use clustermesh::Room;
use datapath::{Kernel, Map};
use ipnet::IpNet;
use model::{ClusterName, IpEntry, Node, NodeName, NumericIdentity, reserved};

use super::{Core, Known};
use crate::addresses::{Claim, Source};

/// What is told of addresses that another node of the cluster has too.
const SHARED: &str = "addresses of this node";

impl<K: Kernel> Core<K> {
    /// A node is new or has changed. This node's own row is not news.
    pub(crate) fn set_node(&mut self, source: Source, node: Arc<Node>) {
        if node.name == self.node.name {
            return;
        }
        let claims = self.node_claims(&node);
        let before = self.nodes.remove(&node.name);
        let mut kept: Vec<IpNet> = claims.iter().map(|(prefix, _)| *prefix).collect();
        kept.sort();
        kept.dedup();
        for prefix in &kept {
            *self.claimants.entry(*prefix).or_default() += 1;
        }
        if let Some(before) = &before {
            for prefix in &before.claims {
                self.unclaimed(prefix);
            }
            for prefix in before.claims.iter().filter(|prefix| !kept.contains(prefix)) {
                self.withdraw(prefix, &before.source);
            }
        }
        for (prefix, claim) in claims {
            self.claim(prefix, source.clone(), claim);
        }
        let old = before.as_ref().map(|before| before.node.clone());
        self.node_moved(old.as_deref(), Some(&node));
        let name = node.name.clone();
        self.nodes.insert(
            name.clone(),
            Known {
                source,
                node,
                claims: kept,
            },
        );
        self.tell_shared(&name);
        self.routes_changed.notify_one();
    }

    /// Says whether a node of this cluster has an address or a pod network of this one: their pods get the same addresses.
    pub(super) fn tell_shared(&mut self, name: &NodeName) {
        let own = self.networks_of_this_node();
        let known = self.nodes.get(name);
        let known = known.filter(|known| known.source == Source::Kvstore);
        let known = known.filter(|known| !self.is_former_self(&known.node));
        let mut claims = known.iter().flat_map(|known| &known.claims);
        let shared = claims.find_map(|theirs| {
            let overlaps = |ours: &&IpNet| ours.contains(theirs) || theirs.contains(*ours);
            own.iter().find(overlaps).map(|ours| (*ours, *theirs))
        });
        let changed = match shared {
            Some(nets) => self.shared.insert(name.clone(), nets) != Some(nets),
            None => self.shared.remove(name).is_some(),
        };
        if changed {
            let first = self.shared.first_key_value();
            let problem = first.map(|(name, (ours, theirs))| {
                format!("{ours}, and node {name} has {theirs}: no two nodes may have the same, give one of them others")
            });
            self.note(SHARED, problem);
        }
    }

    /// Whether it is this machine under the name that it had, whose key ends with its lease.
    fn is_former_self(&self, node: &Node) -> bool {
        let own = &self.node;
        let same_run = !own.boot_id.is_empty() && own.boot_id == node.boot_id;
        same_run && node.underlay(true) == Some(own.ipv4.into())
    }

    fn networks_of_this_node(&self) -> Vec<IpNet> {
        let node = &self.node;
        let addresses = node.underlay().chain(node.routers()).map(IpNet::from);
        node.pod_cidrs().into_iter().chain(addresses).collect()
    }

    /// What no remote cluster may have: pod networks and addresses of this cluster's nodes.
    pub(crate) fn own_networks(&self) -> BTreeSet<IpNet> {
        let others = self.nodes.values();
        let others = others.filter(|known| known.source == Source::Kvstore);
        let this = self.networks_of_this_node().into_iter();
        this.chain(others.flat_map(|known| known.claims.iter().copied()))
            .collect()
    }

    /// What remote clusters may have of the kernel's maps: this cluster comes first, with room to grow.
    pub(crate) fn mesh_room(&self) -> Room {
        let maps = datapath::Settings::default();
        let mut kept = self.dp.kernel().kept_limits().iter();
        let kept = kept.find(|kept| kept.map == Map::Ipcache);
        let all = kept.map_or(self.config.ipcache_max, |kept| kept.limit) as usize;
        let own = self.addresses.own();
        // In steps, so that one pod more or less changes nothing.
        let own = (own + own / 4).next_multiple_of(all / 64);
        Room {
            addresses: all.saturating_sub(own.max(all / 4)),
            // The other half is for identities of this cluster and, as many, of prefixes in policies.
            identities: maps.identities_max as usize / 2,
            // Every address has two rows, and half of them are for this cluster.
            underlay: maps.nodes_max as usize / 4,
        }
    }

    /// A node is gone.
    pub(crate) fn drop_node(&mut self, source: &Source, name: &NodeName) {
        if self
            .nodes
            .get(name)
            .is_none_or(|known| known.source != *source)
        {
            return;
        }
        let Some(known) = self.nodes.remove(name) else {
            return;
        };
        for prefix in &known.claims {
            self.unclaimed(prefix);
            self.withdraw(prefix, source);
        }
        self.node_moved(Some(&known.node), None);
        self.tell_shared(name);
        self.routes_changed.notify_one();
    }

    /// One node less claims `prefix`.
    fn unclaimed(&mut self, prefix: &IpNet) {
        if let Some(nodes) = self.claimants.get_mut(prefix) {
            *nodes -= 1;
            if *nodes == 0 {
                self.claimants.remove(prefix);
            }
        }
    }

    /// What a node of `source` says about `prefix`. Two nodes may have an address for a while, when one takes the place of the
    /// other or they swap theirs, and who still has it does not say so again.
    pub(super) fn claim_of_a_node(&self, prefix: &IpNet, source: &Source) -> Option<Claim> {
        self.claimants.get(prefix)?;
        let mut nodes = self.nodes.values();
        let node = nodes.find(|known| known.source == *source && known.claims.contains(prefix))?;
        let claims = self.node_claims(&node.node).into_iter();
        claims
            .rev()
            .find(|(claimed, _)| claimed == prefix)
            .map(|(_, claim)| claim)
    }

    /// What `ip list` and policy see of a node besides its pods.
    fn node_claims(&self, node: &Node) -> Vec<(IpNet, Claim)> {
        let tunnel = node.tunnel_endpoint();
        let foreign = node.name.cluster != self.config.cluster;
        let claim = |identity: NumericIdentity, tunnel: Option<IpAddr>, remote_cluster| Claim {
            identity,
            tunnel,
            remote_cluster,
            pod: None,
        };
        let routers = node.routers().map(|ip| {
            (
                IpNet::from(ip),
                claim(reserved::REMOTE_NODE, tunnel, foreign),
            )
        });
        let underlay = node
            .addresses
            .iter()
            .filter(|a| a.kind != model::AddressType::CiliumInternalIp);
        let underlay = underlay.map(|a| {
            (
                IpNet::from(a.ip),
                claim(self.identity_of_node(node, &a.ip), None, foreign),
            )
        });
        let health = node
            .health
            .iter()
            .map(|ip| (IpNet::from(*ip), claim(reserved::HEALTH, tunnel, false)));
        let ingress = node
            .ingress
            .iter()
            .map(|ip| (IpNet::from(*ip), claim(reserved::INGRESS, tunnel, false)));
        let pods = node.pod_cidrs().map(|net| {
            let world = self.world(matches!(net, IpNet::V4(_)));
            (net, claim(world, tunnel, false))
        });
        routers
            .chain(underlay)
            .chain(health)
            .chain(ingress)
            .chain(pods)
            .collect()
    }

    /// An address of this cluster's etcd. What this node itself published is not news.
    pub(crate) fn set_own_cluster_ip(&mut self, entry: &IpEntry) {
        if entry
            .host
            .is_some_and(|host| host == IpAddr::from(self.node.ipv4))
        {
            return;
        }
        let prefix = entry.prefix;
        if let Some((Source::ClusterMesh(holder), _)) = self.addresses.get(&prefix) {
            let holder = holder.clone();
            if !self.is_ours(&prefix) {
                // A pod network of ours would not have let it in.
                return self.contested(prefix, &holder);
            }
        }
        let pod = (!entry.pod.is_empty()).then(|| (entry.namespace.clone(), entry.pod.clone()));
        let claim = Claim {
            identity: remapped(entry.identity),
            tunnel: entry.host,
            remote_cluster: false,
            pod,
        };
        let ports = entry.named_ports.clone();
        self.put_address_ports(prefix, Some((claim.identity, ports)));
        self.claim(prefix, Source::Kvstore, claim);
    }

    /// The address is no longer in this cluster's etcd.
    pub(crate) fn drop_own_cluster_ip(&mut self, prefix: &IpNet) {
        self.note(&conflict(prefix), None::<String>);
        self.put_address_ports(*prefix, None);
        self.withdraw(prefix, &Source::Kvstore);
    }

    fn is_ours(&self, prefix: &IpNet) -> bool {
        self.own_networks().iter().any(|net| net.contains(prefix))
    }

    /// This cluster's etcd says what a remote cluster says too, about an address in none of our networks.
    fn contested(&mut self, prefix: IpNet, holder: &ClusterName) {
        let problem = format!(
            "cluster {holder} has it; a row of this cluster's etcd claims it outside of every node's pod network and is refused"
        );
        self.note(&conflict(&prefix), Some(problem));
    }

    /// An address of a remote cluster.
    pub(crate) fn set_remote_ip(
        &mut self,
        source: Source,
        prefix: IpNet,
        identity: NumericIdentity,
        host: Option<IpAddr>,
    ) {
        let claim = Claim {
            identity: remapped(identity),
            tunnel: host,
            remote_cluster: false,
            pod: None,
        };
        if let (Source::ClusterMesh(holder), Some((Source::Kvstore, _))) =
            (&source, self.addresses.get(&prefix))
            && !self.is_ours(&prefix)
        {
            self.contested(prefix, holder);
            self.put_address_ports(prefix, None);
            self.withdraw(&prefix, &Source::Kvstore);
        }
        self.claim(prefix, source, claim);
    }
}

fn conflict(prefix: &IpNet) -> String {
    format!("address {prefix}")
}

/// Another node's host is a remote node (Cilium publishes it as `host`).
fn remapped(identity: NumericIdentity) -> NumericIdentity {
    if identity == reserved::HOST {
        reserved::REMOTE_NODE
    } else {
        identity
    }
}
