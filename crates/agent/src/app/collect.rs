// SPDX-License-Identifier: Apache-2.0
//! Identities that no pod has any more are given back: by one agent of the cluster, for all. An operator need not run, and
//! an agent knows what an operator does not: addresses whose node lost its lease still have their identity.

use std::sync::Arc;
use std::time::Duration;

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
                round(&mut collector, &follower).await
            }
            Err(error) => Err(error),
        };
        follower.note("unused identities", result.err());
    }
}

async fn round(collector: &mut Collector<Etcd>, follower: &Follower) -> kvstore::Result<()> {
    // Without the list of addresses it is not known who uses what.
    let Some(in_use) = follower.identities_in_use() else {
        return Ok(());
    };
    let Collected {
        known,
        unused,
        deleted,
    } = collector.round(&in_use).await?;
    tracing::debug!(known, unused, deleted, "looked for unused identities");
    Ok(())
}
