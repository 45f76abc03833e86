// SPDX-License-Identifier: Apache-2.0
//! Custom resources as Cilium writes them, of what this node knows.

use datapath::Kernel;
use kubernetes::api::Ipam;
use model::AddressType;
use serde_json::{Map, Value, json};

use super::Seen;
use crate::core::Core;

const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";

/// The CiliumNode.
pub(super) fn node(core: &Core<impl Kernel>) -> Value {
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

/// A CiliumIdentity: the labels that make it up by source and key, and the pods' own again as labels of the object, by which
/// people list identities.
pub(super) fn identity(local: &Seen) -> Value {
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

/// A CiliumEndpoint; `node` is the node's address.
pub(super) fn endpoint(local: &Seen, node: &str) -> Value {
    let a = &local.attachment;
    let (ingress, egress) = local.enforcement;
    let labels: Vec<String> = local.labels.iter().map(ToString::to_string).collect();
    let mut pair = json!({});
    if let Some(ip) = a.ipv4 {
        pair["ipv4"] = ip.to_string().into();
    }
    if let Some(ip) = a.ipv6 {
        pair["ipv6"] = ip.to_string().into();
    }
    let ports: Vec<Value> = local
        .pod
        .named_ports
        .iter()
        .map(|port| json!({"name": port.name, "port": port.port, "protocol": port.protocol.to_string()}))
        .collect();
    let mut metadata = json!({"labels": local.pod.labels});
    if !local.pod.uid.is_empty() {
        metadata["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "Pod", "name": a.pod.name, "uid": local.pod.uid}]);
    }
    json!({
        "metadata": metadata,
        "status": {
            "id": a.id.0,
            "state": local.state.as_str(),
            "identity": {"id": local.identity.0, "labels": labels},
            "networking": {"addressing": [pair], "node": node},
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
