// SPDX-License-Identifier: Apache-2.0
//! Where this node's identities come from: the cluster's etcd, or, for a node on its own, this agent.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use kvstore::{Allocator, AllocatorStatus, Etcd};
use model::{ClusterId, IdentityScheme, Labels, NumericIdentity, reserved};

/// Longest wait for a new identity. With the wait for a pod's object it is below the 10 s after which a plugin has its
/// answer.
const PATIENCE: Duration = Duration::from_secs(6);

/// Gives identities to label sets.
pub(crate) enum Identities {
    /// The cluster's etcd.
    Cluster(Allocator<Etcd>),
    /// No store: numbers of this node's own.
    Alone(Mutex<Alone>),
}

/// Numbers without a store.
pub(crate) struct Alone {
    known: HashMap<Labels, (NumericIdentity, u32)>,
    next: u32,
    last: u32,
}

/// No identity for a label set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// The store says no.
    #[error("no identity for {labels}: {source}")]
    Store {
        /// The labels.
        labels: String,
        /// Why.
        source: kvstore::Error,
    },
    /// It says nothing.
    #[error(
        "no identity for {labels}: this cluster's etcd does not answer and the labels are not known here; look at `cilium status`, KVStore"
    )]
    Silent {
        /// The labels.
        labels: String,
    },
    /// All numbers are in use.
    #[error("no identity for {labels}: all {count} numbers of this node are in use")]
    Exhausted {
        /// The labels.
        labels: String,
        /// How many there are.
        count: usize,
    },
}

impl Identities {
    /// Identities without a store; `known` are in use since before this start.
    pub(crate) fn alone(
        scheme: IdentityScheme,
        cluster: ClusterId,
        known: Vec<(NumericIdentity, Labels)>,
    ) -> Self {
        let range = scheme.range(cluster);
        let known: HashMap<_, _> = known
            .into_iter()
            .filter(|(id, _)| range.contains(&id.0))
            .map(|(id, labels)| (labels, (id, 0)))
            .collect();
        let next = known
            .values()
            .map(|(id, _)| id.0 + 1)
            .max()
            .unwrap_or(*range.start());
        Self::Alone(Mutex::new(Alone {
            known,
            next,
            last: *range.end(),
        }))
    }

    /// The identity of `labels`, in use once more.
    pub(crate) async fn allocate(&self, labels: &Labels) -> Result<NumericIdentity, IdentityError> {
        if let Some(identity) = fixed(labels) {
            return Ok(identity);
        }
        match self {
            Self::Cluster(allocator) => {
                match tokio::time::timeout(PATIENCE, allocator.allocate(labels)).await {
                    Ok(Ok((identity, _))) => Ok(identity),
                    Ok(Err(source)) => Err(IdentityError::Store {
                        labels: labels.to_string(),
                        source,
                    }),
                    Err(_) => Err(IdentityError::Silent {
                        labels: labels.to_string(),
                    }),
                }
            }
            Self::Alone(alone) => alone.lock().expect("no panic while held").allocate(labels),
        }
    }

    /// How long until every node knows the identity, if news take no longer than `grace`.
    pub(crate) fn known_in(&self, identity: NumericIdentity, grace: Duration) -> Duration {
        match self {
            Self::Cluster(allocator) => grace.saturating_sub(allocator.age_of(identity)),
            Self::Alone(_) => Duration::ZERO,
        }
    }

    /// How it goes with the cluster's etcd.
    pub(crate) fn status(&self) -> AllocatorStatus {
        match self {
            Self::Cluster(allocator) => allocator.status(),
            Self::Alone(_) => AllocatorStatus::default(),
        }
    }

    /// One use less.
    pub(crate) fn release(&self, labels: &Labels) {
        if fixed(labels).is_some() {
            return;
        }
        match self {
            Self::Cluster(allocator) => allocator.release(labels),
            Self::Alone(alone) => {
                let mut alone = alone.lock().expect("no panic while held");
                if let Some((_, uses)) = alone.known.get_mut(labels) {
                    *uses = uses.saturating_sub(1);
                }
            }
        }
    }
}

/// The identity that these labels have in every cluster: a pod whose object is not there yet needs no store.
fn fixed(labels: &Labels) -> Option<NumericIdentity> {
    let init = reserved::labels(reserved::INIT);
    (Some(labels) == init.as_ref()).then_some(reserved::INIT)
}

impl Alone {
    fn allocate(&mut self, labels: &Labels) -> Result<NumericIdentity, IdentityError> {
        if let Some((identity, uses)) = self.known.get_mut(labels) {
            *uses += 1;
            return Ok(*identity);
        }
        if self.next > self.last {
            return Err(IdentityError::Exhausted {
                labels: labels.to_string(),
                count: self.known.len(),
            });
        }
        let identity = NumericIdentity(self.next);
        self.next += 1;
        self.known.insert(labels.clone(), (identity, 1));
        Ok(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pod_that_nobody_knows_has_the_identity_that_means_so_everywhere() {
        let all = Identities::alone(IdentityScheme::default(), ClusterId(5), Vec::new());
        let init = crate::core::Core::<datapath::Fake>::init_labels();
        let web = Labels::parse(b"k8s:app=web;").expect("labels");
        assert_eq!(all.allocate(&init).await.expect("fixed"), reserved::INIT);
        all.release(&init);
        let given = all.allocate(&web).await.expect("room");
        assert_eq!(
            IdentityScheme::default().cluster_of(given),
            Some(ClusterId(5))
        );
    }
}
