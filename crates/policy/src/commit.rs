// SPDX-License-Identifier: Apache-2.0
//! Everything that changed since the last commit, as writes in an order that no packet can see half done.
//!
//! Rows first; then *refine*: new classes get entries in all live policies, judged as before under policies that end
//! with this commit; new policies are completed; identities move; endpoints flip; what nothing uses goes. An identity
//! that changes together with policies moves through a class of its own, so that it has its old verdict under the old
//! policy and its new one under the new.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ipnet::IpNet;
use model::{EndpointId, NumericIdentity};

use crate::content::Matched;
use crate::engine::{Engine, Live};
use crate::records::Record;
use crate::selectors::{SelectorId, Signature};
use crate::targets::Target;
use crate::{Op, Room, kind};

/// Identities that one commit moves only to merge classes.
const MERGED: usize = 256;

/// So many classes are written between two looks at the room that is left.
const LOOK: usize = 64;

/// A commit in the making: facts, and writes by step.
#[derive(Default)]
pub(crate) struct Tx {
    /// Policies that are new, and those that no endpoint will have any more.
    pub(crate) fresh: BTreeSet<u32>,
    pub(crate) old: BTreeSet<u32>,
    /// Endpoints that leave a policy.
    pub(crate) left: BTreeMap<u32, Vec<EndpointId>>,
    pub(crate) new_selectors: BTreeSet<SelectorId>,
    pub(crate) dead_selectors: BTreeSet<SelectorId>,
    /// New prefixes; and the class that judged their addresses so far.
    pub(crate) prefixes: Vec<(IpNet, NumericIdentity)>,
    pub(crate) origins: HashMap<NumericIdentity, u32>,
    /// Identities to delete after the flips.
    pub(crate) forgotten: Vec<NumericIdentity>,
    /// Classes that lost their last member at some point.
    pub(crate) emptied: BTreeSet<u32>,
    rows_known: HashMap<(u32, Matched), u32>,
    rows: Vec<Op>,
    pub(crate) refine: Vec<Op>,
    complete: Vec<Op>,
    pub(crate) moves: Vec<Op>,
    pub(crate) flips: Vec<(EndpointId, u32)>,
    deletes: Vec<Op>,
    /// What old and new may take together.
    most: Option<Room>,
}

impl Engine {
    /// Brings the endpoints to their targets, and the kernel from the last commit's state to the present one. With `most`
    /// it ends half done when more than that is needed.
    pub(crate) fn carry_out(&mut self, targets: Vec<Target>, most: Option<Room>) -> Vec<Op> {
        let mut tx = Tx {
            most,
            ..Tx::default()
        };
        self.retarget(targets, &mut tx);
        self.retire(&mut tx);
        self.limit_classes(&tx);
        self.freeze(&mut tx);
        self.name_prefixes(&mut tx);
        self.regroup(&mut tx);
        self.complete(&mut tx);
        self.clean(&mut tx);
        tx.into_ops()
    }

    /// Policies that no endpoint has any more let their selectors and prefixes go.
    fn retire(&mut self, tx: &mut Tx) {
        let left = std::mem::take(&mut self.left).into_iter();
        let unused = |policy: &u32| {
            self.policies
                .get(policy)
                .is_some_and(|live| live.endpoints == 0)
        };
        tx.old = left.filter(unused).collect();
        for policy in &tx.old {
            let Some(content) = self.policies[policy].content.clone() else {
                continue;
            };
            self.by_key.remove(&content.key);
            for selector in content.selectors() {
                self.selectors.unused_by(selector, *policy);
                if self.selectors.release(selector) {
                    tx.dead_selectors.insert(selector);
                }
            }
            for prefix in content.prefixes() {
                self.cidrs.release(prefix);
            }
        }
        if !tx.dead_selectors.is_empty() {
            self.classes.drop_selectors(&tx.dead_selectors);
        }
        if !tx.dead_selectors.is_empty() || !tx.new_selectors.is_empty() {
            self.judge_kinds(tx);
        }
    }

    /// What matches an identity of which only the number is known.
    fn judge_kinds(&mut self, tx: &Tx) {
        for (signature, kind) in self.kinds.iter_mut().zip(kind::ALL) {
            let kept = signature
                .iter()
                .filter(|id| !tx.dead_selectors.contains(id));
            // New selectors have the highest numbers.
            let new = tx.new_selectors.iter();
            let new = new.filter(|id| self.selectors.is_whole(**id, kind));
            *signature = kept.chain(new).copied().collect();
        }
    }

