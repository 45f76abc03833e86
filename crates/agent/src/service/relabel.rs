// SPDX-License-Identifier: Apache-2.0
//! Identities follow the labels of pods.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;

use super::Service;
use crate::core::Relabel;
use crate::endpoint::Endpoint as Local;

/// Time until an identity that could not be had is asked for again.
const RETRY: Duration = Duration::from_secs(1);

/// Gives endpoints new identities when the labels of their pods change.
pub(crate) struct RelabelWorker {
    pub(crate) service: Arc<Service>,
}

impl RelabelWorker {
    /// Endpoints of before the restart use their identities again; one whose labels have another identity now gets it.
    /// Labels that are no longer those of the pod get none: with the cluster's name every pod's changed.
    pub(crate) async fn confirm(&self, endpoints: Vec<Local>) {
        let stale: BTreeSet<_> = {
            let changes = self.service.core().stale_labels();
            changes.into_iter().map(|change| change.id).collect()
        };
        let current = endpoints
            .into_iter()
            .filter(|endpoint| !stale.contains(&endpoint.attachment.id));
        join_all(current.map(|one| self.confirm_one(one))).await;
    }

    async fn confirm_one(&self, endpoint: Local) {
        let (id, labels) = (endpoint.attachment.id, endpoint.labels.clone());
        match self.service.identities.allocate(&labels).await {
            Ok(identity) if identity == endpoint.identity => {}
            Ok(identity) => {
                let known = self.service.core().relabel(id, labels.clone(), identity);
                match known {
                    Some(_) => self.service.publish(id),
                    None => self.service.identities.release(&labels),
                }
            }
            Err(error) => self
                .service
                .core()
                .note(&format!("identity of endpoint {id}"), Some(error)),
        }
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

    /// Gives one endpoint the identity of its pod's labels; `false` if there is none to be had now.
    async fn change(&self, Relabel { id, labels }: Relabel) -> bool {
        let subject = format!("labels of endpoint {id}");
        let identity = match self.service.identities.allocate(&labels).await {
            Ok(identity) => identity,
            Err(error) => {
                self.service.core().note(&subject, Some(error));
                return false;
            }
        };
        let old = {
            let mut core = self.service.core();
            core.note(&subject, None::<String>);
            // Other labels may have come meanwhile; they are the next look's.
            let current = core
                .endpoints
                .get(&id)
                .and_then(|endpoint| core.labels_of(&endpoint.attachment))
                .is_some_and(|now| now == labels);
            current
                .then(|| core.relabel(id, labels.clone(), identity))
                .flatten()
        };
        let Some(old) = old else {
            self.service.identities.release(&labels);
            return true;
        };
        self.service.publish(id);
        self.service.identities.release(&old);
        true
    }
}
