// SPDX-License-Identifier: Apache-2.0
//! etcd over gRPC: one channel with our own connector, every call bounded in time, every answer's cluster id checked.

mod client;
mod connector;
mod convert;
mod diagnose;
mod probe;
mod stream;
mod tls;
mod watch;

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcd_client::{
    Client, CompareOp, GetOptions, ResponseHeader, SortOrder, SortTarget, Txn, TxnOpResponse,
};
use tables::Tasks;
use tokio::sync::{OnceCell, watch as watch_channel};
use tonic::Code;

use crate::config::Config;
use crate::error::Error;
use crate::schema::keys;
use crate::store::{
    Compare, KeyValue, LeaseId, Listing, Op, PAGE, Page, PageToken, Result, Status, Store,
    TxnResult, WatchStream,
};
use connector::{LastFailure, Target};
use convert::{convert, convert_op, prefix_end};
pub use diagnose::{
    Certificate, Certificates, Diagnosis, EndpointDiagnosis, ServerDiagnosis, TlsDiagnosis,
    diagnose,
};

/// Largest answer that is read, in bytes.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// Times of a client. The defaults notice a dead process at once, a silent network within 10 s, a stopped process within 20 s.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientOptions {
    /// Longest time for connection and handshake with one endpoint.
    pub dial_timeout: Duration,
    /// Longest time for one request.
    pub request_timeout: Duration,
    /// How often a connection is asked whether it still works. There are two connections, asked in turn.
    pub probe_interval: Duration,
    /// Longest time for the answer of a server that acknowledges the question.
    pub probe_timeout: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            dial_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            probe_interval: Duration::from_secs(10),
            probe_timeout: Duration::from_secs(10),
        }
    }
}

struct Inner {
    client: OnceCell<Client>,
    sentinel: OnceCell<Client>,
    config: Arc<Config>,
    options: ClientOptions,
    failure: LastFailure,
    target: Target,
    /// The client for work has a token.
    logged_in: AtomicBool,
    /// Says that the connection for work is of no use; ends every watch.
    broken: watch_channel::Sender<Option<Error>>,
    tasks: Mutex<Tasks>,
    /// Pinned cluster id; 0 before the first answer.
    cluster_id: AtomicU64,
}

/// A client of an etcd. Clones share one connection, which is opened on demand and again after a failure.
#[derive(Clone)]
pub struct Etcd {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Etcd")
            .field("endpoints", &self.inner.config.endpoints)
            .finish_non_exhaustive()
    }
}

impl Etcd {
    /// A client that connects with its first request. For an etcd that may be away.
    pub fn lazy(config: Config, options: ClientOptions) -> Self {
        Self {
            inner: Arc::new(Inner {
                client: OnceCell::new(),
                sentinel: OnceCell::new(),
                config: Arc::new(config),
                options,
                failure: LastFailure::default(),
                target: Target::default(),
                logged_in: AtomicBool::new(false),
                broken: watch_channel::Sender::new(None),
                tasks: Mutex::default(),
                cluster_id: AtomicU64::new(0),
            }),
        }
    }

    /// A client that has reached its etcd: the heartbeat key, which every user may read, was asked for.
    pub async fn connect(config: Config, options: ClientOptions) -> Result<Self> {
        let etcd = Self::lazy(config, options);
        etcd.get(keys::HEARTBEAT).await?;
        Ok(etcd)
    }

    /// Runs one request with its time limit.
    async fn call<T>(
        &self,
        operation: &str,
        request: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T> {
        let after = self.inner.options.request_timeout;
        match tokio::time::timeout(after, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                if client::is_learner(&error) {
                    self.inner.target.leave();
                }
                self.login_after(&error).await;
                Err(self.explain(operation, error))
            }
            Err(_) => Err(self.inner.failure.get().unwrap_or_else(|| Error::Timeout {
                operation: operation.to_owned(),
                after,
            })),
        }
    }

