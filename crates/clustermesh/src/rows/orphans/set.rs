// SPDX-License-Identifier: Apache-2.0
//! The orphans of one cluster, found by lease, by what they overlap with, and by host. A stranger decides how many there
//! are and how often they are looked for: no question costs more than its answer.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::iter::successors;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use kvstore::LeaseId;

use super::{BACK, LIFE};

/// A row that may be an orphan.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Row {
    /// A node, by its name.
    Node(Box<str>),
    /// An address.
    Ip(IpNet),
}

/// An orphan.
#[derive(Clone, Debug)]
pub(super) struct Orphan {
    pub(super) lease: LeaseId,
    pub(super) since: Duration,
    /// What it holds: a node's networks and addresses, or the address.
    pub(super) nets: Vec<IpNet>,
    /// The node of an address.
    pub(super) host: Option<IpAddr>,
}

/// The orphans of a cluster, and what is known of leases.
#[derive(Default, Debug)]
pub(crate) struct Orphans {
    rows: BTreeMap<Row, Orphan>,
    by_lease: BTreeSet<(LeaseId, Row)>,
    by_net: BTreeSet<(IpNet, Row)>,
    by_host: BTreeSet<(IpAddr, IpNet)>,
    /// No orphan's time needs to be looked at before.
    expiry: Option<Duration>,
    /// Leases that live until then at least.
    pub(super) alive: HashMap<LeaseId, Duration>,
    /// Leases that are being looked at.
    pub(super) asked: HashSet<LeaseId>,
}

impl Orphans {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn oldest(&self) -> Option<Duration> {
        self.rows.values().map(|orphan| orphan.since).min()
    }

    pub(crate) fn expiry(&self) -> Option<Duration> {
        self.expiry.filter(|_| !self.rows.is_empty())
    }

    /// The row is no orphan: its key is back, or the row is gone.
    pub(crate) fn adopt(&mut self, row: &Row) {
        let Some(orphan) = self.rows.remove(row) else {
            return;
        };
        self.by_lease.remove(&(orphan.lease, row.clone()));
        for net in orphan.nets {
            self.by_net.remove(&(net, row.clone()));
        }
        if let (Some(host), Row::Ip(net)) = (orphan.host, row) {
            self.by_host.remove(&(host, *net));
        }
    }

    /// One that is an orphan already stays as it is.
    pub(super) fn add(&mut self, row: Row, orphan: Orphan) {
        if self.rows.contains_key(&row) {
            return;
        }
        self.expiry.get_or_insert(orphan.since + BACK);
        self.by_lease.insert((orphan.lease, row.clone()));
        for net in &orphan.nets {
            self.by_net.insert((*net, row.clone()));
        }
        if let (Some(host), Row::Ip(net)) = (orphan.host, &row) {
            self.by_host.insert((host, *net));
        }
        self.rows.insert(row, orphan);
    }

    pub(super) fn all(&self) -> Vec<Row> {
        self.rows.keys().cloned().collect()
    }

    /// Those whose keys hung on a lease.
    pub(super) fn of(&self, lease: LeaseId) -> Vec<Row> {
        let first = (lease, Row::Node("".into()));
        let from = self.by_lease.range(first..);
        let of = from.take_while(|(of, _)| *of == lease);
        of.map(|(_, row)| row.clone()).collect()
    }

    /// Those that hold a part of `net`, or all of it.
    pub(super) fn overlapping(&self, net: IpNet) -> Vec<Row> {
        let node = || Row::Node("".into());
        let first = (IpNet::new_assert(net.network(), 0), node());
        let last = IpNet::new_assert(net.broadcast(), net.max_prefix_len());
        let from = self.by_net.range(first..);
        let inside = from.take_while(|(of, _)| *of <= last);
        let inside = inside.filter(|(of, _)| net.contains(of));
        let wider = successors(net.supernet(), IpNet::supernet);
        let around = wider.flat_map(|wide| {
            let from = self.by_net.range((wide, node())..);
            from.take_while(move |(of, _)| *of == wide)
        });
        inside.chain(around).map(|(_, row)| row.clone()).collect()
    }

    /// Addresses behind a node's address.
    pub(super) fn behind(&self, host: IpAddr) -> Vec<IpNet> {
        let first = IpNet::new_assert(IpAddr::from([0, 0, 0, 0]), 0);
        let from = self.by_host.range((host, first)..);
        let of = from.take_while(|(of, _)| *of == host);
        of.map(|(_, net)| *net).collect()
    }

