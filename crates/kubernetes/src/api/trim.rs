// SPDX-License-Identifier: Apache-2.0
//! What is kept of an object: what the conversion reads, and nothing else. A pod's environment, volumes and managed
//! fields are many times what the network needs.

use serde_json::{Map, Value, json};

use super::Kind;
use crate::{pods, services};

/// The object without what nobody reads.
pub(super) fn trimmed(kind: Kind, mut object: Value) -> Value {
    let mut out = Map::new();
    out.insert("apiVersion".into(), kind.api_version().into());
    out.insert("kind".into(), kind.as_str().into());
    let metadata = object.get_mut("metadata").map(Value::take);
    let mirror = metadata
        .as_ref()
        .filter(|_| matches!(kind, Kind::Pod))
        .and_then(|metadata| metadata.get("annotations")?.get(pods::MIRROR).cloned());
    let mut metadata = only(metadata, &["name", "namespace", "uid", "labels"]);
    if let Some(mirror) = mirror {
        metadata["annotations"] = json!({pods::MIRROR: mirror});
    }
    if matches!(kind, Kind::Service | Kind::EndpointSlice) {
        let labels = metadata.get_mut("labels").map(Value::take);
        metadata["labels"] = only(labels, &[services::SERVICE_NAME, services::PROXY_NAME]);
    }
    out.insert("metadata".into(), metadata);
    match kind {
        Kind::Namespace => {}
        Kind::Pod => {
            let mut whole = object.get_mut("spec").map_or(Value::Null, Value::take);
            let lists = ["containers", "initContainers"]
                .map(|key| (key, whole.get_mut(key).map_or(Value::Null, Value::take)));
            let mut spec = only(
                Some(whole),
                &["nodeName", "serviceAccountName", "hostNetwork"],
            );
            if let Some(spec) = spec.as_object_mut() {
                let found = lists.into_iter().map(|(key, list)| (key, with_ports(list)));
                let found = found.filter(|(_, list)| !list.is_null());
                spec.extend(found.map(|(key, list)| (key.to_owned(), list)));
            }
            out.insert("spec".into(), spec);
        }
        Kind::Service => {
            let spec = object.get_mut("spec").map(Value::take);
            let spec = only(
                spec,
                &[
                    "type",
                    "clusterIP",
                    "clusterIPs",
                    "ports",
                    "sessionAffinity",
                    "sessionAffinityConfig",
                    "internalTrafficPolicy",
                ],
            );
            out.insert("spec".into(), spec);
        }
        Kind::EndpointSlice => {
            for key in ["addressType", "ports", "endpoints"] {
                if let Some(value) = object.get_mut(key) {
                    out.insert(key.into(), value.take());
                }
            }
            if let Some(Value::Array(endpoints)) = out.get_mut("endpoints") {
                for endpoint in endpoints {
                    let whole = Some(endpoint.take());
                    *endpoint = only(whole, &["addresses", "conditions", "nodeName"]);
                }
            }
        }
        Kind::CiliumNetworkPolicy
        | Kind::CiliumClusterwideNetworkPolicy
        | Kind::NetworkPolicy
        | Kind::CiliumCIDRGroup => {
            for key in ["spec", "specs"] {
                if let Some(value) = object.get_mut(key) {
                    out.insert(key.into(), value.take());
                }
            }
        }
    }
    Value::Object(out)
}

/// Of containers those that have ports. What is wrong is refused by who reads it.
fn with_ports(containers: Value) -> Value {
    let Value::Array(all) = containers else {
        return containers;
    };
    let all = all.into_iter();
    all.filter(|container| container.get("ports").is_some())
        .map(|container| only(Some(container), &["ports", "restartPolicy"]))
        .collect()
}

/// The object with these fields only; what is no object stays as it is.
fn only(value: Option<Value>, keys: &[&str]) -> Value {
    match value {
        Some(Value::Object(mut map)) => {
            map.retain(|key, value| keys.contains(&key.as_str()) && !value.is_null());
            Value::Object(map)
        }
        other => other.unwrap_or(Value::Null),
    }
}
