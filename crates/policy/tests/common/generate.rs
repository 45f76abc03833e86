// SPDX-License-Identifier: Apache-2.0
//! Histories by chance: few names and numbers, so that they meet.

use std::sync::Arc;

use model::{Label, Labels, NamedPort, Protocol};
use policy::{
    CidrGroup, CidrRule, DefaultDeny, EnforcementMode, Entity, Entry, Families, GroupRule,
    NamedPortRule, Peers, PolicyKey, PolicyKind, PolicyObject, PortProtocol, PortRule, Room, Rule,
    Settings,
};
use proptest::prelude::*;
use proptest::sample::select;

use super::{pod, selector, settings};

/// First identity of the own cluster.
pub const OWN: u32 = 5 << 16;
/// First identity of another one.
pub const OTHER: u32 = 7 << 16;
/// Identities that events are about.
pub const NUMBERS: [u32; 9] = [
    OWN + 1,
    OWN + 2,
    OWN + 3,
    OWN + 4,
    OTHER + 1,
    OTHER + 2,
    OTHER + 3,
    0x0200_0001,
    7,
];

/// Something that an engine is told, or that happens to it.
#[derive(Clone, Debug)]
pub enum Event {
    Identity(u32, Labels),
    NoIdentity(u32),
    Policy(PolicyObject),
    NoPolicy(PolicyKey),
    Endpoint(u16, u32),
    NoEndpoint(u16),
    Group(CidrGroup),
    NoGroup(String),
    EndpointPorts(u16, Arc<[NamedPort]>),
    IdentityPorts(u32, Arc<[NamedPort]>),
    Restart,
    Anew,
}

pub fn labels() -> impl Strategy<Value = Labels> {
    let cluster = select(vec!["cluster5", "cluster7"]);
    let app = select(vec![
        "",
        "k8s:app=a;",
        "k8s:app=b;",
        "k8s:app=a;k8s:tier=x;",
        "reserved:init=;",
    ]);
    (cluster, select(vec!["prod", "other"]), app).prop_map(|(c, n, l)| pod(c, n, l))
}

fn selectors() -> impl Strategy<Value = model::Selector> {
    let texts = [
        "",
        "app=a",
        "app=b",
        "!app",
        "app!=a",
        "tier",
        "k8s:io.kubernetes.pod.namespace",
        "k8s:io.kubernetes.pod.namespace=other",
        "io.cilium.k8s.policy.cluster",
        "reserved:host",
        "io.cilium.k8s.policy.cluster=cluster7,app=a",
        "!reserved:host",
        "reserved:init",
    ];
    select(texts.to_vec()).prop_map(selector)
}

fn cidrs() -> impl Strategy<Value = CidrRule> {
    let rules = [
        ("0.0.0.0/0", vec![]),
        ("::/0", vec![]),
        ("10.0.0.0/8", vec!["10.1.0.0/16"]),
        ("10.1.0.0/16", vec![]),
        ("10.1.2.0/24", vec!["10.1.2.3/32"]),
        ("192.0.2.3/32", vec![]),
        ("0.0.0.0/0", vec!["10.0.0.0/8", "192.0.2.0/24"]),
        ("2001:db8::/32", vec!["2001:db8:1::/48"]),
    ];
    select(rules.to_vec()).prop_map(|(cidr, except)| CidrRule {
        cidr: cidr.parse().expect("valid"),
        except: except.iter().map(|e| e.parse().expect("valid")).collect(),
    })
}

fn group_name() -> impl Strategy<Value = &'static str> {
    select(vec!["g1", "g2", "g3"])
}

fn groups() -> impl Strategy<Value = CidrGroup> {
    let prefixes = [
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.0/24",
        "192.0.2.3/32",
        "2001:db8::/32",
        "2001:db8:1::/48",
    ];
    let prefixes = prop::sample::subsequence(prefixes.to_vec(), 0..4);
    let role = select(vec![None, Some("a"), Some("b")]);
    (group_name(), role, prefixes).prop_map(|(name, role, prefixes)| {
        let own = format!("io.cilium.policy.cidrgroupname/{name}");
        let role = role.map(|role| Label::new("cidrgroup", "role", role));
        let own = Label::new("cidrgroup", &own, "");
        let prefixes = prefixes.into_iter().map(|p| p.parse().expect("valid"));
        CidrGroup {
            name: name.into(),
            labels: role.into_iter().chain([own]).collect(),
            prefixes: prefixes.collect(),
        }
    })
}

fn group_rules() -> impl Strategy<Value = GroupRule> {
    let g = "cidrgroup:io.cilium.policy.cidrgroupname/g";
    let texts = [
        format!("{g}1"),
        format!("{g}2"),
        format!("{g}1,!{g}2"),
        format!("!{g}3"),
        "cidrgroup:role".into(),
        "cidrgroup:role=a".into(),
        "cidrgroup:role!=b".into(),
        format!("{g}1,cidrgroup:role!=a"),
    ];
    let except = select(vec![vec![], vec!["10.1.2.3/32"], vec!["10.1.0.0/16"]]);
    (select(texts.to_vec()), except).prop_map(|(text, except)| GroupRule {
        selector: selector(&text),
        except: except.iter().map(|e| e.parse().expect("valid")).collect(),
    })
}

pub fn named_ports() -> impl Strategy<Value = Arc<[NamedPort]>> {
    let name = select(vec!["http", "dns"]);
    let protocol = select(vec![Protocol::Tcp, Protocol::Tcp, Protocol::Udp]);
    let port = select(vec![80, 443, 90]);
    let port = (name, protocol, port).prop_map(|(name, protocol, port)| NamedPort {
        name: name.into(),
        port,
        protocol,
    });
    prop::collection::vec(port, 0..3).prop_map(Arc::from)
}

