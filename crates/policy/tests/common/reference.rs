// SPDX-License-Identifier: Apache-2.0
//! What policies mean, evaluated packet by packet straight from the objects.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use model::{
    EndpointId, Labels, NamedPort, NumericIdentity, Operator, Requirement, Selector, reserved,
};
use policy::{
    Action, CidrGroup, Direction, EnforcementMode, Entity, Entry, Families, GroupRule, PolicyKey,
    PolicyKind, PolicyObject, Rule, Settings,
};

use super::selector;

/// Everything that an engine is told.
#[derive(Clone)]
pub struct World {
    pub settings: Settings,
    pub identities: BTreeMap<NumericIdentity, Labels>,
    pub policies: BTreeMap<PolicyKey, PolicyObject>,
    pub endpoints: BTreeMap<EndpointId, NumericIdentity>,
    pub groups: BTreeMap<String, CidrGroup>,
    /// Ports that the pod of an endpoint names.
    pub endpoint_ports: BTreeMap<EndpointId, Arc<[NamedPort]>>,
    /// Ports that the pods of an identity name.
    pub identity_ports: BTreeMap<NumericIdentity, Arc<[NamedPort]>>,
}

/// One packet, seen from an endpoint.
#[derive(Clone, Copy)]
struct Packet {
    endpoint: EndpointId,
    way: Direction,
    who: Who,
    proto: u8,
    port: u16,
}

/// Who sends or receives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Who {
    Identity(NumericIdentity),
    Address(IpAddr),
}

impl World {
    pub fn new(settings: Settings) -> Self {
        let labels = |&(id, _): &(NumericIdentity, _)| Some((id, reserved::labels(id)?));
        Self {
            settings,
            identities: reserved::ALL.iter().filter_map(labels).collect(),
            policies: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            groups: BTreeMap::new(),
            endpoint_ports: BTreeMap::new(),
            identity_ports: BTreeMap::new(),
        }
    }

    /// The identity of what is outside every prefix.
    pub fn world_of(&self, address: IpAddr) -> NumericIdentity {
        match (self.settings.families, address.is_ipv4()) {
            (Families::Dual, true) => reserved::WORLD_IPV4,
            (Families::Dual, false) => reserved::WORLD_IPV6,
            _ => reserved::WORLD,
        }
    }

    pub fn judge(&self, endpoint: EndpointId, way: Direction, who: Who, flow: (u8, u16)) -> Action {
        let mode = self.settings.mode;
        let subject = self.identities.get(&self.endpoints[&endpoint]);
        let is = |labels: Option<&Labels>, name| {
            labels.is_some_and(|l| l.get("reserved", name).is_some())
        };
        if mode == EnforcementMode::Never || is(subject, "host") {
            return Action::Allow;
        }
        let (mut selected, mut begun, mut denied, mut allowed) = (false, false, false, false);
        for object in self.policies.values() {
            for rule in &object.rules {
                let selects = subject.is_some_and(|s| subject_matches(object, rule, s));
                let (allow, deny, flag) = match way {
                    Direction::Ingress => {
                        (&rule.ingress, &rule.ingress_deny, rule.default_deny.ingress)
                    }
                    Direction::Egress => {
                        (&rule.egress, &rule.egress_deny, rule.default_deny.egress)
                    }
                };
                let (allow, deny) = (allow.iter().flatten(), deny.iter().flatten());
                if !selects || allow.clone().chain(deny.clone()).next().is_none() {
                    continue;
                }
                selected = true;
                begun |= flag.unwrap_or(true);
                let (proto, port) = flow;
                let packet = Packet {
                    endpoint,
                    way,
                    who,
                    proto,
                    port,
                };
                let matches = |e: &Entry| self.entry_matches(object, rule, e, packet);
                allowed |= allow.clone().any(matches);
                denied |= deny.clone().any(matches);
            }
        }
        let always = mode == EnforcementMode::Always;
        let closed = begun || always || subject.is_none() || is(subject, "init");
        let host = who == Who::Identity(reserved::HOST);
        let local = way == Direction::Ingress && host && selected && self.settings.allow_localhost;
        match (denied, allowed || !closed || local) {
            (true, _) => Action::Deny,
            (false, true) => Action::Allow,
            (false, false) => Action::DefaultDeny,
        }
    }

