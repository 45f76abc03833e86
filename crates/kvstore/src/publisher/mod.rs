// SPDX-License-Identifier: Apache-2.0
//! Keeps keys of this process in the kvstore: written under leases, renewed, rewritten when somebody else deletes or changes
//! them, written later when the kvstore is away. One worker; the caller only says what shall be.

mod leases;
mod worker;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tables::Tasks;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::{Error, cut};
use crate::schema::MAX_VALUE;
use crate::store::{KeyValue, Store};

/// How to publish.
#[derive(Clone, Debug)]
pub struct PublisherOptions {
    /// Life of the leases; keys outlive this process by it. 25 s to a day.
    pub lease_ttl: Duration,
    /// Most keys on one lease.
    pub keys_per_lease: usize,
    /// Writes per second.
    pub ops_per_second: f64,
    /// Writes at once after a quiet time.
    pub burst: u32,
    /// Prefixes that hold the published keys; they are watched for changes by others.
    pub prefixes: Vec<String>,
    /// Tells keys of an earlier run, found in the first list of [`PublisherOptions::prefixes`], that nothing stands for any
    /// more: they are deleted. Asked only about keys that this publisher neither wrote nor shall write.
    pub leftover: Leftover,
}

/// Says of a key that this publisher did not write whether it is a leftover of an earlier run.
#[derive(Clone)]
pub struct Leftover(Arc<dyn Fn(&KeyValue) -> bool + Send + Sync>);

impl Leftover {
    /// Leftovers are what `is_leftover` says.
    pub fn new(is_leftover: impl Fn(&KeyValue) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_leftover))
    }

    fn is(&self, kv: &KeyValue) -> bool {
        (self.0)(kv)
    }
}

impl Default for Leftover {
    /// There are none.
    fn default() -> Self {
        Self::new(|_| false)
    }
}

impl std::fmt::Debug for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Leftover")
    }
}

impl Default for PublisherOptions {
    fn default() -> Self {
        Self {
            lease_ttl: Duration::from_secs(15 * 60),
            keys_per_lease: 1000,
            ops_per_second: 20.0,
            burst: 100,
            prefixes: Vec::new(),
            leftover: Leftover::default(),
        }
    }
}

/// How publishing goes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PublisherStatus {
    /// Keys that shall be in the kvstore.
    pub desired: usize,
    /// Keys that wait to be written or deleted.
    pub pending: usize,
    /// Failed operations since the last success.
    pub failures: u32,
    /// The last failure, if nothing succeeded since.
    pub last_error: Option<Error>,
    /// When an operation succeeded last.
    pub last_success: Option<Instant>,
    /// A key that somebody else writes too, if there is one.
    pub contested: Option<String>,
}

#[derive(Default)]
struct State {
    desired: HashMap<String, Bytes>,
    queue: VecDeque<String>,
    queued: HashSet<String>,
    /// Keys that were found missing or changed: written again even if they were written before.
    stale: HashSet<String>,
    /// Another etcd answers: nothing that was written is there.
    start_over: bool,
    /// In the worker's hand.
    working: Option<String>,
    status: PublisherStatus,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// The queue has grown.
    work: Notify,
    /// A key is done.
    progress: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }

    fn enqueue(&self, key: &str) {
        let mut state = self.state();
        if state.queued.insert(key.to_owned()) {
            state.queue.push_back(key.to_owned());
        }
        drop(state);
        self.work.notify_one();
    }
}

/// Publishes keys; dropping it stops that and leaves the keys to their leases.
pub struct Publisher<S: Store> {
    shared: Arc<Shared>,
    /// Owns the worker.
    _tasks: Tasks,
    store: std::marker::PhantomData<fn() -> S>,
}

impl<S: Store> std::fmt::Debug for Publisher<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl<S: Store> Publisher<S> {
    /// Starts the worker. The kvstore may be away.
    pub fn start(store: S, options: PublisherOptions) -> Self {
        let shared = Arc::new(Shared::default());
        let mut tasks = Tasks::default();
        let worker = worker::Worker::new(store, options, shared.clone());
        tasks.spawn("publisher", worker.run());
        Self {
            shared,
            _tasks: tasks,
            store: std::marker::PhantomData,
        }
    }

    /// The key shall have this value. Returns at once; equal rewrites cost nothing.
    pub fn put(&self, key: impl Into<String>, value: impl Into<Bytes>) -> Result<(), Error> {
        let (key, value) = (key.into(), value.into());
        if value.len() > MAX_VALUE {
            return Err(Error::TooLarge {
                key: cut(&key, 256),
                size: value.len(),
                limit: MAX_VALUE,
            });
        }
        let before = self
            .shared
            .state()
            .desired
            .insert(key.clone(), value.clone());
        if before.as_ref() != Some(&value) {
            self.shared.enqueue(&key);
        }
        Ok(())
    }

    /// The key shall not be there. A key that this publisher did not write, or that somebody else wrote since, stays.
    pub fn delete(&self, key: &str) {
        if self.shared.state().desired.remove(key).is_some() {
            self.shared.enqueue(key);
        }
    }

    /// The key was found missing or changed in the kvstore: it is written again.
    pub fn refresh(&self, key: &str) {
        let mut state = self.shared.state();
        if state.desired.contains_key(key) {
            state.stale.insert(key.to_owned());
            drop(state);
            self.shared.enqueue(key);
        }
    }

    /// Another etcd answers at the address: everything is written again. Only needed without watched prefixes, which tell.
    pub fn start_over(&self) {
        let mut state = self.shared.state();
        state.start_over = true;
        let keys: Vec<String> = state.desired.keys().cloned().collect();
        drop(state);
        for key in keys {
            self.shared.enqueue(&key);
        }
    }

    /// Waits until this key is not pending.
    pub async fn written(&self, key: &str) {
        self.until(|state| !state.queued.contains(key) && state.working.as_deref() != Some(key))
            .await;
    }

    /// How it goes.
    pub fn status(&self) -> PublisherStatus {
        let state = self.shared.state();
        PublisherStatus {
            desired: state.desired.len(),
            pending: state.queue.len() + usize::from(state.working.is_some()),
            ..state.status.clone()
        }
    }

    /// Waits until nothing is pending.
    pub async fn settled(&self) {
        self.until(|state| state.queue.is_empty() && state.working.is_none())
            .await;
    }

    async fn until(&self, done: impl Fn(&State) -> bool) {
        loop {
            let progress = self.shared.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            if done(&self.shared.state()) {
                return;
            }
            progress.await;
        }
    }
}
