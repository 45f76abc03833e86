// SPDX-License-Identifier: Apache-2.0
//! From a rule as written to a rule with its defaults filled in: namespace, cluster, protocols, default deny
//! (Cilium's documentation, "Policy Enforcement Modes" and "Layer 3" to "Layer 4 Policies").

use std::collections::BTreeSet;
use std::sync::Arc;

use ipnet::IpNet;
use model::{ClusterName, Labels, Operator, Requirement, Selector, keys};

use crate::ast::named_namespace;
use crate::cidrs::CidrSet;
use crate::groups::Groups;
use crate::peer::PeerSelector;
use crate::{CidrRule, Direction, Entity, Entry, PolicyKey, PolicyKind, PolicyObject, Rule};

/// Ports that an entry is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Span {
    /// `None`: everything, then the ports are 0 to 65535.
    pub(crate) proto: Option<u8>,
    pub(crate) first: u16,
    pub(crate) last: u16,
}

impl Span {
    pub(crate) const ANY: Span = Span {
        proto: None,
        first: 0,
        last: u16::MAX,
    };

    pub(crate) fn is_whole(self) -> bool {
        self.first == 0 && self.last == u16::MAX
    }

    /// How much it covers; more for everything than for all ports of a protocol.
    pub(crate) fn width(self) -> u32 {
        match self.proto {
            None => u32::MAX,
            Some(_) => u32::from(self.last - self.first) + 1,
        }
    }
}

/// Where a verdict comes from.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct Origin {
    pub(crate) policy: Arc<PolicyKey>,
    /// `ingress[0]`, or `rules[1].ingress[0]` in an object of several rules; empty for the object.
    pub(crate) path: Arc<str>,
}

/// One element of a list. Without peers it matches nothing and still counts for default deny.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct CompiledEntry {
    pub(crate) deny: bool,
    pub(crate) peers: Vec<PeerSelector>,
    pub(crate) spans: Vec<Span>,
    /// Name and protocol of ports that whoever is asked gives a number.
    pub(crate) named: BTreeSet<(Arc<str>, u8)>,
    pub(crate) origin: Origin,
}

/// A rule for one direction.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Side {
    pub(crate) entries: Vec<CompiledEntry>,
    pub(crate) default_deny: bool,
}

/// A rule with its defaults filled in.
#[derive(Debug)]
pub(crate) struct CompiledRule {
    /// Distinguishes versions; never reused.
    pub(crate) id: u64,
    pub(crate) policy: Arc<PolicyKey>,
    pub(crate) subject: Selector,
    /// Ingress, egress.
    pub(crate) sides: [Side; 2],
}

impl CompiledRule {
    /// Whether it says the same about the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (&self.policy, &self.subject, &self.sides) == (&other.policy, &other.subject, &other.sides)
    }

    /// Whether it selects an endpoint with these labels. The host is nobody's endpoint.
    pub(crate) fn selects(&self, labels: &Labels) -> bool {
        self.subject.matches(labels) && labels.get("reserved", "host").is_none()
    }

    /// Everybody whom it is about.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &PeerSelector> {
        let entries = self.sides.iter().flat_map(|side| &side.entries);
        entries.flat_map(|entry| &entry.peers)
    }

    /// What it says about CIDRs.
    pub(crate) fn cidr_sets(&self) -> impl Iterator<Item = &CidrSet> {
        self.peers().filter_map(|peer| match peer {
            PeerSelector::Cidr(set) => Some(set),
            _ => None,
        })
    }

    pub(crate) fn side(&self, direction: Direction) -> &Side {
        &self.sides[direction as usize - 1]
    }
}

/// What compilation needs beside the object.
pub(crate) struct Compiler<'a> {
    pub(crate) cluster: &'a ClusterName,
    pub(crate) default_local_cluster: bool,
    pub(crate) groups: &'a Groups,
    pub(crate) object: &'a PolicyObject,
    pub(crate) key: Arc<PolicyKey>,
}

