// SPDX-License-Identifier: Apache-2.0
//! The cluster's pool of pod networks: a node that has none takes one.
//!
//! Nodes take turns under the Lease with which Cilium's operator elects its leader (`cilium-operator-resource-lock`): so two
//! nodes never take the same network, and where such an operator lives, the pool is its alone. Each node writes its own
//! CiliumNode only. A network is in use while a CiliumNode has it.

use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::networks::PodNetworks;
use super::publish::{MANAGER, Published};
use super::turn::{Seen, Turn};
use super::watches::told;

/// With which Cilium's operator elects its leader, whose the pool is.
const LEASE: &str = "cilium-operator-resource-lock";
/// How long the work of a turn may take, so that nobody works in another's.
const WORK: Duration = Duration::from_secs(10);
/// CiliumNodes per page of a list.
const PAGE: u32 = 500;

/// Networks that nodes take theirs from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pool {
    /// The pool, in the order in which it is used.
    pub cidrs: Vec<IpNet>,
    /// Length of a node's prefix, not shorter than any of the pool's.
    pub mask: u8,
}

/// The pools of a cluster.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pools {
    /// IPv4.
    pub v4: Option<Pool>,
    /// IPv6.
    pub v6: Option<Pool>,
    /// Namespace of the Lease: that of the agents.
    pub namespace: String,
}

/// Bits of an address and its number, the first address of a network.
fn number(net: &IpNet) -> (u8, u128) {
    match net {
        IpNet::V4(net) => (32, u128::from(u32::from(net.network()))),
        IpNet::V6(net) => (128, u128::from(net.network())),
    }
}

/// The last address of a network as a number.
fn last(net: &IpNet) -> u128 {
    let (bits, first) = number(net);
    first | host_mask(bits - net.prefix_len())
}

const fn host_mask(bits: u8) -> u128 {
    match bits {
        128 => u128::MAX,
        bits => (1 << bits) - 1,
    }
}

fn network(like: &IpNet, first: u128, mask: u8) -> Option<IpNet> {
    match like {
        IpNet::V4(_) => {
            let first = u32::try_from(first).ok()?;
            Ipv4Net::new(first.into(), mask).ok().map(IpNet::from)
        }
        IpNet::V6(_) => Ipv6Net::new(first.into(), mask).ok().map(IpNet::from),
    }
}

impl Pool {
    /// A network of the pool that shares no address with `used`: `before`, if it is one, else the first.
    fn free(&self, used: &[IpNet], before: Option<IpNet>) -> Option<IpNet> {
        let is_free = |net: &IpNet| !used.iter().any(|other| overlap(net, other));
        let own = before.filter(|net| {
            net.prefix_len() == self.mask && self.cidrs.iter().any(|cidr| cidr.contains(net))
        });
        own.filter(is_free)
            .or_else(|| self.cidrs.iter().find_map(|cidr| self.first(cidr, used)))
    }

    /// The first free network of one prefix. Steps over what is used, so its cost is that of `used`, not of the pool.
    fn first(&self, cidr: &IpNet, used: &[IpNet]) -> Option<IpNet> {
        let (bits, start) = number(cidr);
        let size = host_mask(bits.checked_sub(self.mask)?);
        let mut taken: Vec<(u128, u128)> = used
            .iter()
            .filter(|net| number(net).0 == bits)
            .map(|net| (number(net).1, last(net)))
            .collect();
        taken.sort_unstable();
        let mut candidate = start;
        for (from, to) in taken {
            if to < candidate {
                continue;
            }
            if from > candidate | size {
                break;
            }
            candidate = (to | size).checked_add(1)?;
        }
        let inside = candidate <= last(cidr) && candidate | size <= last(cidr);
        network(cidr, candidate, self.mask).filter(|_| inside)
    }
}

impl Pools {
    /// Takes what `node` lacks of the `wanted` families (IPv4, IPv6) and writes it into its CiliumNode. `before` is what it
    /// had when it last ran.
    ///
    /// # Errors
    /// Why not yet: it is not this node's turn, the pool is used up, or the server says no.
    pub(super) async fn claim(
        &self,
        client: &Client,
        node: &str,
        wanted: (bool, bool),
        before: &PodNetworks,
        seen: &Seen,
    ) -> Result<(), String> {
        let turn = Turn::take(client, &self.namespace, LEASE, node, seen).await?;
        let work = self.assign(client, node, wanted, before);
        let result = match tokio::time::timeout(WORK, work).await {
            Ok(result) => result,
            Err(_) => Err("the API server is slow: no network was taken".to_owned()),
        };
        turn.end().await;
        result
    }

