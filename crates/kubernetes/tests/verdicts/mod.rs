// SPDX-License-Identifier: Apache-2.0
//! From manifests to verdicts: the peers of the decision cases, and what policies let them do with one pod.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

#[path = "../../../policy/tests/common/kernel.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with the policy crate's tests"
)]
mod kernel;

use std::collections::BTreeMap;

use kernel::Kernel;
use kubernetes::{Manifests, ObjectEvent};
use model::{
    ClusterId, ClusterName, EndpointId, IdentityScheme, Labels, NamedPort, NumericIdentity,
    Protocol, reserved,
};
use policy::{Action, Direction, EnforcementMode, Engine, Families, PolicyObject, Room, Settings};

pub const W: u32 = (5 << 16) + 1;
pub const A: u32 = (5 << 16) + 2;
pub const B: u32 = (5 << 16) + 3;
pub const X: u32 = (5 << 16) + 4;
pub const R: u32 = (7 << 16) + 1;
pub const H: u32 = 1;
pub const N: u32 = 6;
/// 192.0.2.3, outside.
pub const E: u32 = u32::MAX;
pub const TCP: (u8, u16) = (6, 80);
pub const PING: (u8, u16) = (1, 8);

pub fn read(kind: &str, spec: &str) -> (Vec<PolicyObject>, Vec<String>) {
    let text = format!("{kind}\nmetadata: {{name: p, namespace: prod}}\nspec: {spec}\n");
    let mut manifests = Manifests::default();
    let events = manifests.update(BTreeMap::from([("p.yaml".to_owned(), Some(text))]));
    let objects = events.into_iter().filter_map(|event| match event {
        ObjectEvent::Policy(policy) => Some(policy),
        _ => None,
    });
    let problems = manifests.problems();
    (
        objects.collect(),
        problems.iter().map(ToString::to_string).collect(),
    )
}

pub const NP: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy";

/// Cluster 5, dual stack, everything at its default.
pub fn settings() -> Settings {
    Settings {
        scheme: IdentityScheme::default(),
        cluster_id: ClusterId(5),
        cluster: ClusterName::new("cluster5").expect("valid"),
        default_local_cluster: true,
        families: Families::Dual,
        mode: EnforcementMode::Default,
        allow_localhost: true,
        max_classes: 2048,
        room: Room::UNBOUNDED,
    }
}

pub struct Case {
    number: u32,
    kernel: Kernel,
}

impl Case {
    pub fn new(number: u32, objects: Vec<PolicyObject>) -> Self {
        Self::with(number, settings(), objects)
    }

    pub fn with(number: u32, settings: Settings, objects: Vec<PolicyObject>) -> Self {
        let mut engine = Engine::new(settings);
        let pod = |cluster: &str, namespace: &str, labels: &str| {
            let text = format!(
                "{labels}k8s:io.cilium.k8s.policy.cluster={cluster};k8s:io.kubernetes.pod.namespace={namespace};"
            );
            Labels::parse(text.as_bytes()).expect("valid")
        };
        let team = "k8s:app=a;k8s:io.cilium.k8s.namespace.labels.team=x;";
        for (n, labels) in [
            (W, pod("cluster5", "prod", "k8s:app=web;")),
            (A, pod("cluster5", "prod", "k8s:app=a;")),
            (B, pod("cluster5", "prod", "k8s:app=b;")),
            (X, pod("cluster5", "other", team)),
            (R, pod("cluster7", "prod", "k8s:app=a;")),
        ] {
            engine.upsert_identity(NumericIdentity(n), labels);
        }
        engine.upsert_endpoint(EndpointId(1), NumericIdentity(W));
        let http = |port| NamedPort {
            name: "http".into(),
            port,
            protocol: Protocol::Tcp,
        };
        engine.set_named_ports(EndpointId(1), &[http(8080)].into());
        for (peer, port) in [(A, 8080), (B, 9090)] {
            engine.set_identity_ports(NumericIdentity(peer), &[http(port)]);
        }
        for object in objects {
            engine.upsert_policy(object).expect("valid");
        }
        let mut kernel = Kernel::default();
        engine.commit().iter().for_each(|op| kernel.apply(op));
        Self { number, kernel }
    }

    pub fn action(&self, way: Direction, peer: u32, flow: (u8, u16)) -> Action {
        let address = "192.0.2.3".parse().expect("valid");
        let identity = match peer {
            E => self.kernel.resolve(address, reserved::WORLD_IPV4),
            n => NumericIdentity(n),
        };
        let action = self.kernel.action(EndpointId(1), way, identity, flow);
        action.expect("every lookup finds a row")
    }

    #[track_caller]
    pub fn check(&self, way: Direction, peers: &[u32], flow: (u8, u16), allowed: bool) {
        for &peer in peers {
            let verdict = self.action(way, peer, flow) == Action::Allow;
            assert_eq!(verdict, allowed, "case {}: {peer} {flow:?}", self.number);
        }
    }

    #[track_caller]
    pub fn ingress(&self, peers: &[u32], flow: (u8, u16), allowed: bool) -> &Self {
        self.check(Direction::Ingress, peers, flow, allowed);
        self
    }

    #[track_caller]
    pub fn egress(&self, peers: &[u32], flow: (u8, u16), allowed: bool) -> &Self {
        self.check(Direction::Egress, peers, flow, allowed);
        self
    }
}
