// SPDX-License-Identifier: Apache-2.0
//! Definitions of the custom resources: names, columns and schemas that `kubectl` users know from Cilium.
//!
//! Rules keep fields that the schema does not know. An API server would otherwise drop them in silence, and a rule
//! without its condition allows more than was written; so the agent sees them and refuses the policy by name.

use serde_json::{Value, json};

use schema::{array, closed, integer, map_of, string};

mod schema;

/// All definitions.
pub fn all() -> Vec<Value> {
    vec![
        policy(&Names {
            kind: "CiliumNetworkPolicy",
            plural: "ciliumnetworkpolicies",
            short: &["cnp", "ciliumnp"],
            namespaced: true,
        }),
        policy(&Names {
            kind: "CiliumClusterwideNetworkPolicy",
            plural: "ciliumclusterwidenetworkpolicies",
            short: &["ccnp"],
            namespaced: false,
        }),
        cidr_group(),
        node(),
        endpoint(),
        identity(),
    ]
}

struct Names {
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    namespaced: bool,
}

fn definition(names: &Names, columns: Value, schema: Value, has_status: bool) -> Value {
    let kind = names.kind;
    let mut version = json!({
        "name": "v2",
        "served": true,
        "storage": true,
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": schema},
    });
    if has_status {
        version["subresources"] = json!({"status": {}});
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{}.cilium.io", names.plural)},
        "spec": {
            "group": "cilium.io",
            "scope": if names.namespaced { "Namespaced" } else { "Cluster" },
            "names": {
                "kind": kind,
                "listKind": format!("{kind}List"),
                "plural": names.plural,
                "singular": kind.to_lowercase(),
                "shortNames": names.short,
                "categories": ["cilium"],
            },
            "versions": [version],
        },
    })
}

fn column(name: &str, kind: &str, path: &str) -> Value {
    json!({"name": name, "type": kind, "jsonPath": path})
}

fn age() -> Value {
    column("Age", "date", ".metadata.creationTimestamp")
}

/// The parts that every object has.
fn object(properties: Value, required: &[&str]) -> Value {
    let mut all = json!({"apiVersion": string(), "kind": string(), "metadata": {"type": "object"}});
    if let (Some(all), Value::Object(properties)) = (all.as_object_mut(), properties) {
        all.extend(properties);
    }
    json!({"type": "object", "properties": all, "required": required})
}

fn policy(names: &Names) -> Value {
    let condition = closed(
        json!({
            "type": string(),
            "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "reason": string(),
            "message": string(),
            "lastTransitionTime": {"type": "string", "format": "date-time"},
        }),
        &["type", "status"],
    );
    let conditions = json!({
        "type": "array",
        "items": condition,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    });
    let mut schema = object(
        json!({
            "spec": schema::rule(),
            "specs": array(schema::rule()),
            "status": closed(json!({"conditions": conditions}), &[]),
        }),
        &["metadata"],
    );
    // With a status the root of a schema has no `anyOf`.
    schema["x-kubernetes-validations"] = json!([{
        "rule": "has(self.spec) || has(self.specs) && self.specs.size() > 0",
        "message": "spec or specs with a rule is required",
    }]);
    let valid = r#".status.conditions[?(@.type=="Valid")].status"#;
    let columns = json!([age(), column("Valid", "string", valid)]);
    definition(names, columns, schema, true)
}

fn cidr_group() -> Value {
    let names = Names {
        kind: "CiliumCIDRGroup",
        plural: "ciliumcidrgroups",
        short: &["ccg"],
        namespaced: false,
    };
    let spec = closed(
        json!({"externalCIDRs": array(schema::cidr())}),
        &["externalCIDRs"],
    );
    let schema = object(json!({"spec": spec}), &["metadata", "spec"]);
    definition(&names, json!([age()]), schema, false)
}

