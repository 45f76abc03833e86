// SPDX-License-Identifier: Apache-2.0
//! What all clusters may have together: the kernel's maps are everybody's, and no cluster may fill them for the others.
//!
//! An equal part of the room is a cluster's share, whenever it wants it. It may also have what others leave, until
//! they want their shares: then rows of whoever has most beyond its own give way. They are refused like rows that come too
//! late, named in status, and taken when there is room again: from memory the few that are remembered, the others by
//! reading the cluster's list once more.

use std::fmt;
use std::time::Duration;

use ipnet::IpNet;
use model::{ClusterName, NumericIdentity};

use super::cluster::Cluster;
use super::limits::NodeWeight;
use super::{Kind, Rows, Value};
use crate::Refusal;

/// Shortest time between two lists of a cluster that are read for rows that found no room.
const LIST_AGAIN: Duration = Duration::from_secs(30);
/// A list is not read again for fewer free places, unless nothing is remembered that could take them.
const WORTH_A_LIST: usize = 1024;
/// This part of the room is not lent, so that one row that claims its place moves many others at once.
const NOT_LENT: usize = 64;

/// Room for the rows of all remote clusters together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Addresses, and addresses and networks of nodes.
    pub addresses: usize,
    /// Identities.
    pub identities: usize,
    /// Underlay addresses of nodes.
    pub underlay: usize,
}

impl Room {
    /// No bound.
    pub const ENDLESS: Room = Room {
        addresses: usize::MAX,
        identities: usize::MAX,
        underlay: usize::MAX,
    };
}

/// What rows take room of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Pool {
    /// As [`Room::addresses`].
    Addresses,
    /// As [`Room::identities`].
    Identities,
    /// As [`Room::underlay`].
    Underlay,
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pool::Addresses => "addresses (see --bpf-ipcache-max)",
            Pool::Identities => "identities",
            Pool::Underlay => "underlay addresses of nodes",
        })
    }
}

/// How the room is used.
#[derive(Debug)]
pub(super) struct Shares {
    room: [usize; 3],
    used: [usize; 3],
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            room: [usize::MAX; 3],
            used: [0; 3],
        }
    }
}

impl Shares {
    /// A cluster has `after` instead of `before`.
    pub(super) fn moved(&mut self, pool: Pool, before: usize, after: usize) {
        let used = &mut self.used[pool as usize];
        *used = *used - before + after;
    }

    /// The same for a node: what it takes of two pools.
    pub(super) fn node_moved(&mut self, before: NodeWeight, after: NodeWeight) {
        self.moved(Pool::Addresses, before.claims, after.claims);
        self.moved(Pool::Underlay, before.underlay, after.underlay);
    }
}

impl Cluster {
    fn has(&self, pool: Pool) -> usize {
        match pool {
            Pool::Addresses => self.ips.len() + self.node_weight.claims,
            Pool::Identities => self.known,
            Pool::Underlay => self.node_weight.underlay,
        }
    }
}

impl Rows {
    /// How much room there is from now on; what is too much goes.
    pub fn set_room(&mut self, room: Room) {
        let room = [room.addresses, room.identities, room.underlay];
        if room == self.shares.room {
            return;
        }
        self.shares.room = room;
        for pool in [Pool::Addresses, Pool::Identities, Pool::Underlay] {
            self.reclaim(pool, room[pool as usize]);
        }
        self.gave_way();
    }

    /// What a cluster has for certain.
    fn share(&self, pool: Pool) -> usize {
        self.shares.room[pool as usize] / self.clusters.len().max(1)
    }

    /// How many more `cluster` may have at present.
    fn free(&self, cluster: &Cluster, pool: Pool) -> usize {
        let (room, used) = (
            self.shares.room[pool as usize],
            self.shares.used[pool as usize],
        );
        let lent = room.saturating_sub(room / NOT_LENT).saturating_sub(used);
        let own = self.share(pool).saturating_sub(cluster.has(pool));
        lent.max(own)
    }

    /// Makes room for `more` of `name`.
    pub(super) fn make_room(
        &mut self,
        name: &ClusterName,
        pool: Pool,
        more: usize,
    ) -> Result<(), Refusal> {
        if more == 0 {
            return Ok(());
        }
        if self.free(&self.clusters[name], pool) < more {
            let share = self.share(pool);
            return Err(Refusal::Share { pool, share });
        }
        let room = self.shares.room[pool as usize];
        if self.shares.used[pool as usize] > room.saturating_sub(more) {
            let left = room.saturating_sub(more + room / NOT_LENT / 2);
            self.reclaim(pool, left);
        }
        Ok(())
    }

    /// Takes from those beyond their shares, from the largest first, until all have `left` together or their shares.
    fn reclaim(&mut self, pool: Pool, left: usize) {
        let share = self.share(pool);
        loop {
            let much = self.shares.used[pool as usize].saturating_sub(left);
            let largest = self.clusters.iter().max_by_key(|(_, c)| c.has(pool));
            let Some((name, has)) = largest.map(|(name, c)| (name.clone(), c.has(pool))) else {
                return;
            };
            let count = much.min(has.saturating_sub(share));
            if count == 0 {
                return;
            }
            let refusal = Refusal::Share { pool, share };
            match pool {
                Pool::Addresses => {
                    let nets = self.clusters[&name].ips.iter().map(|(net, _)| net);
                    let nets: Vec<IpNet> = nets.take(count).collect();
                    for net in &nets {
                        self.evict_ip(&name, net, refusal.clone());
                    }
                    self.evict_nodes(&name, count - nets.len(), |w| w.claims, &refusal);
                }
                Pool::Identities => self.evict_identities(&name, count, &refusal),
                Pool::Underlay => self.evict_nodes(&name, count, |w| w.underlay, &refusal),
            }
            if self.clusters[&name].has(pool) >= has {
                return;
            }
        }
    }

