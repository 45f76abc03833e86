// SPDX-License-Identifier: Apache-2.0
//! What this project asks of a kvstore: the operations that etcd has, and what follows from them.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;

use crate::error::Error;
use crate::lock::{self, Guard};

/// Result of an operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Keys per page of a list.
pub const PAGE: usize = 256;

/// Number of a lease.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct LeaseId(pub i64);

impl fmt::Display for LeaseId {
    /// Hexadecimal, as in lock keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A key with its value at a revision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyValue {
    /// The key, whole.
    pub key: String,
    /// The value.
    pub value: Bytes,
    /// Revision of the key's creation.
    pub create_revision: i64,
    /// Revision of its last change.
    pub mod_revision: i64,
    /// The lease that it hangs on.
    pub lease: Option<LeaseId>,
}

/// All keys under a prefix at one revision, in ascending order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listing {
    /// The revision; a watch goes on from the next.
    pub revision: i64,
    /// Number of the etcd cluster that answered.
    pub cluster_id: u64,
    /// The keys.
    pub kvs: Vec<KeyValue>,
}

/// A part of a list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// The keys, how far the list goes on, and the revision of the whole list.
    pub listing: Listing,
    /// Pass it to get the next page; `None` after the last.
    pub next: Option<PageToken>,
}

/// Where a list goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageToken {
    /// First key that the next page may hold.
    pub from: Vec<u8>,
    /// Revision of the first page.
    pub revision: i64,
}

/// A change of one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WatchEvent {
    /// The key has a new value.
    Put(KeyValue),
    /// The key is gone.
    Delete {
        /// The key, whole.
        key: String,
        /// Revision of the deletion.
        revision: i64,
    },
}

/// Changes of a prefix in order of their revisions. Ends after an error.
pub type WatchStream = BoxStream<'static, Result<WatchEvent>>;

/// A condition of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Compare {
    /// The key does not exist.
    Absent(String),
    /// The key was created at this revision and still exists.
    CreatedAt(String, i64),
    /// The key was last changed at this revision and still exists.
    ModifiedAt(String, i64),
}

/// A change in a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Writes a key.
    Put {
        /// The key.
        key: String,
        /// Its value.
        value: Bytes,
        /// The lease that it shall hang on; `None` takes it off any lease.
        lease: Option<LeaseId>,
    },
    /// Deletes a key.
    Delete {
        /// The key.
        key: String,
    },
}

/// What a transaction did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxnResult {
    /// All conditions held and all changes are made; otherwise none is.
    pub succeeded: bool,
    /// Revision of the store afterwards; of the changes if it succeeded.
    pub revision: i64,
    /// How many keys its deletions removed.
    pub deleted: u64,
}

/// What the server says about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// Number of the etcd cluster.
    pub cluster_id: u64,
    /// Version of the server.
    pub version: String,
    /// Whether it knows a leader.
    pub has_leader: bool,
    /// Revision of the store.
    pub revision: i64,
    /// The database has reached its quota (alarm NOSPACE): nothing is written.
    pub full: bool,
}