    pub(super) fn host(&self, row: &Row) -> Option<IpAddr> {
        self.rows.get(row)?.host
    }

    pub(crate) fn has_node(&self, name: &str) -> bool {
        self.rows.contains_key(&Row::Node(name.into()))
    }

    /// Those whose time is over, to be deleted; `is_back` names hosts that are back for long enough.
    pub(super) fn expired(&mut self, now: Duration, is_back: impl Fn(IpAddr) -> bool) -> Vec<Row> {
        self.expiry = Some(now + BACK);
        let over = |orphan: &Orphan| {
            let left = orphan.since + BACK <= now && orphan.host.is_some_and(&is_back);
            left || orphan.since + LIFE <= now
        };
        let gone = self.rows.iter().filter(|(_, orphan)| over(orphan));
        gone.map(|(row, _)| row.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every question has the answer that looking at all orphans would give.
    #[test]
    fn questions_are_answered_as_by_looking_at_all() {
        let nets = "10.0.0.0/8 10.1.0.0/16 10.1.2.0/24 10.1.2.3/32 10.1.2.4/32 10.2.0.1/32 \
                    0.0.0.0/0 255.255.255.255/32 fd00::/16 fd00::1/128 fd00:1::/32 ::/0";
        let nets: Vec<IpNet> = nets
            .split_whitespace()
            .map(|n| n.parse().expect("valid"))
            .collect();
        let host = |n: usize| IpAddr::from([172, 16, 0, n as u8]);
        let mut set = Orphans::default();
        let mut all: Vec<(Row, Orphan)> = Vec::new();
        for (i, net) in nets.iter().enumerate() {
            let node = Row::Node(format!("n{}", i % 5).into());
            for (row, held, host) in [
                (Row::Ip(*net), vec![*net], Some(host(i % 3))),
                (node, vec![*net, nets[(i + 3) % nets.len()]], None),
            ] {
                let orphan = Orphan {
                    lease: LeaseId(i as i64 % 4),
                    since: Duration::from_secs(i as u64),
                    nets: held,
                    host,
                };
                set.add(row.clone(), orphan.clone());
                if !all.iter().any(|(known, _)| *known == row) {
                    all.push((row, orphan));
                }
            }
        }
        for round in 0..2 {
            let sorted = |found: Vec<Row>| found.into_iter().collect::<BTreeSet<_>>();
            let naive = |is: &dyn Fn(&Orphan) -> bool| {
                let found = all.iter().filter(|(_, orphan)| is(orphan));
                found.map(|(row, _)| row.clone()).collect::<BTreeSet<_>>()
            };
            assert_eq!(set.len(), all.len());
            for lease in 0..5 {
                let lease = LeaseId(lease);
                assert_eq!(
                    sorted(set.of(lease)),
                    naive(&|o| o.lease == lease),
                    "{round}"
                );
            }
            for net in &nets {
                let touches = |o: &Orphan| {
                    let mut held = o.nets.iter();
                    held.any(|of| of.contains(net) || net.contains(of))
                };
                assert_eq!(sorted(set.overlapping(*net)), naive(&touches), "{net}");
            }
            for n in 0..4 {
                let behind = set.behind(host(n)).into_iter().map(Row::Ip).collect();
                assert_eq!(sorted(behind), naive(&|o| o.host == Some(host(n))));
            }
            // The second round is about what is left.
            for (row, _) in all.iter().step_by(2) {
                set.adopt(row);
            }
            let mut keep = false;
            all.retain(|_| {
                keep = !keep;
                !keep
            });
        }
        let is_back = |ip| ip == host(1);
        assert!(
            set.expired(BACK - Duration::from_secs(1), is_back)
                .is_empty()
        );
        for row in set.expired(2 * BACK, is_back) {
            set.adopt(&row);
        }
        all.retain(|(_, o)| o.host != Some(host(1)));
        assert_eq!(set.len(), all.len());
        let over = LIFE + Duration::from_secs(6);
        assert!(set.expiry().is_some_and(|at| at <= over));
        for row in set.expired(over, |_| false) {
            set.adopt(&row);
        }
        let kept = all.iter().filter(|(_, o)| o.since > Duration::from_secs(6));
        assert_eq!(set.len(), kept.count());
    }
}
