// SPDX-License-Identifier: Apache-2.0
//! Kubernetes' NetworkPolicy → policy's rule tree: one rule, one entry per peer, default deny for the directions that it
//! isolates (Cilium's `pkg/k8s/network_policy.go`).

use model::{Operator, Requirement, Selector, keys};
use policy::{
    CidrRule, DefaultDeny, Entity, Entry, NamedPortRule, Peers, PolicyKey, PolicyKind,
    PolicyObject, PortProtocol, PortRule, Rule,
};

use crate::field::Field;
use crate::policy_object::{net, read_selector};
use crate::ports::{self, Port};
use crate::{FieldError, object};

/// Prefix of keys that match nothing but Kubernetes' labels.
const SOURCE: &str = "k8s:";

pub(crate) fn read(root: &Field<'_>) -> Result<PolicyObject, FieldError> {
    let metadata = object::metadata(root)?;
    root.only(&["apiVersion", "kind", "metadata", "spec", "status"])?;
    let key = PolicyKey {
        kind: PolicyKind::NetworkPolicy,
        namespace: object::namespace(&metadata)?,
        name: object::name(&metadata)?,
    };
    let spec = root
        .get("spec")
        .ok_or_else(|| root.error("spec is missing"))?;
    let object = PolicyObject {
        key,
        uid: metadata
            .get("uid")
            .map(|uid| uid.scalar())
            .transpose()?
            .unwrap_or_default(),
        labels: metadata
            .get("labels")
            .map(|field| field.text_map())
            .transpose()?
            .unwrap_or_default()
            .into_iter()
            .map(|(key, value)| format!("unspec:{key}={value}"))
            .collect(),
        rules: vec![rule(&spec, &object::namespace(&metadata)?)?],
    };
    policy::validate(&object).map_err(|error| spec.error(error.to_string()))?;
    Ok(object)
}

fn rule(spec: &Field<'_>, own: &str) -> Result<Rule, FieldError> {
    spec.only(&["podSelector", "policyTypes", "ingress", "egress"])?;
    let subject = spec
        .get("podSelector")
        .map_or_else(|| Ok(Selector::default()), |field| labels(&field))?;
    let mut ingress = rules(spec, "ingress", "from", own)?;
    let mut egress = rules(spec, "egress", "to", own)?;
    let types = spec
        .list_of("policyTypes", |item| match item.text()? {
            "Ingress" => Ok(true),
            "Egress" => Ok(false),
            other => Err(item.error(format!("unknown type {other:?}; known: Ingress, Egress"))),
        })?
        .unwrap_or_default();
    // Without `Egress` in the list, or without a list, a policy is about ingress whatever else it says.
    let isolates = DefaultDeny {
        ingress: Some(!ingress.is_empty() || types.contains(&true) || !types.contains(&false)),
        egress: Some(!egress.is_empty() || types.contains(&false)),
    };
    for (list, isolated) in [
        (&mut ingress, isolates.ingress),
        (&mut egress, isolates.egress),
    ] {
        if list.is_empty() && isolated == Some(true) {
            list.push(nobody());
        }
    }
    Ok(Rule {
        subject,
        ingress: Some(ingress),
        egress: Some(egress),
        default_deny: isolates,
        ..Rule::default()
    })
}

/// An entry that no peer matches.
fn nobody() -> Entry {
    Entry {
        peers: Peers {
            endpoints: Some(Vec::new()),
            ..Peers::default()
        },
        ..Entry::default()
    }
}

fn rules(spec: &Field<'_>, key: &str, side: &str, own: &str) -> Result<Vec<Entry>, FieldError> {
    let lists = spec.list_of(key, |item| {
        item.only(&[side, "ports"])?;
        let ports = item
            .list_of("ports", |port| port_rule(&port))?
            .filter(|ports| !ports.is_empty());
        let (ports, named_ports) = ports.map(ports::split).unzip();
        let peers = item
            .list_of(side, |peer| peers(&peer, own))?
            .unwrap_or_default();
        let everybody = || Peers {
            entities: Some(vec![Entity::All]),
            ..Peers::default()
        };
        let peers = if peers.is_empty() {
            vec![everybody()]
        } else {
            peers
        };
        let entry = |peers| Entry {
            peers,
            ports: ports.clone(),
            named_ports: named_ports.clone().unwrap_or_default(),
        };
        Ok(peers.into_iter().map(entry).collect::<Vec<_>>())
    })?;
    Ok(lists.into_iter().flatten().flatten().collect())
}

