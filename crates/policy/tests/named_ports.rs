// SPDX-License-Identifier: Apache-2.0
//! Ports by name: the pod behind the endpoint says what number a name stands for.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::kernel::Kernel;
use common::{object, pod, selector, settings};
use model::{EndpointId, NamedPort, NumericIdentity, Protocol};
use policy::{
    Action, Direction, Engine, Entry, NamedPortRule, Peers, PolicyObject, PortProtocol, Rule,
};

const WEB: NumericIdentity = NumericIdentity((5 << 16) + 1);
const PEER: NumericIdentity = NumericIdentity((5 << 16) + 2);
const FIRST: EndpointId = EndpointId(1);
const SECOND: EndpointId = EndpointId(2);
const TCP: u8 = 6;
const UDP: u8 = 17;

fn ports(ports: &[(&str, u16, Protocol)]) -> Arc<[NamedPort]> {
    let port = |(name, port, protocol): &(&str, u16, Protocol)| NamedPort {
        name: (*name).into(),
        port: *port,
        protocol: *protocol,
    };
    ports.iter().map(port).collect()
}

fn entry(protocol: PortProtocol) -> Entry {
    Entry {
        peers: Peers {
            endpoints: Some(vec![selector("app=peer")]),
            ..Peers::default()
        },
        ports: Some(Vec::new()),
        named_ports: vec![NamedPortRule {
            name: "http".into(),
            protocol,
        }],
    }
}

fn policy(rule: Rule) -> PolicyObject {
    object(
        "p",
        Rule {
            subject: selector("app=web"),
            ..rule
        },
    )
}

fn from_peer(protocol: PortProtocol) -> PolicyObject {
    policy(Rule {
        ingress: Some(vec![entry(protocol)]),
        ..Rule::default()
    })
}

struct Lab {
    engine: Engine,
    kernel: Kernel,
}

impl Lab {
    /// Two endpoints of `app=web`.
    fn new(policy: PolicyObject) -> Self {
        let mut engine = Engine::new(settings());
        for (identity, app) in [(WEB, "web"), (PEER, "peer")] {
            engine.upsert_identity(
                identity,
                pod("cluster5", "prod", &format!("k8s:app={app};")),
            );
        }
        for endpoint in [FIRST, SECOND] {
            engine.upsert_endpoint(endpoint, WEB);
        }
        engine.upsert_policy(policy).expect("valid");
        let mut lab = Self {
            engine,
            kernel: Kernel::default(),
        };
        lab.commit();
        lab
    }

    fn commit(&mut self) -> usize {
        let ops = self.engine.commit();
        ops.iter().for_each(|op| self.kernel.apply(op));
        ops.len()
    }

    fn name(&mut self, endpoint: EndpointId, named: &[(&str, u16, Protocol)]) -> usize {
        self.engine.set_named_ports(endpoint, &ports(named));
        self.commit()
    }

    fn lets(&self, endpoint: EndpointId, flow: (u8, u16)) -> bool {
        let way = Direction::Ingress;
        let action = self.kernel.action(endpoint, way, PEER, flow);
        action.expect("every lookup finds a row") == Action::Allow
    }
}

#[test]
fn a_name_is_the_number_of_each_pod() {
    let mut lab = Lab::new(from_peer(PortProtocol::Tcp));
    for port in [80, 8080] {
        assert!(!lab.lets(FIRST, (TCP, port)), "nobody names it");
    }
    lab.name(FIRST, &[("http", 8080, Protocol::Tcp)]);
    lab.name(
        SECOND,
        &[("http", 9090, Protocol::Tcp), ("http", 53, Protocol::Udp)],
    );
    assert!(lab.lets(FIRST, (TCP, 8080)) && lab.lets(SECOND, (TCP, 9090)));
    for (endpoint, flow) in [
        (FIRST, (TCP, 80)),
        (FIRST, (TCP, 9090)),
        (FIRST, (UDP, 8080)),
        (SECOND, (TCP, 8080)),
        (SECOND, (UDP, 53)),
    ] {
        assert!(!lab.lets(endpoint, flow), "{endpoint} {flow:?}");
    }
    lab.name(FIRST, &[("http", 8081, Protocol::Tcp)]);
    assert!(lab.lets(FIRST, (TCP, 8081)) && !lab.lets(FIRST, (TCP, 8080)));
    assert_eq!(
        lab.name(
            FIRST,
            &[("http", 8081, Protocol::Tcp), ("dns", 53, Protocol::Udp)]
        ),
        0,
        "no rule names it"
    );
    lab.name(FIRST, &[]);
    assert!(!lab.lets(FIRST, (TCP, 8081)));
}

