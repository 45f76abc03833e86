// SPDX-License-Identifier: Apache-2.0
//! Which identities change class with a commit, and into which.

use std::collections::BTreeMap;

use model::NumericIdentity;

use crate::commit::Tx;
use crate::engine::Engine;
use crate::peer::Peer;
use crate::selectors::{SelectorId, Signature};
use crate::{Op, kind};

/// Identities that were judged by one class (0: by their kind) and shall have one signature. `None`: shall be unknown.
type Groups = BTreeMap<(u32, u32, Option<Signature>), Vec<NumericIdentity>>;

impl Engine {
    /// Splits classes along new selectors, sorts changed identities anew, and moves who has to move.
    pub(crate) fn regroup(&mut self, tx: &mut Tx) {
        let mut groups = self.split(tx);
        for identity in std::mem::take(&mut self.dirty) {
            let Some(record) = self.records.get(&identity) else {
                continue;
            };
            let kind = self.home.kind_of(identity);
            let peer = Peer {
                kind,
                labels: record.labels.as_ref(),
                prefix: record.prefix,
            };
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

    /// Divides the members of each class by the new selectors. The largest part keeps the class.
    fn split(&mut self, tx: &mut Tx) -> Groups {
        let mut groups = Groups::new();
        if tx.new_selectors.is_empty() {
            return groups;
        }
        let mut kept: Vec<(u32, Option<Signature>)> = Vec::new();
        for (id, class) in self.classes.iter() {
            let Some(base) = class.signature() else {
                continue;
            };
            let mut parts: BTreeMap<Vec<SelectorId>, Vec<NumericIdentity>> = BTreeMap::new();
            for &identity in class.members.iter().filter(|id| !self.dirty.contains(id)) {
                parts
                    .entry(self.new_matches(identity, class.kind, tx))
                    .or_default()
                    .push(identity);
            }
            let largest = parts
                .iter()
                .max_by_key(|(_, ids)| ids.len())
                .map(|(new, _)| new.clone());
            let with = |new: &[SelectorId]| base.iter().chain(new).copied().collect::<Signature>();
            kept.push((id, largest.as_deref().map(with)));
            for (new, identities) in parts {
                if Some(&new) != largest.as_ref() {
                    groups.insert((id, class.kind, Some(with(&new))), identities);
                }
            }
        }
        for (id, signature) in kept {
            self.classes.set_signature(id, signature);
        }
        groups
    }

    /// Which of the new selectors match. They have the highest numbers, so signatures stay sorted.
    fn new_matches(&self, identity: NumericIdentity, kind: u32, tx: &Tx) -> Vec<SelectorId> {
        let record = &self.records[&identity];
        let peer = Peer {
            kind,
            labels: record.labels.as_ref(),
            prefix: record.prefix,
        };
        let new = tx.new_selectors.iter().copied();
        new.filter(|&id| self.selectors.matches(id, &self.home, peer))
            .collect()
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
        let live = self
            .policies
            .keys()
            .copied()
            .filter(|policy| !tx.fresh.contains(policy));
        for policy in live.collect::<Vec<u32>>() {
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
                self.records.remove(&identity);
            }
            return;
        }
        let mut old = tx.old.iter().map(|policy| &self.policies[policy]);
        if old.all(|live| live.row(from, kind) == live.row(0, kind)) {
            for identity in identities {
                self.records.remove(&identity);
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
