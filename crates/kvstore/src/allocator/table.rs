// SPDX-License-Identifier: Apache-2.0
//! Identities of the cluster as far as they are known here, those in use here, and who wants to hear about them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::Stream;
use model::{Labels, NumericIdentity};
use tables::Event;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use super::AllocatorStatus;
use crate::error::{Error, cut};

type Change = Event<NumericIdentity, Labels>;

/// Changes that a slow subscriber may miss before it gets the whole again.
const BACKLOG: usize = 1024;
/// Identities of which it is known when they came, before those of long ago are looked for, to be forgotten.
const ARRIVALS: usize = 1024;
/// After this time everybody who can hear of an identity has heard of it.
const OLD: Duration = Duration::from_secs(600);

struct Local {
    id: NumericIdentity,
    uses: usize,
}

/// Everything behind one lock.
pub(super) struct State {
    range: RangeInclusive<u32>,
    ids: BTreeMap<NumericIdentity, Labels>,
    numbers: HashMap<Labels, BTreeSet<NumericIdentity>>,
    local: HashMap<Labels, Local>,
    /// When identities came that no list has named.
    arrived: HashMap<NumericIdentity, Instant>,
    /// Numbers that were given back, in order: they come again last, because packets and nodes that are away may still
    /// mean what they meant.
    given_back: BTreeMap<NumericIdentity, u64>,
    /// How many numbers were given back.
    returns: u64,
    /// Numbers that the list in progress has named.
    listed: Option<BTreeSet<NumericIdentity>>,
    synced: bool,
    refused: u64,
    last_refused: Option<String>,
    pub(super) failing: Option<Error>,
    changes: broadcast::Sender<Change>,
}

