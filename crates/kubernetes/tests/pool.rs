// SPDX-License-Identifier: Apache-2.0
//! Nodes that take their networks from the cluster's pool, all at once, against a server that refuses stale writes; and what
//! they do while it refuses everything.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test binary uses a part")]
mod fake;

use std::collections::BTreeSet;
use std::time::Duration;

use axum::http::StatusCode;
use fake::Fake;
use kubernetes::api::{Ipam, Pool, Pools, connect, keep_networks, pod_networks};
use serde_json::json;

const NODES: &str = "/apis/cilium.io/v2/ciliumnodes";
const MACHINES: &str = "/api/v1/nodes";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
const LEASE: &str = "cilium-operator-resource-lock";

fn ipam() -> Ipam {
    Ipam::ClusterPool(pools())
}

fn pools() -> Pools {
    let pool = |cidr: &str, mask| {
        let cidrs = vec![cidr.parse().unwrap()];
        Some(Pool { cidrs, mask })
    };
    Pools {
        v4: pool("10.5.0.0/16", 24),
        v6: pool("fd00:5::/64", 80),
        namespace: "kube-system".into(),
    }
}

#[tokio::test]
async fn nodes_take_turns_and_networks_of_their_own() {
    let (fake, _running) = Fake::start().await;
    fake.put(
        NODES,
        "old",
        json!({"spec": {"ipam": {"podCIDRs": ["10.5.0.0/23"]}}}),
    );
    let dir = tempfile::tempdir().unwrap();
    let nodes = (0..8).map(|n| {
        let (settings, file) = (fake.settings(), dir.path().join(n.to_string()));
        tokio::spawn(async move {
            let client = connect(&settings).await.unwrap();
            pod_networks(&client, &format!("n{n}"), &ipam(), (true, true), &file).await
        })
    });
    let nodes: Vec<_> = nodes.collect();
    let mut seen = BTreeSet::new();
    for node in nodes {
        let networks = node.await.unwrap();
        let v4 = networks.v4.unwrap();
        assert!(!v4.contains(&"10.5.1.0/24".parse::<ipnet::Ipv4Net>().unwrap()));
        assert!(seen.insert(v4.to_string()), "{v4} twice");
        assert!(seen.insert(networks.v6.unwrap().to_string()));
    }
    let shared = fake.shared.lock().unwrap();
    let lease = &shared.objects[LEASES][LEASE];
    assert_eq!(lease["spec"]["holderIdentity"], "", "given back: {lease}");
}

#[tokio::test]
async fn a_node_gets_what_it_had_and_keeps_what_it_has() {
    let (fake, _running) = Fake::start().await;
    let client = fake.client().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("networks");
    std::fs::write(&file, json!(["10.5.77.0/24"]).to_string()).unwrap();
    let networks = pod_networks(&client, "n1", &ipam(), (true, false), &file).await;
    assert_eq!(networks.v4, Some("10.5.77.0/24".parse().unwrap()));
    // Another family later keeps the first.
    let networks = pod_networks(&client, "n1", &ipam(), (true, true), &file).await;
    assert_eq!(networks.v4, Some("10.5.77.0/24".parse().unwrap()));
    assert_eq!(networks.v6, Some("fd00:5::/80".parse().unwrap()));
}

#[tokio::test]
async fn an_operator_that_lives_has_the_pool_to_itself() {
    let (fake, _running) = Fake::start().await;
    let client = fake.client().await;
    let held = |seconds: u32| {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"namespace": "kube-system"},
            "spec": {"holderIdentity": "operator-1", "leaseDurationSeconds": seconds, "renewTime": "2026-01-01T00:00:00.000000Z"}})
    };
    fake.put(LEASES, LEASE, held(15));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("networks");
    let ipam = ipam();
    let taking = pod_networks(&client, "n1", &ipam, (true, false), &file);
    let mut taking = std::pin::pin!(taking);
    let waited = tokio::time::timeout(Duration::from_millis(600), &mut taking).await;
    assert!(waited.is_err(), "it is the operator's");
    assert!(!fake.shared.lock().unwrap().objects.contains_key(NODES));
    // A holder that is gone is followed.
    fake.put(LEASES, LEASE, held(1));
    let networks = tokio::time::timeout(Duration::from_secs(10), taking).await;
    assert_eq!(networks.unwrap().v4, Some("10.5.0.0/24".parse().unwrap()));
}

/// A CiliumNode with these networks.
fn cilium_node(nets: &[&str]) -> serde_json::Value {
    json!({"spec": {"addresses": [], "ipam": {"podCIDRs": nets}}})
}

