// SPDX-License-Identifier: Apache-2.0
//! Policies about groups of prefixes: whom they select, and what a change of a group changes.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::kernel::Kernel;
use common::{object, pod, selector, settings};
use ipnet::IpNet;
use model::{EndpointId, Label, NumericIdentity, Selector, reserved};
use policy::{
    Action, CidrGroup, CidrRule, Direction, Engine, Entity, Entry, Error, GroupRule, Peers,
    PolicyObject, Rule,
};

const WEB: NumericIdentity = NumericIdentity((5 << 16) + 1);
const POD: EndpointId = EndpointId(1);

fn nets(texts: &[&str]) -> Vec<IpNet> {
    let net = |text: &&str| text.parse().expect("a prefix");
    texts.iter().map(net).collect()
}

/// A group with the label of its name and `labels`, `key=value`.
fn group(name: &str, labels: &[&str], prefixes: &[&str]) -> CidrGroup {
    let own = format!("io.cilium.policy.cidrgroupname/{name}=");
    let labels = labels.iter().copied().chain([own.as_str()]);
    let label = |text: &str| {
        let (key, value) = text.split_once('=').expect("key=value");
        Label::new("cidrgroup", key, value)
    };
    CidrGroup {
        name: name.into(),
        labels: labels.map(label).collect(),
        prefixes: nets(prefixes).into_iter().collect(),
    }
}

fn named(name: &str) -> Selector {
    selector(&format!("cidrgroup:io.cilium.policy.cidrgroupname/{name}"))
}

fn rule(selector: Selector, except: &[&str]) -> GroupRule {
    GroupRule {
        selector,
        except: nets(except),
    }
}

/// Ingress from these groups, by a policy of this name.
fn policy(name: &str, groups: Vec<GroupRule>) -> PolicyObject {
    let peers = Peers {
        cidrs: Some(Vec::new()),
        groups,
        ..Peers::default()
    };
    object(
        name,
        Rule {
            ingress: Some(vec![Entry::new(peers, None)]),
            ..Rule::default()
        },
    )
}

struct Lab {
    engine: Engine,
    kernel: Kernel,
}

impl Lab {
    fn new(groups: &[CidrGroup], policies: Vec<PolicyObject>) -> Self {
        let mut engine = Engine::new(settings());
        engine.upsert_identity(WEB, pod("cluster5", "prod", "k8s:app=web;"));
        engine.upsert_endpoint(POD, WEB);
        for group in groups {
            engine.upsert_group(group.clone()).expect("room");
        }
        for policy in policies {
            engine.upsert_policy(policy).expect("valid");
        }
        let mut lab = Self {
            engine,
            kernel: Kernel::default(),
        };
        lab.commit();
        lab
    }

    /// How many writes it took.
    fn commit(&mut self) -> usize {
        let ops = self.engine.commit();
        ops.iter().for_each(|op| self.kernel.apply(op));
        ops.len()
    }

    fn put(&mut self, group: CidrGroup) {
        self.engine.upsert_group(group).expect("room");
        self.commit();
    }

    /// Those of the addresses that may come in.
    fn allowed<'a>(&self, addresses: &[&'a str]) -> Vec<&'a str> {
        let may = |address: &&&str| {
            let address = address.parse().expect("an address");
            let world = match address {
                std::net::IpAddr::V4(_) => reserved::WORLD_IPV4,
                std::net::IpAddr::V6(_) => reserved::WORLD_IPV6,
            };
            let peer = self.kernel.resolve(address, world);
            let way = Direction::Ingress;
            let action = self.kernel.action(POD, way, peer, (6, 80));
            action.expect("every lookup finds a row") == Action::Allow
        };
        addresses.iter().filter(may).copied().collect()
    }
}

