// SPDX-License-Identifier: Apache-2.0
//! CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy → policy's rule tree. Absent and empty stay apart all
//! the way (Cilium's `pkg/policy/api`); a field that is not supported is an error that
//! names it.

use std::collections::BTreeSet;

use ipnet::IpNet;
use model::{Operator, Requirement, Selector};
use policy::{
    CidrRule, DefaultDeny, Entity, Entry, NamedPortRule, Peers, PolicyKey, PolicyKind,
    PolicyObject, PortProtocol, PortRule, Rule,
};

use crate::field::Field;
use crate::ports::{self, Port};
use crate::{FieldError, cidr_group, object};

/// Ports of one `toPorts` element.
const MAX_PORTS: usize = 40;

pub(crate) fn read(root: &Field<'_>) -> Result<PolicyObject, FieldError> {
    let kind = match root.get("kind").map(|kind| kind.text()).transpose()? {
        Some("CiliumClusterwideNetworkPolicy") => PolicyKind::CiliumClusterwideNetworkPolicy,
        _ => PolicyKind::CiliumNetworkPolicy,
    };
    let metadata = object::metadata(root)?;
    root.only(&["apiVersion", "kind", "metadata", "spec", "specs", "status"])?;
    let namespace = match kind {
        PolicyKind::CiliumClusterwideNetworkPolicy => String::new(),
        _ => object::namespace(&metadata)?,
    };
    let key = PolicyKey {
        kind,
        namespace,
        name: object::name(&metadata)?,
    };
    let single = root.get("spec").map(|spec| rule(&spec)).transpose()?;
    let alone = single.is_some();
    let several = root
        .list_of("specs", |spec| rule(&spec))?
        .unwrap_or_default();
    let labels = metadata
        .get("labels")
        .map(|field| field.text_map())
        .transpose()?
        .unwrap_or_default();
    let object = PolicyObject {
        key,
        uid: metadata
            .get("uid")
            .map(|uid| uid.scalar())
            .transpose()?
            .unwrap_or_default(),
        labels: labels
            .into_iter()
            .map(|(key, value)| format!("unspec:{key}={value}"))
            .collect(),
        rules: single.into_iter().chain(several).collect(),
    };
    match policy::validate(&object) {
        Ok(()) => Ok(object),
        Err(error) => Err(as_written(&error, alone)),
    }
}

/// An error about `rules[n]` in the words of the manifest: `spec` is the first rule, `specs` are those behind it.
fn as_written(error: &policy::Error, alone: bool) -> FieldError {
    let text = error.to_string();
    let (key, rest) = (error.key().to_string(), text.as_str());
    let rest = rest.strip_prefix(&format!("{key}: ")).unwrap_or(rest);
    let index = rest
        .strip_prefix("rules[")
        .and_then(|rest| rest.split_once(']'));
    let (path, reason) = match index.and_then(|(n, rest)| Some((n.parse::<usize>().ok()?, rest))) {
        Some((n, rest)) => {
            let (below, reason) = rest.split_once(": ").unwrap_or((rest, ""));
            let rule = match (n, alone) {
                (0, true) => "spec".to_owned(),
                (n, alone) => format!("specs[{}]", n - usize::from(alone)),
            };
            (format!("{rule}{below}"), reason)
        }
        None => ("document".to_owned(), rest),
    };
    FieldError {
        path,
        reason: reason.to_owned(),
    }
}

fn rule(spec: &Field<'_>) -> Result<Rule, FieldError> {
    spec.only(&[
        "endpointSelector",
        "ingress",
        "ingressDeny",
        "egress",
        "egressDeny",
        "enableDefaultDeny",
        "labels",
        "description",
    ])?;
    let subject = spec
        .get("endpointSelector")
        .ok_or_else(|| spec.error("endpointSelector is missing; {} selects every pod"))?;
    Ok(Rule {
        subject: selector(&subject)?,
        ingress: spec.list_of("ingress", |field| entry(&field, "from"))?,
        ingress_deny: spec.list_of("ingressDeny", |field| entry(&field, "from"))?,
        egress: spec.list_of("egress", |field| entry(&field, "to"))?,
        egress_deny: spec.list_of("egressDeny", |field| entry(&field, "to"))?,
        default_deny: default_deny(spec)?,
        description: spec
            .get("description")
            .map(|field| field.scalar())
            .transpose()?
            .unwrap_or_default(),
    })
}

