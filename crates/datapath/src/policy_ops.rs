// SPDX-License-Identifier: Apache-2.0
//! Executes what the policy engine asks, in its order.
//!
//! The order carries the meaning: an endpoint flips only after every row of its new policy is there. So a write
//! that fails stops the list; it and what follows wait, and go first the next time. What was in force stays.
//!
//! Removals of policies and rows wait [`REST`]: a program that runs may have read a number that leads there.
//! They are done by the next call after that time, so that nobody waits for them.

use std::time::{Duration, Instant};

use abi::{Classes, PolicyKey, RowKey, RowVerdict, endpoint_flags, identity_bucket};
use model::{EndpointId, NumericIdentity};
use policy::{Op, RowMatch};

use crate::endpoints::ready;
use crate::kernel::{Kernel, Typed};
use crate::maps::table;
use crate::{Datapath, Error, Result};

/// Longer than any run of a program.
const REST: Duration = Duration::from_secs(1);

const _: () = {
    use policy::kind;
    assert!(kind::OWN_CLUSTER == abi::kind::OWN_CLUSTER && kind::BASE == abi::kind::BASE);
    assert!(kind::OTHER_CLUSTER == abi::kind::OTHER_CLUSTER && kind::WORLD == abi::kind::WORLD);
    assert!(kind::REMOTE_NODE == abi::kind::REMOTE_NODE && kind::OTHER == abi::kind::OTHER);
    assert!(policy::Action::Allow as u32 == abi::action::ALLOW);
    assert!(policy::Action::DefaultDeny as u32 == abi::action::DEFAULT_DENY);
    assert!(policy::Action::Deny as u32 == abi::action::DENY);
    assert!(policy::Direction::Ingress as u8 == abi::Direction::Ingress as u8);
    assert!(policy::Direction::Egress as u8 == abi::Direction::Egress as u8);
};

/// A removal that waits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Grave {
    /// Policy and class.
    Policy(u32, u32),
    /// Significant bits, row id, direction and protocol, port.
    Row(u32, u32, [u8; 2], [u8; 2]),
}

impl Grave {
    fn row(key: &RowKey) -> Self {
        let row = u32::from_be_bytes(key.row);
        Grave::Row(key.prefixlen, row, [key.direction, key.proto], key.port)
    }
}

fn row_key(row: u32, matching: &RowMatch) -> RowKey {
    let bits = u32::from(matching.port_bits.min(16));
    let mask = u16::MAX.checked_shl(16 - bits).unwrap_or(0);
    let (prefixlen, proto, port) = match matching.proto {
        None => (abi::ROW_BITS_ANY, 0, 0),
        Some(proto) => (abi::ROW_BITS_PROTO + bits, proto, matching.port & mask),
    };
    RowKey {
        prefixlen,
        row: row.to_be_bytes(),
        direction: matching.direction as u8,
        proto,
        port: port.to_be_bytes(),
    }
}

impl<K: Kernel> Datapath<K> {
    /// Executes `ops` in order, after those that wait from before. On an error the rest waits; call again, with
    /// new operations or none, when there may be room. CIDR operations are the caller's and are skipped here.
    ///
    /// Policy and row numbers of the engine are below 2^30; they get this run's generation here.
    pub fn apply(&mut self, ops: &[Op]) -> Result<()> {
        self.backlog.extend(ops.iter().cloned());
        while let Some(op) = self.backlog.front().cloned() {
            match self.execute(&op) {
                Err(Error::MapFull { .. }) if !self.graves.is_empty() => {
                    self.bury_all()?;
                    self.execute(&op)?;
                }
                result => result?,
            }
            self.backlog.pop_front();
        }
        self.bury_old()
    }

    /// Policy operations that wait behind one that failed.
    pub fn waiting_ops(&self) -> usize {
        self.backlog.len()
    }

