// SPDX-License-Identifier: Apache-2.0
//! Who has which part of the address space. Who came first stays, but this cluster always wins.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use model::ClusterName;

use crate::Refusal;
use crate::nets::Nets;

#[derive(Clone, Debug)]
struct Claim {
    holder: ClusterName,
    /// How many nodes of it.
    users: u32,
}

#[derive(Default, Debug)]
pub(crate) struct Claims {
    own: Nets<()>,
    /// Of nodes: pod networks and addresses.
    nodes: Nets<Claim>,
    /// Addresses outside their cluster's networks.
    loose: Nets<u16>,
    /// Clusters by their number in `loose`, and how many of them each has.
    names: Vec<ClusterName>,
    counts: Vec<usize>,
    /// Networks that nodes of a cluster gave up, and whose addresses are not in `loose` yet.
    pub(super) released: BTreeMap<ClusterName, Nets<()>>,
}

fn ours(net: IpNet, claimed: IpNet) -> Refusal {
    Refusal::OverlapsOurs { net, claimed }
}

fn other(net: IpNet, claimed: IpNet, holder: &ClusterName) -> Refusal {
    Refusal::OverlapsOther {
        net,
        claimed,
        holder: holder.clone(),
    }
}

impl Claims {
    fn number(&mut self, name: &ClusterName) -> u16 {
        let known = self.names.iter().position(|known| known == name);
        let number = known.unwrap_or_else(|| {
            self.names.push(name.clone());
            self.counts.push(0);
            self.names.len() - 1
        });
        u16::try_from(number).expect("a directory has far less files")
    }

    fn loose_holder(&self, net: &IpNet) -> Option<&ClusterName> {
        self.loose
            .get(net)
            .map(|number| &self.names[usize::from(*number)])
    }

    fn loose_in(&self, net: &IpNet) -> impl Iterator<Item = (ClusterName, IpNet)> {
        let named = |(net, number): (IpNet, &u16)| (self.names[usize::from(*number)].clone(), net);
        self.loose.overlapping(net).map(named)
    }

    /// Replaces what is ours; answers what is new.
    pub(crate) fn set_own(&mut self, own: &[IpNet]) -> Vec<IpNet> {
        let own: Vec<IpNet> = own.iter().map(IpNet::trunc).collect();
        let added = own
            .iter()
            .filter(|net| self.own.get(net).is_none())
            .copied()
            .collect();
        self.own = Nets::default();
        own.into_iter().for_each(|net| self.own.insert(net, ()));
        added
    }

    /// Whether a node of `name` may have `net`.
    pub(crate) fn check_node(&self, name: &ClusterName, net: IpNet) -> Result<(), Refusal> {
        if let Some((claimed, ())) = self.own.overlapping(&net).next() {
            return Err(ours(net, claimed));
        }
        let mut others = self
            .nodes
            .overlapping(&net)
            .filter(|(_, claim)| claim.holder != *name);
        others.next().map_or(Ok(()), |(claimed, claim)| {
            Err(other(net, claimed, &claim.holder))
        })
    }

    /// Whether `name` may publish the address `net`.
    pub(crate) fn check_ip(&self, name: &ClusterName, net: IpNet) -> Result<(), Refusal> {
        self.check_node(name, net)?;
        match self.loose_holder(&net) {
            Some(holder) if holder != name => Err(other(net, net, holder)),
            _ => Ok(()),
        }
    }

    /// Whether a node of `name` may have the address `host`.
    pub(crate) fn check_host(&self, name: &ClusterName, host: IpAddr) -> Result<(), Refusal> {
        let net = IpNet::from(host);
        if let Some((claimed, ())) = self.own.covering(&net).next() {
            return Err(ours(net, claimed));
        }
        let mut others = self
            .nodes
            .covering(&net)
            .filter(|(_, claim)| claim.holder != *name);
        others.next().map_or(Ok(()), |(claimed, claim)| {
            Err(other(net, claimed, &claim.holder))
        })
    }

    /// One more node of `name` has `net`; answers addresses of other clusters in it, which must go.
    pub(crate) fn claim(&mut self, name: &ClusterName, net: IpNet) -> Vec<(ClusterName, IpNet)> {
        match self.nodes.get_mut(&net) {
            Some(claim) => claim.users += 1,
            None => self.nodes.insert(
                net,
                Claim {
                    holder: name.clone(),
                    users: 1,
                },
            ),
        }
        // A cluster with many of its own does not look through them for each of its nodes.
        let own = self.names.iter().position(|known| known == name);
        if self.loose.len() == own.map_or(0, |own| self.counts[own]) {
            return Vec::new();
        }
        self.loose_in(&net)
            .filter(|(holder, _)| holder != name)
            .collect()
    }

    /// One node less has `net`; whether it was the last.
    pub(crate) fn release(&mut self, net: &IpNet) -> bool {
        let Some(claim) = self.nodes.get_mut(net) else {
            return false;
        };
        claim.users -= 1;
        let last = claim.users == 0;
        if last {
            self.nodes.remove(net);
        }
        last
    }

    /// Takes note of an accepted address.
    pub(crate) fn add_ip(&mut self, name: &ClusterName, net: IpNet) {
        let inside = self
            .nodes
            .covering(&net)
            .any(|(_, claim)| claim.holder == *name);
        if !inside {
            self.remove_loose(&net);
            let number = self.number(name);
            self.counts[usize::from(number)] += 1;
            self.loose.insert(net, number);
        }
    }

    pub(crate) fn remove_ip(&mut self, name: &ClusterName, net: &IpNet) {
        if self.loose_holder(net) == Some(name) {
            self.remove_loose(net);
        }
    }

    fn remove_loose(&mut self, net: &IpNet) {
        if let Some(number) = self.loose.remove(net) {
            self.counts[usize::from(number)] -= 1;
        }
    }

    /// Remote nodes' claims and loose addresses that overlap with `net`.
    pub(crate) fn remote_in(&self, net: &IpNet) -> (Vec<ClusterName>, Vec<(ClusterName, IpNet)>) {
        let mut holders: Vec<ClusterName> = self
            .nodes
            .overlapping(net)
            .map(|(_, claim)| claim.holder.clone())
            .collect();
        holders.sort();
        holders.dedup();
        (holders, self.loose_in(net).collect())
    }
}
