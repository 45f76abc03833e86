// SPDX-License-Identifier: Apache-2.0
//! Who holds a place among the connections of a server. When all are taken and one more comes, the connection that has been
//! idle longest, without a request under way, gives its place up. A request is under way until its answer is handed to the
//! connection; what a slow reader has not taken by then it gets a moment for, or clients that never read would hold everything.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The places of one server.
pub(super) struct Places {
    slots: Arc<Semaphore>,
    table: Mutex<Table>,
    /// Somebody became idle, or stays although asked to leave.
    changed: Notify,
}

/// Who is idle, and since when in the order of events.
#[derive(Default)]
struct Table {
    next: u64,
    holders: HashMap<u64, Holder>,
    /// When each became idle, and which it is.
    idle: BTreeMap<u64, u64>,
    /// Who was asked to leave and is still there: one leaves for each that comes.
    leaving: Option<u64>,
}

struct Holder {
    leave: Arc<Notify>,
    /// Requests that are read, answered, or whose answers are written.
    requests: u32,
    /// Whether there was a request ever.
    asked: bool,
    /// Its entry among the idle.
    since: Option<u64>,
}

impl Table {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn rest(&mut self, id: u64) {
        let since = self.number();
        if let Some(holder) = self.holders.get_mut(&id) {
            holder.since = Some(since);
            self.idle.insert(since, id);
        }
    }

    fn work(&mut self, id: u64) {
        if let Some(since) = self.holders.get_mut(&id).and_then(|h| h.since.take()) {
            self.idle.remove(&since);
        }
    }
}

impl Places {
    pub(super) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(count)),
            table: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// A place for a connection that is there already.
    pub(super) async fn take(self: &Arc<Self>) -> Arc<Place> {
        let slot = loop {
            if let Ok(slot) = self.slots.clone().try_acquire_owned() {
                break slot;
            }
            self.ask_one();
            tokio::select! {
                slot = self.slots.clone().acquire_owned() => {
                    break slot.expect("the semaphore is never closed");
                }
                () = self.changed.notified() => {}
            }
        };
        let leave = Arc::new(Notify::new());
        let mut table = self.table();
        let id = table.number();
        let holder = Holder {
            leave: leave.clone(),
            requests: 0,
            asked: false,
            since: None,
        };
        table.holders.insert(id, holder);
        table.rest(id);
        drop(table);
        Arc::new(Place {
            places: self.clone(),
            id,
            leave,
            slot: Some(slot),
        })
    }

    /// Asks the one that has been idle longest to leave, unless one is leaving already.
    fn ask_one(&self) {
        let mut table = self.table();
        if table.leaving.is_some() {
            return;
        }
        let Some((_, id)) = table.idle.first_key_value() else {
            return;
        };
        let id = *id;
        table.leaving = Some(id);
        if let Some(holder) = table.holders.get(&id) {
            holder.leave.notify_one();
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection; dropped, it is free.
pub(super) struct Place {
    places: Arc<Places>,
    id: u64,
    leave: Arc<Notify>,
    slot: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// Returns when the connection has to leave, and whether it ever asked something. One that got a request since it was
    /// chosen stays.
    pub(super) async fn is_needed(&self) -> bool {
        loop {
            self.leave.notified().await;
            let mut table = self.places.table();
            match table.holders.get(&self.id) {
                Some(holder) if holder.requests == 0 => return holder.asked,
                _ => {
                    table.leaving = None;
                    drop(table);
                    self.places.changed.notify_one();
                }
            }
        }
    }

    /// A request is under way until what is returned is dropped.
    pub(super) fn request(self: &Arc<Self>) -> UnderWay {
        let mut table = self.places.table();
        if let Some(holder) = table.holders.get_mut(&self.id) {
            holder.requests += 1;
            holder.asked = true;
        }
        table.work(self.id);
        drop(table);
        UnderWay(self.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.places.table();
        table.work(self.id);
        table.holders.remove(&self.id);
        // Free before nobody is leaving: who waits must not ask another meanwhile.
        self.slot = None;
        if table.leaving == Some(self.id) {
            table.leaving = None;
        }
    }
}

/// A request under way.
pub(super) struct UnderWay(Arc<Place>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut table = self.0.places.table();
        let Some(holder) = table.holders.get_mut(&self.0.id) else {
            return;
        };
        holder.requests -= 1;
        if holder.requests == 0 {
            table.rest(self.0.id);
            drop(table);
            self.0.places.changed.notify_one();
        }
    }
}

/// The body of an answer, whose request is under way as long as it is written.
pub(super) struct Answered {
    pub(super) body: Body,
    pub(super) _request: UnderWay,
}

impl hyper::body::Body for Answered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
