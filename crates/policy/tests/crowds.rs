// SPDX-License-Identifier: Apache-2.0
//! A cluster whose labels make as many classes as they can: its bound, and that others do not notice.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::kernel::Kernel;
use common::{object, pod, selector, settings};
use model::{EndpointId, NumericIdentity};
use policy::{Action, Direction, Engine, Entry, Peers, PolicyObject, Rule, Settings};

const WEB: NumericIdentity = NumericIdentity((5 << 16) + 1);
const POD: EndpointId = EndpointId(1);
const MAX: usize = 16;
const LABELS: usize = 8;

struct Lab {
    engine: Engine,
    kernel: Kernel,
}

/// Ingress from who has label `n`, in whatever cluster.
fn policy(n: usize) -> PolicyObject {
    let from = selector(&format!("l{n},io.cilium.k8s.policy.cluster"));
    let peers = Peers {
        endpoints: Some(vec![from]),
        ..Peers::default()
    };
    object(
        &format!("p{n}"),
        Rule {
            ingress: Some(vec![Entry::new(peers, None)]),
            ..Rule::default()
        },
    )
}

fn id(cluster: u32, n: usize) -> NumericIdentity {
    NumericIdentity((cluster << 16) + 256 + n as u32)
}

impl Lab {
    fn new() -> Self {
        let mut engine = Engine::new(Settings {
            max_classes: MAX,
            ..settings()
        });
        engine.upsert_identity(WEB, pod("cluster5", "prod", "k8s:app=web;"));
        engine.upsert_endpoint(POD, WEB);
        let kernel = Kernel::default();
        Self { engine, kernel }
    }

    fn commit(&mut self) {
        let ops = self.engine.commit();
        ops.iter().for_each(|op| self.kernel.apply(op));
    }

    /// An identity with a label for each bit of `set`.
    fn identity(&mut self, cluster: u32, set: usize) {
        let labels = (0..LABELS).filter(|n| set & (1 << n) != 0);
        let labels: String = labels.map(|n| format!("k8s:l{n}=;")).collect();
        let labels = pod(&format!("cluster{cluster}"), "prod", &labels);
        self.engine.upsert_identity(id(cluster, set), labels);
    }

    fn policies(&mut self) {
        for n in 0..LABELS {
            self.engine.upsert_policy(policy(n)).expect("valid");
        }
    }

    fn lets_in(&self, cluster: u32, set: usize) -> bool {
        let way = Direction::Ingress;
        let action = self.kernel.action(POD, way, id(cluster, set), (6, 80));
        action.expect("every lookup finds a row") == Action::Allow
    }

    /// Three clusters of which one has every set of labels.
    fn check(&mut self) {
        self.commit();
        let rows = self.kernel.policies.len();
        assert!(rows < 3 * MAX, "{rows} rows");
        for set in [0, 1, 6, 255] {
            for cluster in [5, 9] {
                assert_eq!(self.lets_in(cluster, set), set != 0, "{cluster} {set}");
            }
        }
        // What others have too is nobody's alone.
        let counts = 256 - self.engine.left_out().len();
        assert!((MAX..MAX + 4).contains(&counts), "{counts} count");
        let entering = (0..1 << LABELS).filter(|set| self.lets_in(7, *set)).count();
        assert!(
            (counts - 1..=counts).contains(&entering),
            "{entering} of {counts} may come in"
        );
        assert!(!self.lets_in(7, 0));
    }

    fn everybody(&mut self) {
        for cluster in [5, 9] {
            [0, 1, 6, 255]
                .into_iter()
                .for_each(|set| self.identity(cluster, set));
        }
        (0..1 << LABELS).for_each(|set| self.identity(7, set));
    }
}

#[test]
fn whatever_comes_first() {
    let mut lab = Lab::new();
    lab.policies();
    lab.everybody();
    lab.check();
    let mut lab = Lab::new();
    lab.everybody();
    lab.commit();
    assert_eq!(lab.engine.left_out().len(), 0, "nobody asks for labels");
    lab.policies();
    lab.check();
    // One by one, and told again.
    let mut lab = Lab::new();
    lab.policies();
    for cluster in [5, 9] {
        [0, 1, 6, 255]
            .into_iter()
            .for_each(|set| lab.identity(cluster, set));
    }
    for set in 0..1 << LABELS {
        lab.identity(7, set);
        lab.commit();
    }
    lab.everybody();
    assert!(lab.engine.commit().is_empty());
    lab.check();
    lab.engine = lab.engine.anew([]);
    lab.kernel = Kernel::default();
    lab.check();
}

#[test]
fn who_was_left_out_counts_when_there_is_room() {
    let mut lab = Lab::new();
    lab.policies();
    lab.everybody();
    lab.check();
    let counting: Vec<usize> = (0..1 << LABELS)
        .filter(|set| lab.lets_in(7, *set))
        .collect();
    for set in &counting {
        lab.engine.remove_identity(id(7, *set));
    }
    lab.commit();
    for cluster in [5, 9] {
        lab.identity(cluster, 3);
    }
    lab.commit();
    let now = (0..1 << LABELS).filter(|set| lab.lets_in(7, *set)).count();
    assert!(now >= MAX - 1, "{now} may come in");
    assert!(counting.iter().all(|set| !lab.lets_in(7, *set)));
    // Without policies all count.
    for n in 0..LABELS {
        lab.engine.remove_policy(&policy(n).key);
    }
    lab.commit();
    lab.identity(9, 2);
    lab.commit();
    assert_eq!(lab.engine.left_out().len(), 0);
}