    async fn assign(
        &self,
        client: &Client,
        node: &str,
        wanted: (bool, bool),
        before: &PodNetworks,
    ) -> Result<(), String> {
        let nodes = Nodes::list(client, node).await?;
        let used: Vec<IpNet> = nodes.others.iter().map(|(_, net)| *net).collect();
        let mut own = nodes.own.clone().unwrap_or_default();
        for (wants, pool, is_v4, before) in [
            (wanted.0, &self.v4, true, before.v4.map(IpNet::from)),
            (wanted.1, &self.v6, false, before.v6.map(IpNet::from)),
        ] {
            if !wants || own.iter().any(|net| self::is_v4(net) == is_v4) {
                continue;
            }
            let family = if is_v4 { "ipv4" } else { "ipv6" };
            let pool = pool.as_ref().ok_or_else(|| {
                format!("there is no pool: set cluster-pool-{family}-cidr, or have an operator write CiliumNodes")
            })?;
            let free = pool.free(&used, before).ok_or_else(|| {
                format!(
                    "cluster-pool-{family}-cidr has no free /{}: other nodes have it all",
                    pool.mask
                )
            })?;
            own.push(free);
        }
        nodes.write(node, &own).await?;
        tracing::info!(networks = ?own, "took networks for this node's pods from the cluster's pool");
        Ok(())
    }

    /// Writes into the CiliumNode of `node` what somebody took from it of `own`, the networks that the node uses. A node that is
    /// not of the cluster any more, without a Node, gets nothing: its networks are free.
    ///
    /// # Errors
    /// Why not yet: it is not this node's turn, another node has one of them, or the server says no.
    pub(super) async fn put_back(
        &self,
        client: &Client,
        node: &str,
        own: &[IpNet],
        seen: &Seen,
    ) -> Result<(), String> {
        let turn = Turn::take(client, &self.namespace, LEASE, node, seen).await?;
        let work = async {
            let nodes = Nodes::list(client, node).await?;
            let said = nodes.own.as_deref().unwrap_or_default();
            let lost = lost(own, said);
            if lost.is_empty() || nodes.uid.is_none() {
                return Ok(());
            }
            if let Some((net, other, theirs)) = nodes.shared(&lost) {
                return Err(format!(
                    "{net} is in use here, and CiliumNode {other} has {theirs}: take one of the nodes out of the cluster"
                ));
            }
            nodes.write(node, &[said, &lost].concat()).await
        };
        let result = match tokio::time::timeout(WORK, work).await {
            Ok(result) => result,
            Err(_) => Err("the API server is slow".to_owned()),
        };
        turn.end().await;
        result
    }
}

/// What the cluster's CiliumNodes say about networks.
struct Nodes {
    api: Api<DynamicObject>,
    /// Of the node itself; `None` without a CiliumNode.
    own: Option<Vec<IpNet>>,
    /// Of all others, with their names.
    others: Vec<(String, IpNet)>,
    /// Of the node's Node; `None` without one.
    uid: Option<String>,
}

impl Nodes {
    async fn list(client: &Client, node: &str) -> Result<Self, String> {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &Published::Node.resource());
        let machines: Api<Node> = Api::all(client.clone());
        let machine = machines.get_metadata_opt(node).await;
        let machine = machine.map_err(|error| told(&error))?;
        let uid = machine.and_then(|node| node.metadata.uid);
        let (mut own, mut others) = (None, Vec::new());
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = api.list(&page).await.map_err(|error| told(&error))?;
            for object in list.items {
                let nets = networks_of(&object);
                let name = object.metadata.name.unwrap_or_default();
                if name == node {
                    own = Some(nets);
                } else {
                    others.extend(nets.into_iter().map(|net| (name.clone(), net)));
                }
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page.continue_token = Some(token),
                None => {
                    return Ok(Self {
                        api,
                        own,
                        others,
                        uid,
                    });
                }
            }
        }
    }

    /// The first of `nets` that another node has too, or a part of it: the network, the other node, and its network.
    fn shared(&self, nets: &[IpNet]) -> Option<(IpNet, &str, IpNet)> {
        let pairs = nets
            .iter()
            .flat_map(|net| self.others.iter().map(move |other| (net, other)));
        let mut shared = pairs.filter(|(net, (_, theirs))| overlap(net, theirs));
        shared
            .next()
            .map(|(net, (name, theirs))| (*net, &**name, *theirs))
    }

    /// Makes `nets` the networks of `node`.
    async fn write(&self, node: &str, nets: &[IpNet]) -> Result<(), String> {
        let nets: Vec<String> = nets.iter().map(ToString::to_string).collect();
        let ipam = json!({"spec": {"ipam": {"podCIDRs": nets}}});
        let manager = Some(MANAGER.to_owned());
        let written = if self.own.is_some() {
            let params = PatchParams {
                field_manager: manager,
                ..PatchParams::default()
            };
            self.api.patch(node, &params, &Patch::Merge(&ipam)).await
        } else {
            let mut object = DynamicObject::new(node, &Published::Node.resource());
            object.data = ipam;
            // So it goes with the Node.
            object.metadata.owner_references = self.uid.clone().map(|uid| vec![owner(node, uid)]);
            let params = PostParams {
                field_manager: manager,
                ..PostParams::default()
            };
            self.api.create(&params, &object).await
        };
        written.map(drop).map_err(|error| told(&error))
    }
}

