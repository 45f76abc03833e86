// SPDX-License-Identifier: Apache-2.0
//! The peer selectors that live policies use, each once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::kind;
use crate::peer::{Home, Peer, PeerSelector};

/// Number of a selector in use; never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct SelectorId(u64);

/// The selectors that match, ascending.
pub(crate) type Signature = Arc<[SelectorId]>;

#[derive(Debug)]
struct InUse {
    selector: PeerSelector,
    users: usize,
}

/// All selectors in use.
#[derive(Debug, Default)]
pub(crate) struct Selectors {
    by_value: HashMap<PeerSelector, SelectorId>,
    table: BTreeMap<SelectorId, InUse>,
    next: u64,
}

impl Selectors {
    /// Adds a user. Returns the number and whether the selector is new.
    pub(crate) fn acquire(&mut self, selector: &PeerSelector) -> (SelectorId, bool) {
        if let Some(&id) = self.by_value.get(selector) {
            self.table.get_mut(&id).expect("both tables hold it").users += 1;
            return (id, false);
        }
        let id = SelectorId(self.next);
        self.next += 1;
        self.by_value.insert(selector.clone(), id);
        self.table.insert(
            id,
            InUse {
                selector: selector.clone(),
                users: 1,
            },
        );
        (id, true)
    }

    /// Removes a user. Returns whether it was the last.
    pub(crate) fn release(&mut self, id: SelectorId) -> bool {
        let in_use = self.table.get_mut(&id).expect("released once per acquire");
        in_use.users -= 1;
        if in_use.users > 0 {
            return false;
        }
        let gone = self.table.remove(&id).expect("just found");
        self.by_value.remove(&gone.selector);
        true
    }

    /// Whether one of them matches.
    pub(crate) fn matches(&self, id: SelectorId, home: &Home, peer: Peer<'_>) -> bool {
        self.table[&id].selector.matches(home, peer)
    }

    /// All that match.
    pub(crate) fn signature(&self, home: &Home, peer: Peer<'_>) -> Signature {
        let all = self.table.iter();
        all.filter(|(_, s)| s.selector.matches(home, peer))
            .map(|(&id, _)| id)
            .collect()
    }

    /// What matches an identity of which only the number is known.
    pub(crate) fn signature_of_kind(&self, home: &Home, kind: u32) -> Signature {
        self.signature(
            home,
            Peer {
                kind,
                labels: None,
                prefix: None,
            },
        )
    }

    /// The same for all kinds.
    pub(crate) fn kinds(&self, home: &Home) -> [Signature; 5] {
        kind::ALL.map(|kind| self.signature_of_kind(home, kind))
    }
}