    fn entry_matches(
        &self,
        object: &PolicyObject,
        rule: &Rule,
        entry: &Entry,
        packet: Packet,
    ) -> bool {
        let peers = &entry.peers;
        let who = packet.who;
        let peer = if let Some(list) = &peers.endpoints {
            list.iter().any(|written| {
                let scoped = self.scoped(object, rule, written);
                scoped.is_wildcard() || self.labels(who).is_some_and(|l| scoped.matches(&l))
            })
        } else if let Some(list) = &peers.entities {
            list.iter().any(|&entity| self.is_entity(entity, who))
        } else if let Some(list) = &peers.cidrs {
            list.iter().any(|rule| {
                self.is_in(&rule.cidr, who) && !rule.except.iter().any(|e| self.is_in(e, who))
            }) || peers.groups.iter().any(|rule| self.is_of_group(rule, who))
        } else {
            entry.ports.is_some()
        };
        peer && self.port_matches(entry, packet)
    }

    /// Whether all of `who` is inside a prefix.
    fn is_in(&self, prefix: &IpNet, who: Who) -> bool {
        match who {
            Who::Address(address) => prefix.contains(&address),
            Who::Identity(id) => self
                .whole_world(id)
                .is_some_and(|v4| prefix.prefix_len() == 0 && prefix.addr().is_ipv4() == v4),
        }
    }

    /// An address has the labels of every group that holds a prefix around it.
    fn is_of_group(&self, rule: &GroupRule, who: Who) -> bool {
        let around = self.groups.values();
        let mut around = around
            .filter(|group| group.prefixes.iter().any(|p| self.is_in(p, who)))
            .peekable();
        let any = around.peek().is_some();
        let labels: Vec<_> = around.flat_map(|group| &group.labels).collect();
        let has = |r: &Requirement, values: Option<&BTreeSet<String>>| {
            let mut of_key = labels.iter().filter(|label| label.key() == r.key);
            of_key.any(|label| values.is_none_or(|values| values.contains(label.value())))
        };
        let mut all = rule.selector.requirements();
        let selected = all.all(|r| match &r.operator {
            Operator::In(values) => has(r, Some(values)),
            Operator::NotIn(values) => !has(r, Some(values)),
            Operator::Exists => has(r, None),
            Operator::DoesNotExist => !has(r, None),
        });
        any && selected && !rule.except.iter().any(|e| self.is_in(e, who))
    }

    fn port_matches(&self, entry: &Entry, packet: Packet) -> bool {
        let Some(ports) = &entry.ports else {
            return true;
        };
        let number = ports.iter().any(|p| {
            let last = p.end_port.filter(|&end| end > p.port).unwrap_or(p.port);
            let inside = p.port == 0 || (p.port..=last).contains(&packet.port);
            inside && p.protocol.numbers().contains(&packet.proto)
        });
        number
            || entry.named_ports.iter().any(|named| {
                let protocols = named.protocol.numbers();
                protocols.contains(&packet.proto) && self.is_named(&named.name, packet)
            })
    }

    /// Whether the packet is for a port of this name: of the endpoint's own pod, or of the pods of whom it asks, as far as
    /// these agree.
    fn is_named(&self, name: &str, packet: Packet) -> bool {
        let ports = match (packet.way, packet.who) {
            (Direction::Ingress, _) => self.endpoint_ports.get(&packet.endpoint),
            (Direction::Egress, Who::Identity(id)) => {
                let known = self.identities.contains_key(&id);
                self.identity_ports.get(&id).filter(|_| known)
            }
            (Direction::Egress, Who::Address(_)) => None,
        };
        let of_name = ports.iter().flat_map(|ports| ports.iter());
        let of_name = of_name.filter(|p| &*p.name == name && p.protocol.number() == packet.proto);
        let numbers: BTreeSet<u16> = of_name.map(|p| p.port).collect();
        let agreed = packet.way == Direction::Ingress || numbers.len() == 1;
        agreed && numbers.contains(&packet.port)
    }