    fn explain(&self, operation: &str, error: etcd_client::Error) -> Error {
        let operation = operation.to_owned();
        let etcd_client::Error::GRpcStatus(status) = &error else {
            let reason = error.to_string();
            return Error::Request { operation, reason };
        };
        let reason = crate::error::cut(status.message(), 512);
        match status.code() {
            Code::PermissionDenied | Code::Unauthenticated => {
                Error::Permission { operation, reason }
            }
            Code::Unavailable if reason.contains("no leader") => Error::NoLeader { operation },
            Code::ResourceExhausted if reason.contains("database space exceeded") => {
                Error::NoSpace { operation }
            }
            code => match self.inner.failure.get() {
                Some(failure)
                    if matches!(code, Code::Unavailable | Code::Unknown | Code::Internal) =>
                {
                    failure
                }
                _ => {
                    let mut reason = reason;
                    let mut source = std::error::Error::source(status);
                    while let Some(cause) = source {
                        let text = cause.to_string();
                        if !reason.ends_with(&text) {
                            reason = format!("{reason}: {text}");
                        }
                        source = cause.source();
                    }
                    let left = reason.contains(stream::LEFT);
                    if let Some(probed) = self.inner.broken.borrow().clone().filter(|_| left) {
                        return probed;
                    }
                    let reason = crate::error::cut(&reason, 512);
                    Error::Request { operation, reason }
                }
            },
        }
    }

    /// Checks the cluster id of an answer; answers its revision.
    fn check(&self, operation: &str, header: Option<&ResponseHeader>) -> Result<i64> {
        let Some(header) = header.filter(|header| header.cluster_id() != 0) else {
            let operation = operation.to_owned();
            return Err(Error::NoHeader { operation });
        };
        let actual = header.cluster_id();
        match self.inner.cluster_id.swap(actual, Ordering::AcqRel) {
            expected if expected == actual || expected == 0 => Ok(header.revision()),
            expected => Err(Error::ClusterIdChanged { expected, actual }),
        }
    }
}

impl Store for Etcd {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>> {
        let operation = format!("get {key}");
        let mut kv = self.client().await?.kv_client();
        let mut answer = self.call(&operation, kv.get(key, None)).await?;
        self.check(&operation, answer.header())?;
        Ok(answer.0.kvs.first_mut().and_then(convert))
    }

    async fn list_page(&self, prefix: &str, token: Option<PageToken>) -> Result<Page> {
        let operation = format!("list {prefix}");
        let kv = self.client().await?.kv_client();
        let mut kv = kv.max_decoding_message_size(MAX_MESSAGE);
        let from = match &token {
            Some(token) => token.from.clone(),
            None => prefix.as_bytes().to_vec(),
        };
        let mut limit = PAGE as i64;
        let mut answer = loop {
            let mut options = GetOptions::new()
                .with_range(prefix_end(prefix.as_bytes()))
                .with_limit(limit)
                .with_sort(SortTarget::Key, SortOrder::Ascend);
            if let Some(token) = &token {
                options = options.with_revision(token.revision);
            }
            match self
                .call(&operation, kv.get(from.clone(), Some(options)))
                .await
            {
                // Large values: fewer of them at once.
                Err(Error::Request { reason, .. })
                    if limit > 1 && reason.contains("message length too large") =>
                {
                    // Zero would be all of them.
                    limit = (limit / 8).max(1);
                }
                Err(Error::Request { reason, .. }) if reason.contains("compacted") => {
                    let revision = token.map_or(0, |token| token.revision);
                    return Err(Error::Compacted {
                        prefix: prefix.to_owned(),
                        revision,
                    });
                }
                other => break other?,
            }
        };
        let now = self.check(&operation, answer.header())?;
        let revision = token.map_or(now, |token| token.revision);
        let next = match (answer.0.more, answer.0.kvs.last()) {
            (true, Some(last)) => {
                let mut from = last.key.clone();
                from.push(0);
                Some(PageToken { from, revision })
            }
            _ => None,
        };
        let cluster_id = answer.header().map_or(0, |header| header.cluster_id());
        let kvs = answer.0.kvs.iter_mut().filter_map(convert).collect();
        let listing = Listing {
            revision,
            cluster_id,
            kvs,
        };
        Ok(Page { listing, next })
    }

    async fn watch(&self, prefix: &str, from_revision: i64) -> Result<WatchStream> {
        watch::open(self, prefix, from_revision).await
    }

