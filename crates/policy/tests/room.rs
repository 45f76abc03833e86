// SPDX-License-Identifier: Apache-2.0
//! Changes that need more room than the kernel's maps have: who is refused, and that others do not notice.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::kernel::Kernel;
use common::{object, pod, selector, settings};
use model::{EndpointId, NumericIdentity};
use policy::{
    Action, Direction, Engine, Entry, Op, Peers, PolicyObject, PortProtocol, PortRule, Room, Rule,
    Settings,
};

/// Pods of the tenants `a` and `b`, and a peer of theirs.
const A: EndpointId = EndpointId(1);
const B: EndpointId = EndpointId(2);
const LATE: EndpointId = EndpointId(3);
const PEER: NumericIdentity = NumericIdentity((5 << 16) + 9);

struct Lab {
    engine: Engine,
    kernel: Kernel,
    refused: Vec<(String, bool)>,
}

fn identity(id: EndpointId) -> NumericIdentity {
    NumericIdentity((5 << 16) + u32::from(id.0))
}

/// Ingress of a tenant's pods from who has one of `labels` labels each, on `ports` ports.
fn policy(name: &str, tenant: &str, labels: usize, ports: u16) -> PolicyObject {
    let entry = |n: usize| {
        let peers = Peers {
            endpoints: Some(vec![selector(&format!("l{n}"))]),
            ..Peers::default()
        };
        let port = |n| PortRule {
            port: 2 * n + 1,
            end_port: None,
            protocol: PortProtocol::Tcp,
        };
        Entry::new(peers, (ports > 0).then(|| (0..ports).map(port).collect()))
    };
    object(
        name,
        Rule {
            subject: selector(&format!("tenant={tenant}")),
            ingress: Some((0..labels).map(entry).collect()),
            ..Rule::default()
        },
    )
}

impl Lab {
    /// A node with a pod of each tenant, and 32 identities that differ in their labels.
    fn new(room: Room) -> Self {
        let mut engine = Engine::new(Settings { room, ..settings() });
        for n in 0..32 {
            let id = NumericIdentity(PEER.0 + n);
            let labels = pod("cluster5", "prod", &format!("k8s:l{n}=;"));
            engine.upsert_identity(id, labels);
        }
        let mut lab = Self {
            engine,
            kernel: Kernel::default(),
            refused: Vec::new(),
        };
        lab.pod(A, "a");
        lab.pod(B, "b");
        lab.commit();
        lab
    }

    fn pod(&mut self, id: EndpointId, tenant: &str) {
        let labels = format!("k8s:tenant={tenant};");
        let labels = pod("cluster5", "prod", &labels);
        self.engine.upsert_identity(identity(id), labels);
        self.engine.upsert_endpoint(id, identity(id));
    }

    fn put(&mut self, object: PolicyObject) {
        self.engine.upsert_policy(object).expect("valid");
    }

    /// Whom the commit refused: names, and whether an earlier version stays.
    fn commit(&mut self) -> Vec<(String, bool)> {
        for op in self.engine.commit() {
            self.kernel.apply(&op);
        }
        let refused = self.engine.refused().into_iter();
        let named = |refusal: policy::Refusal| {
            let stays = refusal.earlier.is_some();
            self.refused.push((refusal.object.key.name.clone(), stays));
            (refusal.object.key.name, stays)
        };
        refused.map(named).collect()
    }

    /// Whether the `n`th peer reaches port 1 of a pod.
    fn lets(&self, id: EndpointId, n: u32) -> Option<Action> {
        let peer = NumericIdentity(PEER.0 + n);
        self.kernel.action(id, Direction::Ingress, peer, (6, 1))
    }
}

fn room(policies: usize) -> Room {
    Room {
        policies,
        rows: 10 * policies,
    }
}

fn named(name: &str, stays: bool) -> Vec<(String, bool)> {
    vec![(name.to_owned(), stays)]
}

#[test]
fn who_grew_most_is_refused_and_nobody_else() {
    let mut lab = Lab::new(room(40));
    lab.put(policy("small", "b", 1, 1));
    lab.put(policy("huge", "a", 30, 1));
    assert_eq!(lab.commit(), named("huge", false));
    assert_eq!(lab.lets(A, 0), Some(Action::Allow), "as before");
    assert_eq!(lab.lets(A, 31), Some(Action::Allow), "nothing selects it");
    assert_eq!(lab.lets(B, 0), Some(Action::Allow));
    assert_eq!(lab.lets(B, 1), Some(Action::DefaultDeny));
    assert_eq!(lab.engine.policies().count(), 1);
    // A large policy that says almost the same is not the one.
    lab.put(policy("large", "a", 6, 1));
    assert_eq!(lab.commit(), []);
    lab.put(policy("large", "a", 7, 1));
    lab.put(policy("other", "b", 28, 1));
    assert_eq!(lab.commit(), named("other", false));
    assert_eq!(lab.lets(A, 6), Some(Action::Allow));
}

#[test]
fn the_earlier_version_stays() {
    let mut lab = Lab::new(room(24));
    lab.put(policy("p", "a", 2, 1));
    lab.commit();
    let before = lab.kernel.clone();
    for huge in [policy("p", "a", 30, 1), policy("p", "a", 2, 300)] {
        lab.put(huge);
        assert_eq!(lab.commit(), named("p", true));
        assert_eq!(lab.kernel, before, "not a single write");
        let in_force: Vec<_> = lab.engine.policies().cloned().collect();
        assert_eq!(in_force, [policy("p", "a", 2, 1)]);
    }
    lab.put(policy("p", "a", 3, 1));
    assert_eq!(lab.commit(), []);
    assert_eq!(lab.lets(A, 2), Some(Action::Allow));
}

