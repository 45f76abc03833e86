// SPDX-License-Identifier: Apache-2.0
//! What a change of policy or of the mesh does to flows that run: only those it is about notice.

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use support::{
    SPREAD, address, allow_all, allow_only, becomes_refused, node, place, reach, request, run,
    start,
};
use testbed::client::{Connection, Stream};
use testbed::serve::ECHO_PORT;
use testbed::{Family, Lab, LabError, eventually};

#[test]
fn flows_live_and_end_with_their_policy() {
    let mut lab = start("flows", 2, &[]);
    for family in Family::BOTH {
        a_revoked_flow_stops_and_others_live(&lab, family);
        a_new_rule_lets_the_next_try_in(&lab, family);
    }
    unrelated_changes_lose_nothing(&lab);
    a_new_pod_is_reached_at_once(&mut lab);
}

fn open(lab: &Lab, from: &str, to: &str, family: Family) -> Connection {
    let target = SocketAddr::new(address(lab, to, family), ECHO_PORT);
    let mut connection = Connection::open(&place(lab, from), target).expect("connected");
    connection.echo().expect("echoed");
    connection
}

/// The bytes that a revoked flow sends are never answered: the echo waits for its own limit.
fn a_revoked_flow_stops_and_others_live(lab: &Lab, family: Family) {
    let target = address(lab, "cluster7/c", family);
    let mut revoked = open(lab, "cluster5/a", "cluster7/c", family);
    let mut allowed = open(lab, "cluster5/b", "cluster7/c", family);
    let mut apart = open(lab, "cluster5/a", "cluster5/b", family);
    let of_cluster5 =
        "fromEndpoints: [{matchLabels: {app: b, io.cilium.k8s.policy.cluster: cluster5}}]";
    allow_only(lab, "cluster7", "c", of_cluster5);
    becomes_refused(&place(lab, "cluster5/a"), target);
    revoked.echo().expect_err("the flow is cut");
    allowed.echo().expect("an allowed flow lives");
    apart.echo().expect("a flow of others lives");
    allow_all(lab, "cluster7");
    reach(&place(lab, "cluster5/a"), target);
}

fn a_new_rule_lets_the_next_try_in(lab: &Lab, family: Family) {
    let target = address(lab, "cluster7/c", family);
    let from = place(lab, "cluster5/a");
    allow_only(lab, "cluster7", "c", "fromEntities: [none]");
    becomes_refused(&from, target);
    let of_cluster5 =
        "fromEndpoints: [{matchLabels: {app: a, io.cilium.k8s.policy.cluster: cluster5}}]";
    allow_only(lab, "cluster7", "c", of_cluster5);
    reach(&from, target);
    request(&place(lab, "cluster5/b"), target).expect_err("nobody else");
    allow_all(lab, "cluster7");
    reach(&place(lab, "cluster5/b"), target);
}

fn unrelated_changes_lose_nothing(lab: &Lab) {
    let target = SocketAddr::new(address(lab, "cluster7/c", Family::V4), ECHO_PORT);
    let stream = Stream::start(&place(lab, "cluster5/a"), target).expect("started");
    for round in 0..20 {
        let app = if round % 2 == 0 { "nobody" } else { "noone" };
        allow_only(lab, "cluster7", app, "fromEntities: [none]");
        std::thread::sleep(Duration::from_millis(50));
    }
    let loss = stream.finish().expect("counted");
    allow_all(lab, "cluster7");
    assert_eq!(loss.lost(), 0, "{loss}");
}

/// A pod of another cluster connects to here as soon as it has its address.
fn a_new_pod_is_reached_at_once(lab: &mut Lab) {
    run(lab, "cluster5", "late", "node2");
    let started = Instant::now();
    let target = address(lab, "cluster7/c", Family::V4);
    let from = place(lab, "cluster5/late");
    eventually("a new pod's first packets pass", SPREAD, || {
        request(&from, target)
    })
    .expect("an answer");
    let taken = started.elapsed();
    assert!(taken < Duration::from_secs(2), "took {taken:?}");
    let list = node(lab, "cluster7", 1);
    eventually("its address is listed", SPREAD, || {
        let text = list.cli(&["bpf", "ipcache", "list"])?;
        let own = address(lab, "cluster5/late", Family::V4).to_string();
        if text.contains(&own) {
            Ok(())
        } else {
            Err(LabError::Unmet(text))
        }
    })
    .expect("listed");
}
