// SPDX-License-Identifier: Apache-2.0
//! One row in, one row out: acceptance, and the order in which the agent hears of it.

use std::sync::Arc;

use ipnet::IpNet;
use kvstore::LeaseId;
use model::{ClusterName, IpEntry, Labels, NamedPort, Node, NodeName, NumericIdentity};
use tables::Event;

use super::cluster::NodeRow;
use super::limits::{NodeWeight, labels_weight};
use super::orphans::Row;
use super::shares::Pool;
use super::{HOLD, Held, Kind, MOST_HELD, Rows, added};
use crate::validate::{self, Publisher, claims_of};
use crate::{IpRow, MeshEvent, Refusal};

/// Most networks that nodes gave up and whose addresses are not looked at yet.
const MOST_RELEASED: usize = 4096;
const PRESENT: &str = "rows are put for clusters that are open";

impl Rows {
    pub(super) fn put_node(
        &mut self,
        by: &Publisher,
        suffix: &str,
        node: Arc<Node>,
        lease: Option<LeaseId>,
    ) -> Result<(), Refusal> {
        let name = &by.name;
        validate::node(by, suffix, &node)?;
        let claims = claims_of(&node);
        for net in &claims {
            self.claims.check_node(name, *net)?;
        }
        let cluster = self.clusters.get_mut(name).expect(PRESENT);
        let before = cluster.nodes.get(suffix).map(|row| row.node.clone());
        let old = before.as_deref().map(NodeWeight::of).unwrap_or_default();
        let weight = cluster.node_weight.minus(old).plus(NodeWeight::of(&node));
        let others = cluster.nodes.len() - usize::from(before.is_some());
        self.limits.nodes(others, weight)?;
        let new = NodeWeight::of(&node);
        self.make_room(
            name,
            Pool::Underlay,
            new.underlay.saturating_sub(old.underlay),
        )?;
        self.make_room(name, Pool::Addresses, new.claims.saturating_sub(old.claims))?;
        self.shares.node_moved(old, new);
        let cluster = self.clusters.get_mut(name).expect(PRESENT);
        cluster.node_weight = weight;
        let is_new = before.is_none() || cluster.orphans.has_node(suffix);
        let known = cluster.nodes.get(suffix).filter(|_| !is_new);
        let since = known.map_or(self.now, |row| row.since);
        cluster.nodes.insert(
            node.name.name.clone(),
            NodeRow {
                node: node.clone(),
                lease,
                since,
                listed: true,
            },
        );
        cluster.orphans.adopt(&Row::Node(suffix.into()));
        if before.as_ref() == Some(&node) {
            return Ok(());
        }
        self.orphans_give_way(name, suffix, &claims);
        if by.own {
            self.gave_way();
        }
        for net in claims {
            for (holder, loose) in self.claims.claim(name, net) {
                let refusal = Refusal::OverlapsOther {
                    net: loose,
                    claimed: net,
                    holder: name.clone(),
                };
                self.evict_ip(&holder, &loose, refusal);
            }
        }
        if let Some(before) = before {
            self.release_claims(name, &claims_of(&before));
        }
        let key = node.name.clone();
        self.tell(name, Kind::Nodes, |d| {
            MeshEvent::Node(name.clone(), added(d, key, node))
        });
        Ok(())
    }

    pub(super) fn remove_node(&mut self, name: &ClusterName, node: &str) {
        let Some(cluster) = self.clusters.get_mut(name) else {
            return;
        };
        let Some(row) = cluster.nodes.remove(node) else {
            return;
        };
        cluster.orphans.adopt(&Row::Node(node.into()));
        let weight = NodeWeight::of(&row.node);
        cluster.node_weight = cluster.node_weight.minus(weight);
        self.shares.node_moved(weight, NodeWeight::default());
        self.release_claims(name, &claims_of(&row.node));
        self.gave_way();
        let key: NodeName = row.node.name.clone();
        self.tell(name, Kind::Nodes, |_| {
            MeshEvent::Node(name.clone(), Event::Delete(key))
        });
    }

    /// Addresses inside given-up networks stay their cluster's, one by one; that is written down before anybody else may ask.
    fn release_claims(&mut self, name: &ClusterName, claims: &[IpNet]) {
        let last: Vec<IpNet> = claims
            .iter()
            .filter(|net| self.claims.release(net))
            .copied()
            .collect();
        if last.is_empty() {
            return;
        }
        self.gave_way();
        if self.clusters[name].by.own {
            return;
        }
        let released = self.claims.released.entry(name.clone()).or_default();
        last.into_iter().for_each(|net| released.insert(net, ()));
        if released.len() > MOST_RELEASED {
            self.loosen(name);
        }
    }

