// SPDX-License-Identifier: Apache-2.0
//! Rows that must go because somebody else has a better right.

use ipnet::IpNet;
use model::ClusterName;

use super::{Kind, Rows, Value};
use crate::Refusal;
use crate::validate::{self, claims_of};

impl Rows {
    pub(super) fn evict_ip(&mut self, name: &ClusterName, net: &IpNet, refusal: Refusal) {
        let Some(entry) = self.clusters.get(name).and_then(|c| c.ips.entry(net)) else {
            return;
        };
        let lease = self.clusters[name].ips.lease(net);
        self.remove_ip(name, net);
        let suffix = &validate::suffix_of(net);
        let cluster = self.clusters.get_mut(name).expect("looked up above");
        let value = Some((Value::Ip(Box::new(entry)), lease));
        cluster.refused.add(Kind::Ips, suffix, refusal, value);
    }

    /// Replaces what belongs to this cluster: nothing that overlaps with it is accepted, and what was accepted goes.
    pub fn protect(&mut self, own: &[IpNet]) {
        self.loosen_others(None);
        for net in self.claims.set_own(own) {
            let (holders, loose) = self.claims.remote_in(&net);
            let ours = |theirs| Refusal::OverlapsOurs {
                net: theirs,
                claimed: net,
            };
            for (name, theirs) in loose {
                self.evict_ip(&name, &theirs, ours(theirs));
            }
            for name in holders {
                self.evict_all_in(&name, &net, ours);
            }
        }
        self.gave_way();
    }

    fn evict_all_in(&mut self, name: &ClusterName, net: &IpNet, ours: impl Fn(IpNet) -> Refusal) {
        let overlaps = |theirs: &IpNet| net.contains(theirs) || theirs.contains(net);
        let Some(cluster) = self.clusters.get(name) else {
            return;
        };
        let ips: Vec<IpNet> = cluster
            .ips
            .iter()
            .map(|(theirs, _)| theirs)
            .filter(overlaps)
            .collect();
        let nodes = cluster.nodes.values();
        let nodes: Vec<_> = nodes
            .filter_map(|row| {
                let theirs = claims_of(&row.node).into_iter().find(overlaps)?;
                Some((row.node.clone(), row.lease, theirs))
            })
            .collect();
        for theirs in ips {
            self.evict_ip(name, &theirs, ours(theirs));
        }
        for (node, lease, theirs) in nodes {
            self.remove_node(name, &node.name.name);
            let cluster = self.clusters.get_mut(name).expect("looked up above");
            let (key, refusal) = (node.name.name.clone(), ours(theirs));
            let value = Some((Value::Node(node), lease));
            cluster.refused.add(Kind::Nodes, &key, refusal, value);
        }
    }
}
