// SPDX-License-Identifier: Apache-2.0
//! Identities that nobody has any more are given back: in etcd, and what shows them in Kubernetes.

use std::time::{Duration, Instant};

use config::Config;
use kubernetes::api::{Client, endpoint_identities, prune_identities};
use kvstore::{Collected, Collector, Etcd};
use model::{ClusterId, IdentityScheme};
use tokio::time::sleep;

use crate::status::{Round, Status};

/// Pause after a failure, unless that between rounds is shorter.
const RETRY: Duration = Duration::from_secs(20);

/// The identities of this cluster.
pub(crate) struct Identities {
    store: Etcd,
    cluster: ClusterId,
    scheme: IdentityScheme,
    pause: Duration,
}

impl Identities {
    /// To be looked at every `pause`.
    pub(crate) fn new(store: Etcd, config: &Config, pause: Duration) -> Self {
        Self {
            store,
            cluster: config.cluster_id,
            scheme: config.scheme,
            pause,
        }
    }

    /// Collects for ever. Who leads anew has to see for itself what is not used any more.
    pub(crate) async fn collect(&self, client: &Client, status: &Status) {
        let mut collector = Collector::new(self.store.clone(), self.cluster, self.scheme);
        loop {
            let start = Instant::now();
            let result = self.round(&mut collector, client).await;
            status.identities(match &result {
                Ok(collected) => Ok(Round {
                    alive: collected.known.len(),
                    deleted: collected.deleted,
                    took: start.elapsed(),
                }),
                Err(_) => Err(start.elapsed()),
            });
            let pause = match &result {
                Ok(_) => self.pause,
                Err(_) => RETRY.min(self.pause),
            };
            status.note("unused identities", result.err());
            sleep(pause).await;
        }
    }

    async fn round(
        &self,
        collector: &mut Collector<Etcd>,
        client: &Client,
    ) -> Result<Collected, String> {
        let told = |error: kvstore::Error| error.to_string();
        let mut in_use = collector.of_addresses().await.map_err(told)?;
        in_use.extend(endpoint_identities(client).await?);
        let collected = collector.round(&in_use).await.map_err(told)?;
        prune_identities(client.clone(), &collected.known, self.pause).await?;
        Ok(collected)
    }
}
