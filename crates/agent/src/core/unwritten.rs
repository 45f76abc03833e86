// SPDX-License-Identifier: Apache-2.0
//! Addresses on their way into the kernel. A row that a full map refused is remembered and written when there is
//! room again; until then status says what is wrong, once.

use std::collections::BTreeSet;

use datapath::{IpRow, Kernel, Map};
use ipnet::IpNet;

use super::{Core, row_of};
use crate::addresses::Source;

/// Most rows that one [`Core::retry_addresses`] writes.
const RETRIES: usize = 4096;

/// Addresses whose rows the kernel does not hold as it should. At most as many as there are claims.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    /// Single addresses: they have a map of their own.
    hosts: BTreeSet<IpNet>,
    /// Wider prefixes.
    prefixes: BTreeSet<IpNet>,
}

impl Unwritten {
    /// The map of a prefix, and what waits for room there.
    fn of(&mut self, prefix: &IpNet) -> (Map, &mut BTreeSet<IpNet>) {
        if prefix.prefix_len() == prefix.max_prefix_len() {
            (Map::Ipcache, &mut self.hosts)
        } else {
            (Map::Prefixes, &mut self.prefixes)
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.prefixes.is_empty()
    }

    /// The first of each map.
    fn first(&self) -> Vec<IpNet> {
        let firsts = [self.hosts.first(), self.prefixes.first()];
        firsts.into_iter().flatten().copied().collect()
    }
}

impl<K: Kernel> Core<K> {
    /// The kernel gets `row` for `prefix`, or none.
    pub(super) fn write_ip(&mut self, prefix: IpNet, row: Option<IpRow>) {
        let result = match row {
            Some(row) => self.dp.put_ip(prefix, row).map(drop),
            None => self.dp.remove_ip(&prefix).map(drop),
        };
        match result {
            Ok(()) => {
                let (map, waiting) = self.unwritten.of(&prefix);
                let known = waiting.remove(&prefix);
                if known && waiting.is_empty() {
                    self.dp.nothing_waits_for(&[map]);
                }
                if known && self.unwritten.is_empty() {
                    self.note("addresses", None::<String>);
                }
            }
            Err(error) => {
                self.unwritten.of(&prefix).1.insert(prefix);
                self.note("addresses", Some(error));
            }
        }
    }

    /// Tries again what could not be written; gives up at the first that still cannot.
    pub(crate) fn retry_addresses(&mut self) {
        let mut left = RETRIES;
        for first in self.unwritten.first() {
            let mut next = Some(first);
            while let Some(prefix) = next
                && left > 0
            {
                left -= 1;
                let claim = self.addresses.get(&prefix);
                let row = claim
                    .filter(|(source, _)| **source != Source::Local)
                    .map(|(_, claim)| row_of(claim));
                self.write_ip(prefix, row);
                let (_, set) = self.unwritten.of(&prefix);
                next = set.first().copied().filter(|next| *next != prefix);
            }
        }
    }
}
