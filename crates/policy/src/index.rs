// SPDX-License-Identifier: Apache-2.0
//! Identities by kind and label, so that a new selector costs what it selects and not what there is.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use model::{Labels, NumericIdentity, Operator, Requirement, Selector, keys};

use crate::kind;

/// Who has a label. Most labels of a large mesh are either nearly unique or very common.
#[derive(Clone, Debug)]
enum Holders {
    One(NumericIdentity),
    Several(BTreeSet<NumericIdentity>),
}

impl Holders {
    fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Several(all) => all.len(),
        }
    }

    fn add(&mut self, identity: NumericIdentity) {
        match self {
            Self::One(other) if *other == identity => {}
            Self::One(other) => *self = Self::Several(BTreeSet::from([*other, identity])),
            Self::Several(all) => {
                all.insert(identity);
            }
        }
    }

    /// Returns whether nobody is left.
    fn remove(&mut self, identity: NumericIdentity) -> bool {
        match self {
            Self::One(other) => *other == identity,
            Self::Several(all) => {
                all.remove(&identity);
                all.is_empty()
            }
        }
    }

    fn add_to(&self, found: &mut BTreeSet<NumericIdentity>) {
        match self {
            Self::One(identity) => {
                found.insert(*identity);
            }
            Self::Several(all) => found.extend(all),
        }
    }
}

/// A reason for which a selector may match an identity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Handle {
    /// It has a label with this key and value.
    Value(String, String),
    /// It has a label with this key.
    Key(String),
}

/// Holders by value; the source of the label is looked at by whoever matches.
type Values = HashMap<Arc<str>, Holders>;

/// Identities by kind and label.
#[derive(Clone, Debug, Default)]
pub(crate) struct ByLabel {
    /// By key, for every kind in the order of [`kind::ALL`].
    keys: [HashMap<Arc<str>, Values>; 5],
}

impl ByLabel {
    fn of(&self, kind: u32) -> &HashMap<Arc<str>, Values> {
        &self.keys[(kind - kind::BASE) as usize]
    }

    /// An identity has these labels now.
    pub(crate) fn add(&mut self, kind: u32, identity: NumericIdentity, labels: &Labels) {
        let keys = &mut self.keys[(kind - kind::BASE) as usize];
        for label in labels {
            let values = match keys.get_mut(label.key()) {
                Some(values) => values,
                None => keys.entry(label.key_text().clone()).or_default(),
            };
            match values.get_mut(label.value()) {
                Some(holders) => holders.add(identity),
                None => {
                    values.insert(label.value_text().clone(), Holders::One(identity));
                }
            }
        }
    }

    /// An identity no longer has these labels.
    pub(crate) fn remove(&mut self, kind: u32, identity: NumericIdentity, labels: &Labels) {
        let keys = &mut self.keys[(kind - kind::BASE) as usize];
        for label in labels {
            let Some(values) = keys.get_mut(label.key()) else {
                continue;
            };
            let holders = values.get_mut(label.value());
            if holders.is_some_and(|holders| holders.remove(identity)) {
                values.remove(label.value());
            }
            if values.is_empty() {
                keys.remove(label.key());
            }
        }
    }

    fn with_value(&self, kind: u32, key: &str, value: &str) -> Option<&Holders> {
        self.of(kind).get(key)?.get(value)
    }

    fn with_key(&self, kind: u32, key: &str) -> impl Iterator<Item = &Holders> {
        self.of(kind).get(key).into_iter().flat_map(HashMap::values)
    }

    fn find(&self, kind: u32, handle: &Handle, found: &mut BTreeSet<NumericIdentity>) {
        match handle {
            Handle::Value(key, value) => {
                let holders = self.with_value(kind, key, value);
                holders.into_iter().for_each(|h| h.add_to(found));
            }
            Handle::Key(key) => self.with_key(kind, key).for_each(|h| h.add_to(found)),
        }
    }

