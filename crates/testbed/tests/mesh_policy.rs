// SPDX-License-Identifier: Apache-2.0
//! Label policy across clusters, its changes under traffic, and what a drop says of itself.

mod common;

use std::fs;
use std::time::Duration;

use common::{Mesh, SPREAD, manifests};
use serde_json::Value;
use testbed::{Family, eventually};

const FILE: &str = "backend-from-cluster5-frontend.yaml";

#[test]
fn only_the_labels_of_the_named_cluster_pass() {
    let mesh = Mesh::start("policy");
    let backend = "cluster7/backend-1";
    mesh.reach("cluster5/reports-1", backend, Family::V4);
    mesh.lab
        .cluster("cluster7")
        .apply(&manifests().join("policy").join(FILE))
        .expect("applied");
    mesh.becomes_refused("cluster5/reports-1", backend);
    only_frontends_of_cluster5_pass(&mesh);
    the_drop_names_all(&mesh);
    a_policy_with_an_unknown_field_changes_nothing(&mesh);
    mesh.lab
        .cluster("cluster7")
        .withdraw(FILE)
        .expect("withdrawn");
    for family in Family::BOTH {
        mesh.reach("cluster5/reports-1", backend, family);
    }
}

fn only_frontends_of_cluster5_pass(mesh: &Mesh) {
    for family in Family::BOTH {
        for backend in ["cluster7/backend-1", "cluster7/backend-2"] {
            mesh.reach("cluster5/frontend-1", backend, family);
            mesh.assert_refused("cluster5/reports-2", backend, family);
            mesh.assert_refused("cluster7/frontend-1", backend, family);
        }
        // Nobody selected these.
        mesh.reach("cluster5/reports-1", "cluster7/frontend-1", family);
    }
}

fn the_drop_names_all(mesh: &Mesh) {
    let (from, to) = ("cluster5/reports-1", "cluster7/backend-1");
    let monitor = mesh.lab.cluster("cluster7").nodes[0]
        .monitor()
        .expect("a monitor");
    let (source, destination) = (
        mesh.lab.pod(from).expect("a pod"),
        mesh.lab.pod(to).expect("a pod"),
    );
    let source = source.address(Family::V4).expect("an address").to_string();
    let destination = destination
        .address(Family::V4)
        .expect("an address")
        .to_string();
    let between = |event: &Value| {
        let own = &event["isthmus"];
        own["source"]["address"] == *source && own["destination"]["address"] == *destination
    };
    let event = eventually("the drop is in the event stream", SPREAD, || {
        mesh.assert_refused(from, to, Family::V4);
        monitor.find("a drop between the two", between)
    });
    let event = event.expect("an event");
    let own = &event["isthmus"];
    assert_eq!(event["reason"], "Policy denied");
    assert_eq!(own["node"], "cluster7/node1");
    assert_eq!(
        own["rule"]["policies"][0],
        "cnp default/backend-from-cluster5-frontend"
    );
    let labels = |side: &str| own[side]["labels"].to_string();
    assert!(labels("source").contains("k8s:app=reports"), "{event}");
    assert!(
        labels("source").contains("k8s:io.cilium.k8s.policy.cluster=cluster5"),
        "{event}"
    );
    assert!(labels("destination").contains("k8s:app=backend"), "{event}");
}

fn a_policy_with_an_unknown_field_changes_nothing(mesh: &Mesh) {
    let path = manifests().join("policy").join(FILE);
    let text = fs::read_to_string(path).expect("readable");
    let broken = text.replace("  ingress:\n", "  ingressRules: []\n  ingress:\n");
    assert_ne!(text, broken);
    mesh.lab
        .cluster("cluster7")
        .apply_text(FILE, &broken)
        .expect("applied");
    std::thread::sleep(Duration::from_millis(500));
    only_frontends_of_cluster5_pass(mesh);
    let log = mesh.lab.cluster("cluster7").nodes[0].log_tail(50);
    assert!(
        log.contains("ingressRules"),
        "the field is named in:\n{log}"
    );
}
