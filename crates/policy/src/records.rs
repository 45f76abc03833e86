// SPDX-License-Identifier: Apache-2.0
//! What is known of identities.

use ipnet::IpNet;
use model::{Labels, NumericIdentity, reserved};

use crate::engine::Engine;
use crate::kind;
use crate::peer::Peer;

/// An identity.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    /// `None`: not known any more, to be deleted with the next commit.
    pub(crate) labels: Option<Labels>,
    pub(crate) prefix: Option<IpNet>,
    /// The class that the kernel has for it; 0 none yet.
    pub(crate) class: u32,
}

impl Engine {
    /// Says what labels an identity has. Node-local identities of prefixes (scope 0x01) are the engine's own; labels
    /// for them are ignored.
    pub fn upsert_identity(&mut self, identity: NumericIdentity, labels: Labels) {
        if self.is_own(identity) {
            return;
        }
        let prefix = self.home.world_prefix(identity);
        let left_out = self.crowds.left_out.get(&identity);
        if left_out.or(self.labels(identity)) == Some(&labels) {
            return;
        }
        self.crowds.left_out.remove(&identity);
        self.set_labels(identity, Some(labels), prefix);
        self.identity_changed(identity);
    }

    /// Forgets the labels of an identity. A reserved one gets its own labels back.
    pub fn remove_identity(&mut self, identity: NumericIdentity) {
        if let Some(labels) = reserved::labels(identity) {
            return self.upsert_identity(identity, labels);
        }
        if self.is_own(identity) || self.crowds.left_out.remove(&identity).is_some() {
            return;
        }
        if self.labels(identity).is_some() {
            let prefix = self.records[&identity].prefix;
            self.set_labels(identity, None, prefix);
            self.identity_changed(identity);
        }
    }

    /// Writes down what is known of an identity.
    pub(crate) fn set_labels(
        &mut self,
        identity: NumericIdentity,
        labels: Option<Labels>,
        prefix: Option<IpNet>,
    ) {
        let kind = self.home.kind_of(identity);
        let record = self.records.entry(identity).or_default();
        if kind == kind::OTHER_CLUSTER
            && let Some(cluster) = self.settings.scheme.cluster_of(identity)
        {
            let [before, after] = [record.labels.is_some(), labels.is_some()];
            self.crowds.relabel(cluster, before, after);
        }
        if let Some(old) = &record.labels {
            self.by_label.remove(kind, identity, old);
        }
        if let Some(new) = &labels {
            self.by_label.add(kind, identity, new);
        }
        (record.labels, record.prefix) = (labels, prefix);
    }

    /// Forgets an identity altogether.
    pub(crate) fn forget(&mut self, identity: NumericIdentity) -> Option<Record> {
        let record = self.records.remove(&identity)?;
        if let Some(labels) = &record.labels {
            let kind = self.home.kind_of(identity);
            self.by_label.remove(kind, identity, labels);
            if kind == kind::OTHER_CLUSTER
                && let Some(cluster) = self.settings.scheme.cluster_of(identity)
            {
                self.crowds.relabel(cluster, true, false);
            }
        }
        Some(record)
    }

    /// What selectors see of an identity.
    pub(crate) fn peer(&self, identity: NumericIdentity) -> Peer<'_> {
        let record = self.records.get(&identity);
        Peer {
            kind: self.home.kind_of(identity),
            labels: record.and_then(|record| record.labels.as_ref()),
            prefix: record.and_then(|record| record.prefix),
            ports: self.ports.of(identity),
        }
    }

    fn is_own(&self, identity: NumericIdentity) -> bool {
        identity.0 & 0xff00_0000 == NumericIdentity::SCOPE_LOCAL
    }

    pub(crate) fn labels(&self, identity: NumericIdentity) -> Option<&Labels> {
        self.records.get(&identity)?.labels.as_ref()
    }
}
