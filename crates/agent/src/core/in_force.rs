// SPDX-License-Identifier: Apache-2.0
//! Where the newest version of a policy or of a group of prefixes is refused, the one in force is not what its source tells
//! after a restart. So it is on disk, and a start puts it into force first: others may not take its place, and the newest
//! waits as before.

use std::collections::{BTreeMap, BTreeSet};

use datapath::Kernel;
use kubernetes::ObjectEvent;
use policy::{CidrGroup, PolicyObject};
use serde::{Deserialize, Serialize};

use super::Core;
use super::refused::group_subject;

/// The file, below the state directory.
const FILE: &str = "state/policies-in-force.json";
/// What follows if it is damaged.
const CONSEQUENCE: &str = "policies whose newest version is refused may have none in force";

/// An object in force.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
enum Object {
    Policy(PolicyObject),
    Group(CidrGroup),
}

/// What is known of an object whose newest version waits.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
struct Row {
    in_force: Option<Object>,
    /// Why the newest version is not.
    reason: String,
}

/// By the subject of their notes.
#[derive(Debug, Default)]
pub(super) struct InForce {
    /// What the file says.
    rows: BTreeMap<String, Row>,
    /// Those of which their source has not told yet since the start.
    untold: BTreeSet<String>,
}

impl<K: Kernel> Core<K> {
    /// Puts into force what was it before this start. Before anything else, so that there is room.
    pub(crate) fn restore_in_force(&mut self) {
        let rows: Option<BTreeMap<String, Row>> = self.read(FILE, CONSEQUENCE);
        self.in_force.rows = rows.unwrap_or_default();
        self.in_force.untold = self.in_force.rows.keys().cloned().collect();
        for (subject, row) in self.in_force.rows.clone() {
            let result = match row.in_force {
                Some(Object::Policy(object)) => self.engine.upsert_policy(object),
                Some(Object::Group(group)) => self.engine.upsert_group(group),
                None => Ok(()),
            };
            self.note(&subject, result.err());
        }
        self.dirty = true;
    }

    /// A source tells for the first time what was refused before this start: it waits until everything else is there.
    pub(super) fn hold_back(&mut self, event: &ObjectEvent) -> bool {
        let (subject, newest) = match event {
            ObjectEvent::Policy(object) => (object.key.to_string(), Object::Policy(object.clone())),
            ObjectEvent::CidrGroup(object) => {
                let group = object.group.clone();
                (group_subject(&group.name), Object::Group(group))
            }
            _ => return false,
        };
        if !self.in_force.untold.remove(&subject) {
            return false;
        }
        let row = &self.in_force.rows[&subject];
        if row.in_force.as_ref() == Some(&newest) {
            return false;
        }
        let reason = row.reason.clone();
        self.note(&subject, Some(reason));
        self.refused.events.insert(subject, event.clone());
        self.refused.due = true;
        true
    }

    /// The first lists are complete: what no source told of is gone.
    pub(super) fn forget_untold(&mut self) {
        for subject in std::mem::take(&mut self.in_force.untold) {
            let row = self.in_force.rows.get(&subject);
            match row.and_then(|row| row.in_force.clone()) {
                Some(Object::Policy(object)) => self.engine.remove_policy(&object.key),
                Some(Object::Group(group)) => {
                    let result = self.engine.remove_group(&group.name);
                    self.note(&subject, result.err());
                }
                None => {}
            }
        }
    }

    /// Writes down what is in force of all that waits, where that changed.
    pub(super) fn save_in_force(&mut self) {
        if !self.ready {
            return;
        }
        let policies = self
            .refused_policies()
            .chain(self.crowded_policies().map(|(key, _)| key));
        let policies = policies.map(|key| {
            let object = self.engine.policy(key).cloned().map(Object::Policy);
            (key.to_string(), object)
        });
        let groups = self.refused_groups().map(|name| {
            let group = self.engine.group(name).cloned().map(Object::Group);
            (group_subject(name), group)
        });
        let rows = policies.chain(groups).filter_map(|(subject, in_force)| {
            let text = &self.notes.get(&subject)?.text;
            let reason = text.strip_prefix(&format!("{subject}: ")).unwrap_or(text);
            let reason = reason.to_owned();
            Some((subject, Row { in_force, reason }))
        });
        let rows: BTreeMap<String, Row> = rows.collect();
        if rows != self.in_force.rows {
            let result = self.write(FILE, &rows);
            if result.is_ok() {
                self.in_force.rows = rows;
            }
            self.note("policies in force on disk", result.err());
        }
    }
}
