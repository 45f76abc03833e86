// SPDX-License-Identifier: Apache-2.0
//! Generations of policy numbers: an agent that starts takes one that no endpoint uses, builds its policies
//! there, flips the endpoints, and then removes what the runs before left.

use std::collections::BTreeSet;

use abi::{GENERATIONS, generation, identity_bucket};
use model::{EndpointId, NumericIdentity};

use crate::kernel::{Kernel, Typed};
use crate::maps::table;
use crate::{Datapath, Result};

impl<K: Kernel> Datapath<K> {
    /// Generation in which this run numbers its policies, `0..GENERATIONS`.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Takes an unused generation, and clears what an interrupted run left: in it, and of what it was about to remove.
    pub(crate) fn begin_generation(&mut self) -> Result<()> {
        let used = self.used_generations();
        let free = (0..GENERATIONS as u32).find(|number| !used.contains(number));
        self.generation = match free {
            Some(number) => number,
            None => self.vacate()?,
        };
        let number = self.generation;
        self.kernel.barrier();
        self.clear_classes(&|found| found == number)?;
        self.clear_unreachable()
    }

    /// Begins another run without a restart, for an engine whose writes a full map stopped: gives up what waits, takes a
    /// generation that no endpoint uses, and removes whatever no packet can reach any more: policies that no endpoint has,
    /// rows that only they lead to, and identities that are not `known`. What is in force stays.
    ///
    /// Returns `false`, with nothing changed, if no generation is free. Otherwise, and after an error too, the engine must
    /// number everything anew.
    pub fn start_over(&mut self, known: &dyn Fn(NumericIdentity) -> bool) -> Result<bool> {
        let used = self.used_generations();
        let Some(free) = (0..GENERATIONS as u32).find(|number| !used.contains(number)) else {
            return Ok(false);
        };
        self.generation = free;
        self.backlog.clear();
        self.graves.clear();
        self.kernel.barrier();
        self.clear_classes(&|found| !used.contains(&found))?;
        self.clear_unreachable()?;
        for (identity, _) in self.kernel.dump::<table::Identities>()? {
            if !known(NumericIdentity(identity)) {
                self.erase::<table::Identities>(&identity)?;
                self.raise(identity_bucket(identity))?;
            }
        }
        Ok(true)
    }

    /// Removes policies that no endpoint has, and rows to which no other policy leads.
    fn clear_unreachable(&mut self) -> Result<()> {
        let in_force: BTreeSet<u32> = self.endpoints.values().map(|slot| slot.policy).collect();
        let mut rows = BTreeSet::new();
        for (key, row) in self.kernel.dump::<table::Policies>()? {
            if in_force.contains(&key.policy) {
                rows.insert(row);
            } else {
                self.erase::<table::Policies>(&key)?;
            }
        }
        for (key, _) in self.kernel.dump::<table::Rows>()? {
            if !rows.contains(&u32::from_be_bytes(key.row)) {
                self.erase::<table::Rows>(&key)?;
            }
        }
        Ok(())
    }

    /// All generations are in use, after several runs that ended before they had flipped everybody: the endpoints of
    /// the one that has the fewest get no packets until this run has flipped them.
    fn vacate(&mut self) -> Result<u32> {
        let of = |number: u32| {
            let slots = self.endpoints.iter();
            let of =
                slots.filter(|(_, slot)| slot.policy != 0 && generation(slot.policy) == number);
            of.map(|(id, _)| *id).collect::<Vec<u16>>()
        };
        let number = (0..GENERATIONS as u32)
            .min_by_key(|number| of(*number).len())
            .unwrap_or(0);
        for id in of(number) {
            self.flip(EndpointId(id), 0)?;
        }
        self.kernel.barrier();
        Ok(number)
    }

    fn used_generations(&self) -> BTreeSet<u32> {
        let policies = self.endpoints.values().map(|slot| slot.policy);
        policies
            .filter(|policy| *policy != 0)
            .map(generation)
            .collect()
    }

    /// Removes policies, rows and classes of every generation that no endpoint uses and that is not this run's. Call
    /// it when the endpoints were flipped; returns whether all older ones are gone now.
    pub fn prune_policy(&mut self) -> Result<bool> {
        let mut used = self.used_generations();
        used.insert(self.generation);
        self.kernel.barrier();
        self.clear(&|found| !used.contains(&found))?;
        Ok(used.len() == 1)
    }

    /// Removes what is of a generation that `gone` names; the programs must have done with it.
    fn clear(&mut self, gone: &dyn Fn(u32) -> bool) -> Result<()> {
        self.clear_classes(gone)?;
        for (key, _) in self.kernel.dump::<table::Policies>()? {
            if gone(generation(key.policy)) {
                self.erase::<table::Policies>(&key)?;
            }
        }
        for (key, _) in self.kernel.dump::<table::Rows>()? {
            if gone(generation(u32::from_be_bytes(key.row))) {
                self.erase::<table::Rows>(&key)?;
            }
        }
        Ok(())
    }

    /// The same of classes alone.
    fn clear_classes(&mut self, gone: &dyn Fn(u32) -> bool) -> Result<()> {
        for (identity, old) in self.kernel.dump::<table::Identities>()? {
            let mut new = old;
            for (number, class) in new.slot.iter_mut().enumerate() {
                if gone(number as u32) {
                    *class = 0;
                }
            }
            if new != old {
                self.write_classes(identity, &new)?;
            }
        }
        Ok(())
    }
}
