// SPDX-License-Identifier: Apache-2.0
//! Room in the kernel's maps. A change that needs more than there is must not stand in the way of others: the policies
//! that grew are taken back to what they said before, the largest first, and if none did, endpoints keep what they have.
//!
//! Whether a commit fits is known when it is made, and a copy of the state is what makes it undone. So a copy is kept where
//! it could come to that, and bounds that cost nothing to know say where it cannot.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use model::EndpointId;

use crate::compile::{CompiledRule, Span};
use crate::engine::{Engine, Stored};
use crate::peer::PeerSelector;
use crate::targets::Target;
use crate::{Entity, Op, PolicyKey, PolicyObject, cidrs, kind};

/// Blocks of ports that a range makes, about: its ends, and where another begins inside it.
const BLOCKS: usize = 64;

/// Entries of the kernel's maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Pairs of policy and class.
    pub policies: usize,
    /// Entries of rows.
    pub rows: usize,
}

impl Room {
    /// As much as anybody wants.
    pub const UNBOUNDED: Room = Room {
        policies: usize::MAX,
        rows: usize::MAX,
    };

    pub(crate) fn fits(self, other: Room) -> bool {
        self.policies <= other.policies && self.rows <= other.rows
    }
}

/// A policy whose newest version found no room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// That version.
    pub object: PolicyObject,
    /// The one that stays in force.
    pub earlier: Option<PolicyObject>,
}

/// What is to find room, and what found none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Admission {
    /// Something was committed. What was there before may be in force from an earlier run.
    begun: bool,
    /// Policies that came or changed since the last commit, and what each was then.
    changed: BTreeMap<PolicyKey, Option<Stored>>,
    refused: Vec<Refusal>,
    /// Endpoints whose policy found no room.
    pub(crate) unplaced: BTreeSet<EndpointId>,
}

impl Admission {
    /// A policy says something else than before.
    pub(crate) fn change(&mut self, key: &PolicyKey, before: Option<Stored>) {
        if self.begun {
            self.changed.entry(key.clone()).or_insert(before);
        }
    }

    /// A policy is gone.
    pub(crate) fn forget(&mut self, key: &PolicyKey) {
        self.changed.remove(key);
    }

    /// What an engine that numbers anew goes on with.
    pub(crate) fn anew(&self) -> Self {
        Self {
            unplaced: BTreeSet::new(),
            ..self.clone()
        }
    }
}

impl Engine {
    /// The writes that bring the kernel from the last commit's state to the present one, in order. Empty if nothing
    /// changed. After each single write every packet has its verdict from before or from after the commit. What finds no
    /// room is not among them: see [`Engine::refused`] and [`Engine::unplaced`].
    pub fn commit(&mut self) -> Vec<Op> {
        let mut ops = Vec::new();
        if std::mem::take(&mut self.pending) {
            let targets = self.targets();
            ops = if self.could_overflow(&targets) {
                self.commit_what_fits(targets)
            } else {
                self.carry_out(targets, None)
            };
            self.admission.begun = true;
        }
        self.admission.changed.clear();
        ops
    }

    /// Policies whose newest version found no room since this was asked last.
    pub fn refused(&mut self) -> Vec<Refusal> {
        std::mem::take(&mut self.admission.refused)
    }

