// SPDX-License-Identifier: Apache-2.0
//! What can go wrong between this process and a kvstore.

use std::time::Duration;

use crate::store::LeaseId;

/// A failure of a kvstore operation. Every text says what failed, where, and what to do if that is known.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kind of kvstore is not supported.
    #[error(
        "kvstore {kind:?} is not supported: only etcd (API v3) is; set --kvstore etcd and --kvstore-opt etcd.config=FILE"
    )]
    Kind {
        /// What was asked for, cut to 64 characters.
        kind: String,
    },
    /// No connection to any endpoint.
    #[error("cannot connect to etcd: {reason}")]
    Connect {
        /// What each endpoint answered.
        reason: String,
    },
    /// The TLS handshake failed or a certificate file is unusable.
    #[error("TLS to etcd: {reason}")]
    Tls {
        /// In plain words, naming the file concerned.
        reason: String,
    },
    /// The server did not answer in time.
    #[error("etcd did not answer {operation} within {after:?}")]
    Timeout {
        /// Operation and key.
        operation: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The server refused or the connection broke.
    #[error("etcd: {operation}: {reason}")]
    Request {
        /// Operation and key.
        operation: String,
        /// The server's words.
        reason: String,
    },
    /// The member that was asked knows no leader.
    #[error(
        "etcd has no leader ({operation}): more than half of its members must run and reach each other"
    )]
    NoLeader {
        /// Operation and key.
        operation: String,
    },
    /// The database has reached its quota and takes no more.
    #[error(
        "etcd is full ({operation}): compact and defragment it or raise its quota-backend-bytes, then disarm the alarm NOSPACE (etcdctl alarm disarm)"
    )]
    NoSpace {
        /// Operation and key.
        operation: String,
    },
    /// User or certificate may not do this.
    #[error("etcd refuses {operation}: {reason}; check the client certificate's user and its role")]
    Permission {
        /// Operation and key.
        operation: String,
        /// The server's words.
        reason: String,
    },
    /// The revision is no longer available: list again.
    #[error("etcd has compacted revision {revision} of {prefix:?}: it must be listed again")]
    Compacted {
        /// The watched or listed prefix.
        prefix: String,
        /// The revision that was asked for.
        revision: i64,
    },
    /// The watch ended.
    #[error("watch of {prefix:?} ended: {reason}")]
    WatchClosed {
        /// The watched prefix.
        prefix: String,
        /// Why.
        reason: String,
    },
    /// Behind the address is another etcd than before.
    #[error(
        "etcd changed its cluster id from {expected:x} to {actual:x}: another etcd answers at this address, everything must be listed again"
    )]
    ClusterIdChanged {
        /// The pinned id.
        expected: u64,
        /// The id of the last answer.
        actual: u64,
    },
    /// An answer without header.
    #[error(
        "etcd answered {operation} without a response header: is there something else than etcd v3 at this address?"
    )]
    NoHeader {
        /// Operation and key.
        operation: String,
    },
    /// The lease is unknown or expired.
    #[error("lease {lease} is gone: it expired or was revoked")]
    LeaseGone {
        /// The lease.
        lease: LeaseId,
    },
    /// The lock was not free in time.
    #[error("lock {path:?} was not free within {after:?}: somebody else holds it")]
    LockTimeout {
        /// Path of the lock.
        path: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The lock was lost while work was done under it.
    #[error("lock {path:?} was lost: its lease expired")]
    LockLost {
        /// Path of the lock.
        path: String,
    },
    /// A value is larger than is accepted.
    #[error("value of {key:?} has {size} bytes, at most {limit} are accepted: it is ignored")]
    TooLarge {
        /// Its key, cut to 256 characters.
        key: String,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A value does not say what it should.
    #[error(transparent)]
    Decode(#[from] crate::schema::DecodeError),
    /// All identities of the cluster are in use.
    #[error(
        "no identity is free: all {size} of this cluster ({first}..{last}) are in use; remove unused identities or reduce the labels that make up identities (option labels)"
    )]
    IdentitiesExhausted {
        /// How many there are.
        size: u32,
        /// First number.
        first: u32,
        /// Last number.
        last: u32,
    },
    /// No identity could be had for these labels.
    #[error("no identity for labels {labels:?}: {reason}")]
    Allocation {
        /// The labels, cut to 512 characters.
        labels: String,
        /// Why.
        reason: String,
    },
}

impl Error {
    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        !matches!(
            self,
            Error::Kind { .. }
                | Error::Permission { .. }
                | Error::Decode(_)
                | Error::TooLarge { .. }
        )
    }
}

/// At most `max` characters of `text`, for messages that quote what came from outside.
pub(crate) fn cut(text: &str, max: usize) -> String {
    text.chars().take(max).collect()
}
