// SPDX-License-Identifier: Apache-2.0
//! The in-memory twin of etcd for simulation: deterministic, on tokio's clock (so leases expire in paused time), with faults
//! on command. Clones are clients of the same server.

mod server;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::error::Error;
use crate::store::{
    Compare, KeyValue, LeaseId, Listing, Op, PAGE, Page, PageToken, Result, Status, Store,
    TxnResult, WatchEvent, WatchStream,
};
use server::Server;
pub use server::Snapshot;

/// A client of an in-memory etcd. [`Clone`] shares server and connection; [`Memory::client`] makes another client, whose
/// connection fails by itself.
#[derive(Clone)]
pub struct Memory {
    server: Arc<Mutex<Server>>,
    link: Arc<Link>,
}

struct Link {
    up: AtomicBool,
    /// Answers to writes are lost.
    mute: AtomicBool,
    /// Counts losses of the connection; open watches end with them.
    losses: watch::Sender<u64>,
    cluster_id: Mutex<Option<u64>>,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(0x15)
    }
}

impl Memory {
    /// An empty etcd with this cluster id.
    pub fn new(cluster_id: u64) -> Self {
        Self {
            server: Arc::new(Mutex::new(Server::new(cluster_id))),
            link: Link::new(),
        }
    }

    /// Another client of the same server.
    pub fn client(&self) -> Self {
        Self {
            server: self.server.clone(),
            link: Link::new(),
        }
    }

    /// Cuts (`false`) or restores this client's connection. While it is cut requests fail at once and watches end.
    pub fn connect(&self, up: bool) {
        self.link.up.store(up, Ordering::SeqCst);
        if !up {
            self.link.losses.send_modify(|losses| *losses += 1);
        }
    }

    /// Ends the watches of this client as if its connection had been replaced.
    pub fn reset_connection(&self) {
        self.link.losses.send_modify(|losses| *losses += 1);
    }

    /// Forgets the history: watches from earlier revisions and lists at earlier revisions fail.
    pub fn compact(&self) {
        self.server().compact();
    }

    /// Ends a lease at once, as if it had not been renewed.
    pub fn expire(&self, lease: LeaseId) {
        self.server().revoke(lease);
    }

    /// Ends all leases at once.
    pub fn expire_all(&self) {
        self.server().expire_all();
    }

    /// Replaces the server behind the address by an empty one: another etcd, or with the same cluster id one that lost its disk.
    pub fn replace(&self, cluster_id: u64) {
        self.server().replace(cluster_id);
    }

    /// What the server holds now.
    pub fn snapshot(&self) -> Snapshot {
        self.server().snapshot()
    }

    /// Sets the server back: the same cluster id, an earlier revision, leases that live as long again as when they were granted.
    pub fn restore(&self, snapshot: &Snapshot) {
        self.server().restore(snapshot);
    }

    /// From now on requests that write do so, and their answers are lost (`true`); or all is well again.
    pub fn lose_answers(&self, lose: bool) {
        self.link.mute.store(lose, Ordering::SeqCst);
    }

    /// All keys and values now, for assertions.
    pub fn dump(&self) -> Vec<KeyValue> {
        self.server().range("", None)
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        let mut server = self.server.lock().expect("nothing panics under this lock");
        server.expire_due();
        server
    }

    fn request(&self, operation: &str) -> Result<MutexGuard<'_, Server>> {
        if !self.link.up.load(Ordering::SeqCst) {
            return Err(Error::Request {
                operation: operation.to_owned(),
                reason: "the connection is cut".to_owned(),
            });
        }
        let server = self.server();
        let mut pinned = self
            .link
            .cluster_id
            .lock()
            .expect("nothing panics under this lock");
        let actual = server.cluster_id();
        match pinned.replace(actual) {
            Some(expected) if expected != actual => {
                Err(Error::ClusterIdChanged { expected, actual })
            }
            _ => Ok(server),
        }
    }
}

