// SPDX-License-Identifier: Apache-2.0
//! Policies as text for people and clients: `policy get` prints rules in the user's field names.

use model::{Operator, Selector};
use policy::{Entry, Peers, PolicyObject, PortRule, Rule};
use serde_json::{Map, Value, json};

/// The rules of all objects, in the order of their names.
pub(crate) fn list<'a>(policies: impl Iterator<Item = &'a PolicyObject>) -> Vec<Value> {
    let mut named: Vec<(String, &PolicyObject)> = policies
        .map(|policy| (policy.key.to_string(), policy))
        .collect();
    named.sort_by(|one, other| one.0.cmp(&other.0));
    named.iter().map(|(_, policy)| to_json(policy)).collect()
}

/// The rules of an object, with the labels that name it.
fn to_json(policy: &PolicyObject) -> Value {
    let mut labels = vec![
        json!({"key": "io.cilium.k8s.policy.derived-from", "value": policy.key.kind.as_str(), "source": "k8s"}),
        json!({"key": "io.cilium.k8s.policy.name", "value": policy.key.name, "source": "k8s"}),
    ];
    if !policy.key.namespace.is_empty() {
        labels.push(json!({"key": "io.cilium.k8s.policy.namespace", "value": policy.key.namespace, "source": "k8s"}));
    }
    json!({"labels": labels, "rules": policy.rules.iter().map(rule).collect::<Vec<_>>()})
}

/// All selectors of an object.
pub(crate) fn selectors(policy: &PolicyObject) -> Vec<Selector> {
    let lists = policy.rules.iter().flat_map(|rule| {
        [
            &rule.ingress,
            &rule.ingress_deny,
            &rule.egress,
            &rule.egress_deny,
        ]
    });
    let peers = lists
        .flatten()
        .flatten()
        .flat_map(|entry| entry.peers.endpoints.iter().flatten().cloned());
    peers.collect()
}

fn rule(rule: &Rule) -> Value {
    let mut object = Map::from_iter([("endpointSelector".to_owned(), selector(&rule.subject))]);
    for (name, list, prefix) in [
        ("ingress", &rule.ingress, "from"),
        ("ingressDeny", &rule.ingress_deny, "from"),
        ("egress", &rule.egress, "to"),
        ("egressDeny", &rule.egress_deny, "to"),
    ] {
        if let Some(entries) = list {
            object.insert(
                name.into(),
                entries.iter().map(|e| entry(e, prefix)).collect(),
            );
        }
    }
    Value::Object(object)
}

fn entry(entry: &Entry, prefix: &str) -> Value {
    let mut object = Map::new();
    let Peers {
        endpoints,
        entities,
        cidrs,
        groups,
    } = &entry.peers;
    if let Some(list) = endpoints {
        object.insert(
            format!("{prefix}Endpoints"),
            list.iter().map(selector).collect(),
        );
    }
    if let Some(list) = entities {
        object.insert(
            format!("{prefix}Entities"),
            list.iter().map(|e| e.as_str()).collect(),
        );
    }
    if let Some(list) = cidrs {
        let of = |rule: &policy::CidrRule| json!({"cidr": rule.cidr.to_string(), "except": texts(&rule.except)});
        let all = list.iter().map(of).chain(groups.iter().map(group));
        object.insert(format!("{prefix}CIDRSet"), all.collect());
    }
    if let Some(list) = &entry.ports {
        let named = entry.named_ports.iter().map(|port| {
            let protocol = format!("{:?}", port.protocol).to_ascii_uppercase();
            json!({"port": &*port.name, "protocol": protocol})
        });
        object.insert(
            "toPorts".into(),
            json!([{"ports": list.iter().map(port).chain(named).collect::<Vec<_>>()}]),
        );
    }
    Value::Object(object)
}

fn texts(nets: &[ipnet::IpNet]) -> Vec<String> {
    nets.iter().map(ToString::to_string).collect()
}

fn group(rule: &policy::GroupRule) -> Value {
    let name = |requirement: &model::Requirement| {
        let key = requirement.key.strip_prefix(model::keys::CIDR_GROUP_NAME)?;
        Some(key.strip_prefix('/')?.to_owned())
    };
    let mut requirements = rule.selector.requirements();
    match (requirements.next().and_then(name), requirements.next()) {
        (Some(name), None) => json!({"cidrGroupRef": name, "except": texts(&rule.except)}),
        _ => {
            json!({"cidrGroupSelector": selector(&rule.selector), "except": texts(&rule.except)})
        }
    }
}

fn port(port: &PortRule) -> Value {
    let protocol = format!("{:?}", port.protocol).to_ascii_uppercase();
    match port.end_port {
        Some(end) => json!({"port": port.port.to_string(), "endPort": end, "protocol": protocol}),
        None => json!({"port": port.port.to_string(), "protocol": protocol}),
    }
}

fn selector(selector: &Selector) -> Value {
    let expression = |requirement: &model::Requirement| {
        let key = format!(
            "{}:{}",
            requirement.source.as_deref().unwrap_or("any"),
            requirement.key
        );
        let values = |values: &std::collections::BTreeSet<String>| {
            values.iter().cloned().collect::<Vec<_>>()
        };
        match &requirement.operator {
            Operator::In(list) => json!({"key": key, "operator": "In", "values": values(list)}),
            Operator::NotIn(list) => {
                json!({"key": key, "operator": "NotIn", "values": values(list)})
            }
            Operator::Exists => json!({"key": key, "operator": "Exists"}),
            Operator::DoesNotExist => json!({"key": key, "operator": "DoesNotExist"}),
        }
    };
    if selector.is_wildcard() {
        return json!({});
    }
    json!({"matchExpressions": selector.requirements().map(expression).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use policy::{PolicyKey, PolicyKind};

    use super::*;

    /// The node's state is held meanwhile.
    #[test]
    fn very_many_policies_are_listed_in_time_and_in_order() {
        let of = |number: usize| PolicyObject {
            key: PolicyKey {
                kind: PolicyKind::CiliumNetworkPolicy,
                namespace: "demo".into(),
                name: format!("policy-{number:05}"),
            },
            uid: String::new(),
            labels: Vec::new(),
            rules: Vec::new(),
        };
        let policies: Vec<_> = (0..20_000).rev().map(of).collect();
        let start = Instant::now();
        let listed = list(policies.iter());
        assert!(start.elapsed() < Duration::from_secs(10));
        assert_eq!(listed.len(), 20_000);
        let name = |at: usize| listed[at]["labels"][1]["value"].clone();
        assert_eq!(name(0), "policy-00000");
        assert_eq!(name(19_999), "policy-19999");
    }
}
