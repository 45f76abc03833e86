// SPDX-License-Identifier: Apache-2.0
//! What nobody takes away who made it: identities that no pod has any more, and keys of nodes that Kubernetes has no more. By
//! one agent of the cluster, for all. An operator need not run, and an agent knows what an operator does not: addresses
//! whose node lost its lease still have their identity.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kubernetes::api::{Client, node_names, prune_identities};
use kvstore::{Collected, Collector, Etcd, Leader, Store, forget_node, schema};
use tables::Event;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::gone_nodes::GoneNodes;
use crate::own::Follower;
use config::Config;

/// Held by the agent that collects. Cilium does not look at it.
const KEY: &str = "cilium/.isthmus/identity-gc";
/// How long after its death another follows.
const TTL: Duration = Duration::from_secs(60);
/// How often it is asked who collects.
const ASK: Duration = Duration::from_secs(20);
/// How often it is looked for what is due.
const LOOK: Duration = Duration::from_secs(5);

type Names = Pin<Box<dyn Stream<Item = Event<String, ()>> + Send>>;

/// What is collected, and what it takes.
pub(super) struct Duties {
    pub(super) store: Etcd,
    pub(super) follower: Follower,
    pub(super) config: Arc<Config>,
    /// Where Nodes are followed and identities shown; `None`: not in Kubernetes.
    pub(super) client: Option<Client>,
    /// Pause between two rounds of identities; `None`: they stay.
    pub(super) identities: Option<Duration>,
}

/// The turn of one agent. Who leads anew has to see for itself what is not used any more.
struct Turn {
    collector: Collector<Etcd>,
    /// The Nodes of the cluster.
    names: Option<Names>,
    gone: GoneNodes,
}

impl Duties {
    /// Collects whenever it is this agent's turn, for ever.
    pub(super) async fn collect(self) {
        let name = format!("{}/{}", self.config.cluster, self.config.node);
        let mut leader = Leader::new(self.store.clone(), KEY, name, TTL);
        let pause = self.identities.map_or(ASK, |interval| ASK.min(interval));
        let mut turn: Option<Turn> = None;
        let mut asked = Instant::now();
        let mut due = self.identities.map(|interval| Instant::now() + interval);
        let mut look = interval(LOOK.min(pause));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = next_name(&mut turn) => {
                    if let Some(turn) = &mut turn {
                        turn.gone.take(event);
                    }
                    continue;
                }
                _ = look.tick() => {}
            }
            if asked.elapsed() >= pause {
                asked = Instant::now();
                let leads = leader.leads().await;
                match leads {
                    Ok(true) => drop(turn.get_or_insert_with(|| self.turn())),
                    Ok(false) => turn = None,
                    Err(_) => {}
                }
                self.follower.note(TURNS, leads.err());
            }
            let Some(turn) = &mut turn else { continue };
            if let (Some(at), Some(interval)) = (due, self.identities)
                && at <= Instant::now()
            {
                let result = self.identities(&mut turn.collector, interval).await;
                let next = if result.is_ok() { interval } else { pause };
                due = Some(Instant::now() + next);
                self.follower.note(IDENTITIES, result.err());
            }
            let result = self.nodes(&mut turn.gone, &leader).await;
            self.follower.note(NODES, result.err());
        }
    }

    fn turn(&self) -> Turn {
        let config = &self.config;
        Turn {
            collector: Collector::new(self.store.clone(), config.cluster_id, config.scheme),
            names: self
                .client
                .clone()
                .map(|client| -> Names { Box::pin(node_names(client)) }),
            gone: GoneNodes::default(),
        }
    }

    /// One look; in Kubernetes also at what shows the identities there.
    async fn identities(
        &self,
        collector: &mut Collector<Etcd>,
        interval: Duration,
    ) -> Result<(), String> {
        // Without the list of addresses it is not known who uses what.
        let Some(in_use) = self.follower.identities_in_use() else {
            return Ok(());
        };
        let Collected {
            known,
            unused,
            deleted,
        } = collector.round(&in_use).await.map_err(|e| e.to_string())?;
        let known_count = known.len();
        tracing::debug!(known_count, unused, deleted, "looked for unused identities");
        if let Some(client) = self.client.clone() {
            prune_identities(client, &known, interval).await?;
        }
        Ok(())
    }

    /// Takes away what nodes wrote that are gone.
    async fn nodes(&self, gone: &mut GoneNodes, leader: &Leader<Etcd>) -> kvstore::Result<()> {
        let now = Instant::now();
        let due = gone.due(&self.follower.nodes(), &self.config.node, now);
        let Some(lease) = leader.lease() else {
            return Ok(());
        };
        for (node, hosts) in due {
            let (cluster, name) = (node.name.cluster.as_str(), &node.name.name);
            let is_there = self
                .store
                .get(&schema::keys::node(cluster, name))
                .await?
                .is_some();
            if !gone.may_forget(name, is_there, now) {
                continue;
            }
            forget_node(&self.store, lease, &node, &hosts).await?;
            gone.forgot(name, now);
            tracing::info!(node = %name, "Kubernetes does not have this Node any more: its keys are deleted");
        }
        Ok(())
    }
}

const TURNS: &str = "whose turn it is to collect";
const IDENTITIES: &str = "unused identities";
const NODES: &str = "nodes that are gone";

/// The next change of the Nodes, while it is this agent's turn in Kubernetes.
async fn next_name(turn: &mut Option<Turn>) -> Event<String, ()> {
    let names = turn.as_mut().and_then(|turn| turn.names.as_mut());
    match names {
        Some(names) => match names.next().await {
            Some(event) => event,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}