    /// Writes down the addresses of clusters other than `but` that are in networks which their nodes gave up. One look at all
    /// addresses of a cluster, for any number of its nodes.
    pub(super) fn loosen_others(&mut self, but: Option<&ClusterName>) {
        let names = self.claims.released.keys();
        let names: Vec<ClusterName> = names.filter(|name| Some(*name) != but).cloned().collect();
        for name in names {
            self.loosen(&name);
        }
    }

    fn loosen(&mut self, name: &ClusterName) {
        let released = self.claims.released.remove(name).unwrap_or_default();
        let Some(cluster) = self.clusters.get(name) else {
            return;
        };
        for (net, _) in cluster.ips.iter() {
            if released.covering(&net).next().is_some() {
                self.claims.add_ip(name, net);
            }
        }
    }

    pub(super) fn put_identity(
        &mut self,
        by: &Publisher,
        suffix: &str,
        labels: Labels,
    ) -> Result<(), Refusal> {
        let name = &by.name;
        let identity = validate::identity_of(suffix)?;
        validate::identity(by, identity, &labels)?;
        let cluster = self.clusters.get_mut(name).expect(PRESENT);
        let before = cluster
            .identities
            .get(&identity)
            .and_then(|row| row.labels.clone());
        let old_weight = before.as_ref().map_or(0, labels_weight);
        let bytes = cluster.label_bytes - old_weight + labels_weight(&labels);
        let others = cluster.known - usize::from(before.is_some());
        self.limits.row(Kind::Identities, others, bytes)?;
        self.make_room(name, Pool::Identities, usize::from(before.is_none()))?;
        let cluster = self.clusters.get_mut(name).expect(PRESENT);
        self.shares
            .moved(Pool::Identities, cluster.known, others + 1);
        cluster.label_bytes = bytes;
        cluster.known = others + 1;
        let labels = cluster.share(&labels);
        let row = cluster.identities.entry(identity).or_default();
        row.labels = Some(labels.clone());
        (row.gone, row.listed) = (false, true);
        let first = before.is_none();
        if before.as_ref() != Some(&labels) {
            let event = |d| MeshEvent::Identity(name.clone(), added(d, identity, labels));
            self.tell(name, Kind::Identities, event);
        }
        if first {
            self.identity_arrived(name, identity);
        }
        Ok(())
    }

    /// Lets the addresses go that waited for it.
    fn identity_arrived(&mut self, name: &ClusterName, identity: NumericIdentity) {
        if self.held.is_empty() {
            return;
        }
        let cluster = &self.clusters[name];
        let of_it = |held: &&Held| {
            held.cluster == *name
                && cluster
                    .ips
                    .get(&held.net)
                    .is_some_and(|row| row.identity == identity)
        };
        let nets: Vec<IpNet> = self
            .held
            .iter()
            .filter(of_it)
            .map(|held| held.net)
            .collect();
        for net in nets {
            self.let_go(name, &net);
        }
    }

    pub(super) fn let_go(&mut self, name: &ClusterName, net: &IpNet) {
        let Some(cluster) = self.clusters.get_mut(name) else {
            return;
        };
        if !cluster.ips.is_held(net) {
            return;
        }
        cluster.ips.hold(net, false);
        let row = cluster.ips.get(net).expect("held rows exist");
        self.tell_ip(name, *net, row);
    }

    fn tell_ip(&mut self, name: &ClusterName, net: IpNet, row: IpRow) {
        self.tell(name, Kind::Ips, |d| {
            MeshEvent::Ip(name.clone(), added(d, net, row))
        });
    }

    /// The identity goes when no address uses it any more.
    pub(super) fn remove_identity(&mut self, name: &ClusterName, identity: NumericIdentity) {
        let Some(cluster) = self.clusters.get_mut(name) else {
            return;
        };
        let Some(row) = cluster.identities.get_mut(&identity) else {
            return;
        };
        row.gone = true;
        self.tidy_identity(name, identity);
    }

    fn tidy_identity(&mut self, name: &ClusterName, identity: NumericIdentity) {
        let cluster = self.clusters.get_mut(name).expect(PRESENT);
        let Some(row) = cluster.identities.get(&identity) else {
            return;
        };
        if row.users > 0 || !(row.gone || row.labels.is_none()) {
            return;
        }
        let row = cluster
            .identities
            .remove(&identity)
            .expect("looked up above");
        if let Some(labels) = row.labels {
            cluster.known -= 1;
            cluster.label_bytes -= labels_weight(&labels);
            self.shares.moved(Pool::Identities, 1, 0);
            let event = MeshEvent::Identity(name.clone(), Event::Delete(identity));
            self.tell(name, Kind::Identities, |_| event);
            self.gave_way();
        }
    }

