// SPDX-License-Identifier: Apache-2.0
//! Pieces of OpenAPI schemas, and that of a policy's rule.

use serde_json::{Value, json};

pub(super) fn string() -> Value {
    json!({"type": "string"})
}

pub(super) fn integer(low: u32, high: u32) -> Value {
    json!({"type": "integer", "format": "int64", "minimum": low, "maximum": high})
}

pub(super) fn array(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

pub(super) fn map_of(values: Value) -> Value {
    json!({"type": "object", "additionalProperties": values})
}

/// An object of these fields; the API server drops others.
pub(super) fn closed(properties: Value, required: &[&str]) -> Value {
    let mut schema = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// An object of which the API server keeps other fields too.
fn open(properties: Value, required: &[&str]) -> Value {
    let mut schema = closed(properties, required);
    schema["x-kubernetes-preserve-unknown-fields"] = true.into();
    schema
}

fn selector() -> Value {
    let expression = open(
        json!({
            "key": string(),
            "operator": {"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
            "values": array(string()),
        }),
        &["key", "operator"],
    );
    open(
        json!({"matchLabels": map_of(string()), "matchExpressions": array(expression)}),
        &[],
    )
}

fn ports() -> Value {
    let port = open(
        json!({
            "port": {"type": "string", "maxLength": 63},
            "endPort": integer(0, 65535),
            "protocol": {"type": "string", "enum": ["TCP", "UDP", "SCTP", "ICMP", "ICMPv6", "VRRP", "IGMP", "ANY"]},
        }),
        &[],
    );
    let mut ports = array(port);
    ports["maxItems"] = 40.into();
    open(json!({"ports": ports}), &[])
}

/// An element of `ingress`, `egress` or their denying forms; `prefix` is `from` or `to`.
fn entry(prefix: &str) -> Value {
    let mut properties = json!({"toPorts": array(ports())});
    let set = open(json!({"cidr": string(), "except": array(string())}), &[]);
    for (field, items) in [
        ("Endpoints", selector()),
        ("Entities", string()),
        ("CIDR", string()),
        ("CIDRSet", set),
    ] {
        properties[format!("{prefix}{field}")] = array(items);
    }
    open(properties, &[])
}

/// A rule.
pub(super) fn rule() -> Value {
    let flag = || json!({"type": "boolean"});
    open(
        json!({
            "description": string(),
            "endpointSelector": selector(),
            "ingress": array(entry("from")),
            "ingressDeny": array(entry("from")),
            "egress": array(entry("to")),
            "egressDeny": array(entry("to")),
            "enableDefaultDeny": open(json!({"ingress": flag(), "egress": flag()}), &[]),
            "labels": array(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})),
        }),
        &[],
    )
}
