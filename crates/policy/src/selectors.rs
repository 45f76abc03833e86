// SPDX-License-Identifier: Apache-2.0
//! The peer selectors that live policies use, each once, filed by the labels and prefixes that they ask for.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ipnet::IpNet;

use crate::index::{self, Handle};
use crate::kind;
use crate::peer::{Home, Peer, PeerSelector};
use crate::ports::Named;

/// Number of a selector in use; never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct SelectorId(u64);

/// The selectors that match, ascending.
pub(crate) type Signature = Arc<[SelectorId]>;

#[derive(Clone, Debug)]
struct InUse {
    selector: PeerSelector,
    users: usize,
    /// Kinds that it matches by their number alone, in the order of [`kind::ALL`].
    whole: [bool; 5],
    /// Policies that use it.
    policies: BTreeSet<u32>,
}

/// Selectors that ask for a key.
#[derive(Clone, Debug, Default)]
struct Asking {
    any: BTreeSet<SelectorId>,
    values: HashMap<String, BTreeSet<SelectorId>>,
}

/// All selectors in use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selectors {
    by_value: HashMap<PeerSelector, SelectorId>,
    table: BTreeMap<SelectorId, InUse>,
    by_key: HashMap<String, Asking>,
    by_prefix: HashMap<IpNet, BTreeSet<SelectorId>>,
    by_port: HashMap<Named, BTreeSet<SelectorId>>,
    /// Selectors that may match anybody.
    unfiled: BTreeSet<SelectorId>,
    next: u64,
    compared: Cell<u64>,
}

impl Selectors {
    /// Adds a user. Returns the number and whether the selector is new.
    pub(crate) fn acquire(&mut self, selector: &PeerSelector, home: &Home) -> (SelectorId, bool) {
        if let Some(&id) = self.by_value.get(selector) {
            self.table.get_mut(&id).expect("both tables hold it").users += 1;
            return (id, false);
        }
        let id = SelectorId(self.next);
        self.next += 1;
        self.file(selector, |ids| {
            ids.insert(id);
        });
        self.by_value.insert(selector.clone(), id);
        let numbered = |kind| Peer {
            kind,
            labels: None,
            prefix: None,
            ports: &[],
        };
        self.table.insert(
            id,
            InUse {
                selector: selector.clone(),
                users: 1,
                whole: kind::ALL.map(|kind| selector.matches(home, numbered(kind))),
                policies: BTreeSet::new(),
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
        self.file(&gone.selector, |ids| {
            ids.remove(&id);
        });
        self.by_value.remove(&gone.selector);
        true
    }

    /// Changes every set in which the selector is filed; one that is empty then goes.
    fn file(&mut self, selector: &PeerSelector, mut change: impl FnMut(&mut BTreeSet<SelectorId>)) {
        let handles = match selector {
            PeerSelector::Entity(_) => return change(&mut self.unfiled),
            PeerSelector::Cidr(set) => {
                for prefix in &set.within {
                    let ids = self.by_prefix.entry(*prefix).or_default();
                    change(ids);
                    if ids.is_empty() {
                        self.by_prefix.remove(prefix);
                    }
                }
                return;
            }
            PeerSelector::Port(port) => {
                let ids = self.by_port.entry(port.clone()).or_default();
                change(ids);
                if ids.is_empty() {
                    self.by_port.remove(port);
                }
                return;
            }
            PeerSelector::Labels(selector) => index::handles(selector),
        };
        if handles.is_empty() {
            return change(&mut self.unfiled);
        }
        for handle in handles {
            let key = match &handle {
                Handle::Value(key, _) | Handle::Key(key) => key.clone(),
            };
            let asking = self.by_key.entry(key.clone()).or_default();
            match handle {
                Handle::Key(_) => change(&mut asking.any),
                Handle::Value(_, value) => {
                    let ids = asking.values.entry(value.clone()).or_default();
                    change(ids);
                    if ids.is_empty() {
                        asking.values.remove(&value);
                    }
                }
            }
            if asking.any.is_empty() && asking.values.is_empty() {
                self.by_key.remove(&key);
            }
        }
    }

    /// Whether somebody uses it.
    pub(crate) fn is_in_use(&self, selector: &PeerSelector) -> bool {
        self.by_value.contains_key(selector)
    }

    pub(crate) fn get(&self, id: SelectorId) -> &PeerSelector {
        &self.table[&id].selector
    }

    /// Whether one of them matches.
    pub(crate) fn matches(&self, id: SelectorId, home: &Home, peer: Peer<'_>) -> bool {
        self.compared.set(self.compared.get() + 1);
        self.table[&id].selector.matches(home, peer)
    }

    /// Whether one of them matches a kind by its number alone.
    pub(crate) fn is_whole(&self, id: SelectorId, kind: u32) -> bool {
        let in_use = self.table.get(&id);
        in_use.is_some_and(|in_use| in_use.whole[(kind - kind::BASE) as usize])
    }

    /// A policy uses it.
    pub(crate) fn used_by(&mut self, id: SelectorId, policy: u32) {
        if let Some(in_use) = self.table.get_mut(&id) {
            in_use.policies.insert(policy);
        }
    }

    /// A policy no longer uses it.
    pub(crate) fn unused_by(&mut self, id: SelectorId, policy: u32) {
        if let Some(in_use) = self.table.get_mut(&id) {
            in_use.policies.remove(&policy);
        }
    }

    /// Policies that tell a class with this signature from its kind.
    pub(crate) fn policies(&self, kind: u32, signature: &Signature) -> BTreeSet<u32> {
        let own = signature.iter().filter(|id| !self.is_whole(**id, kind));
        let in_use = own.filter_map(|id| self.table.get(id));
        in_use
            .flat_map(|in_use| &in_use.policies)
            .copied()
            .collect()
    }

    /// All that match.
    pub(crate) fn signature(&self, home: &Home, peer: Peer<'_>) -> Signature {
        let mut ids: Vec<SelectorId> = self.unfiled.iter().copied().collect();
        for label in peer.labels.into_iter().flatten() {
            let Some(asking) = self.by_key.get(label.key()) else {
                continue;
            };
            ids.extend(&asking.any);
            ids.extend(asking.values.get(label.value()).into_iter().flatten());
        }
        let by_port = peer.ports.iter().filter_map(|port| self.by_port.get(port));
        ids.extend(by_port.flatten());
        if !self.by_prefix.is_empty() {
            let wider = std::iter::successors(peer.prefix, IpNet::supernet);
            ids.extend(wider.filter_map(|net| self.by_prefix.get(&net)).flatten());
        }
        ids.sort_unstable();
        ids.dedup();
        ids.retain(|&id| self.matches(id, home, peer));
        ids.into()
    }

    /// Comparisons of a selector with an identity so far.
    pub(crate) fn compared(&self) -> u64 {
        self.compared.get()
    }
}
