// SPDX-License-Identifier: Apache-2.0
//! Rows that are refused at present: counted all, remembered in bounded number.

use std::collections::{BTreeMap, VecDeque};

use kvstore::LeaseId;

use crate::{Kind, Refusal, Value};

/// What was put, and the lease that its key hangs on.
type Put = (Value, Option<LeaseId>);

/// How many refused rows of a cluster are remembered.
const REMEMBERED: usize = 1024;
/// How many a status names.
const NAMED: usize = 8;
/// Longest key that is remembered, in bytes.
const LONGEST_KEY: usize = 512;

/// A refused row, as a status shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefusedRow {
    /// Kind of the row.
    pub kind: Kind,
    /// Its key without the prefix, cut if very long.
    pub key: String,
    /// Why.
    pub reason: String,
}

#[derive(Debug)]
struct Entry {
    reason: Refusal,
    /// What to try again when somebody else gives way.
    value: Option<Put>,
    listed: bool,
}

/// The refused rows of a cluster.
#[derive(Default, Debug)]
pub(crate) struct Refused {
    rows: BTreeMap<(Kind, String), Entry>,
    /// Order of arrival, for forgetting and for naming; may name rows that are gone.
    order: VecDeque<(Kind, String)>,
    /// Refusals that found no room, per kind, until the next list.
    overflow: [u64; 3],
    /// Those of them that found no room, and could be tried again if they were remembered.
    forgotten: [u64; 3],
    /// Refusals ever.
    pub(crate) total: u64,
}

fn cut(key: &str) -> String {
    let mut end = key.len().min(LONGEST_KEY);
    while !key.is_char_boundary(end) {
        end -= 1;
    }
    key[..end]
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

impl Refused {
    pub(crate) fn add(&mut self, kind: Kind, key: &str, reason: Refusal, value: Option<Put>) {
        self.total += 1;
        let name = (kind, cut(key));
        let value = value.filter(|_| reason.may_pass_later());
        let entry = Entry {
            reason,
            value,
            listed: true,
        };
        if let Some(known) = self.rows.get_mut(&name) {
            *known = entry;
        } else if self.rows.len() < REMEMBERED {
            self.rows.insert(name.clone(), entry);
            self.order.push_back(name);
            if self.order.len() > 2 * REMEMBERED {
                let rows = &self.rows;
                self.order.retain(|name| rows.contains_key(name));
            }
        } else {
            self.overflow[kind as usize] += 1;
            self.forgotten[kind as usize] += u64::from(entry.reason.is_about_room());
        }
    }

    /// How many rows of `kind` found no room and are not remembered.
    pub(crate) fn forgotten(&self, kind: Kind) -> u64 {
        self.forgotten[kind as usize]
    }

    /// Whether remembered rows of `kind` wait to be tried again.
    pub(crate) fn waits(&self, kind: Kind) -> bool {
        let mut of_kind = self.rows.iter().filter(|((of, _), _)| *of == kind);
        of_kind.any(|(_, entry)| entry.value.is_some())
    }

    /// It was tried again in vain.
    pub(crate) fn again(&mut self, kind: Kind, key: &str, reason: Refusal) {
        if let Some(entry) = self.rows.get_mut(&(kind, cut(key))) {
            entry.reason = reason;
        }
    }

    /// The key has an acceptable value, or none.
    pub(crate) fn clear(&mut self, kind: Kind, key: &str) {
        if !self.rows.is_empty() {
            self.rows.remove(&(kind, cut(key)));
        }
    }

    /// A list begins.
    pub(crate) fn begin(&mut self, kind: Kind) {
        let rows = self.rows.iter_mut().filter(|((of, _), _)| *of == kind);
        rows.for_each(|(_, entry)| entry.listed = false);
        self.overflow[kind as usize] = 0;
        self.forgotten[kind as usize] = 0;
    }

    /// A list is complete.
    pub(crate) fn listed(&mut self, kind: Kind) {
        self.rows
            .retain(|(of, _), entry| *of != kind || entry.listed);
    }

    /// How many keys are refused at present.
    pub(crate) fn count(&self) -> u64 {
        self.rows.len() as u64 + self.overflow.iter().sum::<u64>()
    }

    /// The latest ones.
    pub(crate) fn latest(&self) -> Vec<RefusedRow> {
        let mut latest: Vec<RefusedRow> = Vec::new();
        for (kind, key) in self.order.iter().rev() {
            let Some(entry) = self.rows.get(&(*kind, key.clone())) else {
                continue;
            };
            if latest.len() == NAMED {
                break;
            }
            if !latest
                .iter()
                .any(|row| row.kind == *kind && row.key == *key)
            {
                latest.push(RefusedRow {
                    kind: *kind,
                    key: key.clone(),
                    reason: entry.reason.to_string(),
                });
            }
        }
        latest
    }

    /// Rows that may be acceptable now that somebody gave way.
    pub(crate) fn waiting(&self) -> Vec<(Kind, String, Value, Option<LeaseId>)> {
        let waiting = self.rows.iter().filter(|(_, entry)| entry.listed);
        waiting
            .filter_map(|((kind, key), entry)| {
                let (value, lease) = entry.value.clone()?;
                Some((*kind, key.clone(), value, lease))
            })
            .collect()
    }

    pub(crate) fn drain(&mut self) {
        self.rows.clear();
        self.order.clear();
        self.overflow = [0; 3];
        self.forgotten = [0; 3];
    }
}
