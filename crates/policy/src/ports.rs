// SPDX-License-Identifier: Apache-2.0
//! Ports that peers name: what rules of egress about names come down to. A name stands for the number that the pods of an
//! identity give to it; if they differ among each other, for none.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use model::{NamedPort, NumericIdentity};

use crate::Direction;
use crate::engine::Engine;

/// Name, protocol and number of a port.
pub(crate) type Named = (Arc<str>, u8, u16);

/// Ports that identities name.
#[derive(Clone, Default, Debug)]
pub(crate) struct Ports {
    of: HashMap<NumericIdentity, Arc<[Named]>>,
    holders: BTreeMap<Named, BTreeSet<NumericIdentity>>,
}

impl Ports {
    pub(crate) fn of(&self, identity: NumericIdentity) -> &[Named] {
        self.of.get(&identity).map_or(&[], |ports| ports)
    }

    /// Who has such a port.
    pub(crate) fn holders(&self, port: &Named) -> impl Iterator<Item = NumericIdentity> + '_ {
        self.holders.get(port).into_iter().flatten().copied()
    }

    /// What a name stands for, with anybody.
    pub(crate) fn numbers(&self, name: &(Arc<str>, u8)) -> impl Iterator<Item = Named> + '_ {
        let (first, last) = (
            (name.0.clone(), name.1, 0),
            (name.0.clone(), name.1, u16::MAX),
        );
        self.holders
            .range(first..=last)
            .map(|(port, _)| port.clone())
    }

    /// An identity has these ports now. Returns the ports that nobody had before or has any more.
    fn replace(&mut self, identity: NumericIdentity, ports: Arc<[Named]>) -> BTreeSet<Named> {
        let old = match ports.is_empty() {
            true => self.of.remove(&identity),
            false => self.of.insert(identity, ports.clone()),
        };
        let mut changed = BTreeSet::new();
        for port in old.iter().flat_map(|old| old.iter()) {
            let Some(holders) = self.holders.get_mut(port) else {
                continue;
            };
            holders.remove(&identity);
            if holders.is_empty() {
                self.holders.remove(port);
                changed.insert(port.clone());
            }
        }
        for port in ports.iter() {
            let holders = self.holders.entry(port.clone()).or_default();
            if holders.is_empty() && !changed.remove(port) {
                changed.insert(port.clone());
            }
            holders.insert(identity);
        }
        changed
    }
}

/// Ports whose name stands for one number.
fn unambiguous<'a>(ports: impl IntoIterator<Item = &'a NamedPort>) -> Arc<[Named]> {
    let mut numbers: BTreeMap<(Arc<str>, u8), BTreeSet<u16>> = BTreeMap::new();
    for port in ports {
        let name = (port.name.clone(), port.protocol.number());
        numbers.entry(name).or_default().insert(port.port);
    }
    let single = numbers
        .into_iter()
        .filter(|(_, numbers)| numbers.len() == 1);
    single
        .flat_map(|((name, proto), numbers)| {
            numbers
                .into_iter()
                .map(move |port| (name.clone(), proto, port))
        })
        .collect()
}

impl Engine {
    /// Says which ports the pods of an identity name, all of them together. Returns whether that is news.
    pub fn set_identity_ports<'a>(
        &mut self,
        identity: NumericIdentity,
        ports: impl IntoIterator<Item = &'a NamedPort>,
    ) -> bool {
        let ports = unambiguous(ports);
        if *self.ports.of(identity) == *ports {
            return false;
        }
        let changed = self.ports.replace(identity, ports);
        // Of one that is not known yet they count as soon as it is.
        if self.records.contains_key(&identity) {
            self.dirty.insert(identity);
            self.pending = true;
        }
        let names: BTreeSet<_> = changed
            .into_iter()
            .map(|(name, proto, _)| (name, proto))
            .collect();
        if !names.is_empty() {
            self.retarget_users(&names);
        }
        true
    }

    /// Endpoints whose rules of egress name one of these need another policy.
    fn retarget_users(&mut self, names: &BTreeSet<(Arc<str>, u8)>) {
        for subject in self.subjects.values() {
            let sides = subject
                .rules
                .values()
                .map(|rule| rule.side(Direction::Egress));
            let mut entries = sides.flat_map(|side| &side.entries);
            if entries.any(|entry| !entry.named.is_disjoint(names)) {
                self.dirty_endpoints.extend(&subject.endpoints);
            }
        }
    }
}