/// `own` is the policy's namespace.
fn peers(field: &Field<'_>, own: &str) -> Result<Peers, FieldError> {
    field.only(&["podSelector", "namespaceSelector", "ipBlock"])?;
    let (pods, namespaces) = (field.get("podSelector"), field.get("namespaceSelector"));
    if let Some(block) = field.get("ipBlock") {
        if pods.is_some() || namespaces.is_some() {
            return Err(field.error(
                "ipBlock cannot stand beside podSelector or namespaceSelector: make two elements",
            ));
        }
        return Ok(Peers {
            cidrs: Some(vec![ip_block(&block)?]),
            ..Peers::default()
        });
    }
    let mut requirements: Vec<Requirement> = Vec::new();
    if let Some(pods) = pods {
        requirements.extend(labels(&pods)?.requirements().cloned());
    }
    let in_namespace =
        |operator| Requirement::new(&format!("{SOURCE}{}", keys::NAMESPACE), operator);
    if namespaces.is_none() {
        // Said here, for a label of that name says nothing in Kubernetes.
        requirements.push(in_namespace(Operator::In([own.to_owned()].into())));
    }
    if let Some(namespaces) = namespaces {
        // What lacks a label matches `NotIn`; only pods are in a namespace.
        requirements.push(in_namespace(Operator::Exists));
        let selector = read_selector(&namespaces, &|key| {
            format!("{SOURCE}{}.{key}", keys::NAMESPACE_LABELS)
        })?;
        requirements.extend(selector.requirements().cloned());
    }
    Ok(Peers {
        endpoints: Some(vec![Selector::new(requirements)]),
        ..Peers::default()
    })
}

fn labels(field: &Field<'_>) -> Result<Selector, FieldError> {
    read_selector(field, &|key| format!("{SOURCE}{key}"))
}

fn ip_block(field: &Field<'_>) -> Result<CidrRule, FieldError> {
    field.only(&["cidr", "except"])?;
    let cidr = field
        .get("cidr")
        .ok_or_else(|| field.error("cidr is missing"))?;
    Ok(CidrRule {
        cidr: net(&cidr)?,
        except: field
            .list_of("except", |except| net(&except))?
            .unwrap_or_default(),
    })
}

fn port_rule(field: &Field<'_>) -> Result<Port, FieldError> {
    field.only(&["port", "endPort", "protocol"])?;
    let number = |field: &Field<'_>| {
        let number = field.value.as_u64().and_then(|n| u16::try_from(n).ok());
        number
            .filter(|n| *n != 0)
            .ok_or_else(|| field.error("expected a number of 1 to 65535"))
    };
    let port = field.get("port");
    let name = port.as_ref().filter(|port| port.value.is_string());
    let name = name
        .map(|port| ports::name(port, port.text()?))
        .transpose()?;
    let end_port = field.get("endPort").map(|end| number(&end)).transpose()?;
    let port = match port.filter(|_| name.is_none()) {
        Some(port) => number(&port)?,
        None => 0,
    };
    if let Some(end) = end_port
        && (port == 0 || end < port)
    {
        return Err(field.error("endPort needs a port by number that is not above it"));
    }
    let protocol = match field.get("protocol") {
        None => PortProtocol::Tcp,
        Some(protocol) => match protocol.text()? {
            "TCP" => PortProtocol::Tcp,
            "UDP" => PortProtocol::Udp,
            "SCTP" => PortProtocol::Sctp,
            other => {
                return Err(protocol.error(format!(
                    "protocol {other:?} is not supported; supported: TCP, UDP, SCTP"
                )));
            }
        },
    };
    Ok(match name {
        Some(name) => Port::Named(NamedPortRule { name, protocol }),
        None => Port::Number(PortRule {
            port,
            end_port,
            protocol,
        }),
    })
}
