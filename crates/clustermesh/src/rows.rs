// SPDX-License-Identifier: Apache-2.0
//! Everything that remote clusters say and that is accepted, and the events that tell of it.
//!
//! No I/O, no clock: the caller passes a time that only grows.

mod apply;
mod claims;
mod cluster;
mod limits;
mod orphans;
mod ports;
mod protect;
mod shares;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use kvstore::LeaseId;
use model::{ClusterId, ClusterName, IdentityScheme, IpEntry, Labels, Node};
use tables::Event;

use crate::persist::Snapshot;
use crate::validate::{self, Publisher};
use crate::{MeshEvent, Refusal, RefusedRow};
use claims::Claims;
use cluster::{Cluster, Delivery};
use limits::Limits;
use shares::Shares;
pub use shares::{Pool, Room};

/// A kind of rows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Nodes.
    Nodes,
    /// Identities.
    Identities,
    /// Addresses.
    Ips,
}

impl Kind {
    /// All, in the order in which they are to be read.
    pub const ALL: [Kind; 3] = [Kind::Nodes, Kind::Identities, Kind::Ips];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Nodes => "nodes",
            Kind::Identities => "identities",
            Kind::Ips => "addresses",
        })
    }
}

/// A decoded row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// A node.
    Node(Arc<Node>),
    /// Labels of an identity.
    Identity(Labels),
    /// An address.
    Ip(Box<IpEntry>),
}

/// Longest time that an address waits for its identity.
const HOLD: Duration = Duration::from_secs(1);
/// Most addresses that wait.
const MOST_HELD: usize = 4096;
/// Pause before refused rows are tried again after somebody gave way.
const RETRY: Duration = Duration::from_millis(200);

/// An address that waits for its identity.
#[derive(Debug)]
struct Held {
    until: Duration,
    cluster: ClusterName,
    net: IpNet,
}

/// The rows of all remote clusters.
#[derive(Debug)]
pub struct Rows {
    scheme: IdentityScheme,
    limits: Limits,
    shares: Shares,
    claims: Claims,
    clusters: HashMap<ClusterName, Cluster>,
    events: VecDeque<MeshEvent>,
    held: VecDeque<Held>,
    /// Leases to be looked at.
    questions: VecDeque<(ClusterName, LeaseId)>,
    /// Lists to be read again.
    lists: BTreeSet<(ClusterName, Kind)>,
    /// Somebody gave way: when to try refused rows again.
    retry: Option<Duration>,
    now: Duration,
}

impl Rows {
    /// No rows, and [`Room::ENDLESS`]. Nothing that overlaps with `own` is ever accepted.
    pub fn new(scheme: IdentityScheme, own: &[IpNet]) -> Self {
        let mut rows = Self {
            scheme,
            limits: Limits::default(),
            shares: Shares::default(),
            claims: Claims::default(),
            clusters: HashMap::new(),
            events: VecDeque::new(),
            held: VecDeque::new(),
            questions: VecDeque::new(),
            lists: BTreeSet::new(),
            retry: None,
            now: Duration::ZERO,
        };
        rows.protect(own);
        rows
    }

    /// The next event for the agent.
    pub fn pop_event(&mut self) -> Option<MeshEvent> {
        self.events.pop_front()
    }

    /// Whether events wait.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Rows of `name` are accepted from now on, as those of cluster `id`. Rows of another id must have been drained.
    pub fn open(&mut self, name: &ClusterName, id: ClusterId) {
        self.open_as(name, id, false);
    }

    /// The same for this cluster itself, whose agents may say some things that others may not.
    pub fn open_own(&mut self, name: &ClusterName, id: ClusterId) {
        self.open_as(name, id, true);
    }

    fn open_as(&mut self, name: &ClusterName, id: ClusterId, own: bool) {
        let by = Publisher {
            name: name.clone(),
            id,
            own,
            scheme: self.scheme,
        };
        match self.clusters.get_mut(name) {
            Some(cluster) => cluster.by = by,
            None => {
                self.clusters.insert(name.clone(), Cluster::new(by));
            }
        }
    }

