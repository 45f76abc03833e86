// SPDX-License-Identifier: Apache-2.0
//! Classes: identities of one kind that the same selectors match.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::NumericIdentity;

use crate::ids::Ids;
use crate::kind;
use crate::selectors::{SelectorId, Signature};

/// One class.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    pub(crate) kind: u32,
    signature: Signature,
    pub(crate) members: BTreeSet<NumericIdentity>,
}

impl Class {
    pub(crate) fn signature(&self) -> &Signature {
        &self.signature
    }
}

/// All classes. Several may have the same kind and signature until they are merged.
#[derive(Clone, Debug)]
pub(crate) struct Classes {
    table: BTreeMap<u32, Class>,
    by_signature: HashMap<(u32, Signature), BTreeSet<u32>>,
    /// Classes of a kind that a selector matches.
    by_selector: HashMap<(SelectorId, u32), BTreeSet<u32>>,
    /// Kinds and signatures that several classes have.
    crowded: BTreeSet<(u32, Signature)>,
    ids: Ids,
}

impl Classes {
    pub(crate) fn new() -> Self {
        let ids = Ids::up_to(kind::BASE - 1);
        let (table, by_signature) = (BTreeMap::new(), HashMap::new());
        Self {
            table,
            by_signature,
            by_selector: HashMap::new(),
            crowded: BTreeSet::new(),
            ids,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn get(&self, class: u32) -> Option<&Class> {
        self.table.get(&class)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Class)> {
        self.table.iter().map(|(&id, class)| (id, class))
    }

    /// Classes that identities of this kind and signature may be in.
    pub(crate) fn with(&self, kind: u32, signature: &Signature) -> impl Iterator<Item = u32> + '_ {
        self.by_signature
            .get(&(kind, signature.clone()))
            .into_iter()
            .flatten()
            .copied()
    }

    /// Groups of classes that mean the same.
    pub(crate) fn duplicates(&self) -> Vec<Vec<u32>> {
        let groups = self.crowded.iter().map(|key| &self.by_signature[key]);
        groups.map(|ids| ids.iter().copied().collect()).collect()
    }

    /// Classes of a kind that a selector matches.
    pub(crate) fn matched_by(
        &self,
        selector: SelectorId,
        kind: u32,
    ) -> impl Iterator<Item = u32> + '_ {
        let classes = self.by_selector.get(&(selector, kind));
        classes.into_iter().flatten().copied()
    }

    /// A new class without members.
    pub(crate) fn create(&mut self, kind: u32, signature: Signature) -> u32 {
        let id = self.ids.take(|id| self.table.contains_key(&id));
        self.index(kind, &signature, id);
        self.table.insert(
            id,
            Class {
                kind,
                signature,
                members: BTreeSet::new(),
            },
        );
        id
    }

    pub(crate) fn set_signature(&mut self, id: u32, signature: Signature) {
        let class = self.table.get_mut(&id).expect("the class exists");
        if class.signature == signature {
            return;
        }
        let kind = class.kind;
        let old = std::mem::replace(&mut class.signature, signature.clone());
        self.unindex(kind, old, id);
        self.index(kind, &signature, id);
    }

    fn index(&mut self, kind: u32, signature: &Signature, id: u32) {
        for &selector in signature.iter() {
            self.by_selector
                .entry((selector, kind))
                .or_default()
                .insert(id);
        }
        let ids = self
            .by_signature
            .entry((kind, signature.clone()))
            .or_default();
        ids.insert(id);
        if ids.len() > 1 {
            self.crowded.insert((kind, signature.clone()));
        }
    }

    fn unindex(&mut self, kind: u32, signature: Signature, id: u32) {
        for &selector in signature.iter() {
            if let Some(ids) = self.by_selector.get_mut(&(selector, kind)) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_selector.remove(&(selector, kind));
                }
            }
        }
        let key = (kind, signature);
        if let Some(ids) = self.by_signature.get_mut(&key) {
            ids.remove(&id);
            if ids.len() < 2 {
                self.crowded.remove(&key);
            }
            if ids.is_empty() {
                self.by_signature.remove(&key);
            }
        }
    }

    /// Takes selectors that are no longer used out of every signature.
    pub(crate) fn drop_selectors(&mut self, dead: &BTreeSet<SelectorId>) {
        let of = |&selector: &SelectorId| kind::ALL.map(|kind| (selector, kind));
        let keys = dead.iter().flat_map(of);
        let touched = keys.filter_map(|key| self.by_selector.get(&key)).flatten();
        let touched: BTreeSet<u32> = touched.copied().collect();
        for id in touched {
            let signature = self.table[&id].signature.iter();
            let kept = signature.filter(|id| !dead.contains(id)).copied();
            self.set_signature(id, kept.collect());
        }
    }

    /// Moves an identity; class 0 is none. Returns whether the class that it leaves is now empty.
    pub(crate) fn transfer(&mut self, identity: NumericIdentity, from: u32, to: u32) -> bool {
        if let Some(class) = self.table.get_mut(&to) {
            class.members.insert(identity);
        }
        let left = self.table.get_mut(&from).filter(|_| from != to);
        left.is_some_and(|class| class.members.remove(&identity) && class.members.is_empty())
    }

    /// Removes an empty class.
    pub(crate) fn remove(&mut self, id: u32) {
        if let Some(class) = self.table.remove(&id) {
            self.unindex(class.kind, class.signature, id);
        }
    }
}
