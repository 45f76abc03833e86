// SPDX-License-Identifier: Apache-2.0
//! Identities follow the labels of pods.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use model::{EndpointId, NumericIdentity};

use super::Service;
use crate::core::{Relabel, label_subject};

/// Time until an identity that could not be had is asked for again.
const RETRY: Duration = Duration::from_secs(1);

/// Gives endpoints new identities when the labels of their pods change.
pub(crate) struct RelabelWorker {
    pub(crate) service: Arc<Service>,
}

impl RelabelWorker {
    /// Endpoints of before the restart use their identities again, as far as they are to keep them. Those that are to have
    /// others, of which there are many where the cluster's name or id changed, are left to [`RelabelWorker::run`], and so is
    /// what fails.
    pub(crate) async fn confirm(&self) {
        let uncounted = self.service.core().uncounted();
        join_all(uncounted.into_iter().map(|one| self.change(one))).await;
    }

    /// Follows the objects, for ever. Endpoints do not wait for each other, nor objects for them.
    pub(crate) async fn run(&self) {
        let mut busy = BTreeSet::new();
        let mut running = FuturesUnordered::new();
        loop {
            // Registered before the look, so that no change falls between.
            let changed = self.service.objects.notified();
            for change in self.service.core().stale_labels() {
                let id = change.id;
                if busy.insert(id) {
                    running.push(async move {
                        if !self.change(change).await {
                            tokio::time::sleep(RETRY).await;
                        }
                        id
                    });
                }
            }
            tokio::select! {
                () = changed => {}
                Some(id) = running.next() => {
                    busy.remove(&id);
                }
            }
        }
    }

    /// Where an endpoint is about to have an identity that is new in the cluster, others get time to hear of it: they drop what
    /// they do not know. Not for an endpoint that nobody knew before. Nor where its identity was one of another cluster, the id
    /// of before: nobody believes that one any more.
    async fn wait_for_others(&self, id: EndpointId, identity: NumericIdentity) {
        let (before, scheme, grace) = {
            let core = self.service.core();
            let Some(endpoint) = core.endpoints.get(&id) else {
                return;
            };
            let config = &core.config;
            (endpoint.identity, config.scheme, config.identity_grace)
        };
        if before != identity && scheme.cluster_of(before) == scheme.cluster_of(identity) {
            tokio::time::sleep(self.service.identities.known_in(identity, grace)).await;
        }
    }

    /// Gives one endpoint the identity of its pod's labels; `false` if there is none to be had now.
    async fn change(&self, Relabel { id, labels }: Relabel) -> bool {
        let subject = label_subject(id);
        let identity = match self.service.identities.allocate(&labels).await {
            Ok(identity) => identity,
            Err(error) => {
                let mut core = self.service.core();
                // Nothing is wrong with one that is gone.
                let is_there = core.endpoints.contains_key(&id);
                core.note(&subject, is_there.then_some(error));
                return false;
            }
        };
        self.wait_for_others(id, identity).await;
        let (unused, has_moved) = {
            let mut core = self.service.core();
            core.note(&subject, None::<String>);
            core.count(id, labels, identity)
        };
        if has_moved {
            self.service.publish(id);
        }
        if let Some(labels) = unused {
            self.service.identities.release(&labels);
        }
        true
    }
}
