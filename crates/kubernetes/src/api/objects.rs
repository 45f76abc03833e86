// SPDX-License-Identifier: Apache-2.0
//! Events of watches → changes of objects. Pure. Per object its trimmed text is kept: it tells whether something
//! changed, and is what goes to disk.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tables::Event;

use super::Kind;
use crate::object::{self, ObjectKey};
use crate::{Condition, ObjectEvent, Problem};

/// Problems that are told; of the others only how many there are.
const MAX_PROBLEMS: usize = 128;
/// Objects of a kind.
const MAX_OBJECTS: usize = 250_000;

/// What is saved.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub(super) struct Saved {
    /// The node whose pods these are.
    pub(super) node: String,
    /// Trimmed objects by plural, each as JSON text.
    pub(super) kinds: BTreeMap<String, Vec<String>>,
}

/// Namespace (empty for cluster scope) and name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Name {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// A version of an object.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Document {
    /// Trimmed.
    pub(super) value: Value,
    /// What it shows of its validity.
    pub(super) shown: Option<Condition>,
}

/// What is known of an object.
#[derive(Clone, Default, Debug)]
struct Entry {
    shown: Option<Condition>,
    /// Text and key of the version in force.
    in_force: Option<(Box<str>, ObjectKey)>,
    /// Why the newest version is not.
    refused: Option<String>,
}

#[derive(Default, Debug)]
struct Table {
    entries: BTreeMap<Name, Entry>,
    /// A list that is not complete yet.
    listing: Option<BTreeMap<Name, Document>>,
    /// A whole list was seen, live or on disk.
    is_known: bool,
    /// Seen live, or known not to be served.
    is_listed: bool,
    /// There are more than are followed. Those beyond are not known, so only a list can tell that they are fewer.
    is_over: bool,
}

/// All that is followed.
#[derive(Debug)]
pub(super) struct Objects {
    node: String,
    /// Most objects of a kind.
    most: usize,
    tables: BTreeMap<Kind, Table>,
}

