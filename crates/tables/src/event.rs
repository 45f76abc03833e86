// SPDX-License-Identifier: Apache-2.0
//! The vocabulary that every source speaks. A reconnect is an atomic swap, never a flush.

/// A change of a keyed collection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event<K, V> {
    /// A complete list begins. What is known stays valid until [`Event::InitDone`].
    Init,
    /// An item of that list.
    InitApply(K, V),
    /// The list is complete: what it did not name is gone.
    InitDone,
    /// An item is new or has changed.
    Apply(K, V),
    /// An item is gone.
    Delete(K),
}

impl<K, V> Event<K, V> {
    /// The same event with other keys and values.
    pub fn map<K2, V2>(
        self,
        key: impl FnOnce(K) -> K2,
        value: impl FnOnce(V) -> V2,
    ) -> Event<K2, V2> {
        match self {
            Event::Init => Event::Init,
            Event::InitApply(k, v) => Event::InitApply(key(k), value(v)),
            Event::InitDone => Event::InitDone,
            Event::Apply(k, v) => Event::Apply(key(k), value(v)),
            Event::Delete(k) => Event::Delete(key(k)),
        }
    }
}
