// SPDX-License-Identifier: Apache-2.0
//! What an agent writes for its whole cluster where no operator does: heartbeat, cluster configuration, canaries.
//!
//! Every agent of the cluster runs this with the same values and a lease of its own. A key that has the right
//! value is left alone whoever wrote it; when it vanishes with its writer, another agent writes it. One agent beats, and the
//! others take over when the beat stops.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use kvstore::schema::{encode_cluster_config, keys, now};
use kvstore::{Error, LeaseId, Store, Update, reflect};
use model::{ClusterConfig, ClusterId, ClusterName, IdentityScheme};
use tables::{Backoff, Event};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Pause between heartbeats of a cluster.
const BEAT: Duration = Duration::from_secs(60);
/// How much later than that others beat, so that not all do at once.
const SPREAD: Duration = Duration::from_secs(10);
/// How soon a key that changed or vanished is compared.
const RECHECK: Duration = Duration::from_millis(500);
/// How often keys are compared although nothing told of a change.
const REFRESH: Duration = Duration::from_secs(5 * 60);

/// What the cluster says about itself.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// Its name.
    pub cluster: ClusterName,
    /// Its id.
    pub id: ClusterId,
    /// How it divides identities.
    pub scheme: IdentityScheme,
    /// How long its keys outlive their writer.
    pub lease_ttl: Duration,
}

impl Announcement {
    /// The cluster configuration. No services are exported, and nothing but services v1 would be.
    pub fn config(&self) -> ClusterConfig {
        ClusterConfig {
            id: self.id,
            synced_canaries: true,
            cached: false,
            max_connected_clusters: self.scheme.max_clusters().into(),
            service_exports_enabled: Some(false),
            endpoint_slices_export_mode: String::new(),
        }
    }

    /// The canaries. Service prefixes are always empty here, which agrees with the configuration.
    pub fn canaries(&self) -> Vec<String> {
        let state = |prefix: &str| format!("{}/{prefix}/v1", keys::STATE);
        let prefixes = [
            "nodes",
            "identities",
            "ip",
            "services",
            "serviceexports",
            "endpointslices",
        ];
        prefixes
            .iter()
            .map(|prefix| keys::synced(self.cluster.as_str(), &state(prefix)))
            .collect()
    }
}

/// How announcing goes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AnnouncerStatus {
    /// Why the last attempt failed, empty if it did not.
    pub error: String,
    /// The canaries are written.
    pub announced: bool,
}

/// Writes for the cluster until it is dropped; its keys then live as long as their lease.
#[derive(Debug)]
pub struct Announcer {
    published: watch::Sender<bool>,
    status: watch::Receiver<AnnouncerStatus>,
    task: JoinHandle<()>,
}