fn default_deny(spec: &Field<'_>) -> Result<DefaultDeny, FieldError> {
    let Some(field) = spec.get("enableDefaultDeny") else {
        return Ok(DefaultDeny::default());
    };
    field.only(&["ingress", "egress"])?;
    let of = |key| field.get(key).map(|field| field.bool()).transpose();
    Ok(DefaultDeny {
        ingress: of("ingress")?,
        egress: of("egress")?,
    })
}

fn entry(field: &Field<'_>, prefix: &str) -> Result<Entry, FieldError> {
    let [endpoints, entities, cidr, cidr_set] =
        ["Endpoints", "Entities", "CIDR", "CIDRSet"].map(|kind| format!("{prefix}{kind}"));
    field.only(&[&endpoints, &entities, &cidr, &cidr_set, "toPorts"])?;
    let plain = field.list_of(&cidr, |item| {
        Ok(CidrRule {
            cidr: net(&item)?,
            except: Vec::new(),
        })
    })?;
    let set = field
        .get(&cidr_set)
        .map(|list| cidr_group::cidr_set(&list.list()?))
        .transpose()?;
    if plain.is_some() && set.is_some() {
        return Err(field.error(format!(
            "{cidr} and {cidr_set} cannot stand in one element: make two elements"
        )));
    }
    let (set, groups) = set.unzip();
    let peers = Peers {
        endpoints: field.list_of(&endpoints, |item| selector(&item))?,
        entities: field.list_of(&entities, |item| {
            let word = item.text()?;
            Entity::parse(word).ok_or_else(|| {
                let known = Entity::ALL.map(Entity::as_str).join(", ");
                item.error(format!("unknown entity {word:?}; known: {known}"))
            })
        })?,
        cidrs: plain.or(set),
        groups: groups.unwrap_or_default(),
    };
    let (ports, named_ports) = ports(field)?.map(ports::split).unzip();
    Ok(Entry {
        peers,
        ports,
        named_ports: named_ports.unwrap_or_default(),
    })
}

fn ports(entry: &Field<'_>) -> Result<Option<Vec<Port>>, FieldError> {
    let lists = entry.list_of("toPorts", |item| {
        item.only(&["ports"])?;
        let ports = item
            .list_of("ports", |port| port_rule(&port))?
            .unwrap_or_default();
        if ports.len() > MAX_PORTS {
            return Err(item.error(format!(
                "{} ports, at most {MAX_PORTS} are allowed: make several elements",
                ports.len()
            )));
        }
        Ok(ports)
    })?;
    // An empty list is no list: every port.
    Ok(lists
        .filter(|lists| !lists.is_empty())
        .map(|lists| lists.into_iter().flatten().collect()))
}

