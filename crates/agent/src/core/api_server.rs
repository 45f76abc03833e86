// SPDX-License-Identifier: Apache-2.0
//! Where this cluster's API server is: the endpoints of its service. A node with one has an identity of its own, this node
//! a label more, and what is outside of the mesh is a prefix of the policies that name the entity.

use std::collections::BTreeSet;
use std::net::IpAddr;

use datapath::Kernel;
use ipnet::IpNet;
use model::{Label, NamespacedName, Node, NumericIdentity, reserved};

use super::Core;
use crate::addresses::Source;

impl<K: Kernel> Core<K> {
    /// Follows the service's endpoints.
    pub(super) fn follow_api_servers(&mut self) {
        let service = NamespacedName {
            namespace: "default".into(),
            name: "kubernetes".into(),
        };
        let now = self.balancer.services.endpoints(&service);
        if now == self.api_servers {
            return;
        }
        let outside = now.iter().map(|ip| IpNet::from(*ip)).collect();
        let refused = self.engine.set_api_servers(outside).err();
        self.note("API server in policies", refused);
        self.dirty = true;
        let before = std::mem::replace(&mut self.api_servers, now);
        self.label_this_host();
        let moved: Vec<IpAddr> = before
            .symmetric_difference(&self.api_servers)
            .copied()
            .collect();
        for ip in moved {
            self.claim_again(IpNet::from(ip));
        }
    }

    /// Has this node's identity say whether it has an API server.
    pub(super) fn label_this_host(&mut self) {
        let has = self
            .node
            .underlay()
            .any(|ip| self.api_servers.contains(&ip));
        let own = reserved::labels(reserved::HOST).expect("a reserved identity");
        let more = has.then(|| Label::new("reserved", "kube-apiserver", ""));
        self.set_identity(reserved::HOST, own.iter().cloned().chain(more).collect());
    }

    /// Who is at an underlay address of another node.
    pub(super) fn identity_of_node(&self, node: &Node, ip: &IpAddr) -> NumericIdentity {
        let own = node.name.cluster == self.config.cluster;
        match own && self.api_servers.contains(ip) {
            true => reserved::KUBE_APISERVER,
            false => reserved::REMOTE_NODE,
        }
    }

    /// Nodes that have the address say who is there.
    fn claim_again(&mut self, prefix: IpNet) {
        let nodes = self.nodes.values();
        let sources = nodes.filter(|known| known.claims.contains(&prefix));
        let sources: BTreeSet<Source> = sources.map(|known| known.source.clone()).collect();
        for source in sources {
            if let Some(claim) = self.claim_of_a_node(&prefix, &source) {
                self.claim(prefix, source, claim);
            }
        }
    }
}