/// Keeps the networks of `n1` and returns what it tells.
async fn keep(fake: &Fake, own: &[&str]) -> tokio::sync::mpsc::UnboundedReceiver<Option<String>> {
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    let client = fake.client().await;
    let own: Vec<_> = own.iter().map(|net| net.parse().unwrap()).collect();
    tokio::spawn(async move {
        let tell = |result: Result<(), String>| drop(tell.send(result.err()));
        keep_networks(client, "n1", &pools(), &own, tell).await;
    });
    told
}

#[tokio::test]
async fn what_a_node_uses_stays_in_its_cilium_node() {
    let (fake, _running) = Fake::start().await;
    let own = ["10.5.3.0/24", "fd00:5::300/120"];
    fake.put(MACHINES, "n1", json!({"metadata": {"uid": "u1"}}));
    fake.put(NODES, "n1", cilium_node(&own));
    let mut told = keep(&fake, &own).await;
    assert_eq!(told.recv().await, Some(None));
    // Deleted, then written without networks, as the agent writes it otherwise, then with one of two.
    fake.delete(NODES, "n1");
    assert_eq!(told.recv().await, Some(None));
    let node = fake.shared.lock().unwrap().objects[NODES]["n1"].clone();
    assert_eq!(
        node["metadata"]["ownerReferences"][0]["uid"], "u1",
        "{node}"
    );
    for nets in [&[][..], &own[1..]] {
        fake.put(NODES, "n1", cilium_node(nets));
        let limit = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            let object = fake.shared.lock().unwrap().objects[NODES]["n1"].clone();
            let said = object["spec"]["ipam"]["podCIDRs"].as_array().unwrap();
            if own.iter().all(|net| said.contains(&json!(net))) {
                break;
            }
            assert!(tokio::time::Instant::now() < limit, "{object}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn a_network_that_two_nodes_have_is_told() {
    let (fake, _running) = Fake::start().await;
    fake.put(MACHINES, "n1", json!({"metadata": {"uid": "u1"}}));
    fake.put(NODES, "n1", cilium_node(&["10.5.3.0/24"]));
    fake.put(NODES, "n2", cilium_node(&["10.5.4.0/23"]));
    let mut told = keep(&fake, &["10.5.4.0/24"]).await;
    let text = told.recv().await.unwrap().unwrap();
    assert!(
        text.contains("10.5.3.0/24") && text.contains("10.5.4.0/24"),
        "{text}"
    );
    fake.delete(NODES, "n1");
    let text = told.recv().await.unwrap().unwrap();
    assert!(text.contains("CiliumNode n2 has 10.5.4.0/23"), "{text}");
    // As soon as the other one is gone it is this node's again.
    fake.delete(NODES, "n2");
    while told.recv().await.unwrap().is_some() {}
    let node = fake.shared.lock().unwrap().objects[NODES]["n1"].clone();
    assert_eq!(node["spec"]["ipam"]["podCIDRs"], json!(["10.5.4.0/24"]));
}

#[tokio::test]
async fn a_node_that_left_the_cluster_takes_nothing_back() {
    let (fake, _running) = Fake::start().await;
    let own = ["10.5.3.0/24"];
    fake.put(NODES, "n1", cilium_node(&own));
    let mut told = keep(&fake, &own).await;
    assert_eq!(told.recv().await, Some(None));
    fake.delete(NODES, "n1");
    assert_eq!(told.recv().await, Some(None));
    assert!(fake.shared.lock().unwrap().objects[NODES].is_empty());
}

#[tokio::test]
async fn a_server_that_only_refuses_is_as_good_as_none() {
    let (fake, _running) = Fake::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("networks");
    let client = fake.client().await;
    fake.shared.lock().unwrap().refusal = Some(StatusCode::FORBIDDEN);
    let ask = || pod_networks(&client, "n1", &Ipam::Kubernetes, (true, false), &file);
    // Without a last run there is nothing to begin with.
    let first = tokio::time::timeout(Duration::from_secs(1), ask()).await;
    assert!(first.is_err());
    std::fs::write(&file, json!(["10.1.2.0/24"]).to_string()).unwrap();
    // A moment of refusals says nothing: the Node counts.
    let later = fake.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        later.shared.lock().unwrap().refusal = None;
    });
    fake.put(
        "/api/v1/nodes",
        "n1",
        json!({"spec": {"podCIDRs": ["10.1.3.0/24"]}}),
    );
    assert_eq!(ask().await.v4, Some("10.1.3.0/24".parse().unwrap()));
    fake.shared.lock().unwrap().refusal = Some(StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(ask().await.v4, Some("10.1.3.0/24".parse().unwrap()));
}
