// SPDX-License-Identifier: Apache-2.0
//! Cost follows change: how many writes one change takes in a large mesh.

mod common;

use common::{pod, selector, settings};
use model::{EndpointId, NumericIdentity};
use policy::{Engine, Entry, Op, Peers, PolicyKey, PolicyKind, PolicyObject, Rule};

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
    let ingress = Some(vec![Entry { peers, ports: None }]);
    PolicyObject {
        key: PolicyKey {
            kind: PolicyKind::CiliumNetworkPolicy,
            namespace: "prod".into(),
            name: format!("p{n}"),
        },
        uid: String::new(),
        labels: Vec::new(),
        rules: vec![Rule {
            subject: selector(&format!("app=s{}", n % 10)),
            ingress,
            ..Rule::default()
        }],
    }
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
