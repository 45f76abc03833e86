// SPDX-License-Identifier: Apache-2.0
//! Policies and pods for which the kernel's maps have no room. Policies stay as they were, and pods keep what they have,
//! until others need less; each is tried by itself, so that none waits for another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use api::models::EndpointState;
use datapath::{Kernel, Map};
use kubernetes::ObjectEvent;
use model::EndpointId;
use policy::{Engine, PolicyKey, PolicyObject, Refusal, Room};
use tables::Backoff;

use super::Core;
use crate::endpoint::Endpoint;

/// Each attempt compiles what waits: not more often than the first, ever more rarely while it does not help.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Pods that status names.
const NAMED: usize = 3;

/// What waits for room.
#[derive(Debug)]
pub(super) struct Crowded {
    /// The newest version of each policy.
    policies: BTreeMap<PolicyKey, PolicyObject>,
    /// Endpoints that wait since the last commit.
    pods: BTreeSet<EndpointId>,
    /// When it was tried last, and what the others took then.
    pub(super) tried: Option<(Instant, Room)>,
    /// A newer version came since.
    is_new: bool,
    backoff: Backoff,
    pause: Duration,
}

impl Default for Crowded {
    fn default() -> Self {
        Self {
            policies: BTreeMap::new(),
            pods: BTreeSet::new(),
            tried: None,
            is_new: false,
            backoff: Backoff::new(FIRST, LONGEST),
            pause: FIRST,
        }
    }
}

impl Crowded {
    /// A policy that waits says something else now, or is gone. Returns whether it waited.
    pub(super) fn replace(&mut self, key: &PolicyKey, newest: Option<&PolicyObject>) -> bool {
        let Some(waits) = self.policies.get_mut(key) else {
            return false;
        };
        match newest {
            Some(newest) => {
                newest.clone_into(waits);
                self.is_new = true;
            }
            None => drop(self.policies.remove(key)),
        }
        true
    }

    /// How long after the last attempt another may help, with others at `taken`: soon, if they take less or something is new.
    fn pause(&self, taken: Room) -> Option<Duration> {
        let Some((_, before)) = self.tried else {
            return Some(Duration::ZERO);
        };
        let is_less = taken.policies < before.policies || taken.rows < before.rows;
        match self.is_new || is_less {
            true => Some(FIRST),
            false => (taken != before).then_some(self.pause),
        }
    }

    fn is_time(&self, taken: Room) -> bool {
        let since = self.tried.map_or(Duration::MAX, |(at, _)| at.elapsed());
        self.pause(taken).is_some_and(|pause| since >= pause)
    }
}

/// Half of each map: whenever numbers begin anew, what is in force and what takes its place are both there.
pub(super) fn room(kernel: &impl Kernel) -> Room {
    let half = |map| kernel.limit(map) as usize / 2;
    Room {
        policies: half(Map::Policies),
        rows: half(Map::Rows),
    }
}

/// An endpoint has what it shall have, or there is no room for it.
pub(super) fn finish(endpoint: &mut Endpoint, engine: &Engine, message: &str) {
    match engine.unplaced().any(|id| id == endpoint.attachment.id) {
        true => endpoint.enter(EndpointState::NotReady, false, "No room for its policy"),
        false => endpoint.enter(EndpointState::Ready, true, message),
    }
}

impl<K: Kernel> Core<K> {
    /// Says what found no room with the last commit.
    pub(super) fn note_refusals(&mut self) {
        let refused = self.engine.refused();
        // Who of several is too much shows when each is tried by itself.
        self.crowded.is_new |= refused.len() > 1;
        for refusal in refused {
            self.note_refusal(refusal);
        }
        let unplaced: BTreeSet<EndpointId> = self.engine.unplaced().collect();
        if !unplaced.is_empty() || !self.crowded.pods.is_empty() {
            self.note_unplaced(unplaced);
        }
        let now = || (Instant::now(), self.engine.taken());
        let tried = self.crowded.tried;
        self.crowded.tried = (self.crowd() > 0).then(|| tried.unwrap_or_else(now));
    }

    fn note_refusal(&mut self, refusal: Refusal) {
        let Room { policies, rows } = room(self.dp.kernel());
        let stays = match refusal.earlier {
            Some(_) => "; the previous version stays in force",
            None => "",
        };
        let problem = format!(
            "no room: it needs more than half of what this node's policies leave of {policies} entries of map {} or {rows} of {}: select fewer pods or peers, or use fewer ports{stays}",
            Map::Policies,
            Map::Rows,
        );
        let key = refusal.object.key.clone();
        self.note(&key.to_string(), Some(problem));
        self.crowded.policies.insert(key, refusal.object);
    }

