// SPDX-License-Identifier: Apache-2.0
//! Labels of endpoints, and the identities that go with them.

use datapath::Kernel;
use model::{EndpointId, Labels, NumericIdentity, reserved};

use super::Core;
use super::endpoints::{file_subject, row_subject};
use super::room::finish;
use crate::endpoint::{Attachment, Endpoint};

/// An endpoint that is to have the identity of these labels, and does not, or does not count as a use of it yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Relabel {
    pub(crate) id: EndpointId,
    pub(crate) labels: Labels,
}

/// What notes about an endpoint's labels are filed under.
pub(crate) fn label_subject(id: EndpointId) -> String {
    format!("labels of endpoint {id}")
}

impl<K: Kernel> Core<K> {
    /// Labels of a pod that the source does not know.
    pub(crate) fn init_labels() -> Labels {
        reserved::labels(reserved::INIT).expect("a reserved identity")
    }

    /// Labels that make up the identity of a pod; `None` while the source does not know it.
    pub(crate) fn labels_of(&self, attachment: &Attachment) -> Option<Labels> {
        let pod = self.pod_of(attachment)?;
        let namespace = self.namespaces.get(&pod.key.namespace);
        Some(pod.identity_labels(namespace, &self.config.cluster, &self.config.labels))
    }

    /// Labels that an endpoint shall have: those of its pod, if that is known.
    pub(crate) fn wanted_labels(&self, endpoint: &Endpoint) -> Labels {
        let known = self.labels_of(&endpoint.attachment);
        known.unwrap_or_else(|| endpoint.labels.clone())
    }

    /// The endpoints whose labels are no longer those of their pod, and those of before the restart that do not count yet.
    pub(crate) fn stale_labels(&self) -> Vec<Relabel> {
        let stale = self.endpoints.iter().filter_map(|(id, endpoint)| {
            let labels = self.wanted_labels(endpoint);
            let is_current = endpoint.counted && labels == endpoint.labels;
            (!is_current).then_some(Relabel { id: *id, labels })
        });
        stale.collect()
    }

    /// Of these, the endpoints of before the restart that have what they shall have.
    pub(crate) fn uncounted(&self) -> Vec<Relabel> {
        let (scheme, own) = (self.config.scheme, self.config.cluster_id);
        let mut stale = self.stale_labels();
        stale.retain(|Relabel { id, labels }| {
            let endpoint = &self.endpoints[id];
            let cluster = scheme.cluster_of(endpoint.identity);
            endpoint.labels == *labels && cluster.is_none_or(|id| id == own)
        });
        stale
    }

    /// An endpoint has `identity`, which is that of `labels` and counts one use more. Answers the labels of whose identity
    /// there is one use less, and whether the endpoint has another identity now.
    pub(crate) fn count(
        &mut self,
        id: EndpointId,
        labels: Labels,
        identity: NumericIdentity,
    ) -> (Option<Labels>, bool) {
        let endpoint = self.endpoints.get(&id);
        let Some(endpoint) = endpoint.filter(|now| self.wanted_labels(now) == labels) else {
            // It is gone, or other labels came meanwhile, which are the next look's.
            return (Some(labels), false);
        };
        let before = endpoint.counted.then(|| endpoint.labels.clone());
        let moves = (identity, &labels) != (endpoint.identity, &endpoint.labels);
        if moves {
            self.relabel(id, labels, identity);
        }
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            endpoint.counted = true;
        }
        (before, moves)
    }

    /// Gives an endpoint other labels and the identity that goes with them. Returns what it had.
    pub(crate) fn relabel(
        &mut self,
        id: EndpointId,
        labels: Labels,
        identity: NumericIdentity,
    ) -> Option<Labels> {
        let mut endpoint = self.endpoints.remove(&id)?;
        self.engine.upsert_identity(identity, labels.clone());
        self.identities.insert(identity, labels.clone());
        self.engine.upsert_endpoint(id, identity);
        self.put_endpoint_ports(&endpoint.attachment, identity);
        self.dirty = true;
        self.settle();
        endpoint.identity = identity;
        let old = std::mem::replace(&mut endpoint.labels, labels);
        let result = self.dp.put_endpoint(&self.row(&endpoint));
        self.note(&row_subject(id), result.err());
        for ip in endpoint.attachment.ips() {
            self.claim_pod(&endpoint, ip);
        }
        let message = "Identity changed with the pod's labels";
        finish(&mut endpoint, &self.engine, message);
        let saved = endpoint.save(&self.endpoint_dir);
        self.note(&file_subject(id), saved.err());
        self.endpoints.insert(id, endpoint);
        Some(old)
    }
}
