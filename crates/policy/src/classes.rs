// SPDX-License-Identifier: Apache-2.0
//! Classes: identities of one kind that the same selectors match.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::NumericIdentity;

use crate::ids::Ids;
use crate::kind;
use crate::selectors::{SelectorId, Signature};

/// One class.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) kind: u32,
    /// `None`: adopted from the kernel, or left behind; nobody joins it.
    signature: Option<Signature>,
    pub(crate) members: BTreeSet<NumericIdentity>,
}

impl Class {
    pub(crate) fn signature(&self) -> Option<&Signature> {
        self.signature.as_ref()
    }
}

/// All classes. Several may have the same kind and signature until they are merged.
#[derive(Debug)]
pub(crate) struct Classes {
    table: BTreeMap<u32, Class>,
    by_signature: HashMap<(u32, Signature), BTreeSet<u32>>,
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
            crowded: BTreeSet::new(),
            ids,
        }
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

    /// A new class without members.
    pub(crate) fn create(&mut self, kind: u32, signature: Signature) -> u32 {
        let id = self.ids.take(|id| self.table.contains_key(&id));
        self.table.insert(
            id,
            Class {
                kind,
                signature: None,
                members: BTreeSet::new(),
            },
        );
        self.set_signature(id, Some(signature));
        id
    }

    /// Numbers up to this one may be in use in the kernel.
    pub(crate) fn start_above(&mut self, used: u32) {
        self.ids.start_above(used);
    }

    /// A class found in the kernel.
    pub(crate) fn adopt(&mut self, class: u32, kind: u32) {
        self.ids.start_above(class);
        let new = Class {
            kind,
            signature: None,
            members: BTreeSet::new(),
        };
        self.table.entry(class).or_insert(new);
    }

    pub(crate) fn set_signature(&mut self, id: u32, signature: Option<Signature>) {
        let class = self.table.get_mut(&id).expect("the class exists");
        if class.signature == signature {
            return;
        }
        let old = std::mem::replace(&mut class.signature, signature.clone());
        let kind = class.kind;
        if let Some(old) = old {
            self.unindex(kind, old, id);
        }
        if let Some(new) = signature {
            let ids = self.by_signature.entry((kind, new.clone())).or_default();
            ids.insert(id);
            if ids.len() > 1 {
                self.crowded.insert((kind, new));
            }
        }
    }

    fn unindex(&mut self, kind: u32, signature: Signature, id: u32) {
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
        let touched = |s: &Signature| s.iter().any(|id| dead.contains(id));
        let classes = self
            .table
            .iter()
            .filter_map(|(&id, c)| Some((id, c.signature.clone()?)));
        let touched: Vec<_> = classes.filter(|(_, s)| touched(s)).collect();
        for (id, signature) in touched {
            let kept = signature
                .iter()
                .filter(|id| !dead.contains(id))
                .copied()
                .collect();
            self.set_signature(id, Some(kept));
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
        self.set_signature(id, None);
        self.table.remove(&id);
    }
}
