// SPDX-License-Identifier: Apache-2.0
//! Events at an API server in memory: one for each thing that is said, however many agents say it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test binary uses a part")]
mod fake;

use fake::Fake;
use kubernetes::api::{Events, Subject, Verdicts};
use policy::{PolicyKey, PolicyKind};
use serde_json::{Value, json};

const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";
const POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";

/// (kind and name of what it is about, text) of every event.
fn told(fake: &Fake) -> Vec<(String, String)> {
    let shared = fake.shared.lock().unwrap();
    let events = shared.objects.get(EVENTS).into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut told: Vec<_> = events
        .map(|(_, event)| {
            let about = &event["regarding"];
            let about = format!("{} {}", text(&about["kind"]), text(&about["name"]));
            (about, text(&event["note"]))
        })
        .collect();
    told.sort();
    told
}

fn pair(about: &str, note: &str) -> (String, String) {
    (about.to_owned(), note.to_owned())
}

#[tokio::test]
async fn two_clusters_that_are_refused_are_two_events() {
    let (fake, running) = Fake::start().await;
    let client = fake.client().await;
    let node = Subject::node("node1");
    let events = Events::new(client.clone(), "node1");
    for note in ["cluster6", "cluster9", "cluster6"] {
        events.warn(&node, "ClusterRefused", note).await.unwrap();
    }
    // The next run of the agent.
    let events = Events::new(client, "node1");
    events
        .warn(&node, "ClusterRefused", "cluster9")
        .await
        .unwrap();
    let two = ["cluster6", "cluster9"].map(|note| pair("Node node1", note));
    assert_eq!(told(&fake), two);
    fake.stop(running).await;
    let lost = events.warn(&node, "ClusterRefused", "cluster6").await;
    assert!(lost.unwrap_err().starts_with("event ClusterRefused: "));
}

#[tokio::test]
async fn a_refused_network_policy_is_one_event_of_all_agents() {
    let (fake, _running) = Fake::start().await;
    let client = fake.client().await;
    let key = PolicyKey {
        kind: PolicyKind::NetworkPolicy,
        namespace: "default".into(),
        name: "wide".into(),
    };
    let agents = ["node1", "node2"].map(|node| Verdicts::new(client.clone(), node));
    let tell = async || {
        for agent in &agents {
            agent.warn(&key, "too many ports").await.unwrap();
        }
    };
    // There is no such object any more.
    tell().await;
    assert_eq!(told(&fake), []);
    let object = json!({"metadata": {"namespace": "default", "uid": "u"}});
    fake.put(POLICIES, "wide", object.clone());
    let event = pair("NetworkPolicy wide", "too many ports");
    tell().await;
    assert_eq!(told(&fake), std::slice::from_ref(&event));
    // Another version with the same fault.
    fake.put(POLICIES, "wide", object);
    tell().await;
    assert_eq!(told(&fake), [event.clone(), event]);
}
