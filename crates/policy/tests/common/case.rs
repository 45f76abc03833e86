// SPDX-License-Identifier: Apache-2.0
//! What a decision case is: its peers, rules in short, and the question to the maps.

use model::{EndpointId, NumericIdentity, reserved};
use policy::{
    Action, CidrRule, DefaultDeny, Direction, Engine, Entity, Entry, Peers, PolicyKind,
    PolicyObject, PortProtocol, PortRule, Rule, Settings,
};

use super::kernel::Kernel;
use super::{object, pod, selector, settings};

pub const W: u32 = (5 << 16) + 1;
pub const A: u32 = (5 << 16) + 2;
pub const B: u32 = (5 << 16) + 3;
pub const X: u32 = (5 << 16) + 4;
pub const R: u32 = (7 << 16) + 1;
/// Own cluster, labels unknown.
pub const U: u32 = (5 << 16) + 99;
pub const H: u32 = 1;
pub const HEALTH: u32 = 4;
pub const N: u32 = 6;
/// 192.0.2.3, outside; resolved through the prefixes.
pub const E: u32 = u32::MAX;
/// 192.0.2.9, outside.
pub const E9: u32 = u32::MAX - 1;
/// 2001:db8::1, outside.
pub const E6: u32 = u32::MAX - 2;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const PING: (u8, u16) = (1, 8);

/// One endpoint with the labels of `app=web`, its policies, and the peers of the cases.
pub struct Case {
    pub engine: Engine,
    kernel: Kernel,
}

impl Case {
    pub fn new(settings: Settings) -> Self {
        let mut engine = Engine::new(settings);
        let app = |a: &str| format!("k8s:app={a};");
        let team = "k8s:io.cilium.k8s.namespace.labels.team=x;";
        for (n, labels) in [
            (W, pod("cluster5", "prod", &app("web"))),
            (A, pod("cluster5", "prod", &app("a"))),
            (B, pod("cluster5", "prod", &app("b"))),
            (X, pod("cluster5", "other", &(app("a") + team))),
            (R, pod("cluster7", "prod", &app("a"))),
        ] {
            engine.upsert_identity(NumericIdentity(n), labels);
        }
        engine.upsert_endpoint(EndpointId(1), NumericIdentity(W));
        Self {
            engine,
            kernel: Kernel::default(),
        }
    }

    pub fn with(settings: Settings, objects: impl IntoIterator<Item = PolicyObject>) -> Self {
        let mut case = Self::new(settings);
        for object in objects {
            case.engine.upsert_policy(object).expect("valid");
        }
        case.commit();
        case
    }

    pub fn commit(&mut self) {
        self.engine
            .commit()
            .iter()
            .for_each(|op| self.kernel.apply(op));
    }

    pub fn verdict(&self, way: Direction, peer: u32, flow: (u8, u16)) -> Action {
        let outside =
            |address: &str, world| self.kernel.resolve(address.parse().expect("valid"), world);
        let peer = match peer {
            E => outside("192.0.2.3", reserved::WORLD_IPV4),
            E9 => outside("192.0.2.9", reserved::WORLD_IPV4),
            E6 => outside("2001:db8::1", reserved::WORLD_IPV6),
            n => NumericIdentity(n),
        };
        self.kernel
            .action(EndpointId(1), way, peer, flow)
            .expect("every lookup finds a row")
    }

    /// Ingress from the peers: all allowed or all not.
    pub fn ingress(&self, number: u32, peers: &[u32], flow: (u8, u16), allowed: bool) {
        self.expect(Direction::Ingress, number, peers, flow, allowed);
    }

    /// Egress to the peers: all allowed or all not.
    pub fn egress(&self, number: u32, peers: &[u32], flow: (u8, u16), allowed: bool) {
        self.expect(Direction::Egress, number, peers, flow, allowed);
    }

    fn expect(&self, way: Direction, number: u32, peers: &[u32], flow: (u8, u16), allowed: bool) {
        for &peer in peers {
            let verdict = self.verdict(way, peer, flow);
            assert_eq!(
                verdict == Action::Allow,
                allowed,
                "case {number}: {peer} {flow:?}: {verdict:?}"
            );
        }
    }
}

pub fn endpoints(texts: &[&str]) -> Peers {
    Peers {
        endpoints: Some(texts.iter().map(|t| selector(t)).collect()),
        ..Peers::default()
    }
}

pub fn entities(words: &[&str]) -> Peers {
    let parse = |word: &&str| Entity::parse(word).expect("an entity");
    Peers {
        entities: Some(words.iter().map(parse).collect()),
        ..Peers::default()
    }
}

pub fn cidr(cidr: &str, except: &[&str]) -> Peers {
    let parse = |text: &str| text.parse().expect("valid");
    let rule = CidrRule {
        cidr: parse(cidr),
        except: except.iter().map(|e| parse(e)).collect(),
    };
    Peers {
        cidrs: Some(vec![rule]),
        ..Peers::default()
    }
}

pub fn port(port: u16, end_port: Option<u16>, protocol: PortProtocol) -> Option<Vec<PortRule>> {
    Some(vec![PortRule {
        port,
        end_port,
        protocol,
    }])
}

pub fn tcp(number: u16) -> Option<Vec<PortRule>> {
    port(number, None, PortProtocol::Tcp)
}

pub fn all(peers: Peers) -> Entry {
    Entry::new(peers, None)
}

pub fn on(peers: Peers, ports: Option<Vec<PortRule>>) -> Entry {
    Entry::new(peers, ports)
}

pub fn policy(name: &str, rule: Rule) -> PolicyObject {
    object(
        name,
        Rule {
            subject: selector("app=web"),
            ..rule
        },
    )
}

pub fn clusterwide(rule: Rule) -> PolicyObject {
    let mut object = policy("wide", rule);
    object.key.kind = PolicyKind::CiliumClusterwideNetworkPolicy;
    object.key.namespace.clear();
    object
}

pub fn allow(entries: impl Into<Vec<Entry>>) -> Rule {
    Rule {
        ingress: Some(entries.into()),
        ..Rule::default()
    }
}

pub fn allow_to(entries: impl Into<Vec<Entry>>) -> Rule {
    Rule {
        egress: Some(entries.into()),
        ..Rule::default()
    }
}

pub fn deny(entries: impl Into<Vec<Entry>>) -> Rule {
    Rule {
        ingress_deny: Some(entries.into()),
        ..Rule::default()
    }
}

pub fn open(rule: Rule) -> Rule {
    Rule {
        default_deny: DefaultDeny {
            ingress: Some(false),
            egress: None,
        },
        ..rule
    }
}

pub fn one(rule: Rule) -> Case {
    Case::with(settings(), [policy("p", rule)])
}

pub fn two(first: Rule, second: Rule) -> Case {
    Case::with(settings(), [policy("p", first), policy("q", second)])
}