    /// Endpoints whose policy finds no room: they keep what they have, a new one nothing.
    pub fn unplaced(&self) -> impl ExactSizeIterator<Item = EndpointId> + '_ {
        self.admission.unplaced.iter().copied()
    }

    /// Has the next commit look for room for the endpoints that have none.
    pub fn retry_unplaced(&mut self) {
        self.dirty_endpoints.extend(&self.admission.unplaced);
        self.pending |= !self.admission.unplaced.is_empty();
    }

    /// What the kernel holds since the last commit.
    pub fn taken(&self) -> Room {
        Room {
            policies: self.policies.values().map(|live| live.entries()).sum(),
            rows: self.rows.entries(),
        }
    }

    /// Whether more room could be needed than there is. Only new policies need any: for every class an entry and a row.
    fn could_overflow(&self, targets: &[Target]) -> bool {
        let is_new = |target: &&Target| !self.by_key.contains_key(&target.key);
        let new = targets.iter().filter(is_new);
        let new: HashMap<_, _> = new.map(|target| (&target.key, target)).collect();
        if new.is_empty() {
            return false;
        }
        let rules = new.values().flat_map(|target| &target.rules);
        let rules: HashMap<u64, &CompiledRule> = rules.map(|rule| (rule.id, &**rule)).collect();
        let prefixes = rules.values().flat_map(|rule| rule.cidr_sets());
        let prefixes: usize = prefixes.map(|set| set.prefixes().count()).sum();
        let selectors = rules.values().flat_map(|rule| rule.peers());
        let selectors: HashSet<_> = selectors
            .filter(|selector| !self.selectors.is_in_use(selector))
            .collect();
        let named: usize = new.keys().map(|key| key.named_ports()).sum();
        let host = PeerSelector::Entity(Entity::Host);
        let host = usize::from(!self.selectors.is_in_use(&host));
        let selectors = selectors.len() + named + host;
        // Everybody is in one class, and a selector divides a class in two.
        let members = self.records.len() + prefixes;
        let doubled = u32::try_from(selectors).ok();
        let doubled = doubled.and_then(|times| 2usize.checked_pow(times));
        let parts = self.classes.len() + self.dirty.len() + prefixes;
        let parts = doubled.and_then(|factor| parts.checked_mul(factor));
        let classes = kind::ALL.len() + parts.map_or(members, |parts| parts.min(members));
        let longest: usize = new.values().map(|target| target.longest_row()).sum();
        let bound = Room {
            policies: (self.policies.len() + new.len()).saturating_mul(classes),
            rows: self.rows.entries() + longest.saturating_mul(classes),
        };
        !bound.fits(self.limit(self.taken()))
    }

    /// What the next commit may come to where there was `taken`: all that there is, or half of what is left if policies change,
    /// so that a large one leaves some to others. What is too much already may stay as much.
    fn limit(&self, taken: Room) -> Room {
        let part = if self.admission.changed.is_empty() {
            1
        } else {
            2
        };
        let limit = |room: usize, taken| taken + room.saturating_sub(taken) / part;
        Room {
            policies: limit(self.settings.room.policies, taken.policies),
            rows: limit(self.settings.room.rows, taken.rows),
        }
    }

    fn commit_what_fits(&mut self, mut targets: Vec<Target>) -> Vec<Op> {
        let taken = self.taken();
        loop {
            let limit = self.limit(taken);
            let most = Room {
                policies: limit.policies.saturating_add(taken.policies),
                rows: limit.rows.saturating_add(taken.rows),
            };
            let before = self.clone();
            let ops = self.carry_out(targets, Some(most));
            if self.taken().fits(limit) {
                return ops;
            }
            *self = before;
            let is_less = self.take_back() || self.leave_out_endpoints();
            self.pending = false;
            targets = self.targets();
            if !is_less {
                return self.carry_out(targets, None);
            }
        }
    }

    /// Takes back the policies that grew most.
    fn take_back(&mut self) -> bool {
        let weight = |rules: &[Arc<CompiledRule>]| -> usize {
            rules.iter().map(|rule| self.weight(rule)).sum()
        };
        let changed = self.admission.changed.iter();
        let grown = changed.map(|(key, before)| {
            let before = before.as_ref().map_or(0, |before| weight(&before.rules));
            (
                weight(self.rules_of(key)).saturating_sub(before),
                key.clone(),
            )
        });
        let mut is_less = false;
        for key in heaviest(grown.collect()) {
            let before = self.admission.changed.remove(&key).flatten();
            let earlier = before.as_ref().map(|before| before.object.clone());
            let object = self.objects.get(&key).map(|stored| stored.object.clone());
            if let Some(object) = object.filter(|_| self.put_back(&key, before)) {
                self.admission.refused.push(Refusal { object, earlier });
                is_less = true;
            }
        }
        is_less || !self.admission.changed.is_empty() && self.take_back()
    }

    /// A policy says again what it said. `false`: others have the numbers of its prefixes now, and it stays as it is.
    fn put_back(&mut self, key: &PolicyKey, before: Option<Stored>) -> bool {
        let Some(before) = before else {
            self.remove_policy(key);
            return true;
        };
        let now = self
            .objects
            .insert(key.clone(), before)
            .expect("it changed");
        // Groups may have changed as well; what says the same are the same rules.
        let object = self.objects[key].object.clone();
        let rules = self.compile(&object);
        let (from, to) = (cidrs::prefixes_of(&now.rules), cidrs::prefixes_of(&rules));
        if self.rename_prefixes(key, &from, &to).is_err() {
            self.objects.insert(key.clone(), now);
            return false;
        }
        self.put_rules(key, rules);
        true
    }

    /// Leaves endpoints with what they have: those with the largest of the new policies.
    fn leave_out_endpoints(&mut self) -> bool {
        let targets = self.targets();
        let is_new = |target: &&Target| !self.by_key.contains_key(&target.key);
        let mut new: HashMap<_, (usize, Vec<EndpointId>)> = HashMap::new();
        for target in targets.iter().filter(is_new) {
            let (weight, endpoints) = new.entry(&target.key).or_default();
            *weight = target.rules.iter().map(|rule| rule.weight()).sum();
            endpoints.push(target.endpoint);
        }
        let left_out = heaviest(new.into_values().collect());
        for endpoint in left_out.iter().flatten() {
            self.dirty_endpoints.remove(endpoint);
            self.admission.unplaced.insert(*endpoint);
        }
        !left_out.is_empty()
    }

    /// About how much a rule makes on this node.
    fn weight(&self, rule: &CompiledRule) -> usize {
        let subjects = self.subjects.keys();
        let selected =
            subjects.filter(|id| self.labels(**id).is_some_and(|labels| rule.selects(labels)));
        rule.weight() * selected.count()
    }
}

