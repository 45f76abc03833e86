// SPDX-License-Identifier: Apache-2.0
//! Identities that no pod has any more are given back: by one agent of the cluster, for all. An operator need not run, and
//! an agent knows what an operator does not: addresses whose node lost its lease still have their identity.

use std::sync::Arc;
use std::time::Duration;

use kubernetes::api::{Client, prune_identities};
use kvstore::{Collected, Collector, Etcd, Leader};
use tokio::time::Instant;

use crate::config::Config;
use crate::own::Follower;

/// Held by the agent that collects. Cilium does not look at it.
const KEY: &str = "cilium/.isthmus/identity-gc";
/// How long after its death another follows.
const TTL: Duration = Duration::from_secs(3 * 60);
/// How often it is asked who collects.
const ASK: Duration = Duration::from_secs(60);

/// Collects whenever it is this agent's turn, for ever.
pub(super) async fn collect(
    store: Etcd,
    follower: Follower,
    interval: Duration,
    config: Arc<Config>,
    client: Option<Client>,
) {
    let name = format!("{}/{}", config.cluster, config.node);
    let mut leader = Leader::new(store.clone(), KEY, name, TTL);
    let fresh = || Collector::new(store.clone(), config.cluster_id, config.scheme);
    let mut collector = fresh();
    let mut due = Instant::now() + interval;
    loop {
        tokio::time::sleep(ASK.min(interval)).await;
        let result = match leader.leads().await {
            // Who leads anew has to see for itself that an identity stays unused.
            Ok(false) => {
                collector = fresh();
                continue;
            }
            Ok(true) if Instant::now() < due => continue,
            Ok(true) => {
                due = Instant::now() + interval;
                round(&mut collector, &follower, client.clone(), interval).await
            }
            Err(error) => Err(error.to_string()),
        };
        follower.note("unused identities", result.err());
    }
}

/// One look; in Kubernetes also at what shows the identities there.
async fn round(
    collector: &mut Collector<Etcd>,
    follower: &Follower,
    client: Option<Client>,
    interval: Duration,
) -> Result<(), String> {
    // Without the list of addresses it is not known who uses what.
    let Some(in_use) = follower.identities_in_use() else {
        return Ok(());
    };
    let Collected {
        known,
        unused,
        deleted,
    } = collector.round(&in_use).await.map_err(|e| e.to_string())?;
    let known_count = known.len();
    tracing::debug!(known_count, unused, deleted, "looked for unused identities");
    if let Some(client) = client {
        prune_identities(client, &known, interval).await?;
    }
    Ok(())
}
