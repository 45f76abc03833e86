// SPDX-License-Identifier: Apache-2.0
//! Addresses of this node's pods: no address twice, freed ones last. Pure; who persists it calls
//! [`Pool::reserve`] at start with what is in use.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use ipnet::IpNet;

/// Freed addresses are remembered up to this many; older ones count as never used.
const MAX_FREED: usize = 65_536;

/// Addresses of one family.
#[derive(Debug)]
pub(crate) struct Pool {
    range: IpNet,
    /// In use, with the owner.
    used: BTreeMap<u128, String>,
    /// Free again, oldest first.
    freed: VecDeque<u128>,
    /// Offset from which never used addresses are looked for.
    next: u128,
}

/// Why there is no address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum IpamError {
    /// All are in use.
    #[error(
        "no free address in {range}: all {used} are in use; delete pods of this node or give it a larger range (--ipv4-range, --ipv6-range)"
    )]
    Exhausted {
        /// The range.
        range: IpNet,
        /// How many are in use.
        used: usize,
    },
    /// Another pod has it.
    #[error("address {ip} is in use by {owner}")]
    InUse {
        /// The address.
        ip: IpAddr,
        /// Who has it.
        owner: String,
    },
    /// It is not from this node's range.
    #[error("address {ip} is not in this node's range {range}")]
    Foreign {
        /// The address.
        ip: IpAddr,
        /// The range.
        range: IpNet,
    },
    /// It is not in use.
    #[error("address {0} is not in use")]
    NotInUse(IpAddr),
}

impl Pool {
    /// All addresses of `range` but the first (network) and, for IPv4, the last (broadcast).
    pub(crate) fn new(range: IpNet) -> Self {
        Self {
            range: range.trunc(),
            used: BTreeMap::new(),
            freed: VecDeque::new(),
            next: 1,
        }
    }

    /// The range.
    pub(crate) fn range(&self) -> IpNet {
        self.range
    }

    /// How many addresses there are.
    pub(crate) fn capacity(&self) -> u128 {
        let bits = u32::from(self.range.max_prefix_len() - self.range.prefix_len());
        let all = 1u128.checked_shl(bits).unwrap_or(u128::MAX);
        all - 1 - u128::from(matches!(self.range, IpNet::V4(_)))
    }

    /// How many are in use.
    pub(crate) fn used(&self) -> usize {
        self.used.len()
    }

    /// Whether somebody has the address.
    pub(crate) fn has(&self, ip: IpAddr) -> bool {
        self.offset(ip)
            .is_ok_and(|offset| self.used.contains_key(&offset))
    }

    /// Addresses in use and their owners.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (IpAddr, &str)> {
        self.used
            .iter()
            .map(|(offset, owner)| (self.at(*offset), owner.as_str()))
    }

    /// Gives `owner` an address: a never used one first, then the one that is free for the longest time.
    pub(crate) fn allocate(&mut self, owner: &str) -> Result<IpAddr, IpamError> {
        let last = self.capacity();
        while self.next <= last
            && (self.used.contains_key(&self.next) || self.freed.contains(&self.next))
        {
            self.next += 1;
        }
        let offset = if self.next <= last {
            self.next += 1;
            self.next - 1
        } else {
            self.freed.pop_front().ok_or(IpamError::Exhausted {
                range: self.range,
                used: self.used.len(),
            })?
        };
        self.used.insert(offset, owner.to_owned());
        Ok(self.at(offset))
    }

    /// Gives `owner` this address.
    pub(crate) fn reserve(&mut self, ip: IpAddr, owner: &str) -> Result<(), IpamError> {
        let offset = self.offset(ip)?;
        if let Some(holder) = self.used.get(&offset) {
            return if holder == owner {
                Ok(())
            } else {
                Err(IpamError::InUse {
                    ip,
                    owner: holder.clone(),
                })
            };
        }
        self.freed.retain(|freed| *freed != offset);
        self.used.insert(offset, owner.to_owned());
        Ok(())
    }

    /// Takes an address back.
    pub(crate) fn release(&mut self, ip: IpAddr) -> Result<(), IpamError> {
        let offset = self.offset(ip)?;
        self.used.remove(&offset).ok_or(IpamError::NotInUse(ip))?;
        self.remember_freed(offset);
        Ok(())
    }

    /// Marks an address as used before this start, so that it is given out last.
    pub(crate) fn restore_freed(&mut self, ip: IpAddr) {
        if let Ok(offset) = self.offset(ip)
            && !self.used.contains_key(&offset)
            && !self.freed.contains(&offset)
        {
            self.remember_freed(offset);
        }
    }

    /// Free addresses that were in use, oldest first.
    pub(crate) fn freed(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.freed.iter().map(|offset| self.at(*offset))
    }

    fn remember_freed(&mut self, offset: u128) {
        self.freed.push_back(offset);
        if self.freed.len() > MAX_FREED {
            self.freed.pop_front();
        }
    }

    fn at(&self, offset: u128) -> IpAddr {
        match self.range {
            IpNet::V4(net) => IpAddr::V4((u32::from(net.addr()) + offset as u32).into()),
            IpNet::V6(net) => IpAddr::V6((u128::from(net.addr()) + offset).into()),
        }
    }

    fn offset(&self, ip: IpAddr) -> Result<u128, IpamError> {
        let offset = match (self.range, ip) {
            (IpNet::V4(net), IpAddr::V4(ip)) => u32::from(ip)
                .checked_sub(u32::from(net.addr()))
                .map(u128::from),
            (IpNet::V6(net), IpAddr::V6(ip)) => u128::from(ip).checked_sub(u128::from(net.addr())),
            _ => None,
        };
        let offset = offset.filter(|offset| (1..=self.capacity()).contains(offset));
        offset.ok_or(IpamError::Foreign {
            ip,
            range: self.range,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(range: &str) -> Pool {
        Pool::new(range.parse().expect("a range"))
    }

    #[test]
    fn freed_addresses_come_last_and_oldest_first() {
        let mut pool = pool("10.0.0.0/29");
        let all: Vec<_> = (0..6)
            .map(|i| pool.allocate(&i.to_string()).expect("free"))
            .collect();
        assert_eq!(all[0].to_string(), "10.0.0.1");
        assert!(matches!(
            pool.allocate("x"),
            Err(IpamError::Exhausted { used: 6, .. })
        ));
        for i in [3, 1] {
            pool.release(all[i]).expect("in use");
        }
        assert_eq!(pool.allocate("a"), Ok(all[3]));
        assert_eq!(pool.allocate("b"), Ok(all[1]));
        assert!(pool.release("10.0.0.7".parse().expect("ip")).is_err());
    }

    #[test]
    fn a_restart_hands_nothing_out_twice() {
        let mut pool = pool("fd00::/112");
        pool.reserve("fd00::1".parse().expect("ip"), "router")
            .expect("free");
        pool.restore_freed("fd00::2".parse().expect("ip"));
        assert_eq!(pool.allocate("a").expect("free").to_string(), "fd00::3");
        assert!(pool.reserve("fd00::3".parse().expect("ip"), "b").is_err());
        assert!(pool.reserve("10.0.0.1".parse().expect("ip"), "b").is_err());
    }
}