impl Announcer {
    /// Begins with heartbeat and configuration. Needs a tokio runtime; the kvstore may be away.
    pub fn start<S: Store>(store: S, announcement: Announcement) -> Self {
        let (published, wanted) = watch::channel(false);
        let (status_tx, status) = watch::channel(AnnouncerStatus::default());
        let worker = Worker {
            store,
            wanted,
            status: status_tx,
            announcement,
            lease: None,
            renew_at: Instant::now(),
            refresh_at: Instant::now(),
            beat_at: Instant::now(),
            backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(10)),
            known: BTreeSet::new(),
        };
        Self {
            published,
            status,
            task: tokio::spawn(worker.run()),
        }
    }

    /// Everything that this agent has to say was written once: the canaries may follow.
    pub fn published(&self) {
        self.published.send_replace(true);
    }

    /// How it goes.
    pub fn status(&self) -> AnnouncerStatus {
        self.status.borrow().clone()
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Worker<S> {
    store: S,
    wanted: watch::Receiver<bool>,
    status: watch::Sender<AnnouncerStatus>,
    announcement: Announcement,
    lease: Option<LeaseId>,
    renew_at: Instant,
    refresh_at: Instant,
    beat_at: Instant,
    backoff: Backoff,
    /// Keys that were right when they were seen last.
    known: BTreeSet<String>,
}

impl<S: Store> Worker<S> {
    async fn run(mut self) {
        let name = self.announcement.cluster.to_string();
        let prefixes = [
            keys::HEARTBEAT.to_owned(),
            keys::cluster_config(&name),
            keys::under(&format!("{}/{name}", keys::SYNCED)),
        ];
        let updates = prefixes.map(|prefix| reflect(self.store.clone(), prefix).boxed());
        let mut updates = futures::stream::select_all(updates);
        let mut canaries = *self.wanted.borrow_and_update();
        loop {
            let due = self.renew_at.min(self.refresh_at).min(self.beat_at);
            tokio::select! {
                update = updates.next() => {
                    let Some(update) = update else { return };
                    self.observe(update);
                }
                Ok(()) = self.wanted.changed(), if !canaries => {
                    canaries = *self.wanted.borrow_and_update();
                    self.refresh_at = Instant::now();
                }
                () = tokio::time::sleep_until(due) => self.work(canaries).await,
            }
        }
    }

    fn observe(&mut self, update: Update) {
        let now = Instant::now();
        match update {
            // Somebody beats: be the one to take over, but later than it.
            Update::Event(Event::Apply(key, _)) if key == keys::HEARTBEAT => {
                self.beat_at = now + BEAT + SPREAD.mul_f64(rand::random());
                if !self.status.borrow().error.is_empty() {
                    // Who failed to beat has nothing left to do, and would call it a failure until its next turn.
                    self.refresh_at = self.refresh_at.min(now + RECHECK);
                }
            }
            Update::Event(Event::Apply(key, _) | Event::Delete(key)) => {
                let ours = self.announcement.canaries().contains(&key)
                    || key == keys::cluster_config(self.announcement.cluster.as_str());
                if ours && self.known.remove(&key) {
                    // With another opinion about the value somebody could change it back at once, for ever.
                    self.refresh_at = self.refresh_at.min(now + RECHECK);
                }
            }
            // A list follows a lost connection, and nobody told what happened meanwhile.
            Update::Event(Event::InitDone) => {
                self.refresh_at = self.refresh_at.min(now + RECHECK);
            }
            _ => {}
        }
    }

    async fn work(&mut self, canaries: bool) {
        match self.try_work(canaries).await {
            Ok(()) => {
                self.backoff.reset();
                self.status.send_replace(AnnouncerStatus {
                    error: String::new(),
                    announced: canaries,
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot announce this cluster");
                if matches!(error, Error::LeaseGone { .. }) {
                    // Its keys went with it.
                    self.lease = None;
                    self.refresh_at = Instant::now();
                }
                let at = Instant::now() + self.backoff.next(rand::random());
                for due in [&mut self.renew_at, &mut self.refresh_at, &mut self.beat_at] {
                    *due = (*due).max(at);
                }
                self.status
                    .send_modify(|status| status.error = error.to_string());
            }
        }
    }

    async fn try_work(&mut self, canaries: bool) -> Result<(), Error> {
        let lease = self.lease().await?;
        let start = Instant::now();
        if start >= self.beat_at {
            self.store.put(keys::HEARTBEAT, now(), Some(lease)).await?;
            self.beat_at = start + BEAT;
        }
        if start >= self.refresh_at {
            let config = encode_cluster_config(&self.announcement.config());
            let key = keys::cluster_config(self.announcement.cluster.as_str());
            self.ensure(&key, Some(config), lease).await?;
            for key in self.announcement.canaries().iter().filter(|_| canaries) {
                self.ensure(key, None, lease).await?;
            }
            self.refresh_at = start + REFRESH;
        }
        Ok(())
    }

    async fn lease(&mut self) -> Result<LeaseId, Error> {
        let ttl = self.announcement.lease_ttl;
        let lease = match self.lease {
            Some(lease) if Instant::now() < self.renew_at => return Ok(lease),
            Some(lease) => {
                self.store.keep_alive(lease).await?;
                lease
            }
            None => self.store.grant(ttl).await?,
        };
        self.lease = Some(lease);
        self.renew_at = Instant::now() + ttl / 3;
        Ok(lease)
    }

    /// The key exists, with `value` if that matters. Who wrote it does not.
    async fn ensure(
        &mut self,
        key: &str,
        value: Option<Bytes>,
        lease: LeaseId,
    ) -> Result<(), Error> {
        let found = self.store.get(key).await?;
        let right = |found: &Bytes| value.as_ref().is_none_or(|value| value == found);
        let value = match found {
            Some(kv) if right(&kv.value) => None,
            found => Some((found.is_some(), value.unwrap_or_else(now))),
        };
        match value {
            Some((true, value)) => drop(self.store.put(key, value, Some(lease)).await?),
            Some((false, value)) => drop(self.store.create(key, value, Some(lease)).await?),
            None => {}
        }
        self.known.insert(key.to_owned());
        Ok(())
    }
}
