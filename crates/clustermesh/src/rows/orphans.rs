// SPDX-License-Identifier: Apache-2.0
//! Rows whose agent is away: their keys went with their lease, nobody deleted them, and the pods behind them may well live.
//!
//! etcd's watch does not say why a key is gone. The lease does: a key that is deleted leaves its lease alive, a lease that ends
//! takes its keys along. So a row whose key had a lease stays until the lease was looked at. If it lives, the key was
//! deleted and the row goes; if not, the row is an orphan. It stays one until its key is back, its node is really
//! deleted, another node of the cluster has its address, or its time is over.

use std::collections::HashMap;
use std::time::Duration;

use ipnet::IpNet;
use kvstore::LeaseId;
use model::ClusterName;

use super::{Kind, Rows};
use crate::validate::{self, claims_of};

/// Most orphans of a cluster. What would be one more is deleted.
const MOST: usize = 65_536;
/// How long an orphan stays.
pub(crate) const LIFE: Duration = Duration::from_secs(24 * 3600);
/// Most leases of a cluster that are known to live.
const MOST_LEASES: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Orphan {
    lease: LeaseId,
    since: Duration,
}

/// The orphans of a cluster, and what is known of leases.
#[derive(Default, Debug)]
pub(crate) struct Orphans {
    rows: HashMap<(Kind, Box<str>), Orphan>,
    /// No orphan's time is over before.
    expiry: Option<Duration>,
    /// Leases that live until then at least.
    alive: HashMap<LeaseId, Duration>,
    /// Leases that are being looked at.
    asked: Vec<LeaseId>,
}

impl Orphans {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn oldest(&self) -> Option<Duration> {
        self.rows.values().map(|orphan| orphan.since).min()
    }

    pub(crate) fn expiry(&self) -> Option<Duration> {
        self.expiry.filter(|_| !self.rows.is_empty())
    }

    /// The row is no orphan: its key is back, or the row is gone.
    pub(crate) fn adopt(&mut self, kind: Kind, suffix: &str) {
        if !self.rows.is_empty() {
            self.rows.remove(&(kind, suffix.into()));
        }
    }

    fn add(&mut self, kind: Kind, suffix: &str, lease: LeaseId, now: Duration) {
        let orphan = Orphan { lease, since: now };
        self.rows.entry((kind, suffix.into())).or_insert(orphan);
        self.expiry.get_or_insert(now + LIFE);
    }

    fn of(&self, lease: LeaseId) -> Vec<(Kind, Box<str>)> {
        let of = self.rows.iter().filter(|(_, orphan)| orphan.lease == lease);
        of.map(|(key, _)| key.clone()).collect()
    }
}

impl Rows {
    /// How many rows of `name` are orphans, and since when the first is.
    pub fn orphans(&self, name: &ClusterName) -> (usize, Option<Duration>) {
        let orphans = |c: &super::Cluster| (c.orphans.len(), c.orphans.oldest());
        self.clusters.get(name).map_or((0, None), orphans)
    }

    /// The next lease that decides whether rows are orphans; [`Rows::lease`] takes the answer.
    pub fn pop_question(&mut self) -> Option<(ClusterName, LeaseId)> {
        self.questions.pop_front()
    }

    /// The key of a node or address is gone.
    pub(super) fn vanished(&mut self, name: &ClusterName, kind: Kind, suffix: &str, deleted: bool) {
        let now = self.now;
        let net = validate::net_of(suffix).ok();
        let Some(cluster) = self.clusters.get_mut(name) else {
            return;
        };
        let lease = match kind {
            Kind::Nodes => cluster.nodes.get(suffix).and_then(|row| row.lease),
            _ => net.and_then(|net| cluster.ips.lease(&net)),
        };
        let orphans = &mut cluster.orphans;
        let lease = lease.filter(|lease| {
            let alive = orphans.alive.get(lease).is_some_and(|until| *until > now);
            !deleted && !alive && orphans.len() < MOST
        });
        let Some(lease) = lease else {
            return self.delete_now(name, kind, suffix);
        };
        orphans.add(kind, suffix, lease, now);
        if !orphans.asked.contains(&lease) {
            orphans.asked.push(lease);
            self.questions.push_back((name.clone(), lease));
        }
    }

