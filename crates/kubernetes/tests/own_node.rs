// SPDX-License-Identifier: Apache-2.0
//! The Node of an agent that serves it, which comes back with other networks after it was deleted.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test binary uses a part")]
mod fake;

use std::time::Duration;

use axum::http::StatusCode;
use fake::Fake;
use futures::StreamExt;
use kubernetes::api::{Body, Ipam, Publication, Published, keep_open, lost_node, pod_networks};
use serde_json::{Value, json};
use tokio::time::timeout;

const NODES: &str = "/api/v1/nodes";
const CILIUM_NODES: &str = "/apis/cilium.io/v2/ciliumnodes";
const WHILE: Duration = Duration::from_secs(5);

fn node(networks: &[&str]) -> Value {
    let condition =
        json!({"type": "NetworkUnavailable", "status": "False", "reason": "CiliumIsUp"});
    json!({"spec": {"podCIDRs": networks}, "status": {"conditions": [condition]}})
}

#[tokio::test]
async fn other_networks_are_those_of_the_next_run() {
    let (fake, _running) = Fake::start().await;
    let client = fake.client().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("networks");
    let find = || pod_networks(&client, "n1", &Ipam::Kubernetes, (true, true), &file);
    fake.put(NODES, "n1", node(&["10.5.1.0/24", "fd00:5:1::/80"]));
    let own = find().await;

    let mut kept = Box::pin(keep_open(client.clone(), "n1", &own, &file, |_| {}, |_| {}));
    assert!(timeout(WHILE / 5, &mut kept).await.is_err(), "as it was");
    fake.delete(NODES, "n1");
    fake.put(NODES, "n1", node(&[]));
    assert!(timeout(WHILE / 5, &mut kept).await.is_err(), "none yet");
    fake.put(NODES, "n1", node(&["10.5.2.0/24", "fd00:5:2::/80"]));
    let others = timeout(WHILE, kept).await.unwrap();
    assert_eq!(others.v4, Some("10.5.2.0/24".parse().unwrap()));

    // Also if the server has nothing to say then.
    fake.shared.lock().unwrap().refusal = Some(StatusCode::FORBIDDEN);
    assert_eq!(find().await, others);
}

#[tokio::test]
async fn a_cilium_node_that_somebody_deletes_is_written_again() {
    let (fake, _running) = Fake::start().await;
    let client = fake.client().await;
    let key = (Published::Node, String::new(), "n1".to_owned());
    let wanted = [(key.clone(), Body::from(&json!({"spec": {"bootid": "b"}})))].into();
    let mut publication = Publication::new(client.clone());
    let mut lost = std::pin::pin!(lost_node(client, "n1"));
    timeout(WHILE, lost.next())
        .await
        .expect("there is none yet");
    publication.sync(&wanted).await.unwrap();
    fake.put(CILIUM_NODES, "n2", json!({}));
    fake.delete(CILIUM_NODES, "n2");
    assert!(timeout(WHILE / 10, lost.next()).await.is_err(), "another's");
    fake.delete(CILIUM_NODES, "n1");
    timeout(WHILE, lost.next()).await.expect("it is gone");
    let is_there = || fake.shared.lock().unwrap().objects[CILIUM_NODES].contains_key("n1");
    publication.sync(&wanted).await.unwrap();
    assert!(!is_there(), "what was written is believed to be there");
    publication.forget(&key);
    publication.sync(&wanted).await.unwrap();
    assert!(is_there());
}
