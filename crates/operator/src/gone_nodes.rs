// SPDX-License-Identifier: Apache-2.0
//! Which nodes of the cluster are gone: those that wrote keys and that Kubernetes has no Node for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use model::Node;
use tables::Event;
use tokio::time::Instant;

/// How long a Node has to be gone. Some are deleted and made again at once.
const GRACE: Duration = Duration::from_secs(20);

/// The Nodes of Kubernetes against the nodes of the kvstore.
#[derive(Default)]
pub(super) struct GoneNodes {
    /// Nodes that Kubernetes has; `None` before they are listed.
    names: Option<BTreeSet<String>>,
    /// A list that is not complete yet.
    listing: BTreeSet<String>,
    /// Nodes without a Node, and since when.
    missing: BTreeMap<Arc<str>, Instant>,
    /// Nodes whose keys were deleted and that are still known, and since when.
    forgotten: BTreeMap<Arc<str>, Instant>,
}

impl GoneNodes {
    /// Takes a change of the Nodes.
    pub(super) fn take(&mut self, event: Event<String, ()>) {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(name, ()) => drop(self.listing.insert(name)),
            Event::InitDone => self.names = Some(std::mem::take(&mut self.listing)),
            Event::Apply(name, ()) => {
                if let Some(names) = &mut self.names {
                    names.insert(name);
                }
            }
            Event::Delete(name) => {
                if let Some(names) = &mut self.names {
                    names.remove(&name);
                }
            }
        }
    }

    /// The nodes among `nodes` that are gone, with the underlay addresses that no other node has. A list of Nodes without
    /// `own`, which runs, says nothing of others either: it is a server's that lost its memory.
    pub(super) fn due(
        &mut self,
        nodes: &[Arc<Node>],
        own: &str,
        now: Instant,
    ) -> Vec<(Arc<Node>, Vec<IpAddr>)> {
        let Some(names) = self.names.as_ref().filter(|names| names.contains(own)) else {
            self.missing.clear();
            return Vec::new();
        };
        let is_missing = |node: &Node| !names.contains(&*node.name.name);
        let missing: BTreeMap<Arc<str>, &Arc<Node>> = nodes
            .iter()
            .filter(|node| is_missing(node))
            .map(|node| (node.name.name.clone(), node))
            .collect();
        self.missing.retain(|name, _| missing.contains_key(name));
        self.forgotten.retain(|name, _| missing.contains_key(name));
        let mut due = Vec::new();
        for (name, node) in missing {
            let since = *self.missing.entry(name).or_insert(now);
            if now.duration_since(since) >= GRACE {
                let others = nodes.iter().filter(|other| !Arc::ptr_eq(other, node));
                let taken: BTreeSet<IpAddr> = others.flat_map(|other| underlay(other)).collect();
                let hosts = underlay(node).filter(|ip| !taken.contains(ip)).collect();
                due.push((node.clone(), hosts));
            }
        }
        due
    }

    /// Whether the node's keys are to be deleted. One whose key `is_there` again has an agent that lives: it would only be
    /// written anew.
    pub(super) fn may_forget(&self, name: &str, is_there: bool, now: Instant) -> bool {
        match self.forgotten.get(name) {
            Some(at) => !is_there && now.duration_since(*at) >= GRACE,
            None => true,
        }
    }

    /// The node's keys are deleted.
    pub(super) fn forgot(&mut self, name: &Arc<str>, now: Instant) {
        self.forgotten.insert(name.clone(), now);
    }
}

fn underlay(node: &Node) -> impl Iterator<Item = IpAddr> {
    [true, false].into_iter().filter_map(|v4| node.underlay(v4))
}

#[cfg(test)]
mod tests {
    use model::{AddressType, ClusterId, ClusterName, NodeAddress, NodeName};

    use super::*;

