// SPDX-License-Identifier: Apache-2.0
//! `/cluster/nodes`: all nodes, or what changed since a client asked last.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use api::models::*;
use ipnet::IpNet;
use kvstore::schema;
use model::Node;

use super::Service;

/// A client of `/cluster/nodes` that does not ask again for so long is forgotten.
const CLIENT_LIFE: Duration = Duration::from_secs(900);
/// Most clients that are remembered.
const MAX_CLIENTS: usize = 1024;

/// Clients of `/cluster/nodes` and the nodes that each was told.
#[derive(Default)]
pub(crate) struct NodeClients {
    known: HashMap<i64, (Instant, BTreeMap<String, NodeElement>)>,
    next: i64,
}

impl Service {
    /// Writes this node's key to the cluster's etcd.
    pub(crate) fn publish_node(&self) {
        let Some(publisher) = &self.publisher else {
            return;
        };
        let (key, value) = {
            let core = self.core();
            let node = core.node.published(&core.config);
            (
                schema::keys::node(core.config.cluster.as_str(), &core.config.node),
                schema::encode_node(&node),
            )
        };
        if let Err(error) = publisher.put(key, value) {
            self.core().note("this node's key", Some(error));
        }
    }

    pub(super) fn node_status(&self, client: Option<i64>) -> ClusterNodeStatus {
        let core = self.core();
        let own = node_element(&core.node.published(&core.config), "local");
        let others = core
            .nodes
            .values()
            .map(|known| node_element(&known.node, known.source.as_str()));
        let now: BTreeMap<String, NodeElement> = std::iter::once(own)
            .chain(others)
            .map(|e| (e.name.clone(), e))
            .collect();
        let own_name = core.node.name.to_string();
        drop(core);
        let Some(client) = client else {
            return ClusterNodeStatus {
                own_name,
                nodes_added: now.into_values().collect(),
                ..Default::default()
            };
        };
        let mut clients = self
            .clients
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let time = Instant::now();
        clients
            .known
            .retain(|_, (asked, _)| asked.elapsed() < CLIENT_LIFE);
        let (id, before) = match clients.known.remove(&client) {
            Some((_, before)) => (client, before),
            None => {
                clients.next += 1;
                (clients.next, BTreeMap::new())
            }
        };
        if clients.known.len() >= MAX_CLIENTS {
            let oldest = clients
                .known
                .iter()
                .min_by_key(|(_, (asked, _))| *asked)
                .map(|(id, _)| *id);
            oldest.and_then(|id| clients.known.remove(&id));
        }
        let added = now
            .iter()
            .filter(|(name, node)| before.get(*name) != Some(node))
            .map(|(_, node)| node.clone())
            .collect();
        let removed = before
            .iter()
            .filter(|(name, _)| !now.contains_key(*name))
            .map(|(_, node)| node.clone())
            .collect();
        clients.known.insert(id, (time, now));
        ClusterNodeStatus {
            client_id: id,
            own_name,
            nodes_added: added,
            nodes_removed: removed,
        }
    }
}

fn node_element(node: &Node, source: &str) -> NodeElement {
    let element = |v4: bool, alloc: Option<IpNet>| {
        let Some(ip) = node.underlay(v4) else {
            return NodeAddressingElement {
                alloc_range: alloc.map(|net| net.to_string()).unwrap_or_default(),
                ..Default::default()
            };
        };
        NodeAddressingElement {
            enabled: true,
            ip: ip.to_string(),
            alloc_range: alloc.map(|net| net.to_string()).unwrap_or_default(),
            address_type: "InternalIP".into(),
        }
    };
    NodeElement {
        name: node.name.to_string(),
        source: source.to_owned(),
        primary_address: Some(NodeAddressing {
            ipv4: Some(element(true, node.ipv4_alloc)),
            ipv6: Some(element(false, node.ipv6_alloc)),
        }),
        secondary_addresses: node
            .routers()
            .map(|ip| NodeAddressingElement {
                enabled: true,
                ip: ip.to_string(),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}
