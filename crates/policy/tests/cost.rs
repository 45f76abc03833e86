// SPDX-License-Identifier: Apache-2.0
//! Cost follows change: how many writes one change takes in a large mesh.

mod common;

use common::{object, pod, selector, settings};
use model::{EndpointId, NumericIdentity};
use policy::{Engine, Entry, Op, Peers, PolicyObject, Rule};

const REMOTE: u32 = 7 << 16;

fn labels(n: u32) -> model::Labels {
    pod(
        "cluster7",
        &format!("ns{}", n % 50),
        &format!("k8s:app=a{};k8s:id=i{n};", n % 40),
    )
}

fn policy(n: u32, app: u32) -> PolicyObject {
    let peer = selector(&format!(
        "app=a{app},io.cilium.k8s.policy.cluster,io.kubernetes.pod.namespace"
    ));
    let peers = Peers {
        endpoints: Some(vec![peer]),
        ..Peers::default()
    };
    let ingress = Some(vec![Entry::new(peers, None)]);
    object(
        &format!("p{n}"),
        Rule {
            subject: selector(&format!("app=s{}", n % 10)),
            ingress,
            ..Rule::default()
        },
    )
}

fn count(what: &str, ops: Vec<Op>, most: usize) {
    println!("{what}: {} writes, at most {most}", ops.len());
    assert!(ops.len() <= most, "{what}: {} writes", ops.len());
}

#[test]
fn ten_thousand_identities_hundred_policies() {
    let mut engine = Engine::new(settings());
    for n in 0..10_000 {
        engine.upsert_identity(NumericIdentity(REMOTE + n), labels(n));
    }
    for n in 0..10u32 {
        let id = NumericIdentity((5 << 16) + n);
        engine.upsert_identity(id, pod("cluster5", "prod", &format!("k8s:app=s{n};")));
        engine.upsert_endpoint(EndpointId(n as u16 + 1), id);
    }
    for n in 0..100 {
        engine.upsert_policy(policy(n, n % 40)).expect("valid");
    }
    count("start", engine.commit(), 12_000);
    engine.upsert_identity(NumericIdentity(REMOTE + 20_000), labels(20_000));
    count("an identity of a known class", engine.commit(), 1);
    engine.upsert_identity(NumericIdentity(REMOTE + 20_000), labels(20_001));
    count("an identity with other labels", engine.commit(), 1);
    engine.remove_identity(NumericIdentity(REMOTE + 20_000));
    count("an identity that goes", engine.commit(), 1);
    engine.upsert_policy(policy(7, 8)).expect("valid");
    count(
        "a policy of one endpoint, selectors in use",
        engine.commit(),
        80,
    );
    engine.upsert_policy(policy(7, 41)).expect("valid");
    count("a policy that selects nobody known", engine.commit(), 80);
    engine.upsert_endpoint(EndpointId(100), NumericIdentity(5 << 16));
    count("an endpoint with a known policy", engine.commit(), 1);
    let mut same = policy(7, 41);
    same.labels.push("k8s:changed=yes".into());
    engine.upsert_policy(same).expect("valid");
    count("a policy that says the same", engine.commit(), 0);
}

/// One change: how many writes, how many comparisons of a selector with an identity.
struct Meter {
    engine: Engine,
    seen: u64,
}

impl Meter {
    fn step(
        &mut self,
        what: &str,
        writes: usize,
        comparisons: u64,
        change: impl FnOnce(&mut Engine),
    ) {
        let begin = std::time::Instant::now();
        change(&mut self.engine);
        let ops = self.engine.commit().len();
        let took = begin.elapsed();
        let work = self.engine.comparisons() - self.seen;
        self.seen += work;
        println!("{what}: {ops} writes, {work} comparisons, {took:?}");
        assert!(ops <= writes, "{what}: {ops} writes, at most {writes}");
        assert!(
            work <= comparisons,
            "{what}: {work} comparisons, at most {comparisons}"
        );
    }
}

/// A label that one identity in a hundred has, and a policy of its own for each.
fn narrow(n: u32, app: u32) -> PolicyObject {
    let mut policy = policy(n, app);
    policy.rules[0].subject = selector(&format!("app=s{}", n % 50));
    policy
}

fn of_five_hundred(n: u32) -> model::Labels {
    let (namespace, labels) = (
        format!("ns{}", n % 50),
        format!("k8s:app=a{};k8s:id=i{n};", n % 500),
    );
    pod("cluster7", &namespace, &labels)
}

#[test]
fn fifty_thousand_identities_five_hundred_policies() {
    const IDENTITIES: u32 = 50_000;
    let mut engine = Engine::new(settings());
    for n in 0..50u32 {
        let id = NumericIdentity((5 << 16) + n);
        engine.upsert_identity(id, pod("cluster5", "prod", &format!("k8s:app=s{n};")));
        engine.upsert_endpoint(EndpointId(n as u16 + 1), id);
    }
    let mut meter = Meter { engine, seen: 0 };
    meter.step("identities", 51_000, 0, |engine| {
        for n in 0..IDENTITIES {
            engine.upsert_identity(NumericIdentity(REMOTE + n), of_five_hundred(n));
        }
    });
    meter.step("policies", 60_000, 60_000, |engine| {
        for n in 0..500 {
            engine.upsert_policy(narrow(n, n)).expect("valid");
        }
    });
    let newcomer = NumericIdentity(REMOTE + IDENTITIES);
    meter.step("an identity", 1, 2, |engine| {
        engine.upsert_identity(newcomer, of_five_hundred(IDENTITIES));
    });
    meter.step("other labels", 1, 2, |engine| {
        engine.upsert_identity(newcomer, of_five_hundred(7))
    });
    meter.step("an identity that goes", 1, 0, |engine| {
        engine.remove_identity(newcomer)
    });
    meter.step("a policy that selects one", 60, 1, |engine| {
        let mut policy = narrow(500, 0);
        let one = selector("id=i77,io.cilium.k8s.policy.cluster,io.kubernetes.pod.namespace");
        policy.rules[0].ingress.as_mut().expect("ingress")[0]
            .peers
            .endpoints = Some(vec![one]);
        engine.upsert_policy(policy).expect("valid");
    });
    meter.step("a policy that selects a hundred", 200, 100, |engine| {
        let mut policy = narrow(501, 0);
        let some = selector("app=a9,io.cilium.k8s.policy.cluster,!io.kubernetes.pod.namespace");
        policy.rules[0].ingress.as_mut().expect("ingress")[0]
            .peers
            .endpoints = Some(vec![some]);
        engine.upsert_policy(policy).expect("valid");
    });
    meter.step("a policy of everybody", 100, 20, |engine| {
        let mut policy = narrow(502, 0);
        let entry = &mut policy.rules[0].ingress.as_mut().expect("ingress")[0];
        entry.peers = Peers {
            entities: Some(vec![policy::Entity::ClusterMesh]),
            ..Peers::default()
        };
        engine.upsert_policy(policy).expect("valid");
    });
    meter.step("a policy that goes", 60, 0, |engine| {
        engine.remove_policy(&narrow(500, 0).key)
    });
    meter.step("a prefix", 80, 10, |engine| {
        let mut policy = narrow(503, 0);
        let entry = &mut policy.rules[0].ingress.as_mut().expect("ingress")[0];
        let cidr = policy::CidrRule {
            cidr: "192.0.2.0/24".parse().expect("valid"),
            except: Vec::new(),
        };
        entry.peers = Peers {
            cidrs: Some(vec![cidr]),
            ..Peers::default()
        };
        engine.upsert_policy(policy).expect("valid");
    });
}