    pub(super) fn put_ip(
        &mut self,
        by: &Publisher,
        suffix: &str,
        entry: Box<IpEntry>,
        lease: Option<LeaseId>,
    ) -> Result<(), Refusal> {
        let (name, mut entry) = (&by.name, validate::ip(by, suffix, entry)?);
        let net = entry.prefix;
        if by.own {
            self.clusters[name].check_node(net, entry.host)?;
        }
        self.claims.check_ip(name, net)?;
        if let Some(host) = entry.host {
            self.claims.check_host(name, host)?;
        }
        let cluster = self.clusters.get_mut(name).expect(PRESENT);
        let was_held = cluster.ips.is_held(&net);
        let new = usize::from(cluster.ips.get(&net).is_none());
        let others = cluster.ips.len() + new - 1;
        let bytes = cluster.ips.text_bytes();
        self.limits.row(Kind::Ips, others, bytes)?;
        self.make_room(name, Pool::Addresses, new)?;
        self.shares.moved(Pool::Addresses, 0, new);
        let cluster = self.clusters.get_mut(name).expect(PRESENT);
        entry.namespace = cluster.text(&entry.namespace);
        entry.service_account = cluster.text(&entry.service_account);
        cluster.orphans.adopt(&Row::Ip(net));
        let ports = cluster.ips.ports(&net);
        let before = cluster.ips.put(&entry, lease);
        let row = cluster.ips.get(&net).expect("just put");
        let known = row.identity.is_reserved()
            || cluster
                .identities
                .get(&row.identity)
                .is_some_and(|row| row.labels.is_some());
        let moved = before.map(|old| old.identity) != Some(row.identity);
        if moved && !row.identity.is_reserved() {
            cluster.identities.entry(row.identity).or_default().users += 1;
        }
        self.claims.add_ip(name, net);
        // An address that the agent knows must not keep its old identity; a new one can wait for labels.
        if !known && (before.is_none() || was_held) && self.held.len() < MOST_HELD {
            self.clusters
                .get_mut(name)
                .expect(PRESENT)
                .ips
                .hold(&net, true);
            if !was_held {
                let until = self.now + HOLD;
                self.held.push_back(Held {
                    until,
                    cluster: name.clone(),
                    net,
                });
            }
        } else if was_held || before != Some(row) {
            self.clusters
                .get_mut(name)
                .expect(PRESENT)
                .ips
                .hold(&net, false);
            self.tell_ip(name, net, row);
        }
        let old = before.map_or(row.identity, |old| old.identity);
        match moved {
            false => self.tell_ports(name, row.identity, &ports, &entry.named_ports),
            true => {
                self.tell_ports(name, old, &ports, &[]);
                self.tell_ports(name, row.identity, &[], &entry.named_ports);
            }
        }
        if let Some(old) = before.filter(|_| moved) {
            self.unuse(name, old.identity);
        }
        Ok(())
    }

    /// An address of an identity names other ports. This cluster's own are told with the address.
    fn tell_ports(
        &mut self,
        name: &ClusterName,
        identity: NumericIdentity,
        gone: &[NamedPort],
        new: &[NamedPort],
    ) {
        let cluster = self.clusters.get_mut(name).expect(PRESENT);
        if identity.is_reserved() || cluster.by.own {
            return;
        }
        if let Some(ports) = cluster.ports.moved(identity, gone, new) {
            self.events
                .push_back(MeshEvent::Ports(name.clone(), identity, ports));
        }
    }

    /// One address less uses `identity`.
    fn unuse(&mut self, name: &ClusterName, identity: NumericIdentity) {
        let cluster = self.clusters.get_mut(name).expect(PRESENT);
        if let Some(row) = cluster.identities.get_mut(&identity) {
            row.users = row.users.saturating_sub(1);
            self.tidy_identity(name, identity);
        }
    }

    pub(super) fn remove_ip(&mut self, name: &ClusterName, net: &IpNet) {
        let Some(cluster) = self.clusters.get_mut(name) else {
            return;
        };
        let held = cluster.ips.is_held(net);
        let ports = cluster.ips.ports(net);
        let Some(row) = cluster.ips.remove(net) else {
            return;
        };
        cluster.orphans.adopt(&Row::Ip(*net));
        self.shares.moved(Pool::Addresses, 1, 0);
        self.claims.remove_ip(name, net);
        if !held {
            let event = MeshEvent::Ip(name.clone(), Event::Delete(*net));
            self.tell(name, Kind::Ips, |_| event);
        }
        self.tell_ports(name, row.identity, &ports, &[]);
        if !row.identity.is_reserved() {
            self.unuse(name, row.identity);
        }
        self.gave_way();
    }
}