    fn note_unplaced(&mut self, unplaced: BTreeSet<EndpointId>) {
        let problem = (!unplaced.is_empty()).then(|| {
            format!(
                "no room for the policy of {}: what was in force for them stays, and those without any get no packets",
                self.some_of(&unplaced)
            )
        });
        self.note("pods", problem);
        let before = std::mem::replace(&mut self.crowded.pods, unplaced);
        for id in before.symmetric_difference(&self.crowded.pods) {
            if let Some(endpoint) = self.endpoints.get_mut(id) {
                finish(endpoint, &self.engine, "Policy in force");
            }
        }
    }

    /// Says which pods have as many entries in conntrack as others may begin there, and whether all of them together have.
    pub(crate) fn note_full_shares(&mut self) {
        const MEANS: &str = "further flows of others go on without an entry, each packet judged by itself, and those that need one are refused";
        let full = self.dp.full_endpoints().iter();
        let full: BTreeSet<EndpointId> = full.copied().map(EndpointId).collect();
        let problem = (!full.is_empty()).then(|| {
            format!(
                "the share of {} is used up: {MEANS}; bpf-ct-endpoint-share and bpf-ct-global-max give more",
                self.some_of(&full)
            )
        });
        self.note("conntrack share", problem);
        let problem = self.dp.is_crowded().then(|| {
            format!("three quarters of the table are in use: {MEANS}; bpf-ct-global-max gives more")
        });
        self.note("conntrack room", problem);
    }

    /// The first few of these endpoints in words.
    fn some_of(&self, endpoints: &BTreeSet<EndpointId>) -> String {
        let pods = endpoints.iter().map(|id| match self.endpoints.get(id) {
            Some(endpoint) => endpoint.attachment.pod.to_string(),
            None => format!("endpoint {id}"),
        });
        let mut pods: Vec<String> = pods.take(NAMED).collect();
        if endpoints.len() > pods.len() {
            pods.push(format!("{} more", endpoints.len() - pods.len()));
        }
        pods.join(", ")
    }

    /// Policies and pods that wait for room.
    fn crowd(&self) -> usize {
        self.crowded.policies.len() + self.engine.unplaced().len()
    }

    /// Whether something waits for room that may find some, now or in a while.
    pub(super) fn crowd_is_due(&self) -> bool {
        self.crowd() > 0
            && self.ready
            && !self.policy_waits()
            && self.crowded.pause(self.engine.taken()).is_some()
    }

    /// Tries again what found no room, if others take something else now. Returns whether something was taken.
    pub(crate) fn retry_crowded(&mut self) -> bool {
        if !self.crowd_is_due() || !self.crowded.is_time(self.engine.taken()) {
            return false;
        }
        let waiting = self.crowd();
        for (key, object) in std::mem::take(&mut self.crowded.policies) {
            self.retry_policy_object(key, object);
        }
        self.engine.retry_unplaced();
        self.dirty = true;
        self.settle();
        let left = self.crowd();
        if left < waiting {
            self.crowded.backoff.reset();
        }
        self.crowded.pause = self.crowded.backoff.next(0.0);
        self.crowded.tried = Some((Instant::now(), self.engine.taken()));
        self.crowded.is_new = false;
        self.save_in_force();
        left < waiting
    }

    fn retry_policy_object(&mut self, key: PolicyKey, object: PolicyObject) {
        if self.policy_waits() {
            self.crowded.policies.insert(key, object);
            return;
        }
        self.dirty = true;
        if self.engine.upsert_policy(object.clone()).is_err() {
            // It waits for something else now.
            self.take_policy(ObjectEvent::Policy(object));
            return;
        }
        self.settle();
        if !self.crowded.policies.contains_key(&key) {
            self.note(&key.to_string(), None::<String>);
        }
    }

    /// Policies whose newest version has no room on this node, and what is said of it.
    pub(crate) fn crowded_policies(&self) -> impl Iterator<Item = (&PolicyKey, &str)> {
        let waiting = self.crowded.policies.keys();
        waiting.filter_map(|key| Some((key, self.notes.get(&key.to_string())?.text.as_str())))
    }
}