fn owner(node: &str, uid: String) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.into(),
        uid,
        ..OwnerReference::default()
    }
}

/// What of `own` is of a family of which `said` has no network.
pub(super) fn lost(own: &[IpNet], said: &[IpNet]) -> Vec<IpNet> {
    let is_said = |net: &IpNet| said.iter().any(|said| is_v4(said) == is_v4(net));
    own.iter().filter(|net| !is_said(net)).copied().collect()
}

pub(super) fn is_v4(net: &IpNet) -> bool {
    matches!(net, IpNet::V4(_))
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

pub(super) fn networks_of(object: &DynamicObject) -> Vec<IpNet> {
    let list = object.data.pointer("/spec/ipam/podCIDRs");
    let nets = list.and_then(|list| list.as_array()).into_iter().flatten();
    nets.filter_map(|net| net.as_str()?.parse::<IpNet>().ok())
        .map(|net| net.trunc())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn free(pool: &[&str], mask: u8, used: &[&str], before: Option<&str>) -> Option<String> {
        let pool = Pool {
            cidrs: nets(pool),
            mask,
        };
        let before = before.map(|text| text.parse().unwrap());
        pool.free(&nets(used), before).map(|net| net.to_string())
    }

    #[test]
    fn the_first_network_that_nobody_has() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(free(&["10.0.0.0/8"], 24, &[], None), some("10.0.0.0/24"));
        let used = ["10.0.2.0/24", "10.0.0.0/24", "10.0.1.0/24", "10.0.4.0/24"];
        assert_eq!(free(&["10.0.0.0/8"], 24, &used, None), some("10.0.3.0/24"));
        // Others' sizes, and parts of a network.
        assert_eq!(
            free(&["10.0.0.0/8"], 24, &["10.0.0.0/12"], None),
            some("10.16.0.0/24")
        );
        assert_eq!(
            free(&["10.0.0.0/8"], 24, &["10.0.0.77/32"], None),
            some("10.0.1.0/24")
        );
        assert_eq!(free(&["10.0.0.0/8"], 24, &["10.0.0.0/8"], None), None);
        assert_eq!(
            free(&["10.0.0.0/8"], 24, &["fd00::/64", "192.168.0.0/16"], None),
            some("10.0.0.0/24")
        );
        // The next prefix when one is used up, to the last network of the last.
        let two = ["10.0.0.0/24", "10.9.0.0/23"];
        assert_eq!(
            free(&two, 24, &["10.0.0.0/24", "10.9.0.0/24"], None),
            some("10.9.1.0/24")
        );
        assert_eq!(free(&two, 24, &["10.0.0.0/24", "10.9.0.0/23"], None), None);
        assert_eq!(
            free(&["255.255.255.0/24"], 24, &["255.255.255.0/24"], None),
            None
        );
        assert_eq!(
            free(&["fd00::/104"], 120, &["fd00::/120"], None),
            some("fd00::100/120")
        );
        assert_eq!(free(&["::/0"], 128, &[], None), some("::/128"));
    }

    #[test]
    fn what_the_node_had_if_it_is_free() {
        let before = Some("10.3.0.0/24");
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            free(&["10.0.0.0/8"], 24, &["10.0.0.0/24"], before),
            some("10.3.0.0/24")
        );
        assert_eq!(
            free(&["10.0.0.0/8"], 24, &["10.3.0.0/24"], before),
            some("10.0.0.0/24")
        );
        assert_eq!(free(&["10.0.0.0/8"], 25, &[], before), some("10.0.0.0/25"));
        assert_eq!(
            free(&["172.16.0.0/12"], 24, &[], before),
            some("172.16.0.0/24")
        );
    }
}
