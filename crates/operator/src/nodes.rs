// SPDX-License-Identifier: Apache-2.0
//! Nodes of the cluster that Kubernetes has no more: their agents cannot take away what they wrote.
//!
//! Every replica follows the nodes of etcd and of Kubernetes, also while another leads: a node whose key went with its
//! lease is known only to who saw it before.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kubernetes::api::{Client, node_names};
use kvstore::{LeaseId, Store, Update, forget_node, reflect, schema};
use model::{ClusterName, Node};
use tables::Event;
use tokio::time::{Instant, sleep};

use crate::gone_nodes::GoneNodes;
use crate::status::Status;

/// How often it is looked for what is due.
const LOOK: Duration = Duration::from_secs(5);
/// Life of the lease under which keys are deleted: readers look at it to tell a deletion from the end of a lease.
const LEASE: Duration = Duration::from_secs(60);
/// Most nodes that are remembered.
const MOST: usize = 65_536;

/// The nodes of this cluster.
pub(crate) struct Nodes<S> {
    store: S,
    cluster: ClusterName,
    /// The node that this replica runs on.
    own: Arc<str>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// By name, also those whose key is gone.
    nodes: BTreeMap<Arc<str>, Arc<Node>>,
    gone: GoneNodes,
    /// Under which this replica last wrote a node's key to delete it.
    lease: Option<LeaseId>,
}

impl<S: Store> Nodes<S> {
    /// Nothing is known yet. `own` is the node that this replica runs on.
    pub(crate) fn new(store: S, cluster: ClusterName, own: Arc<str>) -> Self {
        Self {
            store,
            cluster,
            own,
            seen: Mutex::default(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows both, for ever.
    pub(crate) async fn follow(self: Arc<Self>, client: Client) {
        let prefix = format!("{}/{}/", schema::keys::NODES, self.cluster);
        let mut keys = std::pin::pin!(reflect(self.store.clone(), prefix));
        let mut names = std::pin::pin!(node_names(client));
        loop {
            tokio::select! {
                Some(update) = keys.next() => self.take(update),
                Some(event) = names.next() => self.seen().gone.take(event),
                else => return,
            }
        }
    }

    fn take(&self, update: Update) {
        let Update::Event(Event::Apply(key, kv) | Event::InitApply(key, kv)) = update else {
            return;
        };
        // What cannot be read was written by no agent of ours; it is told by those who read it.
        let Ok(node) = schema::decode_node(&key, &kv.value) else {
            return;
        };
        // Whoever may write one key speaks for no other node.
        if key != schema::keys::node(self.cluster.as_str(), &node.name.name)
            || node.name.cluster != self.cluster
        {
            return;
        }
        let mut seen = self.seen();
        let is_leaving = kv.lease.is_some() && kv.lease == seen.lease;
        if !is_leaving && seen.nodes.len() < MOST {
            seen.nodes.insert(node.name.name.clone(), Arc::new(node));
        }
    }

    /// Deletes what nodes wrote that are gone, for ever.
    pub(crate) async fn forget_gone(&self, status: &Status) {
        loop {
            sleep(LOOK).await;
            let result = self.look().await;
            status.note("nodes that are gone", result.err());
        }
    }

    async fn look(&self) -> kvstore::Result<()> {
        let now = Instant::now();
        let due = {
            let mut seen = self.seen();
            let nodes: Vec<_> = seen.nodes.values().cloned().collect();
            seen.gone.due(&nodes, &self.own, now)
        };
        for (node, hosts) in due {
            let name = &node.name.name;
            let key = schema::keys::node(self.cluster.as_str(), name);
            let is_there = self.store.get(&key).await?.is_some();
            if !self.seen().gone.may_forget(name, is_there, now) {
                continue;
            }
            let lease = self.store.grant(LEASE).await?;
            self.seen().lease = Some(lease);
            forget_node(&self.store, lease, &node, &hosts).await?;
            let mut seen = self.seen();
            seen.gone.forgot(name, now);
            // An agent that lives writes its key anew, and is seen again.
            seen.nodes.remove(name);
            drop(seen);
            tracing::info!(node = %name, "Kubernetes does not have this Node any more: its keys are deleted");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kvstore::{KeyValue, Memory};
    use model::{AddressType, ClusterId, NodeAddress, NodeName};

    use super::*;

    fn node(cluster: &ClusterName, name: &str) -> (String, KeyValue) {
        let name = NodeName {
            cluster: cluster.clone(),
            name: name.into(),
        };
        let address = NodeAddress {
            kind: AddressType::InternalIp,
            ip: [10, 0, 0, 1].into(),
        };
        let key = schema::keys::node(cluster.as_str(), &name.name);
        let value = schema::encode_node(&Node::new(name, ClusterId(5), vec![address]));
        let kv = KeyValue {
            key: key.clone(),
            value,
            mod_revision: 1,
            create_revision: 1,
            lease: None,
        };
        (key, kv)
    }

    #[tokio::test(start_paused = true)]
    async fn keys_go_with_their_node_and_not_with_a_lease() {
        let cluster = ClusterName::new("cluster5").expect("a name");
        let store = Memory::new(1);
        let nodes = Nodes::new(store.clone(), cluster.clone(), "own".into());
        for name in ["own", "gone", "stays"] {
            let (key, kv) = node(&cluster, name);
            let put = store.create(&key, kv.value.clone(), None).await;
            assert_eq!(put, Ok(true));
            nodes.take(Update::Event(Event::InitApply(key.clone(), kv)));
            nodes.take(Update::Event(Event::Delete(key)));
        }
        let names = [Event::Init]
            .into_iter()
            .chain(["own", "stays"].map(|name| Event::InitApply(name.to_owned(), ())))
            .chain([Event::InitDone]);
        names.for_each(|event| nodes.seen().gone.take(event));
        nodes.look().await.expect("looked");
        tokio::time::advance(Duration::from_secs(30)).await;
        nodes.look().await.expect("looked");
        let left = store.list(&schema::keys::under(schema::keys::NODES)).await;
        let left: Vec<String> = left
            .expect("listed")
            .kvs
            .into_iter()
            .map(|kv| kv.key)
            .collect();
        let of = |name: &str| schema::keys::node("cluster5", name);
        assert_eq!(left, [of("own"), of("stays")]);
        let known = |nodes: &Nodes<Memory>| nodes.seen().nodes.contains_key("gone");
        assert!(!known(&nodes), "it is done once");

        // What this replica writes to delete it, another node's key, and the node's own.
        let (key, mut kv) = node(&cluster, "gone");
        kv.lease = nodes.seen().lease;
        nodes.take(Update::Event(Event::Apply(key.clone(), kv.clone())));
        assert!(!known(&nodes));
        kv.lease = None;
        nodes.take(Update::Event(Event::Apply(of("other"), kv.clone())));
        assert!(!known(&nodes));
        nodes.take(Update::Event(Event::Apply(key, kv)));
        assert!(known(&nodes));
    }
}
