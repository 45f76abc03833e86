// SPDX-License-Identifier: Apache-2.0
//! The rows of one cluster.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use kvstore::LeaseId;
use model::{ClusterName, Labels, Node, NumericIdentity};
use tables::Event;

use super::Kind;
use super::limits::NodeWeight;
use super::orphans::Orphans;
use super::ports::Ports;
use super::shares::Again;
use crate::refused::Refused;
use crate::table::Table;
use crate::validate::{self, Publisher};
use crate::{MeshEvent, Refusal};

/// What the agent was told of a kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Delivery {
    /// Nothing.
    Nothing,
    /// The first list is under way.
    First,
    /// The first list was complete.
    Done,
}

#[derive(Debug)]
pub(crate) struct NodeRow {
    pub(crate) node: Arc<Node>,
    /// The lease that its key hangs on.
    pub(crate) lease: Option<LeaseId>,
    /// When its key came, or came back.
    pub(crate) since: Duration,
    pub(crate) listed: bool,
}

/// An identity that is published, or that addresses use.
#[derive(Default, Debug)]
pub(crate) struct IdentityRow {
    /// `None`: addresses use it before it was published.
    pub(crate) labels: Option<Labels>,
    /// How many addresses use it.
    pub(crate) users: u32,
    /// Its key is gone, but addresses still use it.
    pub(crate) gone: bool,
    pub(crate) listed: bool,
}

#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) by: Publisher,
    pub(crate) nodes: BTreeMap<Arc<str>, NodeRow>,
    pub(crate) identities: HashMap<NumericIdentity, IdentityRow>,
    /// How many identities have labels.
    pub(crate) known: usize,
    pub(crate) ips: Table,
    pub(crate) ports: Ports,
    pub(crate) refused: Refused,
    pub(crate) orphans: Orphans,
    /// Each of its agents publishes its own rows.
    pub(crate) by_agents: bool,
    pub(crate) delivery: [Delivery; 3],
    pub(crate) node_weight: NodeWeight,
    /// Bytes of the texts of identities.
    pub(crate) label_bytes: usize,
    /// Lists that are to be read again.
    pub(crate) again: [Again; 3],
    /// Texts of labels and addresses.
    texts: HashSet<Arc<str>>,
    /// Size of `texts` at which unused ones are dropped.
    texts_limit: usize,
}

impl Cluster {
    pub(crate) fn new(by: Publisher) -> Self {
        Self {
            by,
            nodes: BTreeMap::new(),
            identities: HashMap::new(),
            known: 0,
            ips: Table::default(),
            ports: Ports::default(),
            refused: Refused::default(),
            orphans: Orphans::default(),
            by_agents: false,
            delivery: [Delivery::Nothing; 3],
            node_weight: NodeWeight::default(),
            label_bytes: 0,
            again: [Again::default(); 3],
            texts: HashSet::new(),
            texts_limit: 1024,
        }
    }

    pub(crate) fn begin(&mut self, kind: Kind) {
        match kind {
            Kind::Nodes => self.nodes.values_mut().for_each(|row| row.listed = false),
            Kind::Identities => self
                .identities
                .values_mut()
                .for_each(|row| row.listed = false),
            Kind::Ips => self.ips.begin(),
        }
    }

    /// Whether pods in `net` can be behind the node `host`: not if only other nodes have that network.
    pub(crate) fn check_node(&self, net: IpNet, host: Option<IpAddr>) -> Result<(), Refusal> {
        let mut other = None;
        for NodeRow { node, .. } in self.nodes.values() {
            if !node.pod_cidrs().any(|pods| pods.contains(&net)) {
                continue;
            }
            if node
                .addresses
                .iter()
                .any(|address| Some(address.ip) == host)
            {
                return Ok(());
            }
            other = Some(node.name.name.to_string());
        }
        other.map_or(Ok(()), |node| Err(Refusal::OtherNode { net, node }))
    }

    /// The row of `suffix` stays through the list in progress.
    pub(crate) fn keep(&mut self, kind: Kind, suffix: &str) {
        match kind {
            Kind::Nodes => {
                if let Some(row) = self.nodes.get_mut(suffix) {
                    row.listed = true;
                }
            }
            Kind::Identities => {
                let row = validate::identity_of(suffix).ok();
                if let Some(row) = row.and_then(|identity| self.identities.get_mut(&identity)) {
                    row.listed = true;
                }
            }
            Kind::Ips => {
                if let Ok(net) = validate::net_of(suffix) {
                    self.ips.keep(&net);
                }
            }
        }
    }

    pub(crate) fn stale_nodes(&self) -> Vec<Arc<str>> {
        let stale = self.nodes.iter().filter(|(_, row)| !row.listed);
        stale.map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn stale_identities(&self) -> Vec<NumericIdentity> {
        let stale = self
            .identities
            .iter()
            .filter(|(_, row)| !row.listed && row.labels.is_some());
        stale.map(|(identity, _)| *identity).collect()
    }

    pub(crate) fn known_identities(&self) -> Vec<NumericIdentity> {
        let known = self
            .identities
            .iter()
            .filter(|(_, row)| row.labels.is_some());
        known.map(|(identity, _)| *identity).collect()
    }

    /// The same text, sharing memory with other rows.
    pub(crate) fn text(&mut self, text: &Arc<str>) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        if self.texts.len() >= self.texts_limit {
            self.texts.retain(|text| Arc::strong_count(text) > 1);
            self.texts_limit = (2 * self.texts.len()).max(1024);
        }
        self.texts.insert(text.clone());
        text.clone()
    }

    /// The same labels, sharing memory with other rows.
    pub(crate) fn share(&mut self, labels: &Labels) -> Labels {
        labels.share(|text| self.text(text))
    }
}

/// The start of the first list.
pub(crate) fn init(name: ClusterName, kind: Kind) -> MeshEvent {
    match kind {
        Kind::Nodes => MeshEvent::Node(name, Event::Init),
        Kind::Identities => MeshEvent::Identity(name, Event::Init),
        Kind::Ips => MeshEvent::Ip(name, Event::Init),
    }
}

/// The end of the first list.
pub(crate) fn init_done(name: ClusterName, kind: Kind) -> MeshEvent {
    match kind {
        Kind::Nodes => MeshEvent::Node(name, Event::InitDone),
        Kind::Identities => MeshEvent::Identity(name, Event::InitDone),
        Kind::Ips => MeshEvent::Ip(name, Event::InitDone),
    }
}
