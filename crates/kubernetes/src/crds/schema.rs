// SPDX-License-Identifier: Apache-2.0
//! Pieces of OpenAPI schemas, and that of a policy's rule.

use policy::Entity;
use serde_json::{Value, json};

/// What a label's value may be, as API servers have it.
const LABEL_VALUE: &str = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$";
/// A number of 0 to 65535, or the name of a port.
const PORT: &str = "^(0|[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]|([A-Za-z0-9]-?)*[A-Za-z](-?[A-Za-z0-9])*)$";
/// The name of an object of the cluster.
const NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

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

/// A prefix, as Go reads it.
pub(super) fn cidr() -> Value {
    json!({"type": "string", "format": "cidr"})
}

fn selector() -> Value {
    let mut expression = open(
        json!({
            "key": string(),
            "operator": {"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
            "values": array(string()),
        }),
        &["key", "operator"],
    );
    expression["anyOf"] = json!([
        {"properties": {"operator": {"enum": ["In", "NotIn"]}, "values": {"minItems": 1}}, "required": ["values"]},
        {"properties": {"operator": {"enum": ["Exists", "DoesNotExist"]}, "values": {"maxItems": 0}}},
    ]);
    let value = json!({"type": "string", "maxLength": 63, "pattern": LABEL_VALUE});
    open(
        json!({"matchLabels": map_of(value), "matchExpressions": array(expression)}),
        &[],
    )
}

fn ports() -> Value {
    let port = open(
        json!({
            "port": {"type": "string", "maxLength": 15, "pattern": PORT},
            "endPort": integer(0, 65535),
            "protocol": {"type": "string", "enum": ["TCP", "UDP", "SCTP", "ANY"]},
        }),
        &["port"],
    );
    let mut ports = array(port);
    ports["maxItems"] = 40.into();
    open(json!({"ports": ports}), &[])
}

/// An element of `ingress`, `egress` or their denying forms; `prefix` is `from` or `to`.
fn entry(prefix: &str) -> Value {
    let mut properties = json!({"toPorts": array(ports())});
    let group = json!({"type": "string", "maxLength": 253, "pattern": NAME});
    let mut set = open(
        json!({
            "cidr": cidr(),
            "cidrGroupRef": group,
            "cidrGroupSelector": selector(),
            "except": array(cidr()),
        }),
        &[],
    );
    set["oneOf"] = ["cidr", "cidrGroupRef", "cidrGroupSelector"]
        .map(|field| json!({"required": [field]}))
        .into();
    let entities = Entity::ALL.map(Entity::as_str);
    let peers = [
        ("Endpoints", selector()),
        ("Entities", json!({"type": "string", "enum": entities})),
        ("CIDR", cidr()),
        ("CIDRSet", set),
    ]
    .map(|(field, items)| (format!("{prefix}{field}"), array(items)));
    let kinds = peers.each_ref().map(|(field, _)| field);
    let two = (0..kinds.len()).flat_map(|one| (0..one).map(move |other| [other, one]));
    let two: Vec<Value> = two
        .map(|pair| json!({"required": pair.map(|kind| kinds[kind])}))
        .collect();
    for (field, items) in &peers {
        properties[field] = items.clone();
    }
    let mut entry = open(properties, &[]);
    entry["not"] = json!({"anyOf": two});
    entry
}

/// A rule.
pub(super) fn rule() -> Value {
    let flag = || json!({"type": "boolean"});
    let mut rule = open(
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
        &["endpointSelector"],
    );
    rule["anyOf"] = ["ingress", "ingressDeny", "egress", "egressDeny"]
        .map(|list| json!({"properties": {list: {"minItems": 1}}, "required": [list]}))
        .into();
    rule
}
