// SPDX-License-Identifier: Apache-2.0
//! Locks by the protocol of etcd's `concurrency.Mutex`: a key `<path>/<lease in hex>` per contender, and
//! the lowest create revision under `<path>/` owns the lock.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::Error;
use crate::store::{Compare, LeaseId, Op, Result, Store, WatchEvent};

/// Life of a lock's lease. Whoever dies with a lock blocks the others for this long.
pub const TTL: Duration = Duration::from_secs(25);
/// Longest wait for a lock.
pub const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a waiter renews its own lease.
const RENEW: Duration = Duration::from_secs(8);

/// A lock that is held. It lasts [`TTL`] at most: it is for a few operations, all of them guarded by it. Give it back with
/// [`Guard::release`], or drop it, which does not wait for that.
#[must_use = "a lock that is not kept is given back at once"]
pub struct Guard<S: Store> {
    path: String,
    key: String,
    revision: i64,
    lease: Lease<S>,
}

/// The lease of a contender. Whoever gives up, in the queue too, must not block the others for as long as a lease lives: many
/// who ask and give up again would block them for ever.
struct Lease<S: Store> {
    store: S,
    id: LeaseId,
    given_back: bool,
}

impl<S: Store> Lease<S> {
    async fn give_back(&mut self) -> Result<()> {
        let result = self.store.revoke(self.id).await;
        self.given_back = true;
        result
    }
}

impl<S: Store> Drop for Lease<S> {
    fn drop(&mut self) {
        if self.given_back {
            return;
        }
        // Without a runtime the program ends, and the lease by itself.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let (store, id) = (self.store.clone(), self.id);
        runtime.spawn(async move {
            // What is not given back by then has ended.
            match timeout(TTL, store.revoke(id)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "lock lease is left to expire"),
                Err(_) => tracing::debug!("lock lease is left to expire"),
            }
        });
    }
}

impl<S: Store> std::fmt::Debug for Guard<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard")
            .field("key", &self.key)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

impl<S: Store> Guard<S> {
    /// The condition that the lock is still ours.
    pub fn compare(&self) -> Compare {
        Compare::CreatedAt(self.key.clone(), self.revision)
    }

    /// The error of work whose condition failed.
    pub fn lost(&self) -> Error {
        Error::LockLost {
            path: self.path.clone(),
        }
    }

    /// Key of the lock.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Gives the lock back.
    pub async fn release(mut self) -> Result<()> {
        self.lease.give_back().await
    }
}

/// Takes the lock; see [`Store::lock`].
pub(crate) async fn acquire<S: Store>(store: S, path: String) -> Result<Guard<S>> {
    let deadline = Instant::now() + ACQUIRE_TIMEOUT;
    let id = store.grant(TTL).await?;
    let mut lease = Lease {
        store: store.clone(),
        id,
        given_back: false,
    };
    match contend(&store, &path, id, deadline).await {
        Ok((key, revision)) => Ok(Guard {
            path,
            key,
            revision,
            lease,
        }),
        Err(error) => {
            // Best effort: otherwise the lease ends by itself.
            if let Err(error) = lease.give_back().await {
                tracing::debug!(%path, %error, "lock lease is left to expire");
            }
            Err(error)
        }
    }
}

async fn contend<S: Store>(
    store: &S,
    path: &str,
    lease: LeaseId,
    deadline: Instant,
) -> Result<(String, i64)> {
    let key = format!("{path}/{lease}");
    let put = Op::Put {
        key: key.clone(),
        value: Bytes::new(),
        lease: Some(lease),
    };
    let created = store
        .txn(vec![Compare::Absent(key.clone())], vec![put])
        .await?;
    if !created.succeeded {
        return Err(Error::LockLost { path: path.into() });
    }
    loop {
        let listing = store.list(&format!("{path}/")).await?;
        let contenders = || {
            let direct = |k: &str| !k[path.len() + 1..].contains('/');
            listing.kvs.iter().filter(move |kv| direct(&kv.key))
        };
        if !contenders().any(|kv| kv.key == key) {
            return Err(Error::LockLost { path: path.into() });
        }
        let before = contenders()
            .filter(|kv| kv.create_revision < created.revision)
            .max_by_key(|kv| kv.create_revision);
        let Some(before) = before else {
            store.keep_alive(lease).await?;
            return Ok((key, created.revision));
        };
        if Instant::now() >= deadline {
            return Err(Error::LockTimeout {
                path: path.into(),
                after: ACQUIRE_TIMEOUT,
            });
        }
        wait_for_deletion(store, &before.key, listing.revision + 1, lease, deadline).await?;
    }
}

/// Returns when `key` is deleted, the watch ends, or the deadline has come.
async fn wait_for_deletion<S: Store>(
    store: &S,
    key: &str,
    from: i64,
    lease: LeaseId,
    deadline: Instant,
) -> Result<()> {
    let mut events = store.watch(key, from).await?;
    loop {
        let soon = (Instant::now() + RENEW).min(deadline);
        match timeout_at(soon, events.next()).await {
            Ok(Some(Ok(WatchEvent::Delete { key: gone, .. }))) if gone == key => return Ok(()),
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => {
                tracing::debug!(%key, %error, "lock watch ended, looking again");
                return Ok(());
            }
            Ok(None) => return Ok(()),
            Err(_) if soon == deadline => return Ok(()),
            Err(_) => {
                timeout(RENEW, store.keep_alive(lease))
                    .await
                    .map_err(|_| Error::Timeout {
                        operation: format!("renewal of lock lease {lease}"),
                        after: RENEW,
                    })??;
            }
        }
    }
}