    /// A complete list of `kind` begins.
    pub fn begin(&mut self, name: &ClusterName, kind: Kind) {
        let Some(cluster) = self.clusters.get_mut(name) else {
            return;
        };
        cluster.refused.begin(kind);
        cluster.begin(kind);
        if cluster.delivery[kind as usize] == Delivery::Nothing {
            cluster.delivery[kind as usize] = Delivery::First;
            self.events.push_back(cluster::init(name.clone(), kind));
        }
    }

    /// The list is complete: what it did not name goes, or becomes an orphan. `announced`: the publisher says itself that the list
    /// is whole, so what is missing was deleted.
    pub fn listed(&mut self, now: Duration, name: &ClusterName, kind: Kind, announced: bool) {
        self.now = now;
        let Some(cluster) = self.clusters.get_mut(name) else {
            return;
        };
        cluster.refused.listed(kind);
        match kind {
            Kind::Nodes => {
                for node in cluster.stale_nodes() {
                    self.vanished(name, kind, &node, announced);
                }
            }
            Kind::Identities => {
                for identity in cluster.stale_identities() {
                    self.remove_identity(name, identity);
                }
            }
            Kind::Ips => self.addresses_listed(name, announced),
        }
        let cluster = self.clusters.get_mut(name).expect("looked up above");
        if cluster.delivery[kind as usize] == Delivery::First {
            cluster.delivery[kind as usize] = Delivery::Done;
            self.events
                .push_back(cluster::init_done(name.clone(), kind));
        }
    }

    /// `suffix`, the key without what was watched, has a new value and hangs on `lease`. If it is refused, the row before stays.
    pub fn put(
        &mut self,
        now: Duration,
        name: &ClusterName,
        kind: Kind,
        suffix: &str,
        value: Result<Value, Refusal>,
        lease: Option<LeaseId>,
    ) {
        self.now = now;
        if !self.clusters.contains_key(name) {
            return;
        }
        let done = value.map(|value| {
            let attempt = self.attempt(name, kind, suffix, value.clone(), lease);
            attempt.map_err(|refusal| (refusal, value))
        });
        let cluster = self.clusters.get_mut(name).expect("looked up above");
        let (refusal, value) = match done {
            Ok(Ok(())) => return cluster.refused.clear(kind, suffix),
            Ok(Err((refusal, value))) => (refusal, Some(value)),
            Err(refusal) => (refusal, None),
        };
        cluster.keep(kind, suffix);
        let value = value.map(|value| (value, lease));
        cluster.refused.add(kind, suffix, refusal, value);
    }

    fn attempt(
        &mut self,
        name: &ClusterName,
        kind: Kind,
        suffix: &str,
        value: Value,
        lease: Option<LeaseId>,
    ) -> Result<(), Refusal> {
        self.loosen_others(Some(name));
        let by = self.clusters[name].by.clone();
        match (kind, value) {
            (Kind::Nodes, Value::Node(node)) => self.put_node(&by, suffix, node, lease),
            (Kind::Identities, Value::Identity(labels)) => self.put_identity(&by, suffix, labels),
            (Kind::Ips, Value::Ip(entry)) => self.put_ip(&by, suffix, entry, lease),
            _ => Err(Refusal::Malformed("not a value of this kind".into())),
        }
    }

    /// The key is gone: deleted, or with its lease.
    pub fn delete(&mut self, now: Duration, name: &ClusterName, kind: Kind, suffix: &str) {
        self.now = now;
        let Some(cluster) = self.clusters.get_mut(name) else {
            return;
        };
        cluster.refused.clear(kind, suffix);
        match kind {
            Kind::Nodes | Kind::Ips => self.vanished(name, kind, suffix, false),
            Kind::Identities => {
                if let Ok(identity) = validate::identity_of(suffix) {
                    self.remove_identity(name, identity);
                }
            }
        }
    }

    /// Deletes every row of `name`: addresses first, then identities and nodes.
    pub fn drain(&mut self, name: &ClusterName) {
        let Some(cluster) = self.clusters.get_mut(name) else {
            return;
        };
        cluster.refused.drain();
        let nets: Vec<IpNet> = cluster.ips.iter().map(|(net, _)| net).collect();
        let nodes: Vec<Arc<str>> = cluster.nodes.keys().cloned().collect();
        for net in nets {
            self.remove_ip(name, &net);
        }
        for identity in self.clusters[name].known_identities() {
            self.remove_identity(name, identity);
        }
        for node in nodes {
            self.remove_node(name, &node);
        }
    }