    /// Everybody of a kind to whom one of the handles applies.
    pub(crate) fn any(&self, kind: u32, handles: &[Handle]) -> BTreeSet<NumericIdentity> {
        let mut found = BTreeSet::new();
        for handle in handles {
            self.find(kind, handle, &mut found);
        }
        found
    }

    /// A few of a kind among whom are all that the selector matches. `None`: it asks for no label that somebody has to
    /// have.
    pub(crate) fn matching(
        &self,
        kind: u32,
        selector: &Selector,
    ) -> Option<BTreeSet<NumericIdentity>> {
        let mut best: Option<(usize, &Requirement)> = None;
        for requirement in selector.requirements().filter(|r| is_positive(r)) {
            let count = match &requirement.operator {
                Operator::In(values) => {
                    let holders = values
                        .iter()
                        .map(|v| self.with_value(kind, &requirement.key, v));
                    holders.map(|h| h.map_or(0, Holders::len)).sum()
                }
                _ => usize::MAX,
            };
            if best.is_none_or(|(least, _)| count < least) {
                best = Some((count, requirement));
            }
        }
        let (_, requirement) = best?;
        Some(self.any(kind, &handles_of(requirement)))
    }
}

/// Whether it can hold only for who has a label with exactly its key.
fn is_positive(requirement: &Requirement) -> bool {
    let asks = matches!(requirement.operator, Operator::In(_) | Operator::Exists);
    asks && requirement.source.as_deref() != Some("cidr")
}

fn handles_of(requirement: &Requirement) -> Vec<Handle> {
    let key = &requirement.key;
    match &requirement.operator {
        Operator::In(values) => {
            let of = |value: &String| Handle::Value(key.clone(), value.clone());
            values.iter().map(of).collect()
        }
        _ => vec![Handle::Key(key.clone())],
    }
}

/// Handles of which one applies to everybody whom the selector matches; those that few have before those that many have.
/// Empty: it asks for no label.
pub(crate) fn handles(selector: &Selector) -> Vec<Handle> {
    let common = |r: &Requirement| match r.key.as_str() {
        keys::CLUSTER => 3,
        keys::NAMESPACE => 2,
        keys::SERVICE_ACCOUNT => 1,
        key if key.starts_with(keys::NAMESPACE_LABELS) => 1,
        _ => 0,
    };
    let positive = selector.requirements().filter(|r| is_positive(r));
    let best = positive.min_by_key(|r| (common(r), r.operator == Operator::Exists));
    best.map(handles_of).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        Labels::parse(text.as_bytes()).expect("valid")
    }

    fn selector(key: &str, operator: Operator) -> Selector {
        Selector::new([Requirement::new(key, operator)])
    }

    #[test]
    fn found_by_what_few_have() {
        let mut index = ByLabel::default();
        for n in 0..100 {
            let text = format!("k8s:app=a{};k8s:env=prod;", n % 10);
            index.add(kind::WORLD, NumericIdentity(n), &labels(&text));
        }
        let is = |v: &str| Operator::In([v.to_owned()].into());
        let both = selector("env", is("prod")).and(Requirement::new("app", is("a3")));
        assert_eq!(index.matching(kind::WORLD, &both).expect("asks").len(), 10);
        assert_eq!(index.matching(kind::OTHER, &both).expect("asks").len(), 0);
        let exists = selector("app", Operator::Exists);
        assert_eq!(
            index.matching(kind::WORLD, &exists).expect("asks").len(),
            100
        );
        assert_eq!(
            index.matching(kind::WORLD, &selector("app", Operator::DoesNotExist)),
            None
        );
        for n in 0..100 {
            let text = format!("k8s:app=a{};k8s:env=prod;", n % 10);
            index.remove(kind::WORLD, NumericIdentity(n), &labels(&text));
        }
        assert!(index.keys.iter().all(HashMap::is_empty));
    }
}
