// SPDX-License-Identifier: Apache-2.0
//! The one worker of a publisher: queue → kvstore, watches → queue, leases renewed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll};
use tables::{Backoff, Event};
use tokio::time::{Instant, sleep_until};

use super::leases::Leases;
use super::{Leftover, PublisherOptions, Shared};
use crate::error::{Error, cut};
use crate::rate::Rate;
use crate::reflect::{Update, reflect};
use crate::store::{Compare, KeyValue, LeaseId, Op, Result, Store};

/// A key as this publisher wrote it.
struct Owned {
    value: Bytes,
    lease: LeaseId,
    revision: i64,
}

/// A key that somebody else writes too.
struct Contest {
    backoff: Backoff,
    /// It is not rewritten before.
    not_before: Instant,
}

pub(super) struct Worker<S: Store> {
    store: S,
    shared: Arc<Shared>,
    owned: HashMap<String, Owned>,
    leases: Leases,
    rate: Rate,
    backoff: Backoff,
    /// Nothing is written before.
    not_before: Instant,
    contests: HashMap<String, Contest>,
    /// Owned keys that lists in progress have named, by watched prefix.
    listed: HashMap<usize, HashSet<String>>,
    prefixes: Vec<String>,
    leftover: Leftover,
    /// Watched prefixes whose first list was complete: what comes later is of no earlier run.
    seen: HashSet<usize>,
    /// Keys that nothing stands for and that wait to be deleted, with the revision in which they were found.
    leftovers: HashMap<String, i64>,
    /// Keys of which nobody knows whether they were written: the answer did not come.
    doubtful: HashSet<String>,
}

/// A key that nobody else wrote for so long is no longer contested.
const CONTEST_MEMORY: Duration = Duration::from_secs(120);
const DAY: Duration = Duration::from_secs(86_400);