    /// Endpoints that leave a policy which others keep must not see there how identities change with this commit: they
    /// go through a copy of it that ends with the commit.
    fn freeze(&mut self, tx: &mut Tx) {
        if self.dirty.is_empty() {
            return;
        }
        for (from, endpoints) in std::mem::take(&mut tx.left) {
            if tx.old.contains(&from) {
                continue;
            }
            let live = &self.policies[&from];
            let (kinds, classes) = (live.kinds, live.classes.clone());
            let policy = self.policy_ids.take(|id| self.policies.contains_key(&id));
            let of_kinds = kind::ALL.into_iter().zip(kinds);
            for (class, row) in of_kinds.chain(classes.iter().map(|(&class, &row)| (class, row))) {
                self.rows.hold(row);
                tx.refine.push(Op::PutPolicy { policy, class, row });
            }
            let flip = |endpoint| Op::SetEndpointPolicy { endpoint, policy };
            tx.refine.extend(endpoints.into_iter().map(flip));
            self.policies.insert(
                policy,
                Live {
                    kinds,
                    classes,
                    ..Live::default()
                },
            );
            tx.old.insert(policy);
        }
    }

    /// New prefixes get identities; until the flips they are judged like the prefix around them.
    fn name_prefixes(&mut self, tx: &mut Tx) {
        for &(prefix, identity) in &tx.prefixes {
            let class = |of| {
                self.records
                    .get(&of)
                    .map_or(0, |record: &Record| record.class)
            };
            let around = self.cidrs.around(prefix, |wider| class(wider) != 0);
            let around = around.unwrap_or_else(|| self.home.world_of(prefix));
            tx.origins.insert(identity, class(around));
        }
        for &(prefix, identity) in &tx.prefixes {
            let labels = Some(self.home.cidr_labels(prefix));
            self.set_labels(identity, labels, Some(prefix));
            self.dirty.insert(identity);
        }
    }

    /// The row under a policy for peers that these selectors match, held once more.
    pub(crate) fn row_for(&mut self, policy: u32, signature: &Signature, tx: &mut Tx) -> u32 {
        let content = self.policies[&policy].content.clone();
        let content = content.expect("only policies found at start lack it, and they end at once");
        let key = (policy, content.matched(signature));
        if let Some(&row) = tx.rows_known.get(&key) {
            self.rows.hold(row);
            return row;
        }
        let entries = content.row(&key.1, &mut self.cookies);
        let row = self.rows.acquire(entries, &mut self.cookies, &mut tx.rows);
        tx.rows_known.insert(key, row);
        row
    }

    /// Gives a class its entry in a policy, unless it is its kind's. Takes over the hold on the row.
    pub(crate) fn put_class(&mut self, policy: u32, class: u32, kind: u32, row: u32) -> Option<Op> {
        let live = self.policies.get_mut(&policy).expect("a live policy");
        if live.row(0, kind) == row {
            self.rows.release(row);
            return None;
        }
        live.classes.insert(class, row);
        Some(Op::PutPolicy { policy, class, row })
    }

    /// Writes new policies: kinds, then classes.
    fn complete(&mut self, tx: &mut Tx) {
        for policy in tx.fresh.clone() {
            for (i, of_kind) in kind::ALL.into_iter().enumerate() {
                let row = self.row_for(policy, &self.kinds[i].clone(), tx);
                self.policies.get_mut(&policy).expect("fresh").kinds[i] = row;
                tx.complete.push(Op::PutPolicy {
                    policy,
                    class: of_kind,
                    row,
                });
            }
            for some in self.told_apart(policy).chunks(LOOK) {
                for (class, kind, signature) in some {
                    let row = self.row_for(policy, signature, tx);
                    tx.complete
                        .extend(self.put_class(policy, *class, *kind, row));
                }
                if tx.most.is_some_and(|most| !self.taken().fits(most)) {
                    return;
                }
            }
        }
    }