impl Compiler<'_> {
    /// Compiles one rule of the object.
    pub(crate) fn rule(&self, id: u64, index: usize) -> CompiledRule {
        let rule = &self.object.rules[index];
        let [ingress, egress] = [
            (
                "ingress",
                &rule.ingress,
                &rule.ingress_deny,
                rule.default_deny.ingress,
            ),
            (
                "egress",
                &rule.egress,
                &rule.egress_deny,
                rule.default_deny.egress,
            ),
        ]
        .map(|(name, allow, deny, default_deny)| {
            let lists = [("", false, allow), ("Deny", true, deny)];
            let entries: Vec<_> = lists
                .into_iter()
                .flat_map(|(suffix, deny, list)| {
                    let list = list.iter().flatten().enumerate();
                    list.map(move |(i, entry)| (deny, entry, format!("{name}{suffix}[{i}]")))
                })
                .map(|(deny, entry, path)| self.entry(rule, deny, entry, self.path(index, &path)))
                .collect();
            Side {
                default_deny: default_deny.unwrap_or(!entries.is_empty()),
                entries,
            }
        });
        let subject = self.subject(&rule.subject);
        CompiledRule {
            id,
            policy: self.key.clone(),
            subject,
            sides: [ingress, egress],
        }
    }

    fn path(&self, index: usize, path: &str) -> Arc<str> {
        match self.object.rules.len() {
            1 => path.into(),
            _ => format!("rules[{index}].{path}").into(),
        }
    }

    fn entry(&self, rule: &Rule, deny: bool, entry: &Entry, path: Arc<str>) -> CompiledEntry {
        let ports = entry.ports.iter().flatten();
        let spans: BTreeSet<Span> = match entry.ports {
            None => BTreeSet::from([Span::ANY]),
            Some(_) => ports
                .flat_map(|port| {
                    let (first, last) = match (port.port, port.end_port) {
                        (0, _) => (0, u16::MAX),
                        (port, end) => (port, end.map_or(port, |end| end.max(port))),
                    };
                    let protocols = port.protocol.numbers().iter();
                    protocols.map(move |&proto| Span {
                        proto: Some(proto),
                        first,
                        last,
                    })
                })
                .collect(),
        };
        let named = entry.named_ports.iter().flat_map(|port| {
            let protocols = port.protocol.numbers().iter();
            protocols.map(|&proto| (port.name.clone(), proto))
        });
        CompiledEntry {
            deny,
            peers: self.peers(rule, entry),
            spans: spans.into_iter().collect(),
            named: named.collect(),
            origin: Origin {
                policy: self.key.clone(),
                path,
            },
        }
    }

    fn peers(&self, rule: &Rule, entry: &Entry) -> Vec<PeerSelector> {
        let peers = &entry.peers;
        if let Some(endpoints) = &peers.endpoints {
            endpoints
                .iter()
                .map(|peer| self.endpoints(rule, peer))
                .collect()
        } else if let Some(entities) = &peers.entities {
            let outside = entities.iter().filter_map(|e| self.groups.prefixes_of(*e));
            let outside = outside.map(PeerSelector::Cidr);
            let inside = entities.iter().copied().map(PeerSelector::Entity);
            inside.chain(outside).collect()
        } else if let Some(cidrs) = &peers.cidrs {
            let groups = peers.groups.iter().map(|rule| self.groups.resolve(rule));
            let sets = cidrs.iter().map(cidr).chain(groups);
            sets.map(PeerSelector::Cidr).collect()
        } else if entry.ports.is_some() {
            vec![PeerSelector::Entity(Entity::All)]
        } else {
            Vec::new()
        }
    }

    /// A namespaced policy is about pods of its namespace, whatever it says.
    fn subject(&self, written: &Selector) -> Selector {
        if self.key.kind == PolicyKind::CiliumClusterwideNetworkPolicy {
            return written.clone();
        }
        let kept = written
            .requirements()
            .filter(|requirement| named_namespace(requirement).is_none());
        let kept = kept.cloned();
        Selector::new(kept).and(is(keys::NAMESPACE, &self.key.namespace))
    }

    fn endpoints(&self, rule: &Rule, written: &Selector) -> PeerSelector {
        let uses = |test: &dyn Fn(&Requirement) -> bool| written.requirements().any(test);
        let mut selector = written.clone();
        if uses(&|r| r.source.as_deref() == Some("reserved")) {
            return PeerSelector::Labels(selector);
        }
        let named = uses(&|r| r.is_about(keys::NAMESPACE));
        if self.key.kind == PolicyKind::CiliumClusterwideNetworkPolicy {
            let init = |r: &Requirement| r.source.as_deref() == Some("reserved") && r.key == "init";
            if !named && !rule.subject.requirements().any(init) {
                let key = format!("k8s:{}", keys::NAMESPACE);
                selector = selector.and(Requirement::new(&key, Operator::Exists));
            }
        } else if !named && !uses(&is_namespace_label) {
            selector = selector.and(is(keys::NAMESPACE, &self.key.namespace));
        }
        if self.default_local_cluster && !uses(&|r| r.is_about(keys::CLUSTER)) {
            selector = selector.and(is(keys::CLUSTER, self.cluster.as_str()));
        }
        if selector.is_wildcard() {
            return PeerSelector::Entity(Entity::All);
        }
        PeerSelector::Labels(selector)
    }
}

fn is(key: &str, value: &str) -> Requirement {
    Requirement::new(
        &format!("k8s:{key}"),
        Operator::In(BTreeSet::from([value.to_owned()])),
    )
}

fn is_namespace_label(requirement: &Requirement) -> bool {
    let rest = requirement.key.strip_prefix(keys::NAMESPACE_LABELS);
    rest.is_some_and(|rest| rest.starts_with('.')) && requirement.is_about(&requirement.key)
}

fn cidr(rule: &CidrRule) -> CidrSet {
    let mut except: Vec<IpNet> = rule.except.iter().map(IpNet::trunc).collect();
    except.sort();
    except.dedup();
    CidrSet {
        within: BTreeSet::from([rule.cidr.trunc()]),
        except,
    }
}
