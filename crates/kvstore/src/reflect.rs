// SPDX-License-Identifier: Apache-2.0
//! A prefix as a stream of changes: a list in pages, then a watch from the next revision, and over again
//! after any failure. What was known stays valid until the next list is complete.

use std::collections::VecDeque;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tables::{Backoff, Event};

use crate::error::{Error, cut};
use crate::schema::MAX_VALUE;
use crate::store::{KeyValue, PageToken, Store, WatchEvent, WatchStream};

/// One step of [`reflect`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Update {
    /// The keys changed. Keys are whole, not stripped of the prefix.
    Event(Event<String, KeyValue>),
    /// The value of this key is not acceptable; what was known of it should stay, also through a list in progress.
    Skipped {
        /// The key, whole.
        key: String,
        /// Why.
        error: Error,
    },
    /// List or watch failed; it is tried again after a pause. [`Event::InitDone`] tells when it is well again.
    Failed(Error),
}

/// Shortest and longest pause between attempts.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);
/// A watch that lived this long ends a series of failures.
const STABLE: Duration = Duration::from_secs(10);

enum Phase {
    /// A list begins.
    Start,
    /// A list goes on.
    List(PageToken, u64),
    /// The list is complete.
    Open { revision: i64, cluster_id: u64 },
    /// The watch runs since then.
    Watch(WatchStream, tokio::time::Instant),
}

struct Reflector<S> {
    store: S,
    prefix: String,
    phase: Phase,
    ready: VecDeque<Update>,
    backoff: Backoff,
    pause: Option<Duration>,
}

/// Lists and follows all keys under `prefix` for ever. Nothing runs unless the stream is polled, and nothing more than a page
/// is buffered.
pub fn reflect<S: Store>(
    store: S,
    prefix: impl Into<String>,
) -> impl Stream<Item = Update> + Send + 'static {
    let state = Reflector {
        store,
        prefix: prefix.into(),
        phase: Phase::Start,
        ready: VecDeque::new(),
        backoff: Backoff::new(FIRST, LONGEST),
        pause: None,
    };
    futures::stream::unfold(state, |mut state| async move {
        loop {
            if let Some(update) = state.ready.pop_front() {
                return Some((update, state));
            }
            if let Some(pause) = state.pause.take() {
                tokio::time::sleep(pause).await;
            }
            if let Err(error) = state.step().await {
                state.fail(error);
            }
        }
    })
}

impl<S: Store> Reflector<S> {
    async fn step(&mut self) -> Result<(), Error> {
        match std::mem::replace(&mut self.phase, Phase::Start) {
            Phase::Start => {
                let page = self.store.list_page(&self.prefix, None).await?;
                self.ready.push_back(Update::Event(Event::Init));
                self.take(page);
            }
            Phase::List(token, cluster_id) => {
                let page = self.store.list_page(&self.prefix, Some(token)).await?;
                self.same_cluster(cluster_id, Some(page.listing.cluster_id))?;
                self.take(page);
            }
            Phase::Open {
                revision,
                cluster_id,
            } => {
                let watch = self.store.watch(&self.prefix, revision + 1).await?;
                self.same_cluster(cluster_id, self.store.cluster_id())?;
                self.phase = Phase::Watch(watch, tokio::time::Instant::now());
            }
            Phase::Watch(mut watch, since) => {
                let next = watch.next().await;
                if since.elapsed() >= STABLE {
                    self.backoff.reset();
                }
                let event = next.unwrap_or_else(|| {
                    Err(Error::WatchClosed {
                        prefix: self.prefix.clone(),
                        reason: "the server closed it".into(),
                    })
                })?;
                self.phase = Phase::Watch(watch, since);
                let update = match event {
                    WatchEvent::Put(kv) => checked(kv, Event::Apply),
                    WatchEvent::Delete { key, .. } => Update::Event(Event::Delete(key)),
                };
                self.ready.push_back(update);
            }
        }
        Ok(())
    }

    fn take(&mut self, page: crate::Page) {
        let listing = page.listing;
        let items = listing.kvs.into_iter();
        self.ready
            .extend(items.map(|kv| checked(kv, Event::InitApply)));
        self.phase = match page.next {
            Some(token) => Phase::List(token, listing.cluster_id),
            None => {
                self.ready.push_back(Update::Event(Event::InitDone));
                Phase::Open {
                    revision: listing.revision,
                    cluster_id: listing.cluster_id,
                }
            }
        };
    }

    fn same_cluster(&self, expected: u64, actual: Option<u64>) -> Result<(), Error> {
        match actual {
            Some(actual) if actual != expected => Err(Error::ClusterIdChanged { expected, actual }),
            _ => Ok(()),
        }
    }

    fn fail(&mut self, error: Error) {
        self.phase = Phase::Start;
        self.pause = Some(self.backoff.next(rand::random()));
        self.ready.push_back(Update::Failed(error));
    }
}

fn checked(kv: KeyValue, event: fn(String, KeyValue) -> Event<String, KeyValue>) -> Update {
    if kv.value.len() > MAX_VALUE {
        let error = Error::TooLarge {
            key: cut(&kv.key, 256),
            size: kv.value.len(),
            limit: MAX_VALUE,
        };
        return Update::Skipped { key: kv.key, error };
    }
    Update::Event(event(kv.key.clone(), kv))
}
