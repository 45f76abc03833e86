// SPDX-License-Identifier: Apache-2.0
//! The I/O of one connection: keys of a remote's kvstore in, decoded rows and observations out. It makes no decisions and
//! ends at the first failure.

use std::future::Future;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered, SelectAll};
use futures::{FutureExt, StreamExt};
use kvstore::schema::{decode_cluster_config, keys};
use kvstore::{Error, KeyValue, LeaseId, Store, Update};
use model::{ClusterConfig, ClusterName};
use tables::Event;
use tokio::sync::mpsc;

use crate::validate::decode;
use crate::{Kind, Refusal, Session, Value, Watch};

/// Most changes of one kind that travel together.
const BATCH: usize = 256;
/// How often the cluster configuration is read where watching its prefix is not allowed.
const POLL: Duration = Duration::from_secs(10);

/// A change of a row.
#[derive(Debug)]
pub(crate) enum Row {
    Begin,
    Put(String, Result<Value, Refusal>, Option<LeaseId>),
    Delete(String),
    Listed,
}

/// Something seen over a connection.
#[derive(Debug)]
pub(crate) enum Seen {
    Failed(String),
    Answered(Option<u64>),
    Heartbeat,
    Config(Result<Option<ClusterConfig>, String>),
    Canary(Kind),
    /// How long a lease lives; `None` if it is gone.
    Lease(LeaseId, Option<Duration>),
}

/// What a link is asked for.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// To follow something, below `cilium/cache` or not.
    Follow(Watch, bool),
    /// To find out whether a lease lives.
    Lease(LeaseId),
}

/// Where a link reports to. Rows may wait for the agent; what was seen does not wait for rows.
#[derive(Clone, Debug)]
pub(crate) struct Reports {
    pub(crate) seen: mpsc::Sender<(ClusterName, Session, Seen)>,
    pub(crate) rows: mpsc::Sender<(ClusterName, Session, Kind, Vec<Row>)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Heartbeat,
    Config,
    Canaries { cached: bool },
    Rows(Kind),
}

/// One prefix that is followed.
struct Stream {
    source: Source,
    prefix: String,
    updates: BoxStream<'static, Update>,
}

impl futures::Stream for Stream {
    type Item = Update3;
    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let (source, length) = (self.source, self.prefix.len());
        self.updates
            .poll_next_unpin(context)
            .map(|update| Some((source, length, update?)))
    }
}

/// An update, where it is from, and the length of what was watched.
type Update3 = (Source, usize, Update);

/// Why a link ends.
enum Stop {
    /// The connection is of no use any more.
    Failed(String),
    /// Nobody listens.
    Closed,
}

struct Link<S> {
    name: ClusterName,
    session: Session,
    store: S,
    reports: Reports,
    streams: SelectAll<Stream>,
    /// Questions about leases under way.
    asked: FuturesUnordered<BoxFuture<'static, (LeaseId, kvstore::Result<Option<Duration>>)>>,
    /// The configuration that the list in progress named.
    config: Option<Result<ClusterConfig, String>>,
}

/// What is to be followed for a kind of rows, with a slash at the end.
pub(crate) fn row_prefix(name: &ClusterName, kind: Kind, cached: bool) -> String {
    let prefix = match (kind, cached) {
        (Kind::Nodes, false) => format!("{}/{name}", keys::NODES),
        (Kind::Nodes, true) => format!("{}/{name}", keys::cached(keys::NODES)),
        (Kind::Identities, false) => keys::IDENTITY_IDS.to_owned(),
        (Kind::Identities, true) => format!("{}/{name}/id", keys::cached(keys::IDENTITIES)),
        (Kind::Ips, false) => keys::IPS.to_owned(),
        (Kind::Ips, true) => format!("{}/{name}", keys::cached(keys::IP_STATE)),
    };
    keys::under(&prefix)
}

/// The canary of a kind.
pub(crate) fn canary(name: &ClusterName, kind: Kind, cached: bool) -> String {
    let prefix = match kind {
        Kind::Nodes => keys::NODES,
        Kind::Identities => keys::IDENTITIES,
        Kind::Ips => keys::IP_STATE,
    };
    let prefix = if cached {
        keys::cached(prefix)
    } else {
        prefix.to_owned()
    };
    keys::synced(name.as_str(), &prefix)
}

