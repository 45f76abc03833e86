// SPDX-License-Identifier: Apache-2.0
//! Rows whose agent is away: their keys went with their lease, nobody deleted them, and the pods behind them may well live.
//!
//! etcd's watch does not say why a key is gone. The lease does: a key that is deleted leaves its lease alive, a lease that ends
//! takes its keys along. So a row whose key had a lease stays until the lease was looked at. If it lives, the key was
//! deleted and the row goes; if not, the row is an orphan. It stays one until its key is back, its node is really
//! deleted or back for a while without it, another node of the cluster has its address, or its time is over.

mod set;

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use kvstore::LeaseId;
use model::ClusterName;

use super::{Kind, Rows};
use crate::validate::{self, claims_of};
use set::Orphan;
pub(crate) use set::{Orphans, Row};

/// Most orphans of a cluster. What would be one more is deleted.
const MOST: usize = 65_536;
/// How long an orphan stays.
pub(crate) const LIFE: Duration = Duration::from_secs(24 * 3600);
/// How long an orphaned address stays when the key of its node is back: the agent is there again, and has had the time to
/// publish every pod that it has.
pub(crate) const BACK: Duration = Duration::from_secs(15 * 60);
const PRESENT: &str = "a cluster whose list is complete is open";
/// Most leases of a cluster that are known to live.
const MOST_LEASES: usize = 4096;

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

    /// An identity of `name` was written under `lease`. Agents that publish their own rows give identities none; who publishes
    /// all rows of a cluster gives them one.
    pub fn identity_written(&mut self, name: &ClusterName, lease: Option<LeaseId>) {
        if let Some(cluster) = self.clusters.get_mut(name) {
            cluster.by_agents = lease.is_none();
        }
    }

    /// The list of addresses is complete, which is read last.
    pub(super) fn addresses_listed(&mut self, name: &ClusterName, announced: bool) {
        let cluster = self.clusters.get_mut(name).expect(PRESENT);
        for net in cluster.ips.stale() {
            self.vanished(name, Kind::Ips, &validate::suffix_of(&net), announced);
        }
        // Nodes may have been listed before it showed who publishes.
        let cluster = &self.clusters[name];
        if announced && !cluster.by_agents {
            for row in cluster.orphans.all() {
                self.delete_now(name, &row);
            }
        }
    }

    /// The key of a node or address is gone. `announced`: from a list that is announced as whole. That is the word of one
    /// agent where each publishes its own rows, and others may not have come to it yet since their etcd lost its disk.
    pub(super) fn vanished(
        &mut self,
        name: &ClusterName,
        kind: Kind,
        suffix: &str,
        announced: bool,
    ) {
        let row = match kind {
            Kind::Nodes => Row::Node(suffix.into()),
            _ => match validate::net_of(suffix) {
                Ok(net) => Row::Ip(net),
                Err(_) => return,
            },
        };
        let now = self.now;
        let Some(cluster) = self.clusters.get_mut(name) else {
            return;
        };
        let deleted = announced && !cluster.by_agents;
        let lease = match &row {
            Row::Node(name) => cluster.nodes.get(&**name).and_then(|row| row.lease),
            Row::Ip(net) => cluster.ips.lease(net),
        };
        let orphans = &mut cluster.orphans;
        let lease = lease.filter(|lease| {
            let alive = orphans.alive.get(lease).is_some_and(|until| *until > now);
            !deleted && !alive && orphans.len() < MOST
        });
        let Some(lease) = lease else {
            return self.delete_now(name, &row);
        };
        let (nets, host) = match &row {
            Row::Node(name) => {
                let row = cluster.nodes.get(&**name);
                (
                    row.map(|row| claims_of(&row.node)).unwrap_or_default(),
                    None,
                )
            }
            Row::Ip(net) => (vec![*net], cluster.ips.get(net).and_then(|row| row.host)),
        };
        let orphan = Orphan {
            lease,
            since: now,
            nets,
            host,
        };
        orphans.add(row, orphan);
        if orphans.asked.insert(lease) {
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
        orphans.asked.remove(&lease);
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
        for row in orphans.of(lease) {
            self.delete_now(name, &row);
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
    fn delete_now(&mut self, name: &ClusterName, row: &Row) {
        let suffix = match row {
            Row::Ip(net) => return self.remove_ip(name, net),
            Row::Node(suffix) => suffix,
        };
        let Some(cluster) = self.clusters.get(name) else {
            return;
        };
        let addresses = cluster.nodes.get(&**suffix).into_iter();
        let addresses = addresses.flat_map(|row| row.node.addresses.iter());
        let left: Vec<IpNet> = addresses
            .flat_map(|address| cluster.orphans.behind(address.ip))
            .collect();
        for net in left {
            self.remove_ip(name, &net);
        }
        self.remove_node(name, suffix);
    }

    /// A node of `name` has these networks and addresses now: orphans of other nodes of that cluster do not have them any more.
    pub(super) fn orphans_give_way(&mut self, name: &ClusterName, suffix: &str, claims: &[IpNet]) {
        let cluster = &self.clusters[name];
        let node = &cluster.nodes[suffix].node;
        let its = |ip: IpAddr| node.addresses.iter().any(|of| of.ip == ip);
        let overlapping = claims.iter();
        let mut gone: Vec<Row> = overlapping
            .flat_map(|claim| cluster.orphans.overlapping(*claim))
            .filter(|row| match row {
                Row::Ip(_) => !cluster.orphans.host(row).is_some_and(its),
                Row::Node(of) => **of != *suffix,
            })
            .collect();
        // Addresses first: those of a node go with it.
        gone.sort_by(|a, b| b.cmp(a));
        gone.dedup();
        for row in gone {
            self.delete_now(name, &row);
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
            let cluster = self.clusters.get_mut(&name).expect("just found");
            let nodes = cluster.nodes.iter();
            let back = nodes
                .filter(|(name, row)| row.since + BACK <= now && !cluster.orphans.has_node(name));
            let back: HashSet<IpAddr> = back
                .flat_map(|(_, row)| row.node.addresses.iter().map(|address| address.ip))
                .collect();
            for row in cluster.orphans.expired(now, |host| back.contains(&host)) {
                self.delete_now(&name, &row);
            }
        }
    }
}