    /// What is known of a lease: how long it lives if nobody renews it, or that it is gone.
    pub fn lease(
        &mut self,
        now: Duration,
        name: &ClusterName,
        lease: LeaseId,
        left: Option<Duration>,
    ) {
        self.now = now;
        let Some(cluster) = self.clusters.get_mut(name) else {
            return;
        };
        let orphans = &mut cluster.orphans;
        orphans.asked.retain(|asked| *asked != lease);
        let Some(left) = left else {
            orphans.alive.remove(&lease);
            return;
        };
        if orphans.alive.len() >= MOST_LEASES {
            orphans.alive.retain(|_, until| *until > now);
        }
        if orphans.alive.len() < MOST_LEASES {
            orphans.alive.insert(lease, now + left);
        }
        for (kind, suffix) in orphans.of(lease) {
            self.delete_now(name, kind, &suffix);
        }
    }

    /// Whoever answered is no longer there: what was asked must be asked again.
    pub fn forget_questions(&mut self, name: &ClusterName) {
        self.questions.retain(|(of, _)| of != name);
        if let Some(cluster) = self.clusters.get_mut(name) {
            cluster.orphans.asked.clear();
            cluster.orphans.alive.clear();
        }
    }

    /// Deletes a row; with a node also the orphans that it left.
    fn delete_now(&mut self, name: &ClusterName, kind: Kind, suffix: &str) {
        if kind != Kind::Nodes {
            if let Ok(net) = validate::net_of(suffix) {
                self.remove_ip(name, &net);
            }
            return;
        }
        let cluster = self.clusters.get(name);
        let node = cluster.and_then(|cluster| Some(cluster.nodes.get(suffix)?.node.clone()));
        if let Some(node) = node {
            let hosts = |ip: &std::net::IpAddr| node.addresses.iter().any(|of| of.ip == *ip);
            for net in self.orphaned_addresses(name, |_, host| host.is_some_and(|ip| hosts(&ip))) {
                self.remove_ip(name, &net);
            }
        }
        self.remove_node(name, suffix);
    }

    fn orphaned_addresses(
        &self,
        name: &ClusterName,
        wanted: impl Fn(&IpNet, Option<std::net::IpAddr>) -> bool,
    ) -> Vec<IpNet> {
        let Some(cluster) = self.clusters.get(name).filter(|c| !c.orphans.is_empty()) else {
            return Vec::new();
        };
        let ips = cluster
            .orphans
            .rows
            .keys()
            .filter(|(kind, _)| *kind == Kind::Ips);
        let nets = ips.filter_map(|(_, suffix)| validate::net_of(suffix).ok());
        nets.filter(|net| {
            let row = cluster.ips.get(net);
            row.is_some_and(|row| wanted(net, row.host))
        })
        .collect()
    }

    /// A node of `name` has these networks and addresses now: orphans of other nodes of that cluster do not have them any more.
    pub(super) fn orphans_give_way(&mut self, name: &ClusterName, suffix: &str, claims: &[IpNet]) {
        let overlap = |net: &IpNet| {
            let mut claims = claims.iter();
            claims.any(|claim| claim.contains(net) || net.contains(claim))
        };
        let node = &self.clusters[name].nodes[suffix].node.clone();
        let its = |ip: std::net::IpAddr| node.addresses.iter().any(|of| of.ip == ip);
        for net in self.orphaned_addresses(name, |net, host| overlap(net) && !host.is_some_and(its))
        {
            self.remove_ip(name, &net);
        }
        let cluster = &self.clusters[name];
        let nodes = cluster.orphans.rows.keys();
        let nodes = nodes.filter(|(kind, of)| *kind == Kind::Nodes && **of != *suffix);
        let gone: Vec<Box<str>> = nodes
            .filter(|(_, of)| {
                let row = cluster.nodes.get(&**of);
                row.is_some_and(|row| claims_of(&row.node).iter().any(overlap))
            })
            .map(|(_, of)| of.clone())
            .collect();
        for of in gone {
            self.delete_now(name, Kind::Nodes, &of);
        }
    }

    /// Deletes orphans whose time is over.
    pub(super) fn expire_orphans(&mut self) {
        let now = self.now;
        let due = |(_, c): &(&ClusterName, &super::Cluster)| {
            c.orphans.expiry().is_some_and(|at| at <= now)
        };
        let due: Vec<ClusterName> = self
            .clusters
            .iter()
            .filter(due)
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            let orphans = &mut self.clusters.get_mut(&name).expect("just found").orphans;
            let over = |since: Duration| since + LIFE <= now;
            let (gone, left): (Vec<_>, Vec<_>) = orphans
                .rows
                .iter()
                .partition(|(_, orphan)| over(orphan.since));
            let expiry = left.iter().map(|(_, orphan)| orphan.since + LIFE).min();
            let gone: Vec<(Kind, Box<str>)> =
                gone.into_iter().map(|(key, _)| key.clone()).collect();
            orphans.expiry = expiry;
            for (kind, suffix) in gone {
                self.delete_now(&name, kind, &suffix);
            }
        }
    }
}