    async fn txn(&self, compare: Vec<Compare>, then: Vec<Op>) -> Result<TxnResult> {
        let key = then.first().map_or("", |op| match op {
            Op::Put { key, .. } | Op::Delete { key } => key,
        });
        let operation = format!("write {key}");
        let lease = then.iter().find_map(|op| match op {
            Op::Put { lease, .. } => *lease,
            Op::Delete { .. } => None,
        });
        let equal = CompareOp::Equal;
        let compare: Vec<_> = compare
            .into_iter()
            .map(|compare| match compare {
                Compare::Absent(key) => etcd_client::Compare::version(key, equal, 0),
                Compare::CreatedAt(key, at) => {
                    etcd_client::Compare::create_revision(key, equal, at)
                }
                Compare::ModifiedAt(key, at) => etcd_client::Compare::mod_revision(key, equal, at),
            })
            .collect();
        let then: Vec<_> = then.into_iter().map(convert_op).collect();
        let mut kv = self.client().await?.kv_client();
        let txn = Txn::new().when(compare).and_then(then);
        let answer = match (self.call(&operation, kv.txn(txn)).await, lease) {
            (Err(Error::Request { reason, .. }), Some(lease))
                if reason.contains("lease not found") =>
            {
                return Err(Error::LeaseGone { lease });
            }
            (answer, _) => answer?,
        };
        let revision = self.check(&operation, answer.header())?;
        let deleted = |response: &TxnOpResponse| match response {
            TxnOpResponse::Delete(deleted) => u64::try_from(deleted.deleted()).unwrap_or(0),
            _ => 0,
        };
        Ok(TxnResult {
            succeeded: answer.succeeded(),
            revision,
            deleted: answer.op_responses().iter().map(deleted).sum(),
        })
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId> {
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX).max(1);
        let mut client = self.client().await?.lease_client();
        let answer = self
            .call("grant a lease", client.grant(seconds, None))
            .await?;
        self.check("grant a lease", answer.header())?;
        Ok(LeaseId(answer.id()))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration> {
        let operation = format!("renew lease {lease}");
        let mut client = self.client().await?.lease_client();
        let renewed = async {
            // Opening the stream sends the renewal and reads its answer.
            client.keep_alive(lease.0).await?;
            client.time_to_live(lease.0, None).await
        };
        let answer = match self.call(&operation, renewed).await {
            Err(Error::Request { reason, .. }) if reason.contains("lease not found") => {
                return Err(Error::LeaseGone { lease });
            }
            answer => answer?,
        };
        self.check(&operation, answer.header())?;
        match u64::try_from(answer.ttl()) {
            Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
            _ => Err(Error::LeaseGone { lease }),
        }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<()> {
        let operation = format!("revoke lease {lease}");
        let mut client = self.client().await?.lease_client();
        match self.call(&operation, client.revoke(lease.0)).await {
            Ok(answer) => self.check(&operation, answer.header()).map(drop),
            Err(Error::Request { reason, .. }) if reason.contains("lease not found") => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn lease_left(&self, lease: LeaseId) -> Result<Option<Duration>> {
        let operation = format!("look at lease {lease}");
        let mut client = self.client().await?.lease_client();
        let answer = match self
            .call(&operation, client.time_to_live(lease.0, None))
            .await
        {
            Err(Error::Request { reason, .. }) if reason.contains("lease not found") => {
                return Ok(None);
            }
            // Newer servers ask for the right to read its keys, so there is such a lease.
            Err(Error::Permission { .. }) => return Ok(Some(Duration::ZERO)),
            answer => answer?,
        };
        self.check(&operation, answer.header())?;
        let left = u64::try_from(answer.ttl()).ok().filter(|left| *left > 0);
        Ok(left.map(Duration::from_secs))
    }

    fn cluster_id(&self) -> Option<u64> {
        let id = self.inner.cluster_id.load(Ordering::Acquire);
        (id != 0).then_some(id)
    }

    async fn status(&self) -> Result<Status> {
        let mut client = self.client().await?.maintenance_client();
        let answer = self.call("status", client.status()).await?;
        let revision = self.check("status", answer.header())?;
        Ok(Status {
            cluster_id: answer.header().map_or(0, |header| header.cluster_id()),
            version: crate::error::cut(answer.version(), 64),
            has_leader: answer.leader() != 0,
            revision,
            full: answer
                .errors()
                .iter()
                .any(|alarm| alarm.contains("NOSPACE")),
        })
    }
}
