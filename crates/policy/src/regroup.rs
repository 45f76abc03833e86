// SPDX-License-Identifier: Apache-2.0
//! Which identities change class with a commit, and into which.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::{NumericIdentity, reserved};

use crate::commit::Tx;
use crate::engine::Engine;
use crate::peer::PeerSelector;
use crate::selectors::{SelectorId, Signature};
use crate::{Op, kind};

/// Identities that were judged by one class (0: by their kind) and shall have one signature. `None`: shall be unknown.
type Groups = BTreeMap<(u32, u32, Option<Signature>), Vec<NumericIdentity>>;

/// New selectors that match an identity, ascending, by class.
pub(crate) type Hits = BTreeMap<u32, BTreeMap<NumericIdentity, Vec<SelectorId>>>;

impl Engine {
    /// Splits classes along new selectors, sorts changed identities anew, and moves who has to move.
    pub(crate) fn regroup(&mut self, tx: &mut Tx) {
        let mut groups = self.split(tx);
        for identity in std::mem::take(&mut self.dirty) {
            let Some(record) = self.records.get(&identity) else {
                continue;
            };
            let peer = self.peer(identity);
            let kind = peer.kind;
            let known = peer.labels.is_some();
            let signature = known.then(|| self.selectors.signature(&self.home, peer));
            let from = tx.origins.get(&identity).copied().unwrap_or(record.class);
            groups
                .entry((from, kind, signature))
                .or_default()
                .push(identity);
        }
        for ((from, kind, signature), identities) in groups {
            match signature {
                Some(signature) => self.place(from, kind, signature, &identities, tx),
                None => self.displace(from, kind, identities, tx),
            }
        }
    }

    /// Divides the members of classes by the new selectors. The largest part keeps the class.
    fn split(&mut self, tx: &Tx) -> Groups {
        let mut groups = Groups::new();
        if tx.new_selectors.is_empty() {
            return groups;
        }
        let hits = self.hits_of_commit(tx);
        let mut busy: HashMap<u32, usize> = HashMap::new();
        for record in self.dirty.iter().filter_map(|id| self.records.get(id)) {
            *busy.entry(record.class).or_default() += 1;
        }
        for (id, hits) in hits {
            let class = self.classes.get(id).expect("it has members");
            let (kind, base) = (class.kind, class.signature().clone());
            let still = busy.get(&id).copied().unwrap_or(0);
            let rest = class.members.len() - hits.len() - still;
            let mut parts: BTreeMap<&[SelectorId], Vec<NumericIdentity>> = BTreeMap::new();
            for (&identity, new) in &hits {
                parts.entry(new).or_default().push(identity);
            }
            let largest = parts.iter().max_by_key(|(_, ids)| ids.len());
            let (largest, size) = largest.map_or((&[][..], 0), |(new, ids)| (*new, ids.len()));
            let kept = if rest >= size { &[][..] } else { largest };
            if !kept.is_empty() {
                let others = class.members.iter();
                let others = others.filter(|id| !hits.contains_key(id) && !self.dirty.contains(id));
                let others: Vec<NumericIdentity> = others.copied().collect();
                if !others.is_empty() {
                    parts.insert(&[], others);
                }
            }
            let with = |new: &[SelectorId]| base.iter().chain(new).copied().collect::<Signature>();
            for (new, identities) in &parts {
                if *new != kept {
                    groups.insert((id, kind, Some(with(new))), identities.clone());
                }
            }
            let kept = with(kept);
            self.classes.set_signature(id, kept);
        }
        self.widen(tx, groups)
    }

    /// Who is matched by which of the new selectors, by class; without what matches whole kinds.
    pub(crate) fn hits(&self, tx: &Tx) -> Hits {
        let mut hits = Hits::new();
        for &selector in &tx.new_selectors {
            for kind in kind::ALL {
                if self.selectors.is_whole(selector, kind) {
                    continue;
                }
                for identity in self.candidates(selector, kind) {
                    let class = self.records.get(&identity).map_or(0, |record| record.class);
                    if class == 0 || self.dirty.contains(&identity) {
                        continue;
                    }
                    if self
                        .selectors
                        .matches(selector, &self.home, self.peer(identity))
                    {
                        let of_class = hits.entry(class).or_default();
                        of_class.entry(identity).or_default().push(selector);
                    }
                }
            }
        }
        hits
    }