#[test]
fn without_a_protocol_every_one_counts() {
    let mut lab = Lab::new(from_peer(PortProtocol::Any));
    lab.name(
        FIRST,
        &[("http", 8080, Protocol::Tcp), ("http", 53, Protocol::Udp)],
    );
    assert!(lab.lets(FIRST, (TCP, 8080)) && lab.lets(FIRST, (UDP, 53)));
    assert!(!lab.lets(FIRST, (TCP, 53)) && !lab.lets(FIRST, (UDP, 8080)));
}

#[test]
fn a_named_port_can_be_denied() {
    let mut lab = Lab::new(policy(Rule {
        ingress: Some(vec![Entry {
            peers: entry(PortProtocol::Tcp).peers,
            ..Entry::default()
        }]),
        ingress_deny: Some(vec![entry(PortProtocol::Tcp)]),
        ..Rule::default()
    }));
    assert!(lab.lets(FIRST, (TCP, 8080)));
    lab.name(FIRST, &[("http", 8080, Protocol::Tcp)]);
    assert!(!lab.lets(FIRST, (TCP, 8080)) && lab.lets(FIRST, (TCP, 80)));
    assert!(lab.lets(SECOND, (TCP, 8080)));
}

#[test]
fn an_engine_anew_knows_the_ports() {
    let mut lab = Lab::new(from_peer(PortProtocol::Tcp));
    lab.name(FIRST, &[("http", 8080, Protocol::Tcp)]);
    lab.engine = lab.engine.anew([]);
    lab.kernel = Kernel::default();
    lab.commit();
    assert!(lab.lets(FIRST, (TCP, 8080)) && !lab.lets(SECOND, (TCP, 8080)));
}

/// Peers A and B, and what they may be asked for.
struct Out(Lab);

const OTHER: NumericIdentity = NumericIdentity((5 << 16) + 3);
const LATE: NumericIdentity = NumericIdentity((5 << 16) + 4);
const REMOTE: NumericIdentity = NumericIdentity((7 << 16) + 1);

impl Out {
    fn new() -> Self {
        let all = Entry {
            peers: Peers {
                entities: Some(vec![policy::Entity::All]),
                ..Peers::default()
            },
            ..entry(PortProtocol::Tcp)
        };
        let mut lab = Lab::new(policy(Rule {
            egress: Some(vec![all]),
            ..Rule::default()
        }));
        let labels = pod("cluster5", "prod", "k8s:app=other;");
        lab.engine.upsert_identity(OTHER, labels);
        lab.commit();
        Self(lab)
    }

    fn name(&mut self, peer: NumericIdentity, named: &[(&str, u16, Protocol)]) -> usize {
        let named = ports(named);
        self.0.engine.set_identity_ports(peer, named.iter());
        self.0.commit()
    }

    /// Those of a few ports on which the peer may be asked, by both endpoints.
    fn to(&self, peer: NumericIdentity) -> Vec<u16> {
        let may = |endpoint, port: u16| {
            let way = Direction::Egress;
            let action = self.0.kernel.action(endpoint, way, peer, (TCP, port));
            action.expect("every lookup finds a row") == Action::Allow
        };
        let all = [80, 8080, 9090].into_iter();
        all.filter(|port| {
            let both = [FIRST, SECOND].map(|endpoint| may(endpoint, *port));
            assert_eq!(both[0], both[1]);
            both[0]
        })
        .collect()
    }
}