    fn node(name: &str, address: &str) -> Arc<Node> {
        let name = NodeName {
            cluster: ClusterName::new("east").expect("a name"),
            name: name.into(),
        };
        let address = NodeAddress {
            kind: AddressType::InternalIp,
            ip: address.parse().expect("an address"),
        };
        Arc::new(Node::new(name, ClusterId(1), vec![address]))
    }

    fn names(gone: &mut GoneNodes, names: &[&str]) {
        gone.take(Event::Init);
        for name in names {
            gone.take(Event::InitApply((*name).to_owned(), ()));
        }
        gone.take(Event::InitDone);
    }

    fn due(gone: &mut GoneNodes, nodes: &[Arc<Node>], now: Instant) -> Vec<(String, usize)> {
        let due = gone.due(nodes, "own", now).into_iter();
        due.map(|(node, hosts)| (node.name.name.to_string(), hosts.len()))
            .collect()
    }

    #[test]
    fn a_node_without_a_node_is_gone_after_a_while() {
        let mut gone = GoneNodes::default();
        let nodes = ["own", "a", "b"].map(|name| node(name, &format!("10.0.0.{}", name.len())));
        let start = Instant::now();
        let later = start + GRACE;
        assert!(
            due(&mut gone, &nodes, start).is_empty(),
            "nothing is listed"
        );
        assert!(
            due(&mut gone, &nodes, later).is_empty(),
            "nothing is listed"
        );
        names(&mut gone, &["own", "a", "b"]);
        assert!(due(&mut gone, &nodes, later).is_empty());
        gone.take(Event::Delete("b".into()));
        assert!(
            due(&mut gone, &nodes, start).is_empty(),
            "it may come again"
        );
        // Its address is also that of `a`: whose pods are behind it is not known.
        assert_eq!(due(&mut gone, &nodes, later), [("b".to_owned(), 0)]);
        assert_eq!(due(&mut gone, &nodes[..1], later), []);
        assert!(due(&mut gone, &nodes, later).is_empty(), "it went and came");
        gone.take(Event::Apply("b".into(), ()));
        assert!(due(&mut gone, &nodes, later + GRACE).is_empty());
        names(&mut gone, &["own", "b"]);
        assert!(due(&mut gone, &nodes, later + GRACE).is_empty());
        assert_eq!(
            due(&mut gone, &nodes, later + 2 * GRACE),
            [("a".to_owned(), 0)]
        );
    }

    #[test]
    fn a_list_without_the_own_node_is_no_list() {
        let mut gone = GoneNodes::default();
        let nodes = ["own", "a"].map(|name| node(name, &format!("10.0.0.{}", name.len())));
        let start = Instant::now();
        gone.take(Event::Apply("own".into(), ()));
        assert!(due(&mut gone, &nodes, start).is_empty(), "no list");
        for listed in [&[][..], &["own"], &[], &["own"]] {
            names(&mut gone, listed);
            assert!(
                due(&mut gone, &nodes, start + 9 * GRACE).is_empty(),
                "{listed:?}"
            );
        }
        assert_eq!(
            due(&mut gone, &nodes, start + 10 * GRACE),
            [("a".to_owned(), 1)]
        );
    }

    #[test]
    fn keys_that_are_written_again_stay() {
        let mut gone = GoneNodes::default();
        let nodes = [node("a", "10.0.0.1"), node("b", "10.0.0.2")];
        let start = Instant::now();
        names(&mut gone, &["own", "a"]);
        due(&mut gone, &nodes, start);
        assert_eq!(due(&mut gone, &nodes, start + GRACE), [("b".to_owned(), 1)]);
        assert!(gone.may_forget("b", true, start));
        gone.forgot(&"b".into(), start);
        assert!(!gone.may_forget("b", true, start + 9 * GRACE));
        assert!(!gone.may_forget("b", false, start));
        assert!(
            gone.may_forget("b", false, start + GRACE),
            "left by a lease that ended since"
        );
        // Kubernetes has it again: whatever happens later is another matter.
        gone.take(Event::Apply("b".into(), ()));
        due(&mut gone, &nodes, start);
        assert!(gone.may_forget("b", true, start));
    }
}
