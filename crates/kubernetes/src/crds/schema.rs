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

/// What `kubectl explain` says of the fields of a rule.
const FIELDS: [(&str, &str); 29] = [
    ("cidr", "A prefix."),
    ("cidrGroupRef", "The name of a CiliumCIDRGroup."),
    ("cidrGroupSelector", "The labels of CiliumCIDRGroups."),
    ("description", "A text for people."),
    (
        "egress",
        "To whom the pods may send. With an element, nobody else is allowed, unless enableDefaultDeny says otherwise.",
    ),
    (
        "egressDeny",
        "To whom the pods may not send, whatever else allows it.",
    ),
    (
        "enableDefaultDeny",
        "Whether what no rule allows is denied, per direction. The default is true for a direction with elements.",
    ),
    ("endPort", "The last port of a range that begins with port."),
    (
        "endpointSelector",
        "The pods that the rule is about: of the policy's namespace, or of all in a CiliumClusterwideNetworkPolicy. {} selects all.",
    ),
    ("except", "Prefixes inside that are left out."),
    (
        "fromCIDR",
        "Prefixes outside of the mesh. They select no pods and no nodes.",
    ),
    (
        "fromCIDRSet",
        "Prefixes outside of the mesh with exceptions, or groups of them.",
    ),
    (
        "fromEndpoints",
        "Labels of pods: of the policy's namespace and of this cluster, unless io.kubernetes.pod.namespace or io.cilium.k8s.policy.cluster say otherwise. {} selects all of these.",
    ),
    ("fromEntities", "Kinds of peers by their names."),
    (
        "ingress",
        "Who may send to the pods. With an element, nobody else is allowed, unless enableDefaultDeny says otherwise.",
    ),
    (
        "ingressDeny",
        "Who may not send to the pods, whatever else allows it.",
    ),
    (
        "key",
        "The key of a label; source:key means labels of one source (k8s, reserved).",
    ),
    ("labels", "Labels of the rule, for people."),
    (
        "matchExpressions",
        "Requirements on labels, all of which must hold.",
    ),
    (
        "matchLabels",
        "Labels with their values, all of which a peer must have.",
    ),
    (
        "operator",
        "NotIn and DoesNotExist also hold where the key is missing.",
    ),
    (
        "port",
        "A number, the name of a container's port, or 0 for every port.",
    ),
    ("ports", "Ports, one of which must match."),
    (
        "protocol",
        "The protocol. The default, ANY, is TCP, UDP and SCTP.",
    ),
    (
        "toCIDR",
        "Prefixes outside of the mesh. They select no pods and no nodes.",
    ),
    (
        "toCIDRSet",
        "Prefixes outside of the mesh with exceptions, or groups of them.",
    ),
    (
        "toEndpoints",
        "Labels of pods: of the policy's namespace and of this cluster, unless io.kubernetes.pod.namespace or io.cilium.k8s.policy.cluster say otherwise. {} selects all of these.",
    ),
    ("toEntities", "Kinds of peers by their names."),
    (
        "toPorts",
        "Ports at whom is asked. Without peers they are open to everybody; without ports every protocol is, ICMP too.",
    ),
];

/// Writes down what is known of the fields of a schema, and of those in them.
fn explain(schema: &mut Value) {
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (name, field) in properties.into_iter().flatten() {
        explain(field);
        let known = FIELDS.iter().find(|(field, _)| field == name);
        if let Some((_, text)) = known.filter(|_| field["type"] != "boolean") {
            field["description"] = (*text).into();
        }
    }
    if let Some(items) = schema.get_mut("items") {
        explain(items);
    }
}

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
    explain(&mut rule);
    rule["description"] = "What some pods may send and receive. What is not supported is stored, and refused by the agents: see the condition Valid.".into();
    rule
}
