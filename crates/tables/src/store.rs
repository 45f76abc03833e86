// SPDX-License-Identifier: Apache-2.0
//! A keyed collection fed by [`Event`]s that answers each with the differences it makes.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use crate::Event;

/// A difference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change<K, V> {
    /// `key` has a new value; `old` is what it replaces.
    Upsert {
        /// The key.
        key: K,
        /// Value before, if there was one.
        old: Option<V>,
        /// Value now.
        new: V,
    },
    /// `key` is gone.
    Delete {
        /// The key.
        key: K,
        /// Its last value.
        old: V,
    },
}

/// Rows by key. Equal rewrites make no difference.
#[derive(Clone, Debug)]
pub struct Store<K, V> {
    rows: HashMap<K, V>,
    /// Keys named by the list in progress.
    listed: Option<HashSet<K>>,
    synced: bool,
}

impl<K, V> Default for Store<K, V> {
    fn default() -> Self {
        Self {
            rows: HashMap::new(),
            listed: None,
            synced: false,
        }
    }
}

impl<K: Clone + Eq + Hash, V: Clone + PartialEq> Store<K, V> {
    /// Applies `event`; returns what it changed. Rows that a finished list did not name are deleted.
    pub fn apply(&mut self, event: Event<K, V>) -> Vec<Change<K, V>> {
        match event {
            Event::Init => {
                self.listed = Some(HashSet::new());
                Vec::new()
            }
            Event::InitApply(key, value) => {
                if let Some(listed) = &mut self.listed {
                    listed.insert(key.clone());
                }
                self.put(key, value).into_iter().collect()
            }
            Event::Apply(key, value) => self.put(key, value).into_iter().collect(),
            Event::InitDone => {
                self.synced = true;
                let Some(listed) = self.listed.take() else {
                    return Vec::new();
                };
                let gone: Vec<K> = self
                    .rows
                    .keys()
                    .filter(|key| !listed.contains(*key))
                    .cloned()
                    .collect();
                gone.into_iter()
                    .filter_map(|key| self.remove(key))
                    .collect()
            }
            Event::Delete(key) => self.remove(key).into_iter().collect(),
        }
    }

    /// Forgets everything; returns the deletions.
    pub fn drain(&mut self) -> Vec<Change<K, V>> {
        self.listed = None;
        self.synced = false;
        self.rows
            .drain()
            .map(|(key, old)| Change::Delete { key, old })
            .collect()
    }

    fn put(&mut self, key: K, new: V) -> Option<Change<K, V>> {
        if self.rows.get(&key) == Some(&new) {
            return None;
        }
        let old = self.rows.insert(key.clone(), new.clone());
        Some(Change::Upsert { key, old, new })
    }

    fn remove(&mut self, key: K) -> Option<Change<K, V>> {
        let old = self.rows.remove(&key)?;
        Some(Change::Delete { key, old })
    }

    /// The row of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key)
    }

    /// All rows, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.rows.iter()
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether a list was ever complete.
    pub fn is_synced(&self) -> bool {
        self.synced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relist_is_a_swap() {
        let mut store = Store::default();
        store.apply(Event::Apply("a", 1));
        store.apply(Event::Apply("b", 1));
        assert!(store.apply(Event::Init).is_empty());
        assert!(store.apply(Event::InitApply("a", 1)).is_empty());
        assert_eq!(
            store.apply(Event::InitApply("c", 2)),
            [Change::Upsert {
                key: "c",
                old: None,
                new: 2
            }]
        );
        assert_eq!(store.len(), 3);
        assert_eq!(
            store.apply(Event::InitDone),
            [Change::Delete { key: "b", old: 1 }]
        );
        assert!(store.is_synced());
    }
}
