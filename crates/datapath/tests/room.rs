// SPDX-License-Identifier: Apache-2.0
//! Policies that may take half of the kernel's maps, and what is in force beside what takes its place. Needs root.

#[path = "support/lab.rs"]
#[allow(dead_code, reason = "maps are all of a node that it takes")]
mod lab;
mod support;

use datapath::{Datapath, Kernel, Linux, Map, Settings};
use lab::Lab;
use model::{ClusterId, ClusterName, EndpointId, IdentityScheme, Labels, NumericIdentity};
use model::{Operator, Requirement, Selector};
use policy::{
    EnforcementMode, Engine, Entry, Families, Peers, PolicyKey, PolicyKind, PolicyObject,
    PortProtocol, PortRule, Room, Rule,
};
use support::endpoint;

const POD: EndpointId = EndpointId(9);
const WEB: NumericIdentity = NumericIdentity((5 << 16) + 1);
/// Peers that differ in a label.
const PEERS: u32 = 64;

fn labels(text: &str) -> Labels {
    let text = format!(
        "{text}k8s:io.cilium.k8s.policy.cluster=cluster5;k8s:io.kubernetes.pod.namespace=demo;"
    );
    Labels::parse(text.as_bytes()).expect("valid")
}

/// Lets in who has one of these labels, on some ports.
fn policy(peers: std::ops::Range<u32>, first: u16) -> PolicyObject {
    let has = |n| {
        let key = format!("l{n}");
        Selector::new([Requirement::new(&key, Operator::Exists)])
    };
    let port = |n: u16| PortRule {
        port: first + 2 * n,
        end_port: None,
        protocol: PortProtocol::Tcp,
    };
    let entry = |n| {
        let peers = Peers {
            endpoints: Some(vec![has(n)]),
            ..Peers::default()
        };
        Entry::new(peers, Some((0..8).map(port).collect()))
    };
    PolicyObject {
        key: PolicyKey {
            kind: PolicyKind::CiliumNetworkPolicy,
            namespace: "demo".into(),
            name: "p".into(),
        },
        uid: String::new(),
        labels: Vec::new(),
        rules: vec![Rule {
            ingress: Some(peers.map(entry).collect()),
            ..Rule::default()
        }],
    }
}

/// An agent that starts on what the kernel has, with this policy.
fn start(settings: &Settings, object: &PolicyObject) -> (Datapath<Linux>, Engine) {
    let linux = Linux::open(settings).unwrap_or_else(|error| panic!("{error}"));
    let half = |map| linux.limit(map) as usize / 2;
    let mut engine = Engine::new(policy::Settings {
        scheme: IdentityScheme::default(),
        cluster_id: ClusterId(5),
        cluster: ClusterName::new("cluster5").expect("valid"),
        default_local_cluster: true,
        families: Families::Ipv4,
        mode: EnforcementMode::Default,
        allow_localhost: true,
        max_classes: 2048,
        room: Room {
            policies: half(Map::Policies),
            rows: half(Map::Rows),
        },
    });
    engine.upsert_identity(WEB, labels("k8s:app=web;"));
    engine.upsert_endpoint(POD, WEB);
    for n in 0..PEERS {
        let peer = NumericIdentity(WEB.0 + 1 + n);
        engine.upsert_identity(peer, labels(&format!("k8s:l{n}=;")));
    }
    engine.upsert_policy(object.clone()).expect("valid");
    let mut datapath = Datapath::new(linux).expect("adopts");
    datapath
        .put_endpoint(&endpoint(POD.0, 12, lab::POD_IP))
        .expect("room");
    commit(&mut datapath, &mut engine);
    datapath.prune_policy().expect("removable");
    (datapath, engine)
}

fn commit(datapath: &mut Datapath<Linux>, engine: &mut Engine) {
    datapath.apply(&engine.commit()).expect("there is room");
    assert!(datapath.full_maps().is_empty() && datapath.waiting_ops() == 0);
}

fn policy_of(datapath: &Datapath<Linux>) -> u32 {
    let mut slots = datapath.endpoints();
    let slot = slots.find(|(id, _)| *id == POD);
    slot.expect("its endpoint").1.policy
}

#[test]
fn nothing_that_is_admitted_fills_a_map() {
    let lab = Lab::new();
    let fits = policy(0..30, 1);
    // Just room for that policy: twice, because what takes its place is there at the same time.
    let settings = Settings {
        policies_max: 2 * 37,
        rows_max: 2 * 320,
        ..lab.settings()
    };
    let mut before = 0;
    for run in 0..4 {
        let (mut datapath, mut engine) = start(&settings, &fits);
        assert!(engine.taken().policies > 30 && engine.taken().rows > 240);
        assert_ne!(policy_of(&datapath), before, "run {run}");
        // The other half of the peers, and other ports: old and new share nothing.
        engine.upsert_policy(policy(30..60, 101)).expect("valid");
        commit(&mut datapath, &mut engine);
        assert_eq!(engine.refused(), []);
        before = policy_of(&datapath);
        // More peers, or more ports, than there is room for.
        for huge in [policy(0..60, 1), policy(20..60, 301)] {
            engine.upsert_policy(huge.clone()).expect("valid");
            commit(&mut datapath, &mut engine);
            let refused = engine.refused();
            assert_eq!(refused.len(), 1);
            assert_eq!(refused[0].object, huge);
        }
        assert_eq!(policy_of(&datapath), before);
    }
}