#[test]
fn it_is_taken_when_others_need_less() {
    let mut lab = Lab::new(room(70));
    lab.put(policy("first", "a", 20, 1));
    lab.commit();
    lab.put(policy("second", "b", 25, 1));
    assert_eq!(lab.commit(), named("second", false));
    lab.engine.remove_policy(&policy("first", "a", 20, 1).key);
    lab.put(policy("second", "b", 25, 1));
    assert_eq!(lab.commit(), []);
    assert_eq!(lab.lets(B, 24), Some(Action::Allow));
    assert_eq!(lab.lets(B, 25), Some(Action::DefaultDeny));
}

/// Nobody changed a policy: a pod whose policy has no room gets no packets, and one that had another keeps it.
#[test]
fn a_pod_whose_policy_has_no_room_waits_alone() {
    let mut lab = Lab::new(room(30));
    lab.put(policy("huge", "c", 30, 1));
    assert_eq!(lab.commit(), [], "it selects nobody");
    lab.pod(LATE, "c");
    lab.pod(EndpointId(4), "b");
    assert_eq!(lab.commit(), []);
    let waiting = |lab: &Lab| lab.engine.unplaced().collect::<Vec<_>>();
    assert_eq!(waiting(&lab), [LATE]);
    assert_eq!(lab.lets(LATE, 0), None);
    assert_eq!(lab.lets(EndpointId(4), 0), Some(Action::Allow));
    lab.pod(B, "c");
    lab.commit();
    assert_eq!(waiting(&lab), [B, LATE]);
    assert_eq!(lab.lets(B, 31), Some(Action::Allow), "as before");
    lab.engine.retry_unplaced();
    assert_eq!(lab.engine.commit(), [], "nothing fits better than before");
    lab.put(policy("huge", "c", 2, 1));
    assert_eq!(lab.commit(), []);
    assert_eq!(waiting(&lab), []);
    assert_eq!(lab.lets(LATE, 1), Some(Action::Allow));
    assert_eq!(lab.lets(B, 31), Some(Action::DefaultDeny));
}

/// What was there before an engine may be in force from an earlier run, where it fits: endpoints keep that.
#[test]
fn what_an_engine_begins_with_is_not_taken_back() {
    let mut engine = Lab::new(room(24)).engine;
    for object in [policy("huge", "a", 30, 1), policy("small", "b", 1, 1)] {
        engine.upsert_policy(object).expect("valid");
    }
    let mut fresh = Engine::new(Settings {
        room: room(24),
        ..settings()
    });
    for n in 0..32 {
        let labels = pod("cluster5", "prod", &format!("k8s:l{n}=;"));
        fresh.upsert_identity(NumericIdentity(PEER.0 + n), labels);
    }
    for (id, tenant) in [(A, "a"), (B, "b")] {
        let labels = pod("cluster5", "prod", &format!("k8s:tenant={tenant};"));
        fresh.upsert_identity(identity(id), labels);
        fresh.upsert_endpoint(id, identity(id));
    }
    for object in engine.policies() {
        fresh.upsert_policy(object.clone()).expect("valid");
    }
    let ops = fresh.commit();
    assert_eq!(fresh.refused(), []);
    assert_eq!(fresh.unplaced().collect::<Vec<_>>(), [A]);
    let flips = |op: &&Op| matches!(op, Op::SetEndpointPolicy { endpoint: B, .. });
    assert_eq!(ops.iter().filter(flips).count(), 1);
}

/// What is too much because of identities may still become less, and what does not grow may change.
#[test]
fn a_full_node_still_follows_what_needs_no_more() {
    let mut lab = Lab::new(room(78));
    lab.put(policy("a", "a", 30, 1));
    assert_eq!(lab.commit(), []);
    for n in 0..40u32 {
        let labels = format!("k8s:l{}=;k8s:l{}=;", n % 7, 7 + n % 11);
        let labels = pod("cluster5", "prod", &labels);
        let id = NumericIdentity(PEER.0 + 100 + n);
        lab.engine.upsert_identity(id, labels);
    }
    assert_eq!(lab.commit(), [], "identities are not refused");
    assert!(lab.engine.taken().policies > 78);
    lab.put(policy("a", "a", 29, 1));
    assert_eq!(lab.commit(), []);
    assert_eq!(lab.lets(A, 29), Some(Action::DefaultDeny));
    lab.put(policy("a", "a", 30, 1));
    assert_eq!(lab.commit(), named("a", true));
}

/// One large policy after the other: each may have half of what is left, and small ones still fit.
#[test]
fn a_large_policy_leaves_some_to_others() {
    let mut lab = Lab::new(room(50));
    lab.put(policy("large", "a", 16, 1));
    assert_eq!(lab.commit(), []);
    lab.put(policy("next", "b", 12, 1));
    assert_eq!(lab.commit(), named("next", false));
    lab.put(policy("small", "b", 3, 1));
    assert_eq!(lab.commit(), []);
    // Pods have all of it.
    lab.put(policy("huge", "c", 15, 1));
    assert_eq!(lab.commit(), []);
    lab.pod(LATE, "c");
    assert_eq!(lab.commit(), []);
    assert_eq!(lab.engine.unplaced().count(), 1);
    lab.put(policy("huge", "c", 1, 1));
    assert_eq!(lab.commit(), []);
    assert_eq!(lab.lets(LATE, 0), Some(Action::Allow));
}