    /// Classes that a policy may judge otherwise than their kind: a kind's selectors match all its classes.
    fn told_apart(&self, policy: u32) -> Vec<(u32, u32, Signature)> {
        let content = self.policies[&policy].content.iter();
        let selectors: BTreeSet<SelectorId> = content.flat_map(|c| c.selectors()).collect();
        let mut found = BTreeSet::new();
        for kind in kind::ALL {
            let own = selectors
                .iter()
                .filter(|id| !self.selectors.is_whole(**id, kind));
            found.extend(own.flat_map(|id| self.classes.matched_by(*id, kind)));
        }
        let class = |id| {
            let class = self.classes.get(id).expect("indexed");
            (id, class.kind, class.signature().clone())
        };
        found.into_iter().map(class).collect()
    }

    /// Deletes what nothing uses after the flips.
    fn clean(&mut self, tx: &mut Tx) {
        self.drop_policies(tx);
        for (prefix, identity) in self.cidrs.sweep() {
            tx.deletes.push(Op::DeleteCidr { prefix });
            tx.forgotten.push(identity);
        }
        for identity in std::mem::take(&mut tx.forgotten) {
            let Some(record) = self.forget(identity) else {
                continue;
            };
            self.transfer(identity, record.class, 0, tx);
            tx.deletes.push(Op::DeleteIdentity { identity });
        }
        self.merge(tx);
        self.drop_classes(tx);
        self.rows.sweep(&mut self.cookies, &mut tx.deletes);
    }

    fn drop_policies(&mut self, tx: &mut Tx) {
        for &policy in &tx.old {
            let live = self
                .policies
                .remove(&policy)
                .expect("retired, not yet removed");
            let kinds = kind::ALL
                .into_iter()
                .zip(live.kinds)
                .filter(|&(_, row)| row != 0);
            for (class, row) in live.classes.into_iter().chain(kinds) {
                tx.deletes.push(Op::DeletePolicy { policy, class });
                self.rows.release(row);
            }
        }
    }

    fn drop_classes(&mut self, tx: &mut Tx) {
        for class in std::mem::take(&mut tx.emptied) {
            let Some(empty) = self.classes.get(class).filter(|c| c.members.is_empty()) else {
                continue;
            };
            for policy in self.selectors.policies(empty.kind, empty.signature()) {
                let live = self
                    .policies
                    .get_mut(&policy)
                    .expect("it uses the selector");
                if let Some(row) = live.classes.remove(&class) {
                    tx.deletes.push(Op::DeletePolicy { policy, class });
                    self.rows.release(row);
                }
            }
            self.classes.remove(class);
        }
    }

    /// Moves some identities out of classes that mean the same as a larger one.
    fn merge(&mut self, tx: &mut Tx) {
        let mut budget = MERGED;
        for group in self.classes.duplicates() {
            let size = |&id: &u32| self.classes.get(id).map_or(0, |class| class.members.len());
            let Some(largest) = group.iter().copied().max_by_key(size) else {
                continue;
            };
            for class in group.into_iter().filter(|&id| id != largest) {
                let members = self.classes.get(class).map(|class| &class.members);
                let movers = members.into_iter().flatten().copied().take(budget);
                let movers: Vec<NumericIdentity> = movers.collect();
                budget -= movers.len();
                for identity in movers {
                    self.join(identity, class, largest, tx);
                    tx.deletes.push(Op::PutIdentity {
                        identity,
                        class: largest,
                    });
                }
            }
        }
    }

    /// Notes that an identity is in another class; class 0 is none.
    pub(crate) fn join(&mut self, identity: NumericIdentity, from: u32, to: u32, tx: &mut Tx) {
        self.records
            .get_mut(&identity)
            .expect("a known identity")
            .class = to;
        self.transfer(identity, from, to, tx);
    }

    pub(crate) fn transfer(&mut self, identity: NumericIdentity, from: u32, to: u32, tx: &mut Tx) {
        if self.classes.transfer(identity, from, to) {
            tx.emptied.insert(from);
        }
    }
}

impl Tx {
    fn into_ops(self) -> Vec<Op> {
        let cidr = |(prefix, identity)| Op::PutCidr { prefix, identity };
        let flip = |(endpoint, policy)| Op::SetEndpointPolicy { endpoint, policy };
        let mut ops = self.rows;
        ops.extend(self.refine);
        ops.extend(self.complete);
        ops.extend(self.moves);
        ops.extend(self.prefixes.into_iter().map(cidr));
        ops.extend(self.flips.into_iter().map(flip));
        ops.extend(self.deletes);
        ops
    }
}