/// The state and a signal for its first complete list.
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) synced: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn new(
        range: RangeInclusive<u32>,
        known: impl Iterator<Item = (NumericIdentity, Labels)>,
    ) -> Self {
        let mut state = State {
            range,
            ids: BTreeMap::new(),
            numbers: HashMap::new(),
            local: HashMap::new(),
            arrived: HashMap::new(),
            given_back: BTreeMap::new(),
            returns: 0,
            listed: None,
            synced: false,
            refused: 0,
            last_refused: None,
            failing: None,
            changes: broadcast::Sender::new(BACKLOG),
        };
        for (id, labels) in known {
            if state.range.contains(&id.0) {
                state.insert(id, labels);
            }
        }
        Self {
            state: Mutex::new(state),
            synced: watch::Sender::new(false),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

impl State {
    /// One more use of an identity that is in use here.
    pub(super) fn reuse(&mut self, labels: &Labels) -> Option<NumericIdentity> {
        let local = self.local.get_mut(labels)?;
        local.uses += 1;
        Some(local.id)
    }

    /// Puts an identity into use here; answers the number that is in use.
    pub(super) fn adopt(&mut self, labels: &Labels, id: NumericIdentity) -> NumericIdentity {
        self.arrive(id, labels);
        let local = self.local.entry(labels.clone());
        let local = local.or_insert(Local { id, uses: 0 });
        local.uses += 1;
        local.id
    }

    /// Takes note of when an identity came, if it is not known yet.
    fn arrive(&mut self, id: NumericIdentity, labels: &Labels) {
        if self.ids.get(&id) == Some(labels) {
            return;
        }
        // Many may come in a short time: a look at all of them for each would cost the square.
        let known = self.arrived.len();
        if known >= ARRIVALS && known.is_power_of_two() {
            self.arrived.retain(|_, at| at.elapsed() < OLD);
        }
        self.arrived.entry(id).or_insert_with(Instant::now);
    }

    /// How long ago an identity came; [`OLD`] if it is not known when.
    pub(super) fn age_of(&self, id: NumericIdentity) -> Duration {
        self.arrived.get(&id).map_or(OLD, Instant::elapsed)
    }

    /// One use less; whether it was the last.
    pub(super) fn release(&mut self, labels: &Labels) -> bool {
        let Some(local) = self.local.get_mut(labels) else {
            return false;
        };
        local.uses -= 1;
        let last = local.uses == 0;
        if last {
            self.local.remove(labels);
        }
        last
    }

    pub(super) fn number_of(&self, labels: &Labels) -> Option<NumericIdentity> {
        let local = self.local.get(labels).map(|local| local.id);
        local.or_else(|| self.numbers.get(labels)?.first().copied())
    }

    pub(super) fn labels_of(&self, id: NumericIdentity) -> Option<Labels> {
        let local = || self.local.iter().find(|(_, local)| local.id == id);
        let labels = self.ids.get(&id);
        labels
            .or_else(|| local().map(|(labels, _)| labels))
            .cloned()
    }

    pub(super) fn in_range(&self, id: NumericIdentity) -> bool {
        self.range.contains(&id.0)
    }

    /// Identities in use here.
    pub(super) fn in_use(&self) -> Vec<(NumericIdentity, Labels)> {
        let local = self.local.iter();
        local
            .map(|(labels, local)| (local.id, labels.clone()))
            .collect()
    }

    fn used_here(&self, id: NumericIdentity) -> bool {
        self.ids
            .get(&id)
            .and_then(|labels| self.local.get(labels))
            .is_some_and(|local| local.id == id)
    }

    /// A number that nobody is known to use, preferably one that nobody used.
    pub(super) fn free(&self, random: u32) -> Result<NumericIdentity, Error> {
        let (first, last) = (*self.range.start(), *self.range.end());
        let size = last - first + 1;
        let start = random % size;
        let candidates = (0..size).map(|step| NumericIdentity(first + (start + step) % size));
        let local: BTreeSet<_> = self.local.values().map(|local| local.id).collect();
        let mut oldest: Option<(u64, NumericIdentity)> = None;
        for id in candidates.filter(|id| !self.ids.contains_key(id) && !local.contains(id)) {
            let Some(at) = self.given_back.get(&id) else {
                return Ok(id);
            };
            oldest = Some(oldest.map_or((*at, id), |oldest| oldest.min((*at, id))));
        }
        oldest
            .map(|(_, id)| id)
            .ok_or(Error::IdentitiesExhausted { size, first, last })
    }

    fn insert(&mut self, id: NumericIdentity, labels: Labels) {
        self.remove(id);
        self.given_back.remove(&id);
        self.numbers.entry(labels.clone()).or_default().insert(id);
        self.ids.insert(id, labels);
    }

    fn remove(&mut self, id: NumericIdentity) {
        let Some(labels) = self.ids.remove(&id) else {
            return;
        };
        if let Some(ids) = self.numbers.get_mut(&labels) {
            ids.remove(&id);
            if ids.is_empty() {
                self.numbers.remove(&labels);
            }
        }
    }

    fn give_back(&mut self, id: NumericIdentity) {
        self.remove(id);
        self.arrived.remove(&id);
        self.returns += 1;
        self.given_back.insert(id, self.returns);
    }

    fn tell(&self, change: Change) {
        // Nobody listening is fine.
        let _listeners = self.changes.send(change);
    }

    pub(super) fn list_begins(&mut self) {
        self.listed = Some(BTreeSet::new());
        self.tell(Event::Init);
    }

    pub(super) fn listed(&mut self, id: NumericIdentity, labels: Labels) {
        if let Some(listed) = &mut self.listed {
            listed.insert(id);
        }
        self.insert(id, labels.clone());
        self.tell(Event::InitApply(id, labels));
    }

    /// A value that is not acceptable keeps what was known of its number.
    pub(super) fn refused(&mut self, id: Option<NumericIdentity>, why: &str) {
        self.refused += 1;
        self.last_refused = Some(cut(why, 512));
        let Some(id) = id else { return };
        if let (Some(listed), Some(labels)) = (&mut self.listed, self.ids.get(&id)) {
            listed.insert(id);
            let labels = labels.clone();
            self.tell(Event::InitApply(id, labels));
        }
    }

    /// The list is complete; answers the identities in use here that it lacks.
    pub(super) fn list_ends(&mut self) -> Vec<(NumericIdentity, Labels)> {
        let listed = self.listed.take().unwrap_or_default();
        let missing: Vec<_> = self.in_use();
        let missing: Vec<_> = missing
            .into_iter()
            .filter(|(id, _)| !listed.contains(id))
            .collect();
        let gone: Vec<_> = self
            .ids
            .keys()
            .filter(|id| !listed.contains(id))
            .copied()
            .collect();
        for id in gone {
            if !self.used_here(id) {
                self.give_back(id);
            }
        }
        for (id, labels) in &missing {
            self.insert(*id, labels.clone());
            self.tell(Event::InitApply(*id, labels.clone()));
        }
        self.synced = true;
        self.failing = None;
        self.tell(Event::InitDone);
        missing
    }

    pub(super) fn changed(&mut self, id: NumericIdentity, labels: Labels) {
        self.arrive(id, &labels);
        self.insert(id, labels.clone());
        self.tell(Event::Apply(id, labels));
    }

    /// A master key was deleted; answers its labels if it is in use here and must be made again.
    pub(super) fn deleted(&mut self, id: NumericIdentity) -> Option<Labels> {
        if self.used_here(id) {
            return self.ids.get(&id).cloned();
        }
        self.give_back(id);
        self.tell(Event::Delete(id));
        None
    }

    pub(super) fn status(&self) -> AllocatorStatus {
        AllocatorStatus {
            synced: self.synced,
            known: self.ids.len(),
            local: self.local.len(),
            refused: self.refused,
            last_refused: self.last_refused.clone(),
            failing: self.failing.clone(),
            ..AllocatorStatus::default()
        }
    }

    fn snapshot(&self) -> VecDeque<Change> {
        if !self.synced {
            return VecDeque::new();
        }
        let items = self.ids.iter();
        let items = items.map(|(id, labels)| Event::InitApply(*id, labels.clone()));
        std::iter::once(Event::Init)
            .chain(items)
            .chain([Event::InitDone])
            .collect()
    }
}

/// See [`super::Allocator::subscribe`].
pub(super) fn subscribe(shared: Arc<Shared>) -> impl Stream<Item = Change> + Send + 'static {
    let (ready, changes) = {
        let state = shared.state();
        (state.snapshot(), state.changes.subscribe())
    };
    let start = (shared, ready, changes);
    futures::stream::unfold(start, |(shared, mut ready, mut changes)| async move {
        loop {
            if let Some(change) = ready.pop_front() {
                return Some((change, (shared, ready, changes)));
            }
            match changes.recv().await {
                Ok(change) => return Some((change, (shared, ready, changes))),
                Err(broadcast::error::RecvError::Closed) => return None,
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    let state = shared.state();
                    changes = state.changes.subscribe();
                    ready = state.snapshot();
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_were_given_back_come_last_and_in_order() {
        let shared = Shared::new(1..=4, std::iter::empty());
        let mut state = shared.state();
        let labels = |app| Labels::parse(format!("k8s:app={app};").as_bytes()).expect("labels");
        for id in [3, 1] {
            state.changed(NumericIdentity(id), labels(id));
            state.deleted(NumericIdentity(id));
        }
        let mut next = || {
            let id = state.free(2).expect("a number");
            state.changed(id, labels(id.0));
            id.0
        };
        assert_eq!([next(), next(), next(), next()], [4, 2, 3, 1]);
        assert!(state.free(0).is_err());
    }
}
