// SPDX-License-Identifier: Apache-2.0
//! Where no operator runs: identities that no pod has any more are taken away by one agent of the cluster, for all.

use std::sync::Arc;
use std::time::Duration;

use config::Config;
use kvstore::{Collected, Collector, Etcd, Leader};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::own::Follower;

/// Held by the agent that collects. Cilium does not look at it.
const KEY: &str = "cilium/.isthmus/identity-gc";
/// How long after its death another follows.
const TTL: Duration = Duration::from_secs(60);
/// How often it is asked who collects.
const ASK: Duration = Duration::from_secs(20);

const TURNS: &str = "whose turn it is to collect";
const IDENTITIES: &str = "unused identities";

/// Collects every `pause` whenever it is this agent's turn, for ever. Who leads anew has to see for itself what is not used
/// any more.
pub(super) async fn collect(store: Etcd, follower: Follower, config: Arc<Config>, pause: Duration) {
    let name = format!("{}/{}", config.cluster, config.node);
    let mut leader = Leader::new(store.clone(), KEY, name, TTL);
    let mut turn: Option<Collector<Etcd>> = None;
    let ask = ASK.min(pause);
    let mut due = Instant::now() + pause;
    let mut look = interval(ask);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let leads = leader.leads().await;
        match leads {
            Ok(true) => drop(turn.get_or_insert_with(|| {
                Collector::new(store.clone(), config.cluster_id, config.scheme)
            })),
            Ok(false) => turn = None,
            Err(_) => {}
        }
        follower.note(TURNS, leads.err());
        if let Some(collector) = &mut turn
            && due <= Instant::now()
        {
            let result = round(collector, &follower).await;
            let next = if result.is_ok() { pause } else { ask };
            due = Instant::now() + next;
            follower.note(IDENTITIES, result.err());
        }
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
    let known_count = known.len();
    tracing::debug!(known_count, unused, deleted, "looked for unused identities");
    Ok(())
}
