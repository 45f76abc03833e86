// SPDX-License-Identifier: Apache-2.0
//! A map from prefixes that finds what overlaps with a prefix, in time that does not grow with the map.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Values by prefix.
#[derive(Clone, Debug)]
pub(crate) struct Nets<T> {
    map: BTreeMap<IpNet, T>,
    /// How many prefixes of each length there are: v4 at 0..=32, v6 at 33..=161.
    lengths: BTreeMap<u8, u32>,
}

impl<T> Default for Nets<T> {
    fn default() -> Self {
        Self {
            map: BTreeMap::new(),
            lengths: BTreeMap::new(),
        }
    }
}

fn length_key(net: &IpNet) -> u8 {
    net.prefix_len() + if net.addr().is_ipv4() { 0 } else { 33 }
}

/// `net` without its host bits at `length`; `length` is not longer than its own.
fn cut(net: &IpNet, length: u8) -> Option<IpNet> {
    Some(match net.addr() {
        IpAddr::V4(ip) => Ipv4Net::new(ip, length).ok()?.trunc().into(),
        IpAddr::V6(ip) => Ipv6Net::new(ip, length).ok()?.trunc().into(),
    })
}

impl<T> Nets<T> {
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn get_mut(&mut self, net: &IpNet) -> Option<&mut T> {
        self.map.get_mut(net)
    }

    pub(crate) fn get(&self, net: &IpNet) -> Option<&T> {
        self.map.get(net)
    }

    pub(crate) fn insert(&mut self, net: IpNet, value: T) {
        if self.map.insert(net, value).is_none() {
            *self.lengths.entry(length_key(&net)).or_default() += 1;
        }
    }

    pub(crate) fn remove(&mut self, net: &IpNet) -> Option<T> {
        let value = self.map.remove(net)?;
        let key = length_key(net);
        let count = self.lengths.get_mut(&key).expect("every prefix is counted");
        *count -= 1;
        if *count == 0 {
            self.lengths.remove(&key);
        }
        Some(value)
    }

    /// Prefixes that hold `net`, itself included.
    pub(crate) fn covering(&self, net: &IpNet) -> impl Iterator<Item = (IpNet, &T)> {
        let from = if net.addr().is_ipv4() { 0 } else { 33 };
        let net = *net;
        self.lengths
            .range(from..=length_key(&net))
            .filter_map(move |(key, _)| {
                let wider = cut(&net, key - from)?;
                Some((wider, self.map.get(&wider)?))
            })
    }

    /// Prefixes inside `net`, itself not included.
    pub(crate) fn inside(&self, net: &IpNet) -> impl Iterator<Item = (IpNet, &T)> {
        let (first, last): (IpNet, IpNet) = match net {
            IpNet::V4(v4) => (
                Ipv4Net::new(v4.network(), 0).expect("0 is a length").into(),
                Ipv4Net::new(v4.broadcast(), Ipv4Addr::BITS as u8)
                    .expect("32 is a length")
                    .into(),
            ),
            IpNet::V6(v6) => (
                Ipv6Net::new(v6.network(), 0).expect("0 is a length").into(),
                Ipv6Net::new(v6.broadcast(), Ipv6Addr::BITS as u8)
                    .expect("128 is a length")
                    .into(),
            ),
        };
        let length = net.prefix_len();
        self.map
            .range(first..=last)
            .filter(move |(other, _)| other.prefix_len() > length)
            .map(|(other, value)| (*other, value))
    }

    /// Prefixes that share an address with `net`.
    pub(crate) fn overlapping(&self, net: &IpNet) -> impl Iterator<Item = (IpNet, &T)> {
        self.covering(net).chain(self.inside(net))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nets() -> impl Strategy<Value = IpNet> {
        let v4 = (0u32..64, 26u8..=32).prop_map(|(low, length)| {
            IpNet::from(
                Ipv4Net::new(Ipv4Addr::from(0x0a00_0000 | low), length)
                    .unwrap()
                    .trunc(),
            )
        });
        let v6 = (0u128..64, 122u8..=128).prop_map(|(low, length)| {
            IpNet::from(
                Ipv6Net::new(Ipv6Addr::from((0xfd << 120) | low), length)
                    .unwrap()
                    .trunc(),
            )
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn finds_what_a_scan_finds(all in proptest::collection::vec(nets(), 0..40), asked in nets(), gone in 0usize..10) {
            let mut map = Nets::default();
            for net in &all {
                map.insert(*net, ());
            }
            for net in all.iter().take(gone) {
                map.remove(net);
            }
            let mut left: Vec<IpNet> = all.iter().filter(|n| !all[..gone.min(all.len())].contains(n)).copied().collect();
            left.sort();
            left.dedup();
            let mut found: Vec<IpNet> = map.overlapping(&asked).map(|(net, ())| net).collect();
            found.sort();
            let wanted: Vec<IpNet> = left.into_iter().filter(|n| n.contains(&asked) || asked.contains(n)).collect();
            prop_assert_eq!(found, wanted);
        }
    }
}