fn peers() -> impl Strategy<Value = Peers> {
    prop_oneof![
        1 => Just(Peers::default()),
        5 => prop::collection::vec(selectors(), 0..3)
            .prop_map(|l| Peers { endpoints: Some(l), ..Peers::default() }),
        3 => prop::collection::vec(select(Entity::ALL.to_vec()), 0..3)
            .prop_map(|l| Peers { entities: Some(l), ..Peers::default() }),
        3 => prop::collection::vec(cidrs(), 0..3)
            .prop_map(|l| Peers { cidrs: Some(l), ..Peers::default() }),
        3 => (prop::collection::vec(cidrs(), 0..2), prop::collection::vec(group_rules(), 1..3))
            .prop_map(|(l, groups)| Peers { cidrs: Some(l), groups, ..Peers::default() }),
    ]
}

fn ports() -> impl Strategy<Value = Option<Vec<PortRule>>> {
    let protocol = select(vec![
        PortProtocol::Tcp,
        PortProtocol::Udp,
        PortProtocol::Sctp,
        PortProtocol::Any,
    ]);
    let range = select(vec![
        (80, None),
        (0, None),
        (80, Some(443)),
        (90, Some(1)),
        (1, Some(65535)),
    ]);
    let port = (range, protocol).prop_map(|((port, end_port), protocol)| PortRule {
        port,
        end_port,
        protocol,
    });
    prop::option::of(prop::collection::vec(port, 0..4))
}

fn list() -> impl Strategy<Value = Option<Vec<Entry>>> {
    let protocol = select(vec![PortProtocol::Tcp, PortProtocol::Any]);
    let named = (select(vec!["http", "dns"]), protocol);
    let named = named.prop_map(|(name, protocol)| NamedPortRule {
        name: name.into(),
        protocol,
    });
    let named = prop_oneof![
        2 => Just(Vec::new()),
        1 => prop::collection::vec(named, 1..3),
    ];
    let entry = (peers(), ports(), named).prop_map(|(peers, ports, named_ports)| Entry {
        peers,
        ports: ports.or((!named_ports.is_empty()).then(Vec::new)),
        named_ports,
    });
    prop::option::weighted(0.6, prop::collection::vec(entry, 0..3))
}

fn policies() -> impl Strategy<Value = PolicyObject> {
    let flag = || prop::option::weighted(0.3, any::<bool>());
    let rule = (selectors(), list(), list(), list(), list(), flag(), flag()).prop_map(
        |(subject, ingress, ingress_deny, egress, egress_deny, i, e)| Rule {
            subject,
            ingress,
            ingress_deny,
            egress,
            egress_deny,
            default_deny: DefaultDeny {
                ingress: i,
                egress: e,
            },
            description: String::new(),
        },
    );
    (keys(), prop::collection::vec(rule, 1..3)).prop_map(|(key, rules)| PolicyObject {
        key,
        uid: String::new(),
        labels: Vec::new(),
        rules,
    })
}

fn keys() -> impl Strategy<Value = PolicyKey> {
    select(vec![
        ("prod", "a"),
        ("prod", "b"),
        ("other", "a"),
        ("", "c"),
    ])
    .prop_map(|(ns, name)| PolicyKey {
        kind: match ns {
            "" => PolicyKind::CiliumClusterwideNetworkPolicy,
            _ => PolicyKind::CiliumNetworkPolicy,
        },
        namespace: ns.into(),
        name: name.into(),
    })
}

pub fn events() -> impl Strategy<Value = Event> {
    let number = || select(NUMBERS.to_vec());
    prop_oneof![
        6 => (number(), labels()).prop_map(|(n, l)| Event::Identity(n, l)),
        2 => number().prop_map(Event::NoIdentity),
        6 => policies().prop_map(Event::Policy),
        1 => keys().prop_map(Event::NoPolicy),
        3 => (1..4u16, number()).prop_map(|(e, n)| Event::Endpoint(e, n)),
        1 => (1..4u16).prop_map(Event::NoEndpoint),
        4 => groups().prop_map(Event::Group),
        1 => group_name().prop_map(|name| Event::NoGroup(name.into())),
        2 => (1..4u16, named_ports()).prop_map(|(e, p)| Event::EndpointPorts(e, p)),
        3 => (number(), named_ports()).prop_map(|(n, p)| Event::IdentityPorts(n, p)),
        1 => Just(Event::Restart),
        1 => Just(Event::Anew),
    ]
}

pub fn any_settings() -> impl Strategy<Value = Settings> {
    let mode = prop_oneof![
        8 => Just(EnforcementMode::Default),
        1 => Just(EnforcementMode::Always),
        1 => Just(EnforcementMode::Never),
    ];
    let families = select(vec![
        Families::Dual,
        Families::Dual,
        Families::Ipv4,
        Families::Ipv6,
    ]);
    let classes = select(vec![1, 2, 2048]);
    let room = select(vec![
        (usize::MAX, usize::MAX),
        (40, 150),
        (25, 60),
        (11, 30),
    ]);
    let room = room.prop_map(|(policies, rows)| Room { policies, rows });
    (mode, families, any::<bool>(), any::<bool>(), classes, room).prop_map(
        |(mode, families, local, host, max_classes, room)| Settings {
            mode,
            families,
            default_local_cluster: local,
            allow_localhost: host,
            max_classes,
            room,
            ..settings()
        },
    )
}
