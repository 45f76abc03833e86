// SPDX-License-Identifier: Apache-2.0
//! What this node shows in Kubernetes: its CiliumNode, and a CiliumEndpoint per pod.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kubernetes::api::{self, Client, Ipam, Publication, Published, ResourceKey};
use model::AddressType;
use serde_json::{Map, Value, json};

use crate::endpoint::Endpoint;
use crate::service::Service;

const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// What changed is written so often.
const INTERVAL: Duration = Duration::from_secs(1);
/// Longest pause after failures.
const LONGEST: Duration = Duration::from_secs(30);

/// Keeps them as they shall be, for ever.
pub(super) async fn publish(service: Arc<Service>, client: Client) {
    let mut publication = Publication::new(client);
    let mut pause = tables::Backoff::new(INTERVAL, LONGEST);
    loop {
        let wanted = wanted(&service);
        let result = publication.sync(&wanted).await;
        let wait = match &result {
            Ok(()) => {
                pause.reset();
                INTERVAL
            }
            Err(_) => pause.next(0.0),
        };
        service.core().note("custom resources", result.err());
        tokio::time::sleep(wait).await;
    }
}

/// Keeps this node's Node open for pods once the agent serves them, for ever.
pub(super) async fn keep_open(service: Arc<Service>, client: Client) {
    service.until_ready().await;
    let node = service.core().config.node.clone();
    let seen = |uid: &str| service.core().node_uid = Some(uid.to_owned());
    let tell = |result: Result<(), String>| service.core().note("own Node", result.err());
    api::keep_open(client, &node, seen, tell).await;
}

fn wanted(service: &Service) -> BTreeMap<ResourceKey, Value> {
    let (name, node, endpoints) = {
        let core = service.core();
        let name = core.config.node.to_string();
        (
            name,
            node(&core),
            core.endpoints.values().cloned().collect::<Vec<_>>(),
        )
    };
    let identities: BTreeMap<_, _> = endpoints
        .iter()
        .map(|local| {
            let key = (
                Published::Identity,
                String::new(),
                local.identity.to_string(),
            );
            (key, identity(local))
        })
        .collect();
    let of_endpoint = |local: Endpoint| {
        let pod = &local.attachment.pod;
        let key = (
            Published::Endpoint,
            pod.namespace.to_string(),
            pod.name.to_string(),
        );
        (key, endpoint(service, &local))
    };
    std::iter::once(((Published::Node, String::new(), name), node))
        .chain(identities)
        .chain(endpoints.into_iter().map(of_endpoint))
        .collect()
}

fn node(core: &crate::core::Core<datapath::Linux>) -> Value {
    let node = core.node.published(&core.config);
    let kind = |kind| match kind {
        AddressType::InternalIp => "InternalIP",
        AddressType::CiliumInternalIp => "CiliumInternalIP",
        _ => "ExternalIP",
    };
    let addresses: Vec<Value> = node
        .addresses
        .iter()
        .map(|address| json!({"type": kind(address.kind), "ip": address.ip.to_string()}))
        .collect();
    let mut spec = json!({
        "addresses": addresses,
        "bootid": node.boot_id,
        "encryption": {"key": node.encryption_key},
    });
    // With a pool they are what the CiliumNode says.
    if core
        .config
        .kubernetes
        .as_ref()
        .is_some_and(|kubernetes| kubernetes.ipam == Ipam::Kubernetes)
    {
        let nets: Vec<String> = core
            .node
            .pod_cidrs()
            .iter()
            .map(ToString::to_string)
            .collect();
        spec["ipam"] = json!({"podCIDRs": nets});
    }
    // So the CiliumNode goes with the Node. Without a uid it has no owner yet.
    let owner = |uid: &String| json!([{"apiVersion": "v1", "kind": "Node", "name": core.config.node, "uid": uid}]);
    let metadata = match &core.node_uid {
        Some(uid) => json!({"ownerReferences": owner(uid)}),
        None => json!({}),
    };
    json!({"metadata": metadata, "spec": spec})
}

/// As Cilium writes it: the labels that make it up by source and key, and the pods' own again as labels of the object, by
/// which people list identities.
fn identity(local: &Endpoint) -> Value {
    let (mut labels, mut security) = (Map::new(), Map::new());
    for label in local.labels.iter() {
        let key = format!("{}:{}", label.source(), label.key());
        security.insert(key, label.value().into());
        if label.source() == "k8s" && label.key() == POD_NAMESPACE {
            labels.insert(POD_NAMESPACE.into(), label.value().into());
        }
    }
    json!({"metadata": {"labels": labels}, "security-labels": security})
}

fn endpoint(service: &Service, local: &Endpoint) -> Value {
    let core = service.core();
    let a = &local.attachment;
    let (ingress, egress) = core.engine.enforcement(a.id);
    let labels: Vec<String> = local.labels.iter().map(ToString::to_string).collect();
    let mut pair = json!({});
    if let Some(ip) = a.ipv4 {
        pair["ipv4"] = ip.to_string().into();
    }
    if let Some(ip) = a.ipv6 {
        pair["ipv6"] = ip.to_string().into();
    }
    let pod = core.pods.get(&a.pod);
    let ports: Vec<Value> = pod
        .into_iter()
        .flat_map(|pod| pod.named_ports.iter())
        .map(|port| json!({"name": port.name, "port": port.port, "protocol": port.protocol.to_string()}))
        .collect();
    let mut metadata = json!({});
    if let Some(pod) = pod {
        metadata["labels"] = json!(pod.labels);
        if !pod.uid.is_empty() {
            metadata["ownerReferences"] =
                json!([{"apiVersion": "v1", "kind": "Pod", "name": a.pod.name, "uid": pod.uid}]);
        }
    }
    json!({
        "metadata": metadata,
        "status": {
            "id": a.id.0,
            "state": local.state.as_str(),
            "identity": {"id": local.identity.0, "labels": labels},
            "networking": {"addressing": [pair], "node": core.node.ipv4.to_string()},
            "policy": {"ingress": {"enforcing": ingress}, "egress": {"enforcing": egress}},
            "external-identifiers": {
                "container-id": a.container_id,
                "k8s-namespace": a.pod.namespace,
                "k8s-pod-name": a.pod.name,
                "pod-name": a.pod.to_string(),
            },
            "named-ports": ports,
        },
    })
}