fn node() -> Value {
    let address = closed(json!({"type": string(), "ip": string()}), &[]);
    let spec = closed(
        json!({
            "addresses": array(address),
            "bootid": string(),
            "instance-id": string(),
            "encryption": closed(json!({"key": integer(0, 255)}), &[]),
            "health": closed(json!({"ipv4": string(), "ipv6": string()}), &[]),
            "ipam": closed(json!({"podCIDRs": array(string())}), &[]),
        }),
        &[],
    );
    let names = Names {
        kind: "CiliumNode",
        plural: "ciliumnodes",
        short: &["cn", "ciliumn"],
        namespaced: false,
    };
    let ip = |kind: &str| format!(r#".spec.addresses[?(@.type=="{kind}")].ip"#);
    let columns = json!([
        column("CiliumInternalIP", "string", &ip("CiliumInternalIP")),
        column("InternalIP", "string", &ip("InternalIP")),
        age(),
    ]);
    let schema = object(
        json!({"spec": spec, "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}),
        &["metadata", "spec"],
    );
    definition(&names, columns, schema, true)
}

fn endpoint() -> Value {
    let pair = closed(json!({"ipv4": string(), "ipv6": string()}), &[]);
    let direction = || {
        closed(
            json!({"enforcing": {"type": "boolean"}, "state": string()}),
            &["enforcing"],
        )
    };
    let port = closed(
        json!({"name": string(), "port": integer(0, 65535), "protocol": string()}),
        &[],
    );
    let status = closed(
        json!({
            "id": integer(0, 65535),
            "state": {"type": "string", "enum": ["creating", "waiting-for-identity", "not-ready", "waiting-to-regenerate", "regenerating", "restoring", "ready", "disconnecting", "disconnected", "invalid"]},
            "identity": closed(json!({"id": integer(0, u32::MAX), "labels": array(string())}), &[]),
            "networking": closed(json!({"addressing": array(pair), "node": string()}), &["addressing"]),
            "policy": closed(json!({"ingress": direction(), "egress": direction()}), &[]),
            "external-identifiers": map_of(string()),
            "named-ports": array(port),
        }),
        &[],
    );
    let names = Names {
        kind: "CiliumEndpoint",
        plural: "ciliumendpoints",
        short: &["cep", "ciliumep"],
        namespaced: true,
    };
    let wide = |mut column: Value| {
        column["priority"] = 1.into();
        column
    };
    let columns = json!([
        column("Security Identity", "integer", ".status.identity.id"),
        wide(column(
            "Ingress Enforcement",
            "boolean",
            ".status.policy.ingress.enforcing"
        )),
        wide(column(
            "Egress Enforcement",
            "boolean",
            ".status.policy.egress.enforcing"
        )),
        column("Endpoint State", "string", ".status.state"),
        column("IPv4", "string", ".status.networking.addressing[0].ipv4"),
        column("IPv6", "string", ".status.networking.addressing[0].ipv6"),
    ]);
    let schema = object(json!({"status": status}), &["metadata"]);
    definition(&names, columns, schema, false)
}

fn identity() -> Value {
    let names = Names {
        kind: "CiliumIdentity",
        plural: "ciliumidentities",
        short: &["ciliumid"],
        namespaced: false,
    };
    let columns = json!([
        column(
            "Namespace",
            "string",
            r".metadata.labels.io\.kubernetes\.pod\.namespace"
        ),
        age(),
    ]);
    let schema = object(
        json!({"security-labels": map_of(string())}),
        &["metadata", "security-labels"],
    );
    definition(&names, columns, schema, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the API server demands of a structural schema, as far as this crate could get it wrong.
    fn structural(at: &str, schema: &Value) {
        let kind = schema["type"].as_str();
        let int_or_string = schema["x-kubernetes-int-or-string"] == true;
        assert!(
            kind.is_some() != int_or_string,
            "{at}: exactly one of type and int-or-string"
        );
        if kind == Some("array") {
            structural(&format!("{at}[]"), &schema["items"]);
        }
        let both =
            schema.get("properties").is_some() && schema.get("additionalProperties").is_some();
        assert!(
            !both,
            "{at}: properties and additionalProperties exclude each other"
        );
        if let Some(properties) = schema["properties"].as_object() {
            for (name, property) in properties {
                structural(&format!("{at}.{name}"), property);
            }
            for name in schema["required"].as_array().into_iter().flatten() {
                assert!(
                    properties.contains_key(name.as_str().unwrap()),
                    "{at}: {name} is required and unknown"
                );
            }
        }
        if let Some(values) = schema.get("additionalProperties") {
            structural(&format!("{at}.*"), values);
        }
    }

    #[test]
    fn schemas_are_structural_and_names_are_those_that_users_type() {
        let mut short = Vec::new();
        for definition in all() {
            let names = &definition["spec"]["names"];
            let plural = names["plural"].as_str().unwrap();
            assert_eq!(
                definition["metadata"]["name"],
                format!("{plural}.cilium.io")
            );
            structural(
                plural,
                &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
            );
            let own = names["shortNames"].as_array().unwrap();
            short.extend(own.iter().map(|name| name.as_str().unwrap().to_owned()));
        }
        for name in ["cnp", "ccnp", "ccg", "cn", "cep", "ciliumid"] {
            assert_eq!(short.iter().filter(|own| *own == name).count(), 1, "{name}");
        }
    }

    /// `anyOf` and its like may only narrow fields that the schema has beside it.
    #[test]
    fn alternatives_are_about_fields_of_the_schema() {
        fn look(at: &str, schema: &Value) {
            let alternatives = ["anyOf", "oneOf"].map(|key| &schema[key]);
            let none = [&schema["not"]["anyOf"]];
            for alternative in alternatives.into_iter().chain(none) {
                for one in alternative.as_array().into_iter().flatten() {
                    let required = one["required"].as_array().into_iter().flatten();
                    let required = required.map(|name| name.as_str().unwrap());
                    let narrowed = one["properties"].as_object().into_iter().flatten();
                    for name in required.chain(narrowed.map(|(name, _)| name.as_str())) {
                        assert!(schema["properties"].get(name).is_some(), "{at}: {name}");
                    }
                }
            }
            match schema {
                Value::Object(map) => {
                    let parts = map.iter().filter(|(key, _)| *key != "not");
                    parts.for_each(|(key, part)| look(&format!("{at}.{key}"), part));
                }
                Value::Array(list) => list.iter().for_each(|v| look(at, v)),
                _ => {}
            }
        }
        all().iter().for_each(|definition| look("", definition));
    }

    #[test]
    fn kubectl_explains_the_fields_of_a_rule() {
        fn look(at: &str, schema: &Value) {
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                let is_told = field["type"] == "boolean" || name == "values";
                assert!(is_told || field["description"].is_string(), "{at}.{name}");
                look(&format!("{at}.{name}"), field);
                look(&format!("{at}.{name}[]"), &field["items"]);
            }
        }
        look("", &schema::rule());
    }

    #[test]
    fn rules_keep_what_the_schema_does_not_know() {
        let policies = all();
        let rule =
            &policies[0]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let entry = &rule["properties"]["ingress"]["items"];
        for part in [rule, entry, &entry["properties"]["toPorts"]["items"]] {
            assert_eq!(part["x-kubernetes-preserve-unknown-fields"], true);
        }
    }
}