#[test]
fn a_group_is_its_prefixes_and_a_missing_one_nobody() {
    let mut lab = Lab::new(&[], vec![policy("p", vec![rule(named("g"), &[])])]);
    let all = ["192.0.2.1", "198.51.100.1", "2001:db8::1", "10.0.0.1"];
    assert!(lab.allowed(&all).is_empty(), "default deny all the same");
    lab.put(group("g", &[], &["192.0.2.0/24", "2001:db8::/32"]));
    assert_eq!(lab.allowed(&all), ["192.0.2.1", "2001:db8::1"]);
    lab.put(group("other", &[], &["198.51.100.0/24"]));
    assert_eq!(lab.allowed(&all), ["192.0.2.1", "2001:db8::1"]);
    lab.put(group("g", &[], &["198.51.100.0/24"]));
    assert_eq!(lab.allowed(&all), ["198.51.100.1"]);
    lab.put(group("g", &[], &["0.0.0.0/0"]));
    assert_eq!(lab.allowed(&all), ["192.0.2.1", "198.51.100.1", "10.0.0.1"]);
    lab.engine.remove_group("g").expect("less than before");
    lab.commit();
    assert!(lab.allowed(&all).is_empty() && lab.kernel.cidrs.is_empty());
}

#[test]
fn exceptions_are_taken_out_of_every_prefix() {
    let lab = Lab::new(
        &[group("g", &[], &["10.0.0.0/8", "192.0.2.0/24"])],
        vec![policy(
            "p",
            vec![rule(named("g"), &["10.1.0.0/16", "192.0.0.0/16"])],
        )],
    );
    let all = ["10.0.0.1", "10.1.0.1", "10.2.0.1", "192.0.2.1"];
    assert_eq!(lab.allowed(&all), ["10.0.0.1", "10.2.0.1"]);
}

#[test]
fn a_prefix_has_the_labels_of_all_groups_around_it() {
    let groups = [
        group("a", &["role=a", "env=prod"], &["10.0.0.0/8"]),
        group("b", &["role=b"], &["10.1.0.0/16", "192.0.2.0/24"]),
        group("c", &["role=c"], &["192.0.2.0/24"]),
    ];
    let all = ["10.0.0.1", "10.1.0.1", "192.0.2.1", "198.51.100.1"];
    for (text, expected) in [
        ("cidrgroup:role=a", &["10.0.0.1", "10.1.0.1"][..]),
        ("cidrgroup:role=b", &["10.1.0.1", "192.0.2.1"]),
        ("cidrgroup:role=c", &["192.0.2.1"]),
        ("cidrgroup:role=b,cidrgroup:env=prod", &["10.1.0.1"]),
        ("cidrgroup:role!=b", &["10.0.0.1"]),
        ("!cidrgroup:env", &["192.0.2.1"]),
        ("k8s:role=a", &[]),
    ] {
        let lab = Lab::new(&groups, vec![policy("p", vec![rule(selector(text), &[])])]);
        assert_eq!(lab.allowed(&all), expected, "{text}");
    }
    let every = Lab::new(
        &groups,
        vec![policy("p", vec![rule(Selector::default(), &[])])],
    );
    assert_eq!(every.allowed(&all), all[..3]);
}

#[test]
fn groups_and_prefixes_stand_in_one_list() {
    let mut mixed = policy("p", vec![rule(named("g"), &[])]);
    let peers = &mut mixed.rules[0].ingress.as_mut().expect("ingress")[0].peers;
    peers.cidrs = Some(vec![CidrRule {
        cidr: "198.51.100.0/24".parse().expect("a prefix"),
        except: Vec::new(),
    }]);
    let lab = Lab::new(&[group("g", &[], &["192.0.2.0/24"])], vec![mixed]);
    let all = ["192.0.2.1", "198.51.100.1", "10.0.0.1"];
    assert_eq!(lab.allowed(&all), all[..2]);
}

