// SPDX-License-Identifier: Apache-2.0
//! The cluster's pool of pod networks: a node that has none takes one.
//!
//! Nodes take turns under the Lease with which Cilium's operator elects its leader (`cilium-operator-resource-lock`): so two
//! nodes never take the same network, and where such an operator lives, the pool is its alone. Each node writes its own
//! CiliumNode only. A network is in use while a CiliumNode has it.

use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;

use super::networks::PodNetworks;
use super::publish::{MANAGER, Published};
use super::watches::told;

const LEASE: &str = "cilium-operator-resource-lock";
/// How long a turn lasts at most; who holds the Lease longer is taken for gone.
const TURN: Duration = Duration::from_secs(15);
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
        let is_free = |net: &IpNet| {
            let overlaps = |other: &IpNet| other.contains(net) || net.contains(other);
            !used.iter().any(overlaps)
        };
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
    ) -> Result<(), String> {
        let turn = Turn::take(client, &self.namespace, node).await?;
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
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &Published::Node.resource());
        let (mut used, mut own, mut exists) = (Vec::new(), Vec::new(), false);
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = api.list(&page).await.map_err(|error| told(&error))?;
            for object in list.items {
                let nets = networks_of(&object);
                if object.metadata.name.as_deref() == Some(node) {
                    exists = true;
                    own = nets;
                } else {
                    used.extend(nets);
                }
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page.continue_token = Some(token),
                None => break,
            }
        }
        for (wants, pool, is_v4, before) in [
            (wanted.0, &self.v4, true, before.v4.map(IpNet::from)),
            (wanted.1, &self.v6, false, before.v6.map(IpNet::from)),
        ] {
            let has = own.iter().any(|net| matches!(net, IpNet::V4(_)) == is_v4);
            if !wants || has {
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
        let nets: Vec<String> = own.iter().map(ToString::to_string).collect();
        let ipam = json!({"spec": {"ipam": {"podCIDRs": nets}}});
        let written = if exists {
            let params = PatchParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PatchParams::default()
            };
            api.patch(node, &params, &Patch::Merge(&ipam)).await
        } else {
            let resource = Published::Node.resource();
            let mut object = DynamicObject::new(node, &resource);
            object.data = ipam;
            let params = PostParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PostParams::default()
            };
            api.create(&params, &object).await
        };
        written.map_err(|error| told(&error))?;
        tracing::info!(networks = ?nets, "took networks for this node's pods from the cluster's pool");
        Ok(())
    }
}

fn networks_of(object: &DynamicObject) -> Vec<IpNet> {
    let list = object.data.pointer("/spec/ipam/podCIDRs");
    let nets = list.and_then(|list| list.as_array()).into_iter().flatten();
    nets.filter_map(|net| net.as_str()?.parse::<IpNet>().ok())
        .map(|net| net.trunc())
        .collect()
}

/// The right to change who has which network.
struct Turn {
    api: Api<Lease>,
    lease: Lease,
}

impl Turn {
    /// Takes the Lease if nobody has it.
    async fn take(client: &Client, namespace: &str, node: &str) -> Result<Self, String> {
        let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
        let now = Timestamp::now();
        let failed = |error: kube::Error| format!("Lease {namespace}/{LEASE}: {}", told(&error));
        let mut lease = match api.get_opt(LEASE).await.map_err(failed)? {
            Some(lease) => {
                let spec = lease.spec.clone().unwrap_or_default();
                let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
                let length = spec.lease_duration_seconds.unwrap_or(0).max(0);
                let renewed = spec.renew_time.map_or(Timestamp::MIN, |time| time.0);
                let runs = now.duration_since(renewed).as_secs() < i64::from(length);
                if let Some(holder) = holder.filter(|_| runs) {
                    return Err(format!("{holder} holds the Lease {namespace}/{LEASE}"));
                }
                lease
            }
            None => Lease {
                metadata: ObjectMeta {
                    name: Some(LEASE.to_owned()),
                    namespace: Some(namespace.to_owned()),
                    ..ObjectMeta::default()
                },
                spec: None,
            },
        };
        let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(node.to_owned()),
            lease_duration_seconds: i32::try_from(TURN.as_secs()).ok(),
            acquire_time: Some(MicroTime(now)),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(transitions.unwrap_or(0).wrapping_add(1)),
            ..LeaseSpec::default()
        });
        // The version that was read goes along: of two who do this, the server refuses one.
        let params = PostParams::default();
        let taken = if lease.metadata.resource_version.is_some() {
            api.replace(LEASE, &params, &lease).await
        } else {
            api.create(&params, &lease).await
        };
        match taken {
            Ok(lease) => Ok(Self { api, lease }),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                Err(format!("another node takes the Lease {namespace}/{LEASE}"))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Lets the next one in. If it fails, the Lease runs out.
    async fn end(mut self) {
        if let Some(spec) = &mut self.lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        let params = PostParams::default();
        let ended = self.api.replace(LEASE, &params, &self.lease);
        if let Ok(Err(error)) = tokio::time::timeout(TURN, ended).await {
            tracing::debug!(
                error = told(&error),
                "the Lease of the pool was not given back"
            );
        }
    }
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
