// SPDX-License-Identifier: Apache-2.0
//! The networks of a node's pods, as the cluster gives them: from its Node, or from its CiliumNode and the cluster's pool.

use std::path::Path;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;
use tables::Backoff;
use tokio::time::Instant;

use super::pool::Pools;
use super::turn::Seen;
use super::watches::told;

/// Pauses between two looks.
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(5);
/// How long a server that answers with errors is asked before the networks of the last run are taken. One that has just
/// started refuses everything for a moment.
const PATIENCE: Duration = Duration::from_secs(5);
/// One look.
const LOOK: Duration = Duration::from_secs(5);

/// Who gives a node its networks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ipam {
    /// Kubernetes: `spec.podCIDRs` of the Node.
    Kubernetes,
    /// The cluster's pool: `spec.ipam.podCIDRs` of the CiliumNode, where the node or an operator writes it.
    ClusterPool(Pools),
}

/// The networks of a node's pods.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PodNetworks {
    /// IPv4.
    pub v4: Option<Ipv4Net>,
    /// IPv6.
    pub v6: Option<Ipv6Net>,
}

impl PodNetworks {
    /// The first network of each family that has room for a router and a pod.
    pub(super) fn read(list: &Value) -> Self {
        let nets = list.as_array().into_iter().flatten();
        let nets = nets.filter_map(|net| net.as_str()?.parse::<IpNet>().ok());
        let nets = nets.filter(|net| net.max_prefix_len() - net.prefix_len() >= 2);
        let mut networks = Self::default();
        for net in nets {
            match net {
                IpNet::V4(net) => drop(networks.v4.get_or_insert(net.trunc())),
                IpNet::V6(net) => drop(networks.v6.get_or_insert(net.trunc())),
            }
        }
        networks
    }

    /// The families that are wanted and missing.
    pub(super) fn missing(&self, (v4, v6): (bool, bool)) -> Option<&'static str> {
        match (v4 && self.v4.is_none(), v6 && self.v6.is_none()) {
            (true, true) => Some("IPv4 and IPv6"),
            (true, false) => Some("IPv4"),
            (false, true) => Some("IPv6"),
            (false, false) => None,
        }
    }
}

/// Waits until the node has a network of each wanted family (IPv4, IPv6), and says what it waits for. If the server
/// does not answer, or has nothing but errors for 5 s, those of the last run, which are in `file`, are taken.
pub async fn pod_networks(
    client: &Client,
    node: &str,
    ipam: &Ipam,
    wanted: (bool, bool),
    file: &Path,
) -> PodNetworks {
    let (group, version, kind, plural, path) = match ipam {
        Ipam::Kubernetes => ("", "v1", "Node", "nodes", "/spec/podCIDRs"),
        Ipam::ClusterPool(_) => (
            "cilium.io",
            "v2",
            "CiliumNode",
            "ciliumnodes",
            "/spec/ipam/podCIDRs",
        ),
    };
    let gvk = GroupVersionKind::gvk(group, version, kind);
    let api: Api<DynamicObject> = Api::all_with(
        client.clone(),
        &ApiResource::from_gvk_with_plural(&gvk, plural),
    );
    let mut pause = Backoff::new(FIRST, LONGEST);
    let (mut last, seen) = (String::new(), Seen::default());
    let began = Instant::now();
    loop {
        let reason = match tokio::time::timeout(LOOK, api.get_opt(node)).await {
            Ok(Ok(object)) => {
                let nothing = Value::Null;
                let found = object.as_ref().and_then(|object| object.data.pointer(path));
                let networks = PodNetworks::read(found.unwrap_or(&nothing));
                let Some(families) = networks.missing(wanted) else {
                    save(file, &networks);
                    return networks;
                };
                let before = saved(file, (false, false)).unwrap_or_default();
                match ipam {
                    Ipam::ClusterPool(pools) => {
                        match pools.claim(client, node, wanted, &before, &seen).await {
                            Ok(()) => continue,
                            Err(reason) => reason,
                        }
                    }
                    Ipam::Kubernetes if object.is_none() => {
                        format!("there is no {kind} {node} yet")
                    }
                    Ipam::Kubernetes => format!(
                        "{kind} {node} has no {families} network in {}",
                        path[1..].replace('/', ".")
                    ),
                }
            }
            Ok(Err(error)) => {
                let is_answer = matches!(error, kube::Error::Api(_));
                let is_final = !is_answer || began.elapsed() >= PATIENCE;
                match saved(file, wanted).filter(|_| is_final) {
                    Some(networks) => return of_last_run(networks, &told(&error)),
                    None => told(&error),
                }
            }
            Err(_) => match saved(file, wanted) {
                Some(networks) => return of_last_run(networks, "the API server is silent"),
                None => "the API server is silent".to_owned(),
            },
        };
        if reason != last {
            tracing::warn!(reason, "waiting for the networks of this node's pods");
            last = reason;
        }
        tokio::time::sleep(pause.next(rand::random())).await;
    }
}

/// Says why they are taken.
fn of_last_run(networks: PodNetworks, reason: &str) -> PodNetworks {
    tracing::warn!(
        reason,
        "the networks of this node's pods are those of the last run"
    );
    networks
}

pub(super) fn save(file: &Path, networks: &PodNetworks) {
    let v4 = networks.v4.map(IpNet::from);
    let nets = v4.into_iter().chain(networks.v6.map(IpNet::from));
    let text = Value::from(nets.map(|net| net.to_string()).collect::<Vec<_>>()).to_string();
    let new = file.with_extension("new");
    if let Err(error) = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, file)) {
        tracing::warn!(file = %file.display(), %error, "cannot save the networks of this node's pods");
    }
}

fn saved(file: &Path, wanted: (bool, bool)) -> Option<PodNetworks> {
    let list: Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    let networks = PodNetworks::read(&list);
    networks.missing(wanted).is_none().then_some(networks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_of_each_family() {
        let networks = PodNetworks::read(&json!([
            "10.5.0.1/32",
            "10.5.0.2/31",
            "fd00:5::1/127",
            "10.5.1.7/24",
            5,
            "rubbish",
            "fd00:5:1::/80",
            "10.9.0.0/16"
        ]));
        assert_eq!(networks.v4, Some("10.5.1.0/24".parse().unwrap()));
        assert_eq!(networks.v6, Some("fd00:5:1::/80".parse().unwrap()));
        assert_eq!(networks.missing((true, true)), None);
        assert_eq!(PodNetworks::read(&json!({"a": 1})), PodNetworks::default());
        assert_eq!(
            PodNetworks::default().missing((true, true)),
            Some("IPv4 and IPv6")
        );
        assert_eq!(PodNetworks::default().missing((false, true)), Some("IPv6"));
    }
}
