// SPDX-License-Identifier: Apache-2.0
//! Locks by the protocol of etcd's `concurrency.Mutex`: a key `<path>/<lease in hex>` per contender, and
//! the lowest create revision under `<path>/` owns the lock.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
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
/// [`Guard::release`]; one that is dropped blocks others until its lease ends.
#[must_use = "a lock that is not released blocks others until its lease ends"]
pub struct Guard<S: Store> {
    store: S,
    path: String,
    key: String,
    revision: i64,
    lease: LeaseId,
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
    pub async fn release(self) -> Result<()> {
        self.store.revoke(self.lease).await
    }
}

/// Takes the lock; see [`Store::lock`].
pub(crate) async fn acquire<S: Store>(store: S, path: String) -> Result<Guard<S>> {
    let deadline = Instant::now() + ACQUIRE_TIMEOUT;
    let lease = store.grant(TTL).await?;
    match contend(&store, &path, lease, deadline).await {
        Ok((key, revision)) => Ok(Guard {
            store,
            path,
            key,
            revision,
            lease,
        }),
        Err(error) => {
            // Best effort: otherwise the lease ends by itself.
            if let Err(error) = store.revoke(lease).await {
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
