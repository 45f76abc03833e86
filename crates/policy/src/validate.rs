// SPDX-License-Identifier: Apache-2.0
//! Refuses policy objects that have no meaning, naming the field.

use std::collections::HashSet;

use ipnet::IpNet;

use crate::cidrs::MAX_PREFIXES;
use crate::{CidrRule, Entry, Error, Peers, PolicyKey, PolicyKind, PolicyObject, Rule};

/// Rules in an object, entries in a list, peers in an entry, prefixes in `except`.
const MAX_ELEMENTS: usize = 4096;
/// Ports in all `toPorts` of an entry.
const MAX_PORTS: usize = 40 * 40;

/// Checks an object without looking at any other.
pub fn validate(object: &PolicyObject) -> Result<(), Error> {
    let check = Check { key: &object.key };
    check.key()?;
    if object.rules.is_empty() {
        return Err(Error::NoRules {
            key: check.key.clone(),
        });
    }
    check.count("rules", object.rules.len(), MAX_ELEMENTS)?;
    for (i, rule) in object.rules.iter().enumerate() {
        check.rule(&format!("rules[{i}]"), rule)?;
    }
    check.prefixes(object)
}

struct Check<'a> {
    key: &'a PolicyKey,
}

impl Check<'_> {
    fn key(&self) -> Result<(), Error> {
        let clusterwide = self.key.kind == PolicyKind::CiliumClusterwideNetworkPolicy;
        let problem = if self.key.name.is_empty() {
            "metadata.name is empty: give the policy a name"
        } else if clusterwide && !self.key.namespace.is_empty() {
            "metadata.namespace is set on an object of cluster scope: remove it"
        } else if !clusterwide && self.key.namespace.is_empty() {
            "metadata.namespace is empty: this kind of policy lives in a namespace"
        } else {
            return Ok(());
        };
        Err(Error::Key {
            key: self.key.clone(),
            problem,
        })
    }

    fn count(&self, field: &str, count: usize, max: usize) -> Result<(), Error> {
        if count <= max {
            return Ok(());
        }
        let (key, field) = (self.key.clone(), field.to_owned());
        Err(Error::TooMany {
            key,
            field,
            count,
            max,
        })
    }

    fn rule(&self, path: &str, rule: &Rule) -> Result<(), Error> {
        let lists = [
            ("ingress", "from", &rule.ingress),
            ("ingressDeny", "from", &rule.ingress_deny),
            ("egress", "to", &rule.egress),
            ("egressDeny", "to", &rule.egress_deny),
        ];
        if lists
            .iter()
            .all(|(_, _, list)| list.as_ref().is_none_or(Vec::is_empty))
        {
            let (key, field) = (self.key.clone(), path.to_owned());
            return Err(Error::NoEntries { key, field });
        }
        for (name, side, list) in lists {
            let list = list.as_deref().unwrap_or_default();
            self.count(&format!("{path}.{name}"), list.len(), MAX_ELEMENTS)?;
            for (i, entry) in list.iter().enumerate() {
                self.entry(&format!("{path}.{name}[{i}]"), side, entry)?;
            }
        }
        Ok(())
    }

    /// What no node could ever enforce is refused by whoever reads it, so that the version before is what is kept.
    fn prefixes(&self, object: &PolicyObject) -> Result<(), Error> {
        let entries = object.rules.iter().flat_map(Rule::entries);
        let rules = entries.flat_map(|entry| entry.peers.cidrs.iter().flatten());
        let prefixes = rules.flat_map(|rule| rule.except.iter().chain([&rule.cidr]));
        let prefixes = prefixes.map(IpNet::trunc).filter(|p| p.prefix_len() > 0);
        let needed = prefixes.collect::<HashSet<_>>().len();
        if needed <= MAX_PREFIXES {
            return Ok(());
        }
        Err(Error::Prefixes {
            key: self.key.clone(),
            needed,
            free: MAX_PREFIXES,
            max: MAX_PREFIXES,
        })
    }

    fn entry(&self, path: &str, side: &str, entry: &Entry) -> Result<(), Error> {
        let Peers {
            endpoints,
            entities,
            cidrs,
            groups,
        } = &entry.peers;
        let kinds: Vec<(&'static str, usize)> = [
            ("Endpoints", endpoints.as_ref().map(Vec::len)),
            ("Entities", entities.as_ref().map(Vec::len)),
            (
                "CIDR",
                cidrs.as_ref().map(|cidrs| cidrs.len() + groups.len()),
            ),
        ]
        .into_iter()
        .filter_map(|(name, count)| Some((name, count?)))
        .collect();
        if let [(first, _), (second, _), ..] = kinds[..] {
            return Err(Error::MixedPeers {
                key: self.key.clone(),
                field: path.to_owned(),
                first: peer_field(side, first),
                second: peer_field(side, second),
            });
        }
        for (name, count) in kinds {
            self.count(&format!("{path}.{side}{name}"), count, MAX_ELEMENTS)?;
        }
        let ports = entry.ports.as_ref().map_or(0, Vec::len) + entry.named_ports.len();
        self.count(&format!("{path}.toPorts"), ports, MAX_PORTS)?;
        for (i, rule) in cidrs.iter().flatten().enumerate() {
            self.cidr(&format!("{path}.{side}CIDR[{i}]"), rule)?;
        }
        for rule in groups {
            let path = format!("{path}.{side}CIDRSet");
            self.count(&format!("{path}.except"), rule.except.len(), MAX_ELEMENTS)?;
        }
        Ok(())
    }

    fn cidr(&self, path: &str, rule: &CidrRule) -> Result<(), Error> {
        self.count(&format!("{path}.except"), rule.except.len(), MAX_ELEMENTS)?;
        let cidr = rule.cidr.trunc();
        let outside = rule
            .except
            .iter()
            .enumerate()
            .find(|(_, except)| !cidr.contains(&except.trunc()));
        match outside {
            None => Ok(()),
            Some((i, &except)) => Err(Error::Except {
                key: self.key.clone(),
                field: format!("{path}.except[{i}]"),
                except,
                cidr,
            }),
        }
    }
}

/// The name of a field of peers: what it holds and for which direction.
fn peer_field(side: &str, peers: &str) -> &'static str {
    match (side, peers) {
        ("from", "Endpoints") => "fromEndpoints",
        ("from", "Entities") => "fromEntities",
        ("from", _) => "fromCIDR",
        (_, "Endpoints") => "toEndpoints",
        (_, "Entities") => "toEntities",
        _ => "toCIDR",
    }
}