impl Link {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            up: AtomicBool::new(true),
            mute: AtomicBool::new(false),
            losses: watch::Sender::new(0),
            cluster_id: Mutex::new(None),
        })
    }
}

/// A watch in progress. It also ends leases in time, which nobody else may ask about.
struct Follow {
    events: mpsc::UnboundedReceiver<Result<WatchEvent>>,
    grants: watch::Receiver<u64>,
    losses: watch::Receiver<u64>,
    memory: Memory,
    prefix: String,
}

impl Follow {
    async fn next(&mut self) -> Result<WatchEvent> {
        let closed = || Error::WatchClosed {
            prefix: self.prefix.clone(),
            reason: "the connection is cut".to_owned(),
        };
        loop {
            let expiry = self.memory.server().next_expiry();
            let expiry = expiry.unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400));
            tokio::select! {
                biased;
                _ = self.losses.changed() => return Err(closed()),
                event = self.events.recv() => return event.unwrap_or_else(|| Err(closed())),
                () = tokio::time::sleep_until(expiry) => {}
                granted = self.grants.changed() => if granted.is_err() {
                    return Err(closed());
                },
            }
        }
    }
}

impl Store for Memory {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>> {
        Ok(self.request("get")?.get(key))
    }

    async fn list_page(&self, prefix: &str, token: Option<PageToken>) -> Result<Page> {
        let server = self.request("list")?;
        if let Some(token) = &token {
            server.check_history(prefix, token.revision)?;
        }
        let revision = token
            .as_ref()
            .map_or(server.revision(), |token| token.revision);
        let from = token.map(|token| String::from_utf8_lossy(&token.from).into_owned());
        let mut kvs = server.range_at(prefix, from.as_deref(), revision);
        let more = kvs.len() > PAGE;
        kvs.truncate(PAGE);
        let next = kvs.last().filter(|_| more).map(|last| PageToken {
            from: format!("{}\0", last.key).into_bytes(),
            revision,
        });
        let cluster_id = server.cluster_id();
        let listing = Listing {
            revision,
            cluster_id,
            kvs,
        };
        Ok(Page { listing, next })
    }

    async fn watch(&self, prefix: &str, from_revision: i64) -> Result<WatchStream> {
        let mut server = self.request("watch")?;
        server.check_history(prefix, from_revision - 1)?;
        let follow = Follow {
            events: server.watch(prefix, from_revision),
            grants: server.grants(),
            losses: self.link.losses.subscribe(),
            memory: self.clone(),
            prefix: prefix.to_owned(),
        };
        drop(server);
        let state = Some(follow);
        let events = futures::stream::unfold(state, |state| async {
            let mut follow = state?;
            let event = follow.next().await;
            let go_on = event.is_ok().then_some(follow);
            Some((event, go_on))
        });
        Ok(events.boxed())
    }

    async fn txn(&self, compare: Vec<Compare>, then: Vec<Op>) -> Result<TxnResult> {
        let result = self.request("write")?.txn(&compare, then);
        if self.link.mute.load(Ordering::SeqCst) {
            let (operation, after) = ("write".to_owned(), Duration::ZERO);
            return Err(Error::Timeout { operation, after });
        }
        result
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId> {
        Ok(self.request("grant a lease")?.grant(ttl))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration> {
        self.request("renew a lease")?.keep_alive(lease)
    }

    async fn revoke(&self, lease: LeaseId) -> Result<()> {
        self.request("revoke a lease")?.revoke(lease);
        Ok(())
    }

    async fn lease_left(&self, lease: LeaseId) -> Result<Option<Duration>> {
        Ok(self.request("look at a lease")?.lease_left(lease))
    }

    fn cluster_id(&self) -> Option<u64> {
        *self
            .link
            .cluster_id
            .lock()
            .expect("nothing panics under this lock")
    }

    async fn status(&self) -> Result<Status> {
        let server = self.request("status")?;
        Ok(Status {
            cluster_id: server.cluster_id(),
            version: "3.4.0-memory".to_owned(),
            has_leader: true,
            revision: server.revision(),
            full: false,
        })
    }
}
