// SPDX-License-Identifier: Apache-2.0
//! What an earlier engine left in the kernel, taken over without a packet seeing it.

use std::collections::BTreeMap;

use crate::Op;
use crate::engine::{Engine, Live, Record};
use crate::kind;

impl Engine {
    /// Takes over the contents of the kernel's maps, told in the words of [`Engine::snapshot`]. To be called once,
    /// before the first commit. That commit then replaces everything that it finds, under new numbers and in the same
    /// safe order as any other; prefixes keep their identities. Endpoints that have a policy in the kernel must be
    /// told to the engine before it.
    pub fn adopt(&mut self, found: impl IntoIterator<Item = Op>) {
        let mut rows = BTreeMap::<u32, BTreeMap<_, _>>::new();
        for op in found {
            match op {
                Op::PutRow {
                    row,
                    matching,
                    verdict,
                } => {
                    self.cookies.start_above(verdict.rule);
                    rows.entry(row).or_default().insert(matching, verdict);
                }
                Op::PutPolicy { policy, class, row } => self.adopt_policy(policy, class, row),
                Op::PutIdentity { identity, class } if (1..kind::BASE).contains(&class) => {
                    self.classes.adopt(class, self.home.kind_of(identity));
                    self.classes.transfer(identity, 0, class);
                    self.records.entry(identity).or_default().class = class;
                    self.dirty.insert(identity);
                }
                Op::PutCidr { prefix, identity } => {
                    let prefix = prefix.trunc();
                    if self.cidrs.adopt(prefix, identity) {
                        let record: &mut Record = self.records.entry(identity).or_default();
                        record.labels = Some(self.home.cidr_labels(prefix));
                        record.prefix = Some(prefix);
                        self.dirty.insert(identity);
                    }
                }
                _ => {}
            }
        }
        for (row, content) in rows {
            self.rows.adopt(row, content.into_iter().collect());
        }
        for live in self.policies.values() {
            live.kinds
                .iter()
                .chain(live.classes.values())
                .for_each(|&row| self.rows.hold(row));
        }
        self.pending = true;
    }

    fn adopt_policy(&mut self, policy: u32, class: u32, row: u32) {
        self.policy_ids.start_above(policy);
        let live: &mut Live = self.policies.entry(policy).or_default();
        match class.checked_sub(kind::BASE) {
            None => {
                self.classes.start_above(class);
                live.classes.insert(class, row);
            }
            Some(i) => {
                if let Some(of_kind) = live.kinds.get_mut(i as usize) {
                    *of_kind = row;
                }
            }
        }
    }
}
