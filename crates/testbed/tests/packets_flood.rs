// SPDX-License-Identifier: Apache-2.0
//! A pod that is sent datagrams from ever other ports: its share of conntrack is used up, and it serves and asks on.

mod support;

use std::net::IpAddr;

use support::{
    SPREAD, address, allow_only, becomes_refused, node, place, reach, request, socket, start,
};
use testbed::{Family, Lab, Place, eventually};

/// Entries of the whole table; a pod has half of them, and others three quarters of these.
const TABLE: &str = "--bpf-ct-global-max=1024";

#[test]
fn a_flooded_pod_serves_and_asks_on() {
    let lab = start("flood", 1, &[TABLE]);
    let of_a = "fromEndpoints: [{matchLabels: {app: a, io.cilium.k8s.policy.cluster: cluster5}}]";
    allow_only(&lab, "cluster7", "c", of_a);
    let target = address(&lab, "cluster7/c", Family::V4);
    let [a, b, c] = ["cluster5/a", "cluster5/b", "cluster7/c"].map(|name| place(&lab, name));
    becomes_refused(&b, target);
    flood(&a, target);
    // All of them fit neither the share nor what others may use of it.
    let seen = entries(&lab);
    assert!((384..=512).contains(&seen), "{seen} entries");
    for family in Family::BOTH {
        reach(&a, address(&lab, "cluster7/c", family));
        request(&b, address(&lab, "cluster7/c", family)).expect_err("policy is in force");
        // Policy refuses what comes by itself: these are answers.
        request(&c, address(&lab, "cluster5/b", family)).expect("the pod's own flows have entries");
    }
    let agent = node(&lab, "cluster7", 1);
    // A warning is an error's exit status.
    let status = || {
        agent
            .cli(&["status"])
            .unwrap_or_else(|error| error.to_string())
    };
    let warning = "conntrack share: the share of default/c is used up";
    eventually("status names the pod", SPREAD, || {
        flood(&a, target);
        let status = status();
        status.contains(warning).then_some(()).ok_or(status)
    })
    .expect("named");
    eventually("status is content when it is over", SPREAD * 6, || {
        let status = status();
        (!status.contains(warning)).then_some(()).ok_or(status)
    })
    .expect("content");
}

/// A datagram from each of 1,500 ports.
fn flood(from: &Place, to: IpAddr) {
    for port in 20_000..21_500 {
        let socket = socket(from, Family::V4, port);
        socket.connect((to, 7777)).expect("connected");
        socket.send(b"?").expect("sent");
    }
}

/// Conntrack entries on the node of the flooded pod.
fn entries(lab: &Lab) -> usize {
    let list = node(lab, "cluster7", 1).cli(&["bpf", "ct", "list", "global"]);
    list.expect("a list").lines().count()
}