/// Connects and reports until something fails or `wanted` is closed.
pub(crate) async fn run<S: Store>(
    name: ClusterName,
    session: Session,
    connect: impl Future<Output = kvstore::Result<S>>,
    wanted: mpsc::UnboundedReceiver<Wanted>,
    reports: Reports,
) {
    let seen = reports.seen.clone();
    let failed = match connect.await {
        Ok(store) => {
            let streams = SelectAll::new();
            let link = Link {
                name: name.clone(),
                session,
                store,
                reports,
                streams,
                asked: FuturesUnordered::new(),
                config: None,
            };
            link.run(wanted).await.err()
        }
        Err(error) => Some(error.to_string()),
    };
    if let Some(reason) = failed {
        // Nobody listens when the mesh is shut down.
        let _ = seen.send((name, session, Seen::Failed(reason))).await;
    }
}

impl<S: Store> Link<S> {
    async fn run(mut self, mut wanted: mpsc::UnboundedReceiver<Wanted>) -> Result<(), String> {
        self.follow(Source::Heartbeat, keys::HEARTBEAT.to_owned());
        let mut next = None;
        loop {
            while let Ok(want) = wanted.try_recv() {
                self.want(want);
            }
            let update = match next.take() {
                Some(update) => Some(update),
                None => tokio::select! {
                    watch = wanted.recv() => match watch {
                        Some(want) => {
                            self.want(want);
                            continue;
                        }
                        None => return Ok(()),
                    },
                    Some((lease, left)) = self.asked.next() => {
                        let left = left.map_err(|error| error.to_string())?;
                        match self.report(Seen::Lease(lease, left)).await {
                            Ok(()) => continue,
                            Err(_) => return Ok(()),
                        }
                    }
                    update = self.streams.next() => update,
                },
            };
            let Some(update) = update else { return Ok(()) };
            match self.updates(update).await {
                Ok(rest) => next = rest,
                Err(Stop::Failed(reason)) => return Err(reason),
                Err(Stop::Closed) => return Ok(()),
            }
        }
    }

    /// Follows `prefix`; what is followed already is listed again.
    fn follow(&mut self, source: Source, prefix: String) {
        self.unfollow(source);
        let updates = kvstore::reflect(self.store.clone(), prefix.clone()).boxed();
        self.streams.push(Stream {
            source,
            prefix,
            updates,
        });
    }

    fn unfollow(&mut self, source: Source) {
        self.streams = std::mem::take(&mut self.streams)
            .into_iter()
            .filter(|stream| stream.source != source)
            .collect();
    }

    fn want(&mut self, want: Wanted) {
        let (watch, cached) = match want {
            Wanted::Follow(watch, cached) => (watch, cached),
            Wanted::Lease(lease) => {
                let store = self.store.clone();
                let ask = async move { (lease, store.lease_left(lease).await) };
                return self.asked.push(ask.boxed());
            }
        };
        let name = self.name.as_str();
        match watch {
            Watch::Config => self.follow(Source::Config, keys::cluster_config(name)),
            Watch::Canaries => {
                let prefix = keys::under(&format!("{}/{name}", keys::SYNCED));
                self.follow(Source::Canaries { cached }, prefix);
            }
            Watch::Rows(kind) => {
                self.follow(Source::Rows(kind), row_prefix(&self.name, kind, cached))
            }
        }
    }

    /// Handles `first` and whatever else is there already; answers what no longer fitted.
    async fn updates(&mut self, first: Update3) -> Result<Option<Update3>, Stop> {
        let mut rows: [Vec<Row>; 3] = Default::default();
        let mut next = Some(first);
        let mut failed = None;
        for _ in 0..BATCH {
            let Some((source, prefix, update)) = next.take() else {
                break;
            };
            if let Update::Failed(error) = update {
                failed = self.failed(source, error);
            } else if let Source::Rows(kind) = source {
                rows[kind as usize].extend(row(kind, prefix, update));
            } else if let Some(seen) = self.seen(source, update) {
                self.report(seen).await?;
            }
            if failed.is_some() {
                break;
            }
            next = self.streams.next().now_or_never().flatten();
        }
        for (kind, rows) in Kind::ALL.into_iter().zip(rows) {
            if !rows.is_empty() {
                let batch = (self.name.clone(), self.session, kind, rows);
                self.reports
                    .rows
                    .send(batch)
                    .await
                    .map_err(|_| Stop::Closed)?;
            }
        }
        failed.map_or(Ok(next), |reason| Err(Stop::Failed(reason)))
    }