impl<S: Store> Worker<S> {
    pub(super) fn new(store: S, options: PublisherOptions, shared: Arc<Shared>) -> Self {
        Self {
            store,
            shared,
            owned: HashMap::new(),
            leases: Leases::new(options.lease_ttl, options.keys_per_lease),
            rate: Rate::new(options.ops_per_second, options.burst),
            backoff: Backoff::new(Duration::from_millis(50), Duration::from_secs(10)),
            not_before: Instant::now(),
            contests: HashMap::new(),
            listed: HashMap::new(),
            prefixes: options.prefixes,
            leftover: options.leftover,
            seen: HashSet::new(),
            leftovers: HashMap::new(),
            doubtful: HashSet::new(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut changes: SelectAll<BoxStream<'static, (usize, Update)>> = SelectAll::new();
        for (index, prefix) in self.prefixes.iter().enumerate() {
            let updates = reflect(self.store.clone(), prefix.clone());
            changes.push(updates.map(move |update| (index, update)).boxed());
        }
        let shared = self.shared.clone();
        loop {
            let far = Instant::now() + DAY;
            let renewal = self.leases.due().unwrap_or(far);
            let has_work = !shared.state().queue.is_empty();
            let contest = self.contests.values().map(|contest| contest.not_before);
            let contest = contest
                .filter(|at| *at > Instant::now())
                .min()
                .unwrap_or(far);
            tokio::select! {
                biased;
                () = sleep_until(renewal) => self.renew().await,
                () = sleep_until(self.not_before), if has_work => self.work().await,
                Some((index, update)) = changes.next() => self.observe(index, update),
                () = shared.work.notified(), if !has_work => {}
                () = sleep_until(contest) => self.rejoin(),
            }
        }
    }

    /// Takes one key from the queue and makes the kvstore agree.
    async fn work(&mut self) {
        if let Err(wait) = self.rate.take() {
            self.not_before = Instant::now() + wait;
            return;
        }
        let another = std::mem::take(&mut self.shared.state().start_over);
        if another {
            self.start_over();
        }
        let (key, desired) = {
            let mut state = self.shared.state();
            let Some(key) = state.queue.pop_front() else {
                return;
            };
            state.queued.remove(&key);
            state.working = Some(key.clone());
            let desired = state.desired.get(&key).cloned();
            let stale = state.stale.remove(&key);
            drop(state);
            if stale {
                self.disown(&key);
            }
            (key, desired)
        };
        let result = match desired {
            Some(value) => self.write(&key, value).await,
            None => self.erase(&key).await,
        };
        match result {
            Ok(()) => self.succeeded(),
            Err(error) => {
                self.shared.enqueue(&key);
                self.failed(error);
            }
        }
        self.shared.state().working = None;
        self.shared.progress.notify_waiters();
    }

    async fn write(&mut self, key: &str, value: Bytes) -> Result<()> {
        self.leftovers.remove(key);
        if self
            .owned
            .get(key)
            .is_some_and(|owned| owned.value == value)
        {
            return Ok(());
        }
        let lease = match self.owned.get(key) {
            Some(owned) => owned.lease,
            None => self.leases.with_room(&self.store).await?,
        };
        self.doubtful.insert(key.to_owned());
        let revision = self.store.put(key, value.clone(), Some(lease)).await?;
        self.doubtful.remove(key);
        let owned = Owned {
            value,
            lease,
            revision,
        };
        if self.owned.insert(key.to_owned(), owned).is_none() {
            self.leases.add_key(lease);
        }
        Ok(())
    }

    /// Deletes the key if it is still as it was written here, or found as a leftover.
    async fn erase(&mut self, key: &str) -> Result<()> {
        self.contests.remove(key);
        let Some(revision) = self.written_at(key).await? else {
            self.doubtful.remove(key);
            return Ok(());
        };
        let compare = vec![Compare::ModifiedAt(key.to_owned(), revision)];
        let delete = Op::Delete {
            key: key.to_owned(),
        };
        self.store.txn(compare, vec![delete]).await?;
        self.leftovers.remove(key);
        self.doubtful.remove(key);
        self.disown(key);
        Ok(())
    }

    /// The revision in which this publisher, or an earlier run, wrote the key; `None` if neither did.
    async fn written_at(&self, key: &str) -> Result<Option<i64>> {
        if self.doubtful.contains(key) {
            let found = self.store.get(key).await?;
            let ours = found.filter(|kv| self.is_under_our_lease(kv));
            return Ok(ours.map(|kv| kv.mod_revision));
        }
        let owned = self.owned.get(key).map(|owned| owned.revision);
        Ok(owned.or_else(|| self.leftovers.get(key).copied()))
    }

    /// Nobody else writes under a lease of this publisher.
    fn is_under_our_lease(&self, kv: &KeyValue) -> bool {
        kv.lease.is_some_and(|lease| self.leases.has(lease))
    }

    fn disown(&mut self, key: &str) {
        if let Some(owned) = self.owned.remove(key) {
            self.leases.remove_key(owned.lease);
        }
    }

    async fn renew(&mut self) {
        let now = Instant::now();
        self.contests
            .retain(|_, contest| contest.not_before + CONTEST_MEMORY > now);
        if self.contests.is_empty() {
            self.shared.state().status.contested = None;
        }
        match self.leases.renew(&self.store).await {
            // A key that could not be written is still a failure.
            Ok(None) if self.shared.state().queue.is_empty() => self.succeeded(),
            Ok(None) => {}
            Ok(Some(lease)) => self.lease_gone(lease),
            Err(error) => self.failed(error),
        }
    }

    fn lease_gone(&mut self, lease: LeaseId) {
        tracing::warn!(%lease, "a lease has expired, its keys are written again");
        let keys = self.owned.iter().filter(|(_, owned)| owned.lease == lease);
        let keys: Vec<String> = keys.map(|(key, _)| key.clone()).collect();
        self.leases.forget(lease);
        for key in keys {
            self.owned.remove(&key);
            self.shared.enqueue(&key);
        }
    }

    /// Another etcd: nothing that was written is there, no lease is valid.
    fn start_over(&mut self) {
        self.leases.forget_all();
        for key in std::mem::take(&mut self.owned).into_keys() {
            self.shared.enqueue(&key);
        }
    }

    fn succeeded(&mut self) {
        self.backoff.reset();
        self.not_before = Instant::now();
        let mut state = self.shared.state();
        state.status.failures = 0;
        state.status.last_error = None;
        state.status.last_success = Some(Instant::now());
    }

    fn failed(&mut self, error: Error) {
        match &error {
            Error::LeaseGone { lease } => self.lease_gone(*lease),
            Error::ClusterIdChanged { .. } => self.start_over(),
            _ => {}
        }
        self.not_before = Instant::now() + self.backoff.next(rand::random());
        let mut state = self.shared.state();
        state.status.failures = state.status.failures.saturating_add(1);
        if state.status.last_error.as_ref() != Some(&error) {
            tracing::warn!(%error, "publishing failed, trying again");
        }
        state.status.last_error = Some(error);
    }

    /// Looks at what the kvstore says about the published prefixes.
    fn observe(&mut self, index: usize, update: Update) {
        match update {
            Update::Event(Event::Init) => {
                self.listed.insert(index, HashSet::new());
            }
            Update::Event(Event::InitApply(key, kv)) => {
                if self.owned.contains_key(&key) {
                    self.listed.entry(index).or_default().insert(key);
                } else if self.is_leftover(index, &kv) {
                    self.leftovers.insert(kv.key.clone(), kv.mod_revision);
                    self.shared.enqueue(&kv.key);
                }
                // Older than what was written here: a list that was asked for before, or a store that was set back.
                self.compare(kv, 0);
            }
            Update::Event(Event::InitDone) => {
                // The kvstore answers: no reason to wait any longer.
                self.not_before = Instant::now();
                self.seen.insert(index);
                let listed = self.listed.remove(&index).unwrap_or_default();
                let prefix = &self.prefixes[index];
                let gone = self.owned.keys();
                let gone = gone.filter(|key| key.starts_with(prefix) && !listed.contains(*key));
                for key in gone.cloned().collect::<Vec<_>>() {
                    self.rewrite(&key);
                }
            }
            Update::Event(Event::Apply(key, kv)) => {
                let written = self.owned.get(&key).map_or(0, |owned| owned.revision);
                self.compare(kv, written);
            }
            Update::Event(Event::Delete(key)) => {
                if self.owned.contains_key(&key) {
                    self.rewrite(&key);
                }
            }
            Update::Skipped { key, .. } => {
                if self.owned.contains_key(&key) {
                    self.rewrite(&key);
                }
            }
            Update::Failed(Error::ClusterIdChanged { .. }) => self.start_over(),
            Update::Failed(_) => {}
        }
    }

    /// Writes a key again that is not as it was written here, if it was changed after revision `after`.
    fn compare(&mut self, kv: KeyValue, after: i64) {
        let Some(owned) = self.owned.get(&kv.key) else {
            return;
        };
        let ours = kv.value == owned.value && kv.lease == Some(owned.lease);
        if kv.mod_revision > after && !ours {
            self.rewrite(&kv.key);
        }
    }

    /// Whether nothing stands for a listed key that an earlier run wrote, or this one: a store that was set back has again what
    /// was deleted, under leases that are renewed.
    fn is_leftover(&self, index: usize, kv: &KeyValue) -> bool {
        let wanted = self.shared.state().desired.contains_key(&kv.key);
        let earlier = || !self.seen.contains(&index) && self.leftover.is(kv);
        !wanted && (self.is_under_our_lease(kv) || earlier())
    }

    /// Somebody else deleted or changed a key: written again, at once the first time, ever later if it goes on.
    fn rewrite(&mut self, key: &str) {
        self.disown(key);
        let now = Instant::now();
        let fresh = || Contest {
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(60)),
            not_before: now,
        };
        let contest = self.contests.entry(key.to_owned()).or_insert_with(fresh);
        let first = contest.backoff.failures() == 0;
        if contest.not_before <= now {
            contest.not_before = now + contest.backoff.next(rand::random());
        }
        if first {
            self.shared.enqueue(key);
        } else {
            tracing::warn!(key, "somebody else writes this key too");
            self.shared.state().status.contested = Some(cut(key, 256));
        }
    }

    /// Queues contested keys whose pause is over; forgets contests that are.
    fn rejoin(&mut self) {
        let now = Instant::now();
        let (owned, shared) = (&self.owned, &self.shared);
        self.contests.retain(|key, contest| {
            if contest.not_before > now {
                return true;
            }
            let lost = !owned.contains_key(key);
            if lost {
                shared.enqueue(key);
            }
            lost
        });
        if self.contests.is_empty() {
            self.shared.state().status.contested = None;
        }
    }
}