fn port_rule(field: &Field<'_>) -> Result<Port, FieldError> {
    field.only(&["port", "endPort", "protocol"])?;
    let port = field
        .get("port")
        .ok_or_else(|| field.error("port is missing"))?;
    let text = port.scalar()?;
    let decimal =
        text.bytes().all(|c| c.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    let number = text.parse::<u16>().ok().filter(|_| decimal);
    let end_port = field
        .get("endPort")
        .map(|end| {
            let number = end.value.as_u64().and_then(|n| u16::try_from(n).ok());
            number.ok_or_else(|| end.error("expected a number of 0 to 65535"))
        })
        .transpose()?;
    let protocol = match field.get("protocol") {
        None => PortProtocol::Any,
        Some(protocol) => match protocol.text()?.to_ascii_uppercase().as_str() {
            "TCP" => PortProtocol::Tcp,
            "UDP" => PortProtocol::Udp,
            "SCTP" => PortProtocol::Sctp,
            "ANY" => PortProtocol::Any,
            other => {
                return Err(protocol.error(format!(
                    "protocol {other:?} is not supported; supported: TCP, UDP, SCTP, ANY"
                )));
            }
        },
    };
    Ok(match number {
        Some(port) => Port::Number(PortRule {
            port,
            end_port,
            protocol,
        }),
        None => Port::Named(NamedPortRule {
            name: ports::name(&port, &text)?,
            protocol,
        }),
    })
}

/// A prefix. IPv6 that stands for IPv4 is refused: to the kernel it is the IPv4 prefix, of which another policy may say
/// something else.
pub(crate) fn net(field: &Field<'_>) -> Result<IpNet, FieldError> {
    let text = field.text()?;
    let net = text.parse::<IpNet>().map(|net| net.trunc()).map_err(|_| {
        field.error(format!(
            "{text:?} is not a prefix such as 192.0.2.0/24 or 2001:db8::/32"
        ))
    })?;
    match net {
        IpNet::V6(six) if six.prefix_len() >= 96 && six.addr().to_ipv4_mapped().is_some() => {
            Err(field.error(format!(
                "{text:?} stands for IPv4 addresses: write it as IPv4"
            )))
        }
        net => Ok(net),
    }
}

/// A selector in Cilium's notation of keys.
fn selector(field: &Field<'_>) -> Result<Selector, FieldError> {
    read_selector(field, &str::to_owned)
}

/// A label selector; `named` makes Cilium's notation of each key.
pub(crate) fn read_selector(
    field: &Field<'_>,
    named: &dyn Fn(&str) -> String,
) -> Result<Selector, FieldError> {
    field.only(&["matchLabels", "matchExpressions"])?;
    let labels = field
        .get("matchLabels")
        .map(|labels| labels.text_map())
        .transpose()?
        .unwrap_or_default();
    if let Some((key, _)) = labels.iter().find(|(key, _)| !is_key(key)) {
        return Err(field.error(format!("matchLabels: {key:?} is not a label key")));
    }
    let labels = labels
        .into_iter()
        .map(|(key, value)| Requirement::new(&named(&key), Operator::In(BTreeSet::from([value]))));
    let expressions = field
        .list_of("matchExpressions", |item| expression(&item, named))?
        .unwrap_or_default();
    Ok(Selector::new(labels.chain(expressions)))
}

/// Whether a key in Cilium's notation, `source:key`, `key`, or `$name` for `reserved:name`, is one that an object can have, with
/// the source in front.
fn is_key(key: &str) -> bool {
    let (source, rest) = match key.strip_prefix('$') {
        Some(name) => ("reserved", name),
        None => key.split_once(':').unwrap_or(("any", key)),
    };
    !source.is_empty() && !rest.is_empty() && is_qualified(&format!("{source}.{rest}"))
}

/// Whether Kubernetes takes it for the key of a label: at most 63 letters, behind a DNS name and a slash or alone.
fn is_qualified(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').unwrap_or(("any", key));
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let ends = [name.bytes().next(), name.bytes().last()];
    let is_name = name.len() <= 63
        && name.bytes().all(is_inner)
        && ends
            .iter()
            .all(|end| end.is_some_and(|end| end.is_ascii_alphanumeric()));
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('-') && !part.ends_with('-');
    is_name && object::is_name(prefix) && prefix.split('.').all(is_part)
}

fn expression(
    field: &Field<'_>,
    named: &dyn Fn(&str) -> String,
) -> Result<Requirement, FieldError> {
    field.only(&["key", "operator", "values"])?;
    let key = field
        .get("key")
        .ok_or_else(|| field.error("key is missing"))?;
    let key_text = key.label()?;
    if !is_key(key_text) {
        return Err(key.error(format!("{key_text:?} is not a label key")));
    }
    let operator = field
        .get("operator")
        .ok_or_else(|| field.error("operator is missing"))?;
    let values: Option<BTreeSet<String>> = field
        .list_of("values", |value| value.label().map(str::to_owned))?
        .map(|values| values.into_iter().collect());
    let some = || {
        values
            .clone()
            .filter(|values| !values.is_empty())
            .ok_or_else(|| field.error("values: at least one is needed"))
    };
    let none = |operator| match &values {
        Some(values) if !values.is_empty() => {
            Err(field.error("values: none are allowed with this operator"))
        }
        _ => Ok(operator),
    };
    let operator = match operator.text()? {
        "In" => Operator::In(some()?),
        "NotIn" => Operator::NotIn(some()?),
        "Exists" => none(Operator::Exists)?,
        "DoesNotExist" => none(Operator::DoesNotExist)?,
        other => {
            return Err(operator.error(format!(
                "unknown operator {other:?}; known: In, NotIn, Exists, DoesNotExist"
            )));
        }
    };
    Ok(Requirement::new(&named(key_text), operator))
}

#[cfg(test)]
mod tests {
    use super::is_key;

    #[test]
    fn keys_are_those_that_objects_can_have() {
        for key in [
            "app",
            "k8s:app",
            "any:a.b_c-d",
            "app.kubernetes.io/name",
            "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name",
            "reserved:host",
            "$host",
            "cidr:10.0.0.0/8",
            "cidr:fd00--0/64",
        ] {
            assert!(is_key(key), "{key}");
        }
        for key in [
            "", "$", "$a:b", "a$", ":", "k8s:", ":app", "a b", "a:b:c", "a-", "a/b/c", "A/b", "/b",
            "a/",
        ] {
            assert!(!is_key(key), "{key}");
        }
        assert!(!is_key(&"a".repeat(60)), "the source counts");
    }
}