    /// Identities of a kind among whom are all that a selector matches.
    fn candidates(&self, selector: SelectorId, kind: u32) -> BTreeSet<NumericIdentity> {
        match self.selectors.get(selector) {
            PeerSelector::Labels(labels) => {
                self.by_label.matching(kind, labels).unwrap_or_else(|| {
                    let all = self.records.keys();
                    all.filter(|id| self.home.kind_of(**id) == kind)
                        .copied()
                        .collect()
                })
            }
            PeerSelector::Entity(entity) => self.by_label.any(kind, &self.home.handles(*entity)),
            PeerSelector::Cidr(set) if kind == kind::WORLD => {
                let named = set.within.iter().flat_map(|net| self.cidrs.within(*net));
                let worlds = [reserved::WORLD, reserved::WORLD_IPV4, reserved::WORLD_IPV6];
                named.chain(worlds).collect()
            }
            PeerSelector::Cidr(_) => BTreeSet::new(),
            PeerSelector::Port(port) => {
                let holders = self.ports.holders(port);
                holders
                    .filter(|id| self.home.kind_of(*id) == kind)
                    .collect()
            }
        }
    }

    /// New selectors that match a whole kind match all its classes, and who moves to another.
    fn widen(&mut self, tx: &Tx, groups: Groups) -> Groups {
        let whole = kind::ALL.map(|kind| {
            let new = tx.new_selectors.iter().copied();
            new.filter(|id| self.selectors.is_whole(*id, kind))
                .collect::<Vec<_>>()
        });
        if whole.iter().all(Vec::is_empty) {
            return groups;
        }
        let wide = |kind: u32, signature: &Signature| {
            let new = &whole[(kind - kind::BASE) as usize];
            let mut all: Vec<SelectorId> = signature.iter().chain(new).copied().collect();
            all.sort_unstable();
            Signature::from(all)
        };
        let classes = self.classes.iter();
        let classes = classes.map(|(id, class)| (id, wide(class.kind, class.signature())));
        for (id, signature) in classes.collect::<Vec<_>>() {
            self.classes.set_signature(id, signature);
        }
        let moved = groups
            .into_iter()
            .map(|((from, kind, signature), identities)| {
                let signature = signature.map(|signature| wide(kind, &signature));
                ((from, kind, signature), identities)
            });
        moved.collect()
    }

    /// Brings identities into a class of their signature that is judged as before under policies that end.
    fn place(
        &mut self,
        from: u32,
        kind: u32,
        signature: Signature,
        identities: &[NumericIdentity],
        tx: &mut Tx,
    ) {
        let fits = |&class: &u32| {
            let mut old = tx.old.iter().map(|policy| &self.policies[policy]);
            class == from || old.all(|live| live.row(class, kind) == live.row(from, kind))
        };
        let same = || self.classes.with(kind, &signature);
        let found = same()
            .find(|&class| class == from)
            .or_else(|| same().find(fits));
        let class = found.unwrap_or_else(|| self.create_class(from, kind, &signature, tx));
        for &identity in identities {
            let before = self.records[&identity].class;
            if before != class {
                self.join(identity, before, class, tx);
                tx.moves.push(Op::PutIdentity { identity, class });
            }
        }
    }

    /// A class with entries in every policy that is live before this commit.
    fn create_class(&mut self, from: u32, kind: u32, signature: &Signature, tx: &mut Tx) -> u32 {
        let class = self.classes.create(kind, signature.clone());
        let mut live = self.selectors.policies(kind, signature);
        live.extend(&tx.old);
        live.retain(|policy| !tx.fresh.contains(policy));
        for policy in live {
            let row = if tx.old.contains(&policy) {
                let row = self.policies[&policy].row(from, kind);
                self.rows.hold(row);
                row
            } else {
                self.row_for(policy, signature, tx)
            };
            let op = self.put_class(policy, class, kind, row);
            tx.refine.extend(op);
        }
        class
    }

    /// Takes identities out of their class, now if their kind is judged alike under policies that end, else after the
    /// flips.
    fn displace(&mut self, from: u32, kind: u32, identities: Vec<NumericIdentity>, tx: &mut Tx) {
        if from == 0 {
            for identity in identities {
                self.forget(identity);
            }
            return;
        }
        let mut old = tx.old.iter().map(|policy| &self.policies[policy]);
        if old.all(|live| live.row(from, kind) == live.row(0, kind)) {
            for identity in identities {
                self.forget(identity);
                self.transfer(identity, from, 0, tx);
                tx.moves.push(Op::DeleteIdentity { identity });
            }
        } else {
            let signature = self.kinds[(kind - kind::BASE) as usize].clone();
            self.place(from, kind, signature, &identities, tx);
            tx.forgotten.extend(identities);
        }
    }
}