impl Objects {
    pub(super) fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            most: MAX_OBJECTS,
            tables: Kind::ALL.map(|kind| (kind, Table::default())).into(),
        }
    }

    fn table(&mut self, kind: Kind) -> &mut Table {
        self.tables.entry(kind).or_default()
    }

    /// Takes an event. Returns what changed, and whether the state on disk is old now.
    pub(super) fn take(
        &mut self,
        kind: Kind,
        event: Event<Name, Document>,
    ) -> (Vec<ObjectEvent>, bool) {
        let most = self.most;
        let table = self.table(kind);
        let mut events = Vec::new();
        match event {
            Event::Init => {
                table.listing = Some(BTreeMap::new());
                table.is_over = false;
            }
            Event::InitApply(name, document) => {
                let listing = table.listing.get_or_insert_default();
                if listing.len() < most {
                    listing.insert(name, document);
                } else {
                    table.is_over = true;
                }
            }
            Event::InitDone => {
                let listing = table.listing.take().unwrap_or_default();
                let gone: Vec<Name> = table
                    .entries
                    .keys()
                    .filter(|name| !listing.contains_key(*name))
                    .cloned()
                    .collect();
                events.extend(gone.iter().flat_map(|name| table.remove(kind, name)));
                for (name, document) in listing {
                    events.extend(table.show(kind, &name, document.shown));
                    events.extend(table.put(name, &document.value));
                }
                let is_first = !std::mem::replace(&mut table.is_listed, true);
                table.is_known = true;
                let is_changed = is_first || !events.is_empty();
                return (events, is_changed);
            }
            Event::Apply(name, document) => {
                if table.entries.len() < most || table.entries.contains_key(&name) {
                    events.extend(table.show(kind, &name, document.shown));
                    events.extend(table.put(name, &document.value));
                } else {
                    table.is_over = true;
                }
            }
            Event::Delete(name) => events.extend(table.remove(kind, &name)),
        }
        let is_changed = !events.is_empty();
        (events, is_changed)
    }

    /// The server does not serve `kind`: nobody can have made such an object. If some are known all the same, they stay,
    /// because a server that starts does not serve everything at once.
    pub(super) fn not_served(&mut self, kind: Kind) {
        self.table(kind).is_listed = true;
    }

    /// Whether every kind was listed.
    pub(super) fn is_complete(&self) -> bool {
        self.tables.values().all(|table| table.is_listed)
    }

    /// Whether a whole list of `kind` is known.
    pub(super) fn is_known(&self, kind: Kind) -> bool {
        self.tables.get(&kind).is_some_and(|table| table.is_known)
    }

    /// Takes the state of the last run; `None` if it is another node's.
    pub(super) fn restore(&mut self, saved: Saved) -> Option<Vec<ObjectEvent>> {
        if saved.node != self.node {
            return None;
        }
        // A kind that the last run did not follow has to be listed first; nothing is taken before all is known to be there.
        let texts = |kind: Kind| Some((kind, saved.kinds.get(kind.plural())?));
        let all: Vec<_> = Kind::ALL.into_iter().map(texts).collect::<Option<_>>()?;
        let mut events = Vec::new();
        let most = self.most;
        for (kind, texts) in all {
            let table = self.table(kind);
            for text in texts.iter().take(most) {
                let Ok(document) = serde_json::from_str::<Value>(text) else {
                    continue;
                };
                let of = |key: &str| {
                    document["metadata"][key]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned()
                };
                let name = Name {
                    namespace: of("namespace"),
                    name: of("name"),
                };
                events.extend(table.put(name, &document));
            }
            table.is_known = true;
        }
        Some(events)
    }

    /// What is in force, for the disk.
    pub(super) fn saved(&self) -> Saved {
        let texts = |table: &Table| -> Vec<String> {
            let in_force = table
                .entries
                .values()
                .filter_map(|entry| entry.in_force.as_ref());
            in_force.map(|(text, _)| text.to_string()).collect()
        };
        Saved {
            node: self.node.clone(),
            kinds: self
                .tables
                .iter()
                .map(|(kind, table)| (kind.plural().to_owned(), texts(table)))
                .collect(),
        }
    }

    /// Everything that is refused.
    pub(super) fn problems(&self, source: &str) -> Vec<Problem> {
        let over = self.tables.iter().filter(|(_, table)| table.is_over);
        let over = over.map(|(kind, _)| {
            let reason = format!(
                "there are more than {} {}, and those beyond are not in force: remove some and restart the agent",
                self.most,
                kind.plural()
            );
            Problem::of_file(source, reason, false)
        });
        let refused = self.tables.iter().flat_map(|(kind, table)| {
            table.entries.iter().filter_map(|(name, entry)| {
                Some(Problem {
                    file: source.to_owned(),
                    document: 0,
                    object: Some(object::describe(kind.as_str(), &name.namespace, &name.name)),
                    reason: entry.refused.clone()?,
                    previous_stays: entry.in_force.is_some(),
                })
            })
        });
        let mut all = over.chain(refused);
        let mut told: Vec<Problem> = all.by_ref().take(MAX_PROBLEMS).collect();
        let beyond = all.count();
        if beyond > 0 {
            told.push(Problem::of_file(
                source,
                format!("{beyond} more problems"),
                false,
            ));
        }
        told
    }
}

impl Table {
    fn put(&mut self, name: Name, document: &Value) -> Option<ObjectEvent> {
        let entry = self.entries.entry(name).or_default();
        let text = document.to_string();
        if let Some((old, _)) = &entry.in_force
            && **old == *text
        {
            entry.refused = None;
            return None;
        }
        match object::read(document) {
            Ok(Some(object)) => {
                entry.refused = None;
                entry.in_force = Some((text.into(), object.key()));
                Some(ObjectEvent::upsert(object))
            }
            Ok(None) => None,
            Err(error) => {
                entry.refused = Some(error.to_string());
                None
            }
        }
    }

    /// What the object shows of its validity, if that is news.
    fn show(&mut self, kind: Kind, name: &Name, shown: Option<Condition>) -> Option<ObjectEvent> {
        let entry = self.entries.entry(name.clone()).or_default();
        if entry.shown == shown {
            return None;
        }
        entry.shown.clone_from(&shown);
        let key = object::named_policy(kind.as_str(), &name.namespace, &name.name)?;
        Some(ObjectEvent::PolicyShows(key, shown))
    }

    fn remove(&mut self, kind: Kind, name: &Name) -> Vec<ObjectEvent> {
        let shown = self
            .entries
            .contains_key(name)
            .then(|| self.show(kind, name, None));
        let in_force = self.entries.remove(name).and_then(|entry| entry.in_force);
        let gone = in_force.map(|(_, key)| ObjectEvent::gone(key));
        gone.into_iter().chain(shown.flatten()).collect()
    }
}

#[cfg(test)]
#[path = "objects_tests.rs"]
mod tests;
