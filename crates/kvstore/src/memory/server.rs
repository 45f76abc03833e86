// SPDX-License-Identifier: Apache-2.0
//! What the server of the twin knows: history, leases, watchers.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::Error;
use crate::store::{Compare, KeyValue, LeaseId, Op, Result, TxnResult, WatchEvent};

#[derive(Clone)]
struct Lease {
    ttl: Duration,
    ends: Instant,
}

struct Watcher {
    prefix: String,
    events: UnboundedSender<Result<WatchEvent>>,
}

/// An etcd in memory.
pub(super) struct Server {
    cluster_id: u64,
    revision: i64,
    compacted: i64,
    keys: BTreeMap<String, KeyValue>,
    /// Every change since the last compaction, with its revision.
    history: Vec<(i64, WatchEvent)>,
    /// The keys at the last compaction.
    base: BTreeMap<String, KeyValue>,
    leases: HashMap<LeaseId, Lease>,
    last_lease: i64,
    watchers: Vec<Watcher>,
    /// Counts leases granted, for those who wait for the next expiry.
    grants: watch::Sender<u64>,
}

/// What a server held at a moment.
#[derive(Clone)]
pub struct Snapshot {
    revision: i64,
    keys: BTreeMap<String, KeyValue>,
    leases: HashMap<LeaseId, Lease>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

fn key_of(event: &WatchEvent) -> &str {
    match event {
        WatchEvent::Put(kv) => &kv.key,
        WatchEvent::Delete { key, .. } => key,
    }
}

impl Server {
    pub(super) fn new(cluster_id: u64) -> Self {
        Self {
            cluster_id,
            revision: 1,
            compacted: 0,
            keys: BTreeMap::new(),
            history: Vec::new(),
            base: BTreeMap::new(),
            leases: HashMap::new(),
            last_lease: 0x1000,
            watchers: Vec::new(),
            grants: watch::Sender::new(0),
        }
    }

    pub(super) fn replace(&mut self, cluster_id: u64) {
        for watcher in self.watchers.drain(..) {
            if cluster_id != self.cluster_id {
                // A watcher that is gone needs no message.
                let _sent = watcher.events.send(Err(Error::ClusterIdChanged {
                    expected: self.cluster_id,
                    actual: cluster_id,
                }));
            }
        }
        // Leases of before mean nothing, and their numbers do not come again.
        let last_lease = self.last_lease;
        *self = Self::new(cluster_id);
        self.last_lease = last_lease;
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            revision: self.revision,
            keys: self.keys.clone(),
            leases: self.leases.clone(),
        }
    }

    pub(super) fn restore(&mut self, snapshot: &Snapshot) {
        self.replace(self.cluster_id);
        let Snapshot {
            revision,
            keys,
            leases,
        } = snapshot.clone();
        (self.revision, self.compacted) = (revision, revision);
        (self.keys, self.base) = (keys.clone(), keys);
        self.leases = leases;
        for lease in self.leases.values_mut() {
            lease.ends = Instant::now() + lease.ttl;
        }
    }

    pub(super) fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    pub(super) fn get(&self, key: &str) -> Option<KeyValue> {
        self.keys.get(key).cloned()
    }

    pub(super) fn range(&self, prefix: &str, from: Option<&str>) -> Vec<KeyValue> {
        let from = from.unwrap_or(prefix).to_owned();
        let keys = self.keys.range(from..);
        keys.take_while(|(key, _)| key.starts_with(prefix))
            .map(|(_, kv)| kv.clone())
            .collect()
    }

    pub(super) fn range_at(
        &self,
        prefix: &str,
        from: Option<&str>,
        revision: i64,
    ) -> Vec<KeyValue> {
        if revision == self.revision {
            return self.range(prefix, from);
        }
        let mut keys = self.base.clone();
        for (_, event) in self.history.iter().take_while(|(at, _)| *at <= revision) {
            match event {
                WatchEvent::Put(kv) => keys.insert(kv.key.clone(), kv.clone()),
                WatchEvent::Delete { key, .. } => keys.remove(key),
            };
        }
        let from = from.unwrap_or(prefix).to_owned();
        let keys = keys.range(from..);
        keys.take_while(|(key, _)| key.starts_with(prefix))
            .map(|(_, kv)| kv.clone())
            .collect()
    }

    pub(super) fn check_history(&self, prefix: &str, revision: i64) -> Result<()> {
        if revision < self.compacted {
            return Err(Error::Compacted {
                prefix: prefix.to_owned(),
                revision,
            });
        }
        Ok(())
    }

    pub(super) fn compact(&mut self) {
        self.compacted = self.revision;
        self.history.clear();
        self.base = self.keys.clone();
    }

