// SPDX-License-Identifier: Apache-2.0
//! Underlay addresses of the mesh's nodes, for the outer source check. One node that changes costs its own addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use datapath::Kernel;
use model::{ClusterId, Node, NumericIdentity};

use super::Core;

type Row = (ClusterId, IpAddr);

fn rows(node: &Node) -> BTreeSet<Row> {
    let addresses = node.addresses.iter();
    let underlay = addresses.filter(|a| a.kind != model::AddressType::CiliumInternalIp);
    underlay.map(|a| (node.cluster_id, a.ip)).collect()
}

impl<K: Kernel> Core<K> {
    /// A node came, changed or went.
    pub(super) fn node_moved(&mut self, before: Option<&Node>, after: Option<&Node>) {
        let [before, after] = [before, after].map(|node| node.map(rows).unwrap_or_default());
        let (mut new, mut gone) = (Vec::new(), Vec::new());
        for row in after.difference(&before) {
            let nodes = self.underlay.entry(*row).or_default();
            *nodes += 1;
            if *nodes == 1 {
                new.push(*row);
            }
        }
        for row in before.difference(&after) {
            if let Some(nodes) = self.underlay.get_mut(row) {
                *nodes -= 1;
                if *nodes == 0 {
                    self.underlay.remove(row);
                    gone.push(*row);
                }
            }
        }
        if self.nodes_stale {
            return self.write_nodes();
        }
        if !self.is_swept() {
            // Nodes of before the restart send on; which of them are gone is not known yet.
            gone.clear();
        }
        let result = self.dp.change_nodes(&new, &gone);
        self.nodes_stale = result.is_err();
        self.note("node addresses", result.err());
    }

    /// Whether pods have identities of an id that this cluster had before.
    pub(crate) fn has_former_id(&self) -> bool {
        !self.former_ids().is_empty()
    }

    /// Addresses of nodes that this cluster had under an id of before and that are not known under the present one.
    pub(crate) fn stragglers(&self) -> BTreeSet<IpAddr> {
        let (former, own) = (self.former_ids(), self.config.cluster_id);
        let nodes = self.dp.nodes().into_iter();
        let of_before = nodes
            .filter(|(id, _)| former.contains(id))
            .map(|(_, ip)| ip);
        of_before
            .filter(|ip| !self.underlay.contains_key(&(own, *ip)))
            .collect()
    }

    fn former_ids(&self) -> BTreeSet<ClusterId> {
        let scheme = self.config.scheme;
        let slots = self.dp.endpoints();
        let ids = slots.filter_map(|(_, slot)| scheme.cluster_of(NumericIdentity(slot.identity)));
        ids.filter(|id| *id != self.config.cluster_id).collect()
    }

    /// Makes the kernel hold every address that a node publishes.
    pub(super) fn write_nodes(&mut self) {
        let mut rows: BTreeSet<Row> = self.underlay.keys().copied().collect();
        if !self.is_swept() {
            rows.extend(self.dp.nodes());
        }
        let result = self.dp.set_nodes(&rows);
        self.nodes_stale = result.is_err();
        self.note("node addresses", result.err());
    }
}
