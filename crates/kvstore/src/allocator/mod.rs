// SPDX-License-Identifier: Apache-2.0
//! Security identities of one cluster, shared by its nodes through the kvstore, by the protocol of Cilium's
//! `pkg/allocator`.
//!
//! An identity is a *master key* `id/<number>` → labels without lease, and per node that uses it a leased *slave key*
//! `value/<labels>/<node>` → number. Allocation holds a lock per label set.

mod collector;
mod keeper;
mod protocol;
mod table;

use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use model::{ClusterId, IdentityScheme, Labels, NumericIdentity};
use tables::{Event, Tasks};
use tokio::time::timeout;

use crate::error::{Error, cut};
use crate::publisher::{Publisher, PublisherOptions, PublisherStatus};
use crate::schema::keys;
use crate::store::{Result, Store};
pub use collector::{Collected, Collector};
use table::Shared;

/// Longest time for an allocation that must ask the kvstore.
const LONGEST: Duration = Duration::from_secs(9);
/// How long the kvstore is asked about labels whose identity is known here.
const KNOWN: Duration = Duration::from_secs(2);

/// How to allocate.
#[derive(Clone, Debug)]
pub struct AllocatorOptions {
    /// The own cluster.
    pub cluster_id: ClusterId,
    /// How the number space is divided.
    pub scheme: IdentityScheme,
    /// End of this node's slave keys: its address. Unique in the cluster, without a slash.
    pub suffix: String,
    /// Life of the slave keys' leases.
    pub lease_ttl: Duration,
    /// How often deleted keys are looked for.
    pub sync_interval: Duration,
    /// Identities known from an earlier run, for a start without kvstore.
    pub known: Vec<(NumericIdentity, Labels)>,
}

impl AllocatorOptions {
    /// The usual times.
    pub fn new(cluster_id: ClusterId, suffix: impl Into<String>) -> Self {
        Self {
            cluster_id,
            scheme: IdentityScheme::default(),
            suffix: suffix.into(),
            lease_ttl: Duration::from_secs(15 * 60),
            sync_interval: Duration::from_secs(5 * 60),
            known: Vec::new(),
        }
    }
}

/// Whether an allocation made an identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IsNew {
    /// The number was free before.
    New,
    /// The cluster or this node had it.
    Known,
}

/// How allocation goes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AllocatorStatus {
    /// The list of identities was complete once.
    pub synced: bool,
    /// Identities of the cluster that are known here.
    pub known: usize,
    /// Identities in use on this node.
    pub local: usize,
    /// Keys with unacceptable values since the start.
    pub refused: u64,
    /// The last of them.
    pub last_refused: Option<String>,
    /// Why the kvstore cannot be followed now.
    pub failing: Option<Error>,
    /// How the slave keys are published.
    pub publisher: PublisherStatus,
}

/// Allocates identities; dropping it leaves its slave keys to their leases.
pub struct Allocator<S: Store> {
    store: S,
    options: Arc<AllocatorOptions>,
    shared: Arc<Shared>,
    slaves: Arc<Publisher<S>>,
    /// One allocation at a time speaks with the kvstore.
    gate: tokio::sync::Mutex<()>,
    /// Owns the keeper.
    _tasks: Tasks,
}

impl<S: Store> std::fmt::Debug for Allocator<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Allocator")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl<S: Store> Allocator<S> {
    /// Starts to follow the identities of the cluster. The kvstore may be away.
    pub fn start(store: S, options: AllocatorOptions) -> Self {
        let slaves = PublisherOptions {
            lease_ttl: options.lease_ttl,
            ..PublisherOptions::default()
        };
        let range = options.scheme.range(options.cluster_id);
        let shared = Arc::new(Shared::new(range, options.known.iter().cloned()));
        let options = Arc::new(options);
        let slaves = Arc::new(Publisher::start(store.clone(), slaves));
        let keeper = keeper::Keeper {
            store: store.clone(),
            options: options.clone(),
            shared: shared.clone(),
            slaves: slaves.clone(),
        };
        let mut tasks = Tasks::default();
        tasks.spawn("identity keeper", keeper.run());
        Self {
            store,
            options,
            shared,
            slaves,
            gate: tokio::sync::Mutex::new(()),
            _tasks: tasks,
        }
    }

    /// The identity of `labels`, which is in use here until as many calls of [`Allocator::release`]. Answers within 10 s: labels
    /// whose identity is known here get it without the kvstore too.
    pub async fn allocate(&self, labels: &Labels) -> Result<(NumericIdentity, IsNew)> {
        if let Some(id) = self.shared.state().reuse(labels) {
            return Ok((id, IsNew::Known));
        }
        let known = self.shared.state().number_of(labels);
        // A statement of its own: the lock must not live through the wait below.
        let failing = self.shared.state().failing.clone();
        let failure = match (known, failing) {
            // No use in asking.
            (Some(_), Some(failure)) => failure,
            (known, _) => {
                let limit = if known.is_some() { KNOWN } else { LONGEST };
                match timeout(limit, self.ask(labels)).await {
                    Ok(Ok(result)) => return Ok(result),
                    Ok(Err(
                        error @ (Error::IdentitiesExhausted { .. } | Error::Allocation { .. }),
                    )) => {
                        return Err(error);
                    }
                    Ok(Err(error)) => error,
                    Err(_) => self
                        .shared
                        .state()
                        .failing
                        .clone()
                        .unwrap_or(Error::Timeout {
                            operation: "an identity allocation".to_owned(),
                            after: limit,
                        }),
                }
            }
        };
        let known = self.shared.state().number_of(labels);
        match known {
            Some(id) => {
                tracing::warn!(%id, %failure, "the kvstore is away, a known identity is used");
                Ok((self.adopt(labels, id)?, IsNew::Known))
            }
            None => Err(Error::Allocation {
                labels: cut(&labels.canonical(), 512),
                reason: format!(
                    "{failure}; these labels have no identity yet, and only the kvstore can give one: try again when it is back"
                ),
            }),
        }
    }

    /// Puts an identity into use here; its slave key is written when possible.
    fn adopt(&self, labels: &Labels, id: NumericIdentity) -> Result<NumericIdentity> {
        let id = self.shared.state().adopt(labels, id);
        let slave = keys::identity_use(labels, &self.options.suffix);
        self.slaves.put(slave, id.to_string())?;
        Ok(id)
    }

    /// One use of `labels` less. With the last, this node's slave key goes; the identity stays for others.
    pub fn release(&self, labels: &Labels) {
        if self.shared.state().release(labels) {
            self.slaves
                .delete(&keys::identity_use(labels, &self.options.suffix));
        }
    }

    /// The labels of an identity of the own cluster.
    pub fn labels_of(&self, id: NumericIdentity) -> Option<Labels> {
        self.shared.state().labels_of(id)
    }

    /// How long ago an identity came to this cluster, as far as this node saw it; 10 min if it was there before.
    pub fn age_of(&self, id: NumericIdentity) -> Duration {
        self.shared.state().age_of(id)
    }

    /// All identities of the own cluster from now on: first those that are known, then every change. An identity that is in use
    /// here is never deleted.
    pub fn subscribe(&self) -> impl Stream<Item = Event<NumericIdentity, Labels>> + Send + 'static {
        table::subscribe(self.shared.clone())
    }

    /// How it goes.
    pub fn status(&self) -> AllocatorStatus {
        AllocatorStatus {
            publisher: self.slaves.status(),
            ..self.shared.state().status()
        }
    }
}