    pub(super) fn watch(
        &mut self,
        prefix: &str,
        from: i64,
    ) -> UnboundedReceiver<Result<WatchEvent>> {
        let (events, receiver) = unbounded_channel();
        for (_, event) in self.history.iter().filter(|(at, _)| *at >= from) {
            if key_of(event).starts_with(prefix) {
                // The receiver is in hand.
                let _sent = events.send(Ok(event.clone()));
            }
        }
        self.watchers.push(Watcher {
            prefix: prefix.to_owned(),
            events,
        });
        receiver
    }

    fn record(&mut self, event: WatchEvent) {
        self.watchers.retain(|watcher| {
            !key_of(&event).starts_with(&watcher.prefix)
                || watcher.events.send(Ok(event.clone())).is_ok()
        });
        self.history.push((self.revision, event));
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Absent(key) => !self.keys.contains_key(key),
            Compare::CreatedAt(key, at) => self
                .keys
                .get(key)
                .is_some_and(|kv| kv.create_revision == *at),
            Compare::ModifiedAt(key, at) => {
                self.keys.get(key).is_some_and(|kv| kv.mod_revision == *at)
            }
        }
    }

    pub(super) fn txn(&mut self, compare: &[Compare], then: Vec<Op>) -> Result<TxnResult> {
        let succeeded = compare.iter().all(|compare| self.holds(compare));
        let mut deleted = 0;
        if succeeded {
            for op in &then {
                if let Op::Put {
                    lease: Some(lease), ..
                } = op
                    && !self.leases.contains_key(lease)
                {
                    return Err(Error::LeaseGone { lease: *lease });
                }
            }
            let changes = |op: &Op| match op {
                Op::Put { .. } => true,
                Op::Delete { key } => self.keys.contains_key(key),
            };
            if then.iter().any(changes) {
                self.revision += 1;
            }
            for op in then {
                deleted += self.apply(op);
            }
        }
        Ok(TxnResult {
            succeeded,
            revision: self.revision,
            deleted,
        })
    }

    /// Applies at the current revision; how many keys were deleted.
    fn apply(&mut self, op: Op) -> u64 {
        let revision = self.revision;
        match op {
            Op::Put { key, value, lease } => {
                let create_revision = self
                    .keys
                    .get(&key)
                    .map_or(revision, |kv| kv.create_revision);
                let kv = KeyValue {
                    key: key.clone(),
                    value,
                    create_revision,
                    mod_revision: revision,
                    lease,
                };
                self.keys.insert(key, kv.clone());
                self.record(WatchEvent::Put(kv));
                0
            }
            Op::Delete { key } => match self.keys.remove(&key) {
                Some(_) => {
                    self.record(WatchEvent::Delete { key, revision });
                    1
                }
                None => 0,
            },
        }
    }

    pub(super) fn grant(&mut self, ttl: Duration) -> LeaseId {
        self.last_lease += 1;
        let id = LeaseId(self.last_lease);
        let ends = Instant::now() + ttl;
        self.leases.insert(id, Lease { ttl, ends });
        self.grants.send_modify(|grants| *grants += 1);
        id
    }

    pub(super) fn keep_alive(&mut self, id: LeaseId) -> Result<Duration> {
        let lease = self.leases.get_mut(&id);
        let lease = lease.ok_or(Error::LeaseGone { lease: id })?;
        lease.ends = Instant::now() + lease.ttl;
        Ok(lease.ttl)
    }

    pub(super) fn lease_left(&self, id: LeaseId) -> Option<Duration> {
        let lease = self.leases.get(&id)?;
        Some(lease.ends.duration_since(Instant::now()))
    }

    pub(super) fn revoke(&mut self, id: LeaseId) {
        if self.leases.remove(&id).is_none() {
            return;
        }
        let keys = self.keys.values().filter(|kv| kv.lease == Some(id));
        let keys: Vec<String> = keys.map(|kv| kv.key.clone()).collect();
        if !keys.is_empty() {
            self.revision += 1;
        }
        for key in keys {
            self.apply(Op::Delete { key });
        }
    }

    pub(super) fn grants(&self) -> watch::Receiver<u64> {
        self.grants.subscribe()
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.leases.values().map(|lease| lease.ends).min()
    }

    pub(super) fn expire_all(&mut self) {
        let mut ids: Vec<LeaseId> = self.leases.keys().copied().collect();
        ids.sort();
        for id in ids {
            self.revoke(id);
        }
    }

    pub(super) fn expire_due(&mut self) {
        let now = Instant::now();
        let due = self.leases.iter().filter(|(_, lease)| lease.ends <= now);
        let mut due: Vec<LeaseId> = due.map(|(id, _)| *id).collect();
        due.sort();
        for id in due {
            self.revoke(id);
        }
    }
}