/// The heaviest: as many as make up half of all.
fn heaviest<T: Ord>(mut all: Vec<(usize, T)>) -> Vec<T> {
    all.sort_unstable_by(|a, b| b.cmp(a));
    let half = all
        .iter()
        .map(|(weight, _)| weight)
        .sum::<usize>()
        .div_ceil(2);
    let mut sum = 0;
    let all = all.into_iter().enumerate();
    let some = all.take_while(|(n, (weight, _))| {
        let is_taken = *n == 0 || sum < half;
        sum += weight;
        is_taken
    });
    some.map(|(_, (_, one))| one).collect()
}

impl CompiledRule {
    /// About how many entries it makes for an endpoint: peers times ports.
    fn weight(&self) -> usize {
        let entries = self.sides.iter().flat_map(|side| &side.entries);
        let weight = entries.map(|entry| {
            let peers = entry.peers.iter().map(|peer| match peer {
                PeerSelector::Cidr(set) => set.prefixes().count(),
                _ => 1,
            });
            (1 + peers.sum::<usize>()) * (1 + entry.spans.len() + entry.named.len())
        });
        weight.sum()
    }
}

impl Target {
    /// Most entries of a row.
    fn longest_row(&self) -> usize {
        let sides = self.rules.iter().flat_map(|rule| &rule.sides);
        let spans = sides
            .flat_map(|side| &side.entries)
            .flat_map(|entry| &entry.spans);
        let (ports, ranges): (Vec<&Span>, Vec<&Span>) =
            spans.partition(|span| span.first == span.last);
        let blocks = if ranges.iter().all(|span| span.is_whole()) {
            1
        } else {
            BLOCKS
        };
        // Whatever the ports, an entry for each direction and each protocol.
        2 + (ports.len() + ranges.len() + self.key.named_ports()) * (1 + blocks)
    }
}
