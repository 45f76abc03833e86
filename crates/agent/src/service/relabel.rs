// SPDX-License-Identifier: Apache-2.0
//! Identities follow the labels of pods.

use std::sync::Arc;

use super::Service;
use crate::core::Relabel;
use crate::endpoint::Endpoint as Local;

/// Gives endpoints new identities when the labels of their pods change.
pub(crate) struct RelabelWorker {
    pub(crate) service: Arc<Service>,
}

impl RelabelWorker {
    /// Endpoints of before the restart use their identities again; one whose labels have another identity now gets it.
    pub(crate) async fn confirm(&self, endpoints: Vec<Local>) {
        for endpoint in endpoints {
            let (id, labels) = (endpoint.attachment.id, endpoint.labels.clone());
            match self.service.identities.allocate(&labels).await {
                Ok(identity) if identity == endpoint.identity => {}
                Ok(identity) => {
                    let known = self.service.core().relabel(id, labels.clone(), identity);
                    let endpoint = self.service.core().endpoints.get(&id).cloned();
                    match (known, endpoint) {
                        (Some(_), Some(endpoint)) => self.service.publish(&endpoint),
                        _ => self.service.identities.release(&labels),
                    }
                }
                Err(error) => self
                    .service
                    .core()
                    .note(&format!("identity of endpoint {id}"), Some(error)),
            }
        }
    }

    /// Works through `changes`; one that fails is tried again with the next change of objects.
    pub(crate) async fn work(&self, changes: Vec<Relabel>) {
        for Relabel { id, labels } in changes {
            let identity = match self.service.identities.allocate(&labels).await {
                Ok(identity) => identity,
                Err(error) => {
                    self.service
                        .core()
                        .note(&format!("labels of endpoint {id}"), Some(error));
                    continue;
                }
            };
            let old = {
                let mut core = self.service.core();
                core.note(&format!("labels of endpoint {id}"), None::<String>);
                core.relabel(id, labels.clone(), identity)
            };
            let Some(old) = old else {
                self.service.identities.release(&labels);
                continue;
            };
            let endpoint = self.service.core().endpoints.get(&id).cloned();
            if let Some(endpoint) = endpoint {
                self.service.publish(&endpoint);
            }
            self.service.identities.release(&old);
        }
    }
}