#[test]
fn a_change_is_about_who_selects_the_group() {
    let mut lab = Lab::new(
        &[group("g", &["role=a"], &["192.0.2.0/24"])],
        vec![
            policy("by-name", vec![rule(named("g"), &[])]),
            policy("by-label", vec![rule(selector("cidrgroup:role=a"), &[])]),
            policy("other", vec![rule(named("h"), &[])]),
        ],
    );
    let before = lab.engine.revision();
    lab.put(group("x", &["role=b"], &["10.0.0.0/8"]));
    assert_eq!(lab.engine.revision(), before, "nobody selects it");
    lab.put(group("h", &[], &["10.0.0.0/8"]));
    assert_eq!(lab.engine.revision(), before + 1);
    lab.put(group("g", &["role=a"], &["192.0.2.0/25"]));
    assert_eq!(lab.engine.revision(), before + 3);
    // The same again, and other labels that nobody asks for.
    lab.engine
        .upsert_group(group("g", &["role=a", "x=y"], &["192.0.2.0/25"]))
        .expect("room");
    assert_eq!((lab.commit(), lab.engine.revision()), (0, before + 3));
    // The label goes: one of the two selects it no longer.
    lab.put(group("g", &[], &["192.0.2.0/25"]));
    assert_eq!(lab.engine.revision(), before + 4);
    assert_eq!(lab.allowed(&["192.0.2.1", "10.0.0.1"]).len(), 2);
}

#[test]
fn too_large_a_group_is_refused_and_the_one_before_stays() {
    let mut lab = Lab::new(
        &[group("g", &[], &["192.0.2.0/24"])],
        vec![
            policy("first", vec![rule(named("g"), &[])]),
            policy("second", vec![rule(named("g"), &["10.0.0.0/32"])]),
        ],
    );
    let many = |count: u32| {
        let net = |n: u32| std::net::Ipv4Addr::from(0x0a00_0000 + n).into();
        CidrGroup {
            prefixes: (1..=count)
                .map(|n| IpNet::new(net(n), 32).expect("a length"))
                .collect(),
            ..group("g", &[], &[])
        }
    };
    let error = lab.engine.upsert_group(many(40_000)).expect_err("too many");
    assert!(matches!(error, Error::Prefixes { .. }), "{error}");
    assert_eq!(lab.commit(), 0);
    assert_eq!(lab.allowed(&["192.0.2.1", "10.0.0.7"]), ["192.0.2.1"]);
    lab.put(many(3000));
    assert_eq!(lab.allowed(&["192.0.2.1", "10.0.0.7"]), ["10.0.0.7"]);
}

#[test]
fn an_engine_anew_knows_the_groups() {
    let mut lab = Lab::new(
        &[group("g", &[], &["192.0.2.0/24"])],
        vec![policy("p", vec![rule(named("g"), &[])])],
    );
    let found: Vec<_> = lab.kernel.cidrs.iter().map(|(p, id)| (*p, *id)).collect();
    let cidrs = std::mem::take(&mut lab.kernel).cidrs;
    lab.kernel.cidrs = cidrs;
    lab.engine = lab.engine.anew(found);
    lab.commit();
    assert_eq!(lab.allowed(&["192.0.2.1", "10.0.0.1"]), ["192.0.2.1"]);
}

#[test]
fn the_api_server_outside_is_where_its_addresses_are() {
    let mut named = policy("p", Vec::new());
    let entry = &mut named.rules[0].ingress.as_mut().expect("given")[0];
    entry.peers = Peers {
        entities: Some(vec![Entity::KubeApiserver]),
        ..Peers::default()
    };
    let mut lab = Lab::new(
        &[],
        vec![named, policy("q", vec![rule(self::named("g"), &[])])],
    );
    let all = ["192.0.2.1", "192.0.2.2", "2001:db8::1"];
    assert!(lab.allowed(&all).is_empty(), "nobody knows where it is");
    for at in [
        &["192.0.2.1/32", "2001:db8::1/128"][..],
        &["192.0.2.2/32"],
        &[],
    ] {
        let addresses = nets(at).into_iter().collect();
        lab.engine.set_api_servers(addresses).expect("room");
        lab.commit();
        let want: Vec<_> = at.iter().map(|net| net.split('/').next()).collect();
        let allowed = lab.allowed(&all);
        assert_eq!(allowed.into_iter().map(Some).collect::<Vec<_>>(), want);
        assert_eq!(lab.commit(), 0);
    }
    let addresses = nets(&["192.0.2.1/32"]).into_iter().collect();
    lab.engine.set_api_servers(addresses).expect("room");
    lab.engine = lab.engine.anew([]);
    lab.kernel = Kernel::default();
    lab.commit();
    assert_eq!(
        lab.allowed(&all),
        ["192.0.2.1"],
        "also after all is numbered anew"
    );
}