#[test]
fn on_the_way_out_a_name_is_the_number_of_each_peer() {
    let mut out = Out::new();
    assert!(out.to(PEER).is_empty() && out.to(OTHER).is_empty());
    out.name(PEER, &[("http", 8080, Protocol::Tcp)]);
    out.name(
        OTHER,
        &[("http", 9090, Protocol::Tcp), ("http", 80, Protocol::Udp)],
    );
    assert_eq!((out.to(PEER), out.to(OTHER)), (vec![8080], vec![9090]));
    assert_eq!(
        out.name(
            PEER,
            &[("http", 8080, Protocol::Tcp), ("x", 1, Protocol::Tcp)]
        ),
        0,
        "no rule names it"
    );
    // The same number as the other, and back.
    out.name(PEER, &[("http", 9090, Protocol::Tcp)]);
    assert_eq!((out.to(PEER), out.to(OTHER)), (vec![9090], vec![9090]));
    // Pods that differ: the name stands for nothing.
    out.name(
        OTHER,
        &[("http", 9090, Protocol::Tcp), ("http", 8080, Protocol::Tcp)],
    );
    assert_eq!((out.to(PEER), out.to(OTHER)), (vec![9090], vec![]));
    out.name(PEER, &[]);
    assert!(out.to(PEER).is_empty());
    // The number of a pod that asks says nothing of those that it asks.
    out.0.name(FIRST, &[("http", 8080, Protocol::Tcp)]);
    assert!(out.to(PEER).is_empty());
}

#[test]
fn ports_of_an_identity_that_is_not_known_yet_count_once_it_is() {
    let mut out = Out::new();
    out.name(LATE, &[("http", 8080, Protocol::Tcp)]);
    assert!(out.to(LATE).is_empty());
    let labels = pod("cluster5", "prod", "k8s:app=late;");
    out.0.engine.upsert_identity(LATE, labels);
    out.0.commit();
    assert_eq!(out.to(LATE), [8080]);
    out.0.engine = out.0.engine.anew([]);
    out.0.kernel = Kernel::default();
    out.0.commit();
    assert_eq!((out.to(LATE), out.to(PEER)), (vec![8080], vec![]));
    out.0.engine.remove_identity(LATE);
    out.0.commit();
    assert!(out.to(LATE).is_empty());
}

#[test]
fn on_the_way_out_a_name_is_denied_by_the_number_of_each_peer() {
    let mut out = Out::new();
    let peers = Peers {
        entities: Some(vec![policy::Entity::All]),
        ..Peers::default()
    };
    let everything = Entry::new(peers, None);
    let object = policy(Rule {
        egress: Some(vec![everything]),
        egress_deny: Some(vec![entry(PortProtocol::Tcp)]),
        ..Rule::default()
    });
    out.0.engine.upsert_policy(object).expect("valid");
    out.0.commit();
    let all = [80, 8080, 9090];
    assert_eq!((out.to(PEER), out.to(OTHER)), (all.into(), all.into()));
    for peer in [PEER, OTHER, REMOTE] {
        out.name(peer, &[("http", 8080, Protocol::Tcp)]);
    }
    // `app=peer` of the own cluster is what the entry is about.
    assert_eq!(out.to(PEER), [80, 9090]);
    assert_eq!((out.to(OTHER), out.to(REMOTE)), (all.into(), all.into()));
    out.name(PEER, &[("http", 80, Protocol::Tcp)]);
    assert_eq!(out.to(PEER), [8080, 9090]);
}

#[test]
fn a_name_is_the_number_of_peers_in_other_clusters() {
    let mut out = Out::new();
    let labels = pod("cluster7", "prod", "k8s:app=peer;");
    out.0.engine.upsert_identity(REMOTE, labels);
    out.name(REMOTE, &[("http", 9090, Protocol::Tcp)]);
    out.name(PEER, &[("http", 8080, Protocol::Tcp)]);
    assert_eq!((out.to(PEER), out.to(REMOTE)), (vec![8080], vec![9090]));
    out.name(REMOTE, &[]);
    assert!(out.to(REMOTE).is_empty());
}