    async fn report(&mut self, seen: Seen) -> Result<(), Stop> {
        let report = (self.name.clone(), self.session, seen);
        self.reports
            .seen
            .send(report)
            .await
            .map_err(|_| Stop::Closed)
    }

    /// Why the link ends because of `error`, if it does.
    fn failed(&mut self, source: Source, error: Error) -> Option<String> {
        match error {
            // The list starts again by itself.
            Error::Compacted { .. } => None,
            // Some users may read the key, but not watch the prefix that it is.
            Error::Permission { .. } if source == Source::Config && self.streams.len() > 1 => {
                let key = keys::cluster_config(self.name.as_str());
                let store = self.store.clone();
                self.unfollow(Source::Config);
                let updates = poll(store, key.clone()).boxed();
                self.streams.push(Stream {
                    source: Source::Config,
                    prefix: key,
                    updates,
                });
                None
            }
            error => Some(error.to_string()),
        }
    }

    fn seen(&mut self, source: Source, update: Update) -> Option<Seen> {
        match source {
            Source::Heartbeat => match update {
                Update::Event(Event::InitDone) => Some(Seen::Answered(self.store.cluster_id())),
                Update::Event(Event::Apply(..)) => Some(Seen::Heartbeat),
                _ => None,
            },
            Source::Canaries { cached } => match update {
                Update::Event(Event::Apply(key, _) | Event::InitApply(key, _)) => {
                    let kind = Kind::ALL
                        .into_iter()
                        .find(|kind| canary(&self.name, *kind, cached) == key);
                    kind.map(Seen::Canary)
                }
                _ => None,
            },
            Source::Config => self.config(update).map(Seen::Config),
            Source::Rows(_) => None,
        }
    }

    fn config(&mut self, update: Update) -> Option<Result<Option<ClusterConfig>, String>> {
        let own = keys::cluster_config(self.name.as_str());
        let decode = |kv: &KeyValue| {
            decode_cluster_config(&own, &kv.value).map_err(|error| error.to_string())
        };
        match update {
            Update::Event(Event::Init) => {
                self.config = None;
                None
            }
            Update::Event(Event::InitApply(key, kv)) if key == own => {
                self.config = Some(decode(&kv));
                None
            }
            Update::Event(Event::InitDone) => Some(self.config.take().transpose()),
            Update::Event(Event::Apply(key, kv)) if key == own => Some(decode(&kv).map(Some)),
            Update::Event(Event::Delete(key)) if key == own => Some(Ok(None)),
            Update::Skipped { key, error } if key == own => Some(Err(error.to_string())),
            _ => None,
        }
    }
}

/// The key, again and again, as if it were listed.
fn poll<S: Store>(store: S, key: String) -> impl futures::Stream<Item = Update> + Send {
    let state = (store, key, false);
    futures::stream::unfold(state, |(store, key, again)| async move {
        if again {
            tokio::time::sleep(POLL).await;
        }
        let updates = match store.get(&key).await {
            Ok(Some(kv)) => vec![
                Update::Event(Event::Init),
                Update::Event(Event::InitApply(key.clone(), kv)),
                Update::Event(Event::InitDone),
            ],
            Ok(None) => vec![Update::Event(Event::Init), Update::Event(Event::InitDone)],
            Err(error) => vec![Update::Failed(error)],
        };
        Some((futures::stream::iter(updates), (store, key, true)))
    })
    .flatten()
}

/// What a change means for a table. `prefix` is the length of what was watched.
fn row(kind: Kind, prefix: usize, update: Update) -> Option<Row> {
    let put = |key: String, kv: &KeyValue| {
        let (watched, suffix) = key.split_at_checked(prefix)?;
        let value = decode(kind, watched, suffix, &kv.value);
        Some(Row::Put(suffix.to_owned(), value, kv.lease))
    };
    match update {
        Update::Event(Event::Init) => Some(Row::Begin),
        Update::Event(Event::InitApply(key, kv) | Event::Apply(key, kv)) => put(key, &kv),
        Update::Event(Event::InitDone) => Some(Row::Listed),
        Update::Event(Event::Delete(key)) => Some(Row::Delete(key.get(prefix..)?.to_owned())),
        Update::Skipped { key, error } => {
            let suffix = key.get(prefix..)?.to_owned();
            let refusal = Refusal::Malformed(error.to_string());
            Some(Row::Put(suffix, Err(refusal), None))
        }
        Update::Failed(_) => None,
    }
}