/// A kvstore: [`crate::Etcd`] or its in-memory twin [`crate::Memory`]. Every operation ends in bounded time.
pub trait Store: Clone + Send + Sync + 'static {
    /// The key, if it exists.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<KeyValue>>> + Send;

    /// One page of the keys under `prefix` (a plain string prefix), at the revision of the first page.
    fn list_page(
        &self,
        prefix: &str,
        token: Option<PageToken>,
    ) -> impl Future<Output = Result<Page>> + Send;

    /// Follows the keys under `prefix` from `from_revision` (inclusive).
    fn watch(
        &self,
        prefix: &str,
        from_revision: i64,
    ) -> impl Future<Output = Result<WatchStream>> + Send;

    /// Makes all changes if all conditions hold.
    fn txn(
        &self,
        compare: Vec<Compare>,
        then: Vec<Op>,
    ) -> impl Future<Output = Result<TxnResult>> + Send;

    /// A new lease.
    fn grant(&self, ttl: Duration) -> impl Future<Output = Result<LeaseId>> + Send;

    /// Renews a lease once; answers how long it lives from now. [`Error::LeaseGone`] if it is no more.
    fn keep_alive(&self, lease: LeaseId) -> impl Future<Output = Result<Duration>> + Send;

    /// Ends a lease and deletes its keys. An unknown lease is fine.
    fn revoke(&self, lease: LeaseId) -> impl Future<Output = Result<()>> + Send;

    /// How long a lease lives if nobody renews it; `None` if it is no more. Zero if it lives and only that is known.
    fn lease_left(&self, lease: LeaseId) -> impl Future<Output = Result<Option<Duration>>> + Send;

    /// Number of the etcd cluster that answered last; `None` before the first answer. The answer that first shows another
    /// number is turned into [`Error::ClusterIdChanged`], and so is every watch that began before.
    fn cluster_id(&self) -> Option<u64>;

    /// What the server says about itself.
    fn status(&self) -> impl Future<Output = Result<Status>> + Send;

    /// All keys under `prefix`, read in pages of [`PAGE`] at one revision. Only for small sets; [`crate::reflect`] streams.
    fn list(&self, prefix: &str) -> impl Future<Output = Result<Listing>> + Send {
        async move {
            let mut page = self.list_page(prefix, None).await?;
            let mut all = std::mem::take(&mut page.listing);
            while let Some(token) = page.next.take() {
                page = self.list_page(prefix, Some(token)).await?;
                all.kvs.append(&mut page.listing.kvs);
            }
            Ok(all)
        }
    }

    /// Writes a key whatever it was before; answers the revision.
    fn put(
        &self,
        key: &str,
        value: Bytes,
        lease: Option<LeaseId>,
    ) -> impl Future<Output = Result<i64>> + Send {
        let op = put_op(key, value, lease);
        async move { Ok(self.txn(Vec::new(), vec![op]).await?.revision) }
    }

    /// Writes a key if it does not exist; whether it was written.
    fn create(
        &self,
        key: &str,
        value: Bytes,
        lease: Option<LeaseId>,
    ) -> impl Future<Output = Result<bool>> + Send {
        let compare = vec![Compare::Absent(key.to_owned())];
        let op = put_op(key, value, lease);
        async move { Ok(self.txn(compare, vec![op]).await?.succeeded) }
    }

    /// Writes a key if its value or lease differs; whether it was written.
    fn update_if_different(
        &self,
        key: &str,
        value: Bytes,
        lease: Option<LeaseId>,
    ) -> impl Future<Output = Result<bool>> + Send {
        async move {
            let same = |kv: &KeyValue| kv.value == value && kv.lease == lease;
            if self.get(key).await?.as_ref().is_some_and(same) {
                return Ok(false);
            }
            self.put(key, value, lease).await?;
            Ok(true)
        }
    }

    /// Deletes a key; whether it existed.
    fn delete(&self, key: &str) -> impl Future<Output = Result<bool>> + Send {
        let op = Op::Delete {
            key: key.to_owned(),
        };
        async move { Ok(self.txn(Vec::new(), vec![op]).await?.deleted > 0) }
    }

    /// Deletes a key if nobody changed it since `revision`; whether it was deleted.
    fn delete_if_mod_revision(
        &self,
        key: &str,
        revision: i64,
    ) -> impl Future<Output = Result<bool>> + Send {
        let compare = vec![Compare::ModifiedAt(key.to_owned(), revision)];
        let op = Op::Delete {
            key: key.to_owned(),
        };
        async move { Ok(self.txn(compare, vec![op]).await?.succeeded) }
    }

    /// Takes the lock `path`, waiting at most [`lock::ACQUIRE_TIMEOUT`].
    fn lock(&self, path: &str) -> impl Future<Output = Result<Guard<Self>>> + Send {
        lock::acquire(self.clone(), path.to_owned())
    }

    /// [`Store::create`] under a lock; [`Error::LockLost`] if the lock is no longer ours.
    fn create_if_locked(
        &self,
        key: &str,
        value: Bytes,
        lease: Option<LeaseId>,
        guard: &Guard<Self>,
    ) -> impl Future<Output = Result<bool>> + Send {
        let compare = vec![guard.compare(), Compare::Absent(key.to_owned())];
        let op = put_op(key, value, lease);
        async move {
            if self.txn(compare, vec![op]).await?.succeeded {
                return Ok(true);
            }
            // Tell "exists" from "lock lost".
            match self.get(key).await? {
                Some(_) => Ok(false),
                None => Err(guard.lost()),
            }
        }
    }

    /// [`Store::put`] under a lock; [`Error::LockLost`] if the lock is no longer ours.
    fn put_if_locked(
        &self,
        key: &str,
        value: Bytes,
        lease: Option<LeaseId>,
        guard: &Guard<Self>,
    ) -> impl Future<Output = Result<()>> + Send {
        let compare = vec![guard.compare()];
        let op = put_op(key, value, lease);
        async move {
            match self.txn(compare, vec![op]).await?.succeeded {
                true => Ok(()),
                false => Err(guard.lost()),
            }
        }
    }
}

fn put_op(key: &str, value: Bytes, lease: Option<LeaseId>) -> Op {
    Op::Put {
        key: key.to_owned(),
        value,
        lease,
    }
}
