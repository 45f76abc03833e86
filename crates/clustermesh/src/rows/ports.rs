// SPDX-License-Identifier: Apache-2.0
//! Ports that the pods of a cluster name, by identity: what a name stands for where all pods of an identity agree.
//!
//! Every number in use of a name that policies know costs each of them something, so a name has a bounded number of numbers
//! per cluster. Who comes first is followed; a name that is left out stands for nothing with that identity.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use model::{NamedPort, NumericIdentity, Protocol};

/// Most numbers of a name and protocol.
const MOST_NUMBERS: usize = 32;
/// Most names.
const MOST_NAMES: usize = 4096;

type Name = (Arc<str>, Protocol);

/// What the pods of an identity name.
#[derive(Default, Debug)]
struct Of {
    /// The numbers of every name, and how many addresses say so.
    users: BTreeMap<Name, BTreeMap<u16, u32>>,
    told: BTreeMap<Name, u16>,
    left_out: BTreeSet<Name>,
}

/// All named ports of a cluster.
#[derive(Default, Debug)]
pub(crate) struct Ports {
    of: HashMap<NumericIdentity, Of>,
    /// Numbers that are followed, and how many identities have each.
    followed: HashMap<Name, BTreeMap<u16, u32>>,
    left_out: usize,
}

impl Ports {
    /// Names of identities that are left out.
    pub(crate) fn left_out(&self) -> usize {
        self.left_out
    }

    /// An address of an identity names `new` and no longer `gone`. Returns what the identity's names stand for from now on,
    /// if that is news.
    pub(crate) fn moved(
        &mut self,
        identity: NumericIdentity,
        gone: &[NamedPort],
        new: &[NamedPort],
    ) -> Option<Arc<[NamedPort]>> {
        if gone.is_empty() && new.is_empty() {
            return None;
        }
        let of = self.of.entry(identity).or_default();
        let mut touched = BTreeSet::new();
        for port in new {
            let name = (port.name.clone(), port.protocol);
            let numbers = of.users.entry(name.clone()).or_default();
            let users = numbers.entry(port.port).or_default();
            *users += 1;
            if *users == 1 {
                touched.insert(name);
            }
        }
        for port in gone {
            let name = (port.name.clone(), port.protocol);
            let Some(numbers) = of.users.get_mut(&name) else {
                continue;
            };
            if forget_one(numbers, port.port) {
                if numbers.is_empty() {
                    of.users.remove(&name);
                }
                touched.insert(name);
            }
        }
        self.left_out -= of.left_out.len();
        let mut news = false;
        for name in touched {
            news |= decide(&mut self.followed, of, name);
        }
        self.left_out += of.left_out.len();
        let told = of.told.iter();
        let told = told.map(|((name, protocol), port)| NamedPort {
            name: name.clone(),
            port: *port,
            protocol: *protocol,
        });
        let told = news.then(|| told.collect());
        if of.users.is_empty() {
            self.of.remove(&identity);
        }
        told
    }
}

/// What a name stands for with an identity; whether that is news.
fn decide(followed: &mut HashMap<Name, BTreeMap<u16, u32>>, of: &mut Of, name: Name) -> bool {
    let numbers = of.users.get(&name);
    let agreed = numbers.filter(|numbers| numbers.len() == 1);
    let agreed = agreed.and_then(|numbers| numbers.keys().next().copied());
    let before = of.told.remove(&name);
    of.left_out.remove(&name);
    if let (Some(before), Some(numbers)) = (before, followed.get_mut(&name)) {
        forget_one(numbers, before);
        if numbers.is_empty() {
            followed.remove(&name);
        }
    }
    let Some(port) = agreed else {
        return before.is_some();
    };
    if !follow(followed, &name, port) {
        of.left_out.insert(name);
        return before.is_some();
    }
    of.told.insert(name, port);
    before != Some(port)
}

/// One user of a number less; whether it was the last.
fn forget_one(numbers: &mut BTreeMap<u16, u32>, number: u16) -> bool {
    let Some(users) = numbers.get_mut(&number) else {
        return false;
    };
    *users -= 1;
    let last = *users == 0;
    if last {
        numbers.remove(&number);
    }
    last
}

/// One identity more has this number, if there is room.
fn follow(followed: &mut HashMap<Name, BTreeMap<u16, u32>>, name: &Name, port: u16) -> bool {
    if followed.len() >= MOST_NAMES && !followed.contains_key(name) {
        return false;
    }
    let numbers = followed.entry(name.clone()).or_default();
    if numbers.len() >= MOST_NUMBERS && !numbers.contains_key(&port) {
        return false;
    }
    *numbers.entry(port).or_default() += 1;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, port: u16) -> NamedPort {
        NamedPort {
            name: name.into(),
            port,
            protocol: Protocol::Tcp,
        }
    }

    #[test]
    fn a_name_stands_for_what_all_pods_agree_on() {
        let mut ports = Ports::default();
        let id = NumericIdentity(7 << 16);
        let (http, other) = (port("http", 80), port("http", 8080));
        let told = |told: Option<Arc<[NamedPort]>>| told.map(|told| told.to_vec());
        let one = [http.clone()];
        assert_eq!(told(ports.moved(id, &[], &one)), Some(one.to_vec()));
        assert_eq!(
            ports.moved(id, &[], &one),
            None,
            "another pod says the same"
        );
        let both = [other.clone()];
        assert_eq!(
            told(ports.moved(id, &[], &both)),
            Some(vec![]),
            "they differ"
        );
        assert_eq!(told(ports.moved(id, &one, &[])), None);
        assert_eq!(told(ports.moved(id, &one, &[])), Some(both.to_vec()));
        assert_eq!(told(ports.moved(id, &both, &[])), Some(vec![]));
        assert!(ports.of.is_empty() && ports.followed.is_empty());
    }

    #[test]
    fn numbers_and_names_are_bounded() {
        let mut ports = Ports::default();
        let id = |n: u16| NumericIdentity((7 << 16) + u32::from(n));
        for n in 0..1000 {
            let told = ports.moved(id(n), &[], &[port("http", n), port("dns", 53)]);
            let told = told.expect("news").len();
            assert_eq!(told, if usize::from(n) < MOST_NUMBERS { 2 } else { 1 });
        }
        assert_eq!(ports.left_out(), 1000 - MOST_NUMBERS);
        // Who is followed already is followed with another identity, too; and there is room when one goes.
        assert!(ports.moved(id(2000), &[], &[port("http", 5)]).is_some());
        let gone = [port("http", 7), port("dns", 53)];
        assert!(ports.moved(id(7), &gone, &[]).is_some());
        assert!(ports.moved(id(2001), &[], &[port("http", 999)]).is_some());
        let names = |n: usize| port(&format!("name-{n}"), 1);
        for n in 0..MOST_NAMES {
            ports.moved(id(3000), &[], &[names(n)]);
        }
        assert_eq!(ports.followed.len(), MOST_NAMES);
        assert_eq!(ports.left_out(), 1000 - MOST_NUMBERS + 2);
    }
}