    /// Whether an identity stands for a whole family: IPv4 or not.
    fn whole_world(&self, id: NumericIdentity) -> Option<bool> {
        match (id, self.settings.families) {
            (reserved::WORLD_IPV4, _) | (reserved::WORLD, Families::Ipv4) => Some(true),
            (reserved::WORLD_IPV6, _) | (reserved::WORLD, Families::Ipv6) => Some(false),
            _ => None,
        }
    }

    fn labels(&self, who: Who) -> Option<Labels> {
        match who {
            Who::Identity(id) => self.identities.get(&id).cloned(),
            Who::Address(address) => self.identities.get(&self.world_of(address)).cloned(),
        }
    }

    fn scoped(&self, object: &PolicyObject, rule: &Rule, written: &Selector) -> Selector {
        let uses = |key: &str| written.requirements().any(|r| r.is_about(key));
        if written
            .requirements()
            .any(|r| r.source.as_deref() == Some("reserved"))
        {
            return written.clone();
        }
        let mut scoped: Vec<Requirement> = written.requirements().cloned().collect();
        let mut add = |text: &str| scoped.extend(selector(text).requirements().cloned());
        let namespace = "io.kubernetes.pod.namespace";
        let by_label = written
            .requirements()
            .any(|r| r.key.starts_with("io.cilium.k8s.namespace.labels."));
        if object.key.kind == PolicyKind::CiliumClusterwideNetworkPolicy {
            if !uses(namespace) && !rule.subject.to_string().contains("reserved:init") {
                add(&format!("k8s:{namespace}"));
            }
        } else if !uses(namespace) && !by_label {
            add(&format!("k8s:{namespace}={}", object.key.namespace));
        }
        if self.settings.default_local_cluster && !uses("io.cilium.k8s.policy.cluster") {
            add(&format!(
                "k8s:io.cilium.k8s.policy.cluster={}",
                self.settings.cluster
            ));
        }
        Selector::new(scoped)
    }

    fn is_entity(&self, entity: Entity, who: Who) -> bool {
        let labels = self.labels(who).unwrap_or_default();
        let has = |name: &str| labels.get("reserved", name).is_some();
        let cluster = labels
            .get("k8s", "io.cilium.k8s.policy.cluster")
            .map(|l| l.value().to_owned());
        let number = match who {
            Who::Identity(id) => id.0,
            Who::Address(address) => self.world_of(address).0,
        };
        let pod = (256..1 << 24).contains(&number);
        let own = pod && number >> 16 == u32::from(self.settings.cluster_id.0);
        let node = number == 6 || number >> 24 == 2;
        let near = [
            "host",
            "remote-node",
            "init",
            "ingress",
            "health",
            "unmanaged",
            "kube-apiserver",
        ];
        let near = own || node || near.iter().any(|name| has(name));
        match entity {
            Entity::All => true,
            Entity::None => false,
            Entity::World => {
                let outside = matches!(number, 2 | 9 | 10) || number >> 24 == 1;
                outside || has("world") || has("world-ipv4") || has("world-ipv6")
            }
            Entity::RemoteNode => node || has("remote-node"),
            Entity::Cluster => near || cluster.as_deref() == Some(self.settings.cluster.as_str()),
            Entity::ClusterMesh => near || pod || cluster.is_some(),
            other => has(other.as_str()),
        }
    }
}

fn subject_matches(object: &PolicyObject, rule: &Rule, labels: &Labels) -> bool {
    let namespace = "io.kubernetes.pod.namespace";
    let clusterwide = object.key.kind == PolicyKind::CiliumClusterwideNetworkPolicy;
    if clusterwide {
        return rule.subject.matches(labels);
    }
    let own = labels
        .get("k8s", namespace)
        .is_some_and(|l| l.value() == object.key.namespace);
    let rest = rule
        .subject
        .requirements()
        .filter(|r| !r.is_about(namespace))
        .cloned();
    own && Selector::new(rest).matches(labels)
}