    /// Drains `name` and forgets it.
    pub fn remove(&mut self, name: &ClusterName) {
        self.drain(name);
        self.clusters.remove(name);
        self.lists.retain(|(of, _)| of != name);
        self.gave_way();
        self.events.push_back(MeshEvent::Removed(name.clone()));
    }

    /// When [`Rows::tick`] has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        let held = self.held.front().map(|held| held.until);
        let orphans = self.clusters.values();
        let orphans = orphans.filter_map(|c| c.orphans.expiry()).min();
        let all = [held, self.retry, orphans, self.next_list()];
        all.into_iter().flatten().min()
    }

    /// Lets addresses go that waited long enough, and tries refused rows again after somebody gave way.
    pub fn tick(&mut self, now: Duration) {
        self.now = now;
        while self.held.front().is_some_and(|held| held.until <= now) {
            let held = self.held.pop_front().expect("looked at above");
            self.let_go(&held.cluster, &held.net);
        }
        self.expire_orphans();
        if self.retry.is_some_and(|at| at <= now) {
            self.retry = None;
            self.try_again();
            self.look_for_lists();
        }
        self.lists_due();
    }

    /// Nodes, addresses and identities in force.
    pub fn counts(&self, name: &ClusterName) -> (usize, usize, usize) {
        let counts = |c: &Cluster| (c.nodes.len(), c.ips.len(), c.known);
        self.clusters.get(name).map_or((0, 0, 0), counts)
    }

    /// How many keys are refused at present, and the latest of them.
    pub fn refused(&self, name: &ClusterName) -> (u64, Vec<RefusedRow>) {
        let refused = |c: &Cluster| (c.refused.count(), c.refused.latest());
        self.clusters.get(name).map_or((0, Vec::new()), refused)
    }

    /// Names of ports that identities of `name` have and that are not followed, because there are too many.
    pub fn ports_left_out(&self, name: &ClusterName) -> usize {
        self.clusters.get(name).map_or(0, |c| c.ports.left_out())
    }

    /// Everything known about an address, and whose it is.
    pub fn ip(&self, net: &IpNet) -> Option<(ClusterName, IpEntry)> {
        let mut clusters = self.clusters.iter();
        clusters.find_map(|(name, cluster)| Some((name.clone(), cluster.ips.entry(net)?)))
    }

    /// The nodes of `name`, also those whose agents are away.
    pub fn nodes(&self, name: &ClusterName) -> impl Iterator<Item = &Arc<Node>> {
        let cluster = self.clusters.get(name).into_iter();
        cluster.flat_map(|cluster| cluster.nodes.values().map(|row| &row.node))
    }

    /// Calls `each` with every address.
    pub fn for_each_ip(&self, mut each: impl FnMut(&ClusterName, IpEntry)) {
        for (name, cluster) in &self.clusters {
            cluster.ips.entries().for_each(|entry| each(name, entry));
        }
    }

    /// The rows of `name` as they are now, to be kept.
    pub fn snapshot(&self, name: &ClusterName, config: &model::ClusterConfig) -> Option<Snapshot> {
        let cluster = self.clusters.get(name)?;
        let known = cluster.identities.iter();
        Some(Snapshot {
            name: name.clone(),
            config: config.clone(),
            nodes: cluster
                .nodes
                .values()
                .map(|row| (row.node.clone(), row.lease))
                .collect(),
            identities: known
                .filter_map(|(id, row)| Some((*id, row.labels.clone()?)))
                .collect(),
            ips: cluster.ips.clone(),
        })
    }

    fn tell(&mut self, name: &ClusterName, kind: Kind, event: impl FnOnce(Delivery) -> MeshEvent) {
        let delivery = self
            .clusters
            .get(name)
            .map_or(Delivery::Done, |c| c.delivery[kind as usize]);
        self.events.push_back(event(delivery));
    }

    /// Somebody gave way; others may have waited for that.
    fn gave_way(&mut self) {
        self.retry.get_or_insert(self.now + RETRY);
    }
}

/// An addition, as part of the first list or after it.
fn added<K, V>(delivery: Delivery, key: K, value: V) -> Event<K, V> {
    match delivery {
        Delivery::First => Event::InitApply(key, value),
        Delivery::Nothing | Delivery::Done => Event::Apply(key, value),
    }
}
