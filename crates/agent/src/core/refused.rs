// SPDX-License-Identifier: Apache-2.0
//! Policies and groups of prefixes that found no numbers for their prefixes. They wait: what others no longer need is theirs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use datapath::Kernel;
use kubernetes::ObjectEvent;
use policy::{Error, PolicyKey};

use super::Core;

/// Each attempt compiles what waits: not more often than this.
const PAUSE: Duration = Duration::from_secs(1);

/// What waits, by the subject of its note; the newest version of each.
#[derive(Debug, Default)]
pub(super) struct Refused {
    pub(super) events: BTreeMap<String, ObjectEvent>,
    /// Something changed since the last attempt.
    pub(super) due: bool,
    pub(super) not_before: Option<Instant>,
}

impl Refused {
    /// Whether something waits that may be taken now.
    pub(super) fn is_due(&self) -> bool {
        self.due && !self.events.is_empty()
    }
}

impl<K: Kernel> Core<K> {
    /// Takes a change of a policy or of a group.
    pub(super) fn take_policy(&mut self, event: ObjectEvent) {
        if let ObjectEvent::Policy(policy) = &event
            && self.crowded.replace(&policy.key, Some(policy))
        {
            return;
        }
        if self.hold_back(&event) {
            return;
        }
        let (subject, result, remark) = match &event {
            ObjectEvent::Policy(policy) => {
                let result = self.engine.upsert_policy(policy.clone());
                (policy.key.to_string(), result, None)
            }
            ObjectEvent::PolicyGone(key) => {
                self.policy_shows.remove(key);
                self.crowded.replace(key, None);
                self.engine.remove_policy(key);
                (key.to_string(), Ok(()), None)
            }
            ObjectEvent::CidrGroup(object) => {
                let result = self.engine.upsert_group(object.group.clone());
                let subject = group_subject(&object.group.name);
                (subject, result, object.ignored.clone())
            }
            ObjectEvent::CidrGroupGone(name) => {
                (group_subject(name), self.engine.remove_group(name), None)
            }
            _ => return,
        };
        self.refused.due = true;
        self.dirty = true;
        let problem = result.as_ref().err().map(Error::to_string).or(remark);
        self.note(&subject, problem);
        match result {
            Err(Error::Prefixes { .. }) => drop(self.refused.events.insert(subject, event)),
            _ => drop(self.refused.events.remove(&subject)),
        }
    }

    /// Tries again what was refused for want of numbers, if anything changed since. Returns whether something was taken.
    pub(crate) fn retry_refused(&mut self) -> bool {
        let now = Instant::now();
        let may = self.refused.not_before.is_none_or(|at| at <= now);
        if !self.ready || !self.refused.due || !may {
            return false;
        }
        self.refused.due = false;
        let waiting = std::mem::take(&mut self.refused.events);
        let before = waiting.len();
        if before == 0 {
            return false;
        }
        self.refused.not_before = Some(now + PAUSE);
        for event in waiting.into_values() {
            self.take_policy(event);
        }
        // What was taken may have made room for what came before it.
        self.refused.due = self.refused.events.len() < before;
        self.settle();
        self.save_in_force();
        self.refused.due
    }

    /// Policies that wait and have no version in force.
    pub(super) fn refused_policies(&self) -> impl Iterator<Item = &PolicyKey> {
        self.refused
            .events
            .values()
            .filter_map(|event| match event {
                ObjectEvent::Policy(policy) => Some(&policy.key),
                _ => None,
            })
    }

    /// Groups that wait.
    pub(super) fn refused_groups(&self) -> impl Iterator<Item = &str> {
        let events = self.refused.events.values();
        events.filter_map(|event| match event {
            ObjectEvent::CidrGroup(object) => Some(object.group.name.as_str()),
            _ => None,
        })
    }
}

pub(super) fn group_subject(name: &str) -> String {
    format!("CiliumCIDRGroup {name}")
}
