// SPDX-License-Identifier: Apache-2.0
//! How many classes the identities of another cluster may make. Every class costs each policy that tells it apart from its
//! kind a row in the kernel, and labels are what a stranger likes: without a bound one cluster could fill the maps, and
//! no policy of the node would change any more.
//!
//! Identities that would make one class too many are judged as if their labels were not known, until there is room.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::{ClusterId, Labels, NumericIdentity};

use crate::commit::Tx;
use crate::engine::Engine;
use crate::kind;
use crate::regroup::Hits;
use crate::selectors::{SelectorId, Signature};

/// Most identities that one commit lets in again.
const AGAIN: usize = 256;

/// Identities of other clusters.
#[derive(Clone, Default, Debug)]
pub(crate) struct Crowds {
    /// How many of a cluster have labels that count.
    population: HashMap<ClusterId, usize>,
    /// Labels that do not count.
    pub(crate) left_out: BTreeMap<NumericIdentity, Labels>,
    /// What new selectors match, as far as it was asked for this commit.
    hits: Option<Hits>,
}

impl Crowds {
    /// An identity of a cluster has labels now, or had them.
    pub(crate) fn relabel(&mut self, cluster: ClusterId, before: bool, after: bool) {
        let count = self.population.entry(cluster).or_default();
        *count = (*count + usize::from(after)).saturating_sub(usize::from(before));
        if *count == 0 {
            self.population.remove(&cluster);
        }
    }
}

/// Who would be in a class that does not exist yet.
type Part = (ClusterId, Vec<NumericIdentity>);

impl Engine {
    /// Identities whose labels do not count, because those of their cluster make too many classes.
    pub fn left_out(&self) -> impl ExactSizeIterator<Item = NumericIdentity> + '_ {
        self.crowds.left_out.keys().copied()
    }

    /// Leaves out who would make too many classes with this commit, and lets others in again where there is room.
    pub(crate) fn limit_classes(&mut self, tx: &Tx) {
        self.crowds.hits = None;
        let max = self.settings.max_classes;
        let is_crowd = |(cluster, count): (&ClusterId, &usize)| {
            (*cluster != self.settings.cluster_id && *count > max).then_some(*cluster)
        };
        let mut crowded: BTreeSet<ClusterId> =
            self.crowds.population.iter().filter_map(is_crowd).collect();
        if crowded.is_empty() && self.crowds.left_out.is_empty() {
            return;
        }
        let mut classes: HashMap<ClusterId, usize> = HashMap::new();
        for (_, class) in self.classes.iter() {
            let first = class
                .members
                .first()
                .filter(|_| class.kind == kind::OTHER_CLUSTER);
            if let Some(cluster) = first.and_then(|first| self.cluster_of(*first)) {
                *classes.entry(cluster).or_default() += 1;
            }
        }
        let count = |classes: &HashMap<ClusterId, usize>, cluster| {
            classes.get(&cluster).copied().unwrap_or(0)
        };
        let again = self.crowds.left_out.keys().copied();
        let again = again.filter(|id| {
            let cluster = self.cluster_of(*id);
            cluster.is_some_and(|cluster| count(&classes, cluster) < max)
        });
        for identity in again.take(AGAIN).collect::<Vec<_>>() {
            self.let_in(identity);
            crowded.extend(self.cluster_of(identity));
        }
        let mut parts = Vec::new();
        if !tx.new_selectors.is_empty() {
            let hits = self.hits(tx);
            parts = self.split_parts(&hits, &crowded);
            self.crowds.hits = Some(hits);
        }
        // Signatures are asked for only where so many could be too many.
        let mut could: HashMap<ClusterId, usize> = classes.clone();
        let changed = self.dirty.iter().filter_map(|id| self.cluster_of(*id));
        for cluster in changed.chain(parts.iter().map(|(cluster, _)| *cluster)) {
            *could.entry(cluster).or_default() += 1;
        }
        crowded.retain(|cluster| count(&could, *cluster) > max);
        parts.extend(self.changed_parts(&crowded));
        parts.sort_by_key(|(_, members)| Reverse(members.len()));
        for (cluster, members) in parts {
            let made = classes.entry(cluster).or_default();
            if *made < max {
                *made += 1;
                continue;
            }
            for identity in members {
                self.leave_out(identity);
            }
        }
    }

    /// The labels of an identity count, whatever its cluster has.
    pub(crate) fn let_in(&mut self, identity: NumericIdentity) {
        if let Some(labels) = self.crowds.left_out.remove(&identity) {
            self.set_labels(identity, Some(labels), None);
            self.dirty.insert(identity);
        }
    }

    /// Who is matched by which of the new selectors, by class, among those whose labels are as they were.
    pub(crate) fn hits_of_commit(&mut self, tx: &Tx) -> Hits {
        let Some(mut hits) = self.crowds.hits.take() else {
            return self.hits(tx);
        };
        for of_class in hits.values_mut() {
            of_class.retain(|identity, _| !self.dirty.contains(identity));
        }
        hits.retain(|_, of_class| !of_class.is_empty());
        hits
    }

    fn cluster_of(&self, identity: NumericIdentity) -> Option<ClusterId> {
        self.settings.scheme.cluster_of(identity)
    }

    /// The labels of an identity do not count any more. Those of this node's endpoints always do.
    fn leave_out(&mut self, identity: NumericIdentity) {
        if self.subjects.contains_key(&identity) {
            return;
        }
        if let Some(labels) = self.labels(identity).cloned() {
            self.set_labels(identity, None, None);
            self.crowds.left_out.insert(identity, labels);
            self.dirty.insert(identity);
        }
    }

    /// Those of the crowded clusters that new selectors bring into classes of their own.
    fn split_parts(&self, hits: &Hits, crowded: &BTreeSet<ClusterId>) -> Vec<Part> {
        let mut parts: BTreeMap<(ClusterId, u32, &[SelectorId]), Vec<NumericIdentity>> =
            BTreeMap::new();
        for (class, hits) in hits {
            for (identity, selectors) in hits {
                let cluster = self.cluster_of(*identity);
                if let Some(cluster) = cluster.filter(|cluster| crowded.contains(cluster)) {
                    let part = parts.entry((cluster, *class, selectors)).or_default();
                    part.push(*identity);
                }
            }
        }
        let parts = parts.into_iter();
        parts
            .map(|((cluster, ..), members)| (cluster, members))
            .collect()
    }

    /// Those of the crowded clusters that their own change brings into a class that does not exist yet.
    fn changed_parts(&self, crowded: &BTreeSet<ClusterId>) -> Vec<Part> {
        let mut parts: BTreeMap<(ClusterId, Signature), Vec<NumericIdentity>> = BTreeMap::new();
        for identity in self.dirty.iter().copied() {
            let cluster = self.cluster_of(identity);
            let cluster = cluster.filter(|cluster| crowded.contains(cluster));
            let (Some(cluster), Some(_)) = (cluster, self.labels(identity)) else {
                continue;
            };
            let signature = self.selectors.signature(&self.home, self.peer(identity));
            let mut known = self.classes.with(kind::OTHER_CLUSTER, &signature);
            if known.next().is_none() {
                let part = parts.entry((cluster, signature)).or_default();
                part.push(identity);
            }
        }
        let parts = parts.into_iter();
        parts
            .map(|((cluster, _), members)| (cluster, members))
            .collect()
    }
}