    /// Nodes that weigh `count` together go; those that come last in a list first.
    fn evict_nodes(
        &mut self,
        name: &ClusterName,
        count: usize,
        weight: fn(NodeWeight) -> usize,
        refusal: &Refusal,
    ) {
        let mut left = count;
        let mut gone = Vec::new();
        for (key, row) in self.clusters[name].nodes.iter().rev() {
            if left == 0 {
                break;
            }
            let weight = weight(NodeWeight::of(&row.node));
            left = left.saturating_sub(weight);
            if weight > 0 {
                gone.push((key.clone(), row.node.clone(), row.lease));
            }
        }
        for (key, node, lease) in gone {
            self.remove_node(name, &key);
            let (value, refusal) = (Some((Value::Node(node), lease)), refusal.clone());
            let cluster = self.clusters.get_mut(name).expect("its nodes are taken");
            cluster.refused.add(Kind::Nodes, &key, refusal, value);
        }
    }

    /// Identities go, those without addresses first; with the others their addresses.
    fn evict_identities(&mut self, name: &ClusterName, count: usize, refusal: &Refusal) {
        let cluster = &self.clusters[name];
        let known = cluster.identities.iter();
        let mut known: Vec<(bool, NumericIdentity)> = known
            .filter(|(_, row)| row.labels.is_some())
            .map(|(identity, row)| (row.users > 0, *identity))
            .collect();
        known.sort_unstable();
        known.truncate(count);
        if known.last().is_some_and(|(used, _)| *used) {
            let rows = cluster.ips.iter();
            let nets: Vec<IpNet> = rows
                .filter(|(_, row)| known.binary_search(&(true, row.identity)).is_ok())
                .map(|(net, _)| net)
                .collect();
            for net in nets {
                self.evict_ip(name, &net, refusal.clone());
            }
        }
        for (_, identity) in known {
            let cluster = self.clusters.get_mut(name).expect("its rows are taken");
            let row = cluster.identities.get(&identity);
            let value = row.and_then(|row| Some((Value::Identity(row.labels.clone()?), None)));
            let key = identity.to_string();
            cluster
                .refused
                .add(Kind::Identities, &key, refusal.clone(), value);
            self.remove_identity(name, identity);
        }
    }

    /// Somebody gave way: rows that are remembered may be acceptable now.
    pub(super) fn try_again(&mut self) {
        let names: Vec<ClusterName> = self.clusters.keys().cloned().collect();
        for name in names {
            for (kind, suffix, value, lease) in self.clusters[&name].refused.waiting() {
                let done = self.attempt(&name, kind, &suffix, value, lease);
                let cluster = self.clusters.get_mut(&name).expect("named above");
                match done {
                    Ok(()) => cluster.refused.clear(kind, &suffix),
                    Err(refusal) => cluster.refused.again(kind, &suffix, refusal),
                }
            }
        }
    }

    /// Whether another list of `kind` would find room for rows that are not remembered.
    fn is_worth_a_list(&self, cluster: &Cluster, kind: Kind) -> bool {
        let wanted = cluster.refused.forgotten(kind);
        let pools: &[Pool] = match kind {
            Kind::Nodes => &[Pool::Addresses, Pool::Underlay],
            Kind::Identities => &[Pool::Identities],
            Kind::Ips => &[Pool::Addresses],
        };
        let free = pools.iter().map(|pool| self.free(cluster, *pool));
        let free = free.min().unwrap_or(0).min(self.limits.free(cluster, kind));
        let enough = match cluster.refused.waits(kind) {
            true => WORTH_A_LIST,
            false => 1,
        };
        wanted > 0 && free >= usize::try_from(wanted).unwrap_or(usize::MAX).min(enough)
    }

    /// Somebody gave way and what is remembered was tried again: clusters whose lists are worth reading are named, each not
    /// too often.
    pub(super) fn look_for_lists(&mut self) {
        let names: Vec<ClusterName> = self.clusters.keys().cloned().collect();
        for name in names {
            for kind in Kind::ALL {
                let cluster = &self.clusters[&name];
                if !self.is_worth_a_list(cluster, kind) {
                    continue;
                }
                let again = &mut self.clusters.get_mut(&name).expect("named above").again;
                again[kind as usize].due = Some(again[kind as usize].not_before.max(self.now));
            }
        }
    }

    /// When the next list is due.
    pub(super) fn next_list(&self) -> Option<Duration> {
        let again = self.clusters.values().flat_map(|cluster| cluster.again);
        again.filter_map(|again| again.due).min()
    }

    /// Lists whose time has come.
    pub(super) fn lists_due(&mut self) {
        let now = self.now;
        for (name, cluster) in &mut self.clusters {
            for kind in Kind::ALL {
                let again = &mut cluster.again[kind as usize];
                if again.due.is_some_and(|at| at <= now) {
                    again.due = None;
                    again.not_before = now + LIST_AGAIN;
                    self.lists.insert((name.clone(), kind));
                }
            }
        }
    }

    /// The next list that should be read again: there is room for rows of it that were refused and are not remembered.
    pub fn pop_list(&mut self) -> Option<(ClusterName, Kind)> {
        self.lists.pop_first()
    }
}

/// When a list is to be read again.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Again {
    pub(crate) due: Option<Duration>,
    not_before: Duration,
}