    fn execute(&mut self, op: &Op) -> Result<()> {
        match *op {
            Op::PutRow {
                row,
                ref matching,
                verdict,
            } => {
                let key = row_key(self.stamp(row), matching);
                let value = RowVerdict {
                    action: verdict.action as u32,
                    rule: verdict.rule,
                };
                self.graves.remove(&Grave::row(&key));
                self.upsert::<table::Rows>(&key, &value)
            }
            Op::DeleteRow { row, ref matching } => {
                let key = row_key(self.stamp(row), matching);
                self.graves.insert(Grave::row(&key), Instant::now());
                Ok(())
            }
            Op::PutPolicy { policy, class, row } => {
                let (policy, row) = (self.stamp(policy), self.stamp(row));
                self.graves.remove(&Grave::Policy(policy, class));
                self.upsert::<table::Policies>(&PolicyKey { policy, class }, &row)
            }
            Op::DeletePolicy { policy, class } => {
                let grave = Grave::Policy(self.stamp(policy), class);
                self.graves.insert(grave, Instant::now());
                Ok(())
            }
            Op::PutIdentity { identity, class } => self.set_class(identity, class),
            Op::DeleteIdentity { identity } => self.set_class(identity, 0),
            Op::SetEndpointPolicy { endpoint, policy } => self.flip(endpoint, policy),
            Op::PutCidr { .. } | Op::DeleteCidr { .. } => Ok(()),
        }
    }

    /// The engine's number in this run's generation.
    fn stamp(&self, number: u32) -> u32 {
        number & (u32::MAX >> 2) | self.generation << 30
    }

    /// Sets the class of an identity in this run's generation (0: none), and has its flows judged again.
    fn set_class(&mut self, identity: NumericIdentity, class: u32) -> Result<()> {
        let old = self
            .kernel
            .get_row::<table::Identities>(&identity.0)?
            .unwrap_or_default();
        let mut new = old;
        new.slot[self.generation as usize] = class;
        if new == old {
            return Ok(());
        }
        self.write_classes(identity.0, &new)?;
        self.raise(identity_bucket(identity.0))
    }

    pub(crate) fn write_classes(&mut self, identity: u32, classes: &Classes) -> Result<()> {
        if *classes == Classes::default() {
            return self.erase::<table::Identities>(&identity).map(drop);
        }
        self.upsert::<table::Identities>(&identity, classes)
    }

    /// The new policy and the new epoch reach the programs in one word. An equal policy changes nothing.
    pub(crate) fn flip(&mut self, endpoint: EndpointId, policy: u32) -> Result<()> {
        let policy = if policy == 0 { 0 } else { self.stamp(policy) };
        let old = self.slot(endpoint.0)?;
        if old.policy == policy {
            return Ok(());
        }
        let epoch = old.epoch.wrapping_add(1);
        let flags = if old.ifindex == 0 {
            0
        } else {
            old.flags & !endpoint_flags::READY | ready(policy)
        };
        self.write_slot(
            endpoint.0,
            abi::Endpoint {
                policy,
                epoch,
                flags,
                ..old
            },
        )
    }

    /// Does the removals that waited long enough.
    pub(crate) fn bury_old(&mut self) -> Result<()> {
        let old = self
            .graves
            .iter()
            .filter(|(_, since)| since.elapsed() >= REST);
        let old: Vec<Grave> = old.map(|(grave, _)| *grave).collect();
        self.bury(&old)
    }

    /// Does every removal, after waiting for the programs.
    fn bury_all(&mut self) -> Result<()> {
        self.kernel.barrier();
        let all: Vec<Grave> = self.graves.keys().copied().collect();
        self.bury(&all)
    }

    fn bury(&mut self, graves: &[Grave]) -> Result<()> {
        for grave in graves {
            match *grave {
                Grave::Policy(policy, class) => {
                    self.erase::<table::Policies>(&PolicyKey { policy, class })?;
                }
                Grave::Row(prefixlen, row, [direction, proto], port) => {
                    let row = row.to_be_bytes();
                    self.erase::<table::Rows>(&RowKey {
                        prefixlen,
                        row,
                        direction,
                        proto,
                        port,
                    })?;
                }
            }
            self.graves.remove(grave);
        }
        Ok(())
    }
}
