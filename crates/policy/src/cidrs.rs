// SPDX-License-Identifier: Apache-2.0
//! Node-local identities of the prefixes that live policies name.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ipnet::IpNet;
use model::NumericIdentity;

use crate::compile::CompiledRule;
use crate::ids::Ids;

/// Prefixes that all policies together may name. Half of the numbers, so that old and new ones fit at the same time.
pub(crate) const MAX_PREFIXES: usize = 32_767;
const LAST: u32 = 65_535;

#[derive(Clone, Debug)]
struct Slot {
    identity: NumericIdentity,
    users: usize,
}

/// Prefixes with an identity.
#[derive(Clone, Debug)]
pub(crate) struct Cidrs {
    slots: BTreeMap<IpNet, Slot>,
    numbers: HashSet<u32>,
    /// Prefixes that may have no users.
    idle: BTreeSet<IpNet>,
    ids: Ids,
    /// How many policy objects name a prefix, in use or not.
    named: HashMap<IpNet, usize>,
}

/// Prefixes without some others: what a peer field about CIDRs comes down to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct CidrSet {
    pub(crate) within: BTreeSet<IpNet>,
    /// Sorted, each once.
    pub(crate) except: Vec<IpNet>,
}

impl CidrSet {
    pub(crate) fn contains(&self, prefix: IpNet) -> bool {
        let mut wider = std::iter::successors(Some(prefix), IpNet::supernet);
        wider.any(|wider| self.within.contains(&wider))
            && !self.except.iter().any(|except| except.contains(&prefix))
    }

    /// The prefixes that need an identity: those named and those taken out, but not the whole world.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = IpNet> + '_ {
        let all = self.within.iter().chain(&self.except);
        all.copied().filter(|prefix| prefix.prefix_len() > 0)
    }
}

/// All prefixes that need an identity for these rules.
pub(crate) fn prefixes_of(rules: &[Arc<CompiledRule>]) -> HashSet<IpNet> {
    let sets = rules.iter().flat_map(|rule| rule.cidr_sets());
    sets.flat_map(CidrSet::prefixes).collect()
}

impl Cidrs {
    pub(crate) fn new() -> Self {
        Self {
            slots: BTreeMap::new(),
            numbers: HashSet::new(),
            idle: BTreeSet::new(),
            ids: Ids::up_to(LAST),
            named: HashMap::new(),
        }
    }

    /// Says that an object names other prefixes now, unless there would be too many: then (needed, free).
    pub(crate) fn rename(
        &mut self,
        old: &HashSet<IpNet>,
        new: &HashSet<IpNet>,
    ) -> Result<(), (usize, usize)> {
        let freed = old
            .iter()
            .filter(|p| !new.contains(p) && self.named[p] == 1)
            .count();
        let needed = new.iter().filter(|p| !self.named.contains_key(p)).count();
        let free = MAX_PREFIXES + freed - self.named.len();
        if needed > free {
            return Err((needed, free));
        }
        for prefix in new {
            *self.named.entry(*prefix).or_default() += 1;
        }
        for prefix in old {
            let count = self
                .named
                .get_mut(prefix)
                .expect("named when the object came");
            *count -= 1;
            if *count == 0 {
                self.named.remove(prefix);
            }
        }
        Ok(())
    }

    /// Adds a user. Returns the identity if it is new.
    pub(crate) fn acquire(&mut self, prefix: IpNet) -> Option<NumericIdentity> {
        if let Some(slot) = self.slots.get_mut(&prefix) {
            slot.users += 1;
            return None;
        }
        let number = self.ids.take(|id| self.numbers.contains(&id));
        self.numbers.insert(number);
        let identity = NumericIdentity(NumericIdentity::SCOPE_LOCAL | number);
        self.slots.insert(prefix, Slot { identity, users: 1 });
        Some(identity)
    }

    /// Removes a user. The prefix stays until [`Cidrs::sweep`].
    pub(crate) fn release(&mut self, prefix: IpNet) {
        if let Some(slot) = self.slots.get_mut(&prefix) {
            slot.users -= 1;
            if slot.users == 0 {
                self.idle.insert(prefix);
            }
        }
    }

    /// A prefix found in the kernel. Returns whether its number is one of ours.
    pub(crate) fn adopt(&mut self, prefix: IpNet, identity: NumericIdentity) -> bool {
        let number = identity.0 & 0x00ff_ffff;
        if identity.0 & 0xff00_0000 != NumericIdentity::SCOPE_LOCAL || number > LAST {
            return false;
        }
        self.numbers.insert(number);
        self.ids.start_above(number);
        self.slots.insert(prefix, Slot { identity, users: 0 });
        self.idle.insert(prefix);
        true
    }

    /// Numbers that `other` gave out come last.
    pub(crate) fn continue_numbers(&mut self, other: &Cidrs) {
        self.ids = other.ids.clone();
    }

    /// Takes out the prefixes without users.
    pub(crate) fn sweep(&mut self) -> Vec<(IpNet, NumericIdentity)> {
        let mut gone = Vec::new();
        for prefix in std::mem::take(&mut self.idle) {
            let Some(slot) = self.slots.get(&prefix).filter(|slot| slot.users == 0) else {
                continue;
            };
            gone.push((prefix, slot.identity));
            self.numbers.remove(&(slot.identity.0 & 0x00ff_ffff));
            self.slots.remove(&prefix);
        }
        gone
    }

    /// The identity of the longest prefix around `prefix` that `accept` takes, itself left out.
    pub(crate) fn around(
        &self,
        prefix: IpNet,
        accept: impl Fn(NumericIdentity) -> bool,
    ) -> Option<NumericIdentity> {
        let wider = std::iter::successors(prefix.supernet(), IpNet::supernet);
        let mut found = wider.filter_map(|p| Some(self.slots.get(&p)?.identity));
        found.find(|&identity| accept(identity))
    }

    /// The identities of the prefixes inside `net`.
    pub(crate) fn within(&self, net: IpNet) -> impl Iterator<Item = NumericIdentity> + '_ {
        // Prefixes are ordered by family, then address, then length.
        let first = IpNet::new_assert(net.network(), 0);
        let last = IpNet::new_assert(net.broadcast(), net.max_prefix_len());
        let inside = self.slots.range(first..=last);
        inside
            .filter(move |(prefix, _)| net.contains(*prefix))
            .map(|(_, slot)| slot.identity)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (IpNet, NumericIdentity)> + '_ {
        self.slots
            .iter()
            .map(|(&prefix, slot)| (prefix, slot.identity))
    }
}
