// SPDX-License-Identifier: Apache-2.0
//! The API server as a source, against one that misbehaves.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fake;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use fake::Fake;
use kubernetes::api::{
    Body, Ipam, Pools, Publication, Published, Settings, Source, connect, pod_networks,
    server_version,
};
use kubernetes::{ObjectEvent, Update};
use serde_json::{Value, json};

const NAMESPACES: &str = "/api/v1/namespaces";
const PODS: &str = "/api/v1/pods";
const POLICIES: &str = "/apis/cilium.io/v2/ciliumnetworkpolicies";
const CLUSTERWIDE: &str = "/apis/cilium.io/v2/ciliumclusterwidenetworkpolicies";

async fn source(fake: &Fake, file: Option<PathBuf>) -> Source {
    let client = fake.client().await;
    Source::new(&client, "n1", file)
}

async fn next(source: &mut Source) -> Update {
    tokio::time::timeout(Duration::from_secs(20), source.next())
        .await
        .expect("an update in time")
}

/// Updates until one has events.
async fn events(source: &mut Source) -> Vec<ObjectEvent> {
    loop {
        let update = next(source).await;
        if !update.events.is_empty() {
            return update.events;
        }
    }
}

fn pod(label: &str) -> Value {
    json!({"metadata": {"namespace": "shop", "uid": "1", "labels": {"app": label}}, "spec": {"nodeName": "n1", "containers": []}})
}

fn policy() -> Value {
    json!({"metadata": {"namespace": "shop"}, "spec": {"endpointSelector": {}, "ingress": [{}]}})
}

fn filled(fake: &Fake) {
    fake.put(
        NAMESPACES,
        "shop",
        json!({"metadata": {"labels": {"team": "a"}}}),
    );
    fake.put(PODS, "web", pod("web"));
    fake.put(POLICIES, "p", policy());
}

#[tokio::test]
async fn the_first_answer_is_whole_and_changes_follow() {
    let (fake, _running) = Fake::start().await;
    filled(&fake);
    let mut source = source(&fake, None).await;
    assert_eq!(next(&mut source).await.events.len(), 3);
    let queries = fake.shared.lock().unwrap().queries.clone();
    let selector = queries
        .iter()
        .find(|(path, _)| path == PODS)
        .unwrap()
        .1
        .get("fieldSelector")
        .cloned();
    assert_eq!(selector.as_deref(), Some("spec.nodeName=n1"));
    fake.put(PODS, "web", pod("other"));
    let changed = events(&mut source).await;
    let [ObjectEvent::Pod(pod)] = &changed[..] else {
        panic!("{changed:?}");
    };
    assert_eq!(pod.labels.get("app").map(String::as_str), Some("other"));
    fake.delete(POLICIES, "p");
    assert!(matches!(
        events(&mut source).await[..],
        [ObjectEvent::PolicyGone(_)]
    ));
}

#[tokio::test]
async fn a_broken_watch_is_resumed_and_an_expired_one_listed_anew() {
    let (fake, _running) = Fake::start().await;
    filled(&fake);
    let mut source = source(&fake, None).await;
    next(&mut source).await;
    fake.break_streams();
    fake.put(PODS, "web", pod("resumed"));
    assert!(matches!(
        events(&mut source).await[..],
        [ObjectEvent::Pod(_)]
    ));
    assert_eq!(fake.count(PODS, "list"), 1, "a broken watch needs no list");
    // What happened meanwhile is forgotten: only a list can tell that the pod is gone.
    {
        fake.break_streams();
        fake.delete(PODS, "web");
        let mut shared = fake.shared.lock().unwrap();
        shared.version += 10;
        shared.compacted = shared.version;
    }
    assert!(matches!(
        events(&mut source).await[..],
        [ObjectEvent::PodGone(_)]
    ));
    assert!(fake.count(PODS, "list") >= 2);
}

#[tokio::test]
async fn rubbish_and_bookmarks_change_nothing() {
    let (fake, _running) = Fake::start().await;
    filled(&fake);
    let mut source = source(&fake, None).await;
    next(&mut source).await;
    fake.say(PODS, r#"{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"99"}}}"#);
    fake.say(PODS, "rubbish");
    fake.say(
        POLICIES,
        r#"{"type":"ADDED","object":{"kind":"X","metadata":{"name":7}}}"#,
    );
    fake.put(
        NAMESPACES,
        "shop",
        json!({"metadata": {"labels": {"team": "b"}}}),
    );
    let changed = events(&mut source).await;
    assert!(
        matches!(changed[..], [ObjectEvent::Namespace(_)]),
        "{changed:?}"
    );
    fake.put(
        POLICIES,
        "bad",
        json!({"metadata": {"namespace": "shop"}, "spec": {"endpointSelector": {}, "nonsense": 1}}),
    );
    loop {
        let update = next(&mut source).await;
        assert!(update.events.is_empty(), "{update:?}");
        if update
            .problems
            .iter()
            .any(|p| p.reason.contains("spec.nonsense"))
        {
            break;
        }
    }
}

#[tokio::test]
async fn a_start_without_the_server_serves_the_last_good_state() {
    let (fake, running) = Fake::start().await;
    filled(&fake);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kubernetes");
    let mut first = source(&fake, Some(file.clone())).await;
    next(&mut first).await;
    while !file.exists() {
        let _ = tokio::time::timeout(Duration::from_millis(200), first.next()).await;
    }
    drop(first);
    fake.stop(running).await;
    let mut second = source(&fake, Some(file.clone())).await;
    let update = next(&mut second).await;
    assert_eq!(update.events.len(), 3);
    assert!(
        update.problems.iter().any(|p| p.previous_stays),
        "{:?}",
        update.problems
    );
    fake.delete(PODS, "web");
    let _running = fake.again().await;
    assert!(matches!(
        events(&mut second).await[..],
        [ObjectEvent::PodGone(_)]
    ));
    // A damaged file is named, and the server asked.
    drop(second);
    std::fs::write(&file, "0\n{}").unwrap();
    let mut third = source(&fake, Some(file)).await;
    let update = next(&mut third).await;
    assert_eq!(update.events.len(), 2);
    assert!(update.problems.iter().any(|p| p.reason.contains("damaged")));
}

/// The server holds only a version that is refused: the one before it stays, also for an agent that starts.
#[tokio::test]
async fn the_previous_version_stays_over_a_restart() {
    let (fake, _running) = Fake::start().await;
    filled(&fake);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kubernetes");
    let mut first = source(&fake, Some(file.clone())).await;
    let before = next(&mut first).await;
    while !file.exists() {
        let _ = tokio::time::timeout(Duration::from_millis(200), first.next()).await;
    }
    drop(first);
    let mut refused = policy();
    refused["spec"]["ingress"] = json!([{"icmps": []}]);
    fake.put(POLICIES, "p", refused);
    for _ in 0..2 {
        let mut source = source(&fake, Some(file.clone())).await;
        let update = next(&mut source).await;
        let of_policy = |event: &&ObjectEvent| matches!(event, ObjectEvent::Policy(_));
        assert_eq!(
            update.events.iter().find(of_policy),
            before.events.iter().find(of_policy)
        );
        let stays = |p: &kubernetes::Problem| p.previous_stays && p.reason.contains("icmps");
        assert!(update.problems.iter().any(stays), "{:?}", update.problems);
    }
}

/// What is in force is on disk as soon as there is room, although nothing changes.
#[tokio::test]
async fn a_full_disk_is_written_to_when_there_is_room() {
    let (fake, _running) = Fake::start().await;
    filled(&fake);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("later/kubernetes");
    let mut source = source(&fake, Some(file.clone())).await;
    let told = |update: &kubernetes::Update| {
        let words = "cannot be written";
        update.problems.iter().any(|p| p.reason.contains(words))
    };
    while !told(&next(&mut source).await) {}
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    while told(&next(&mut source).await) {}
    assert!(file.exists());
}

#[tokio::test]
async fn kinds_that_are_not_served_yet_do_not_hold_up_a_start() {
    let (fake, _running) = Fake::start().await;
    filled(&fake);
    fake.shared.lock().unwrap().missing = vec![POLICIES.into(), CLUSTERWIDE.into()];
    let mut source = source(&fake, None).await;
    let update = next(&mut source).await;
    assert_eq!(update.events.len(), 2);
    fake.shared.lock().unwrap().missing.clear();
    assert!(matches!(
        events(&mut source).await[..],
        [ObjectEvent::Policy(_)]
    ));
}

#[tokio::test]
async fn another_server_takes_over() {
    let (dead, running) = Fake::start().await;
    dead.stop(running).await;
    let (fake, _running) = Fake::start().await;
    filled(&fake);
    let settings = Settings {
        servers: vec![dead.url(), fake.url()],
        ..fake.settings()
    };
    let client = connect(&settings).await.unwrap();
    let mut source = Source::new(&client, "n1", None);
    assert_eq!(next(&mut source).await.events.len(), 3);
}

#[tokio::test]
async fn pod_networks_come_from_the_node_and_from_the_disk() {
    let (fake, running) = Fake::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("networks");
    let client = fake.client().await;
    fake.put(
        "/api/v1/nodes",
        "n1",
        json!({"spec": {"podCIDRs": ["10.1.2.0/24"]}}),
    );
    let later = fake.clone();
    let both = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        later.put(
            "/api/v1/nodes",
            "n1",
            json!({"spec": {"podCIDRs": ["10.1.2.0/24", "fd00:1::/80"]}}),
        );
    });
    let networks = pod_networks(&client, "n1", &Ipam::Kubernetes, (true, true), &file).await;
    assert!(both.is_finished());
    assert_eq!(networks.v6, Some("fd00:1::/80".parse().unwrap()));
    fake.put(
        "/apis/cilium.io/v2/ciliumnodes",
        "n1",
        json!({"spec": {"ipam": {"podCIDRs": ["10.7.0.0/24"]}}}),
    );
    let other = dir.path().join("pool");
    let operator = Ipam::ClusterPool(Pools::default());
    let pool = pod_networks(&client, "n1", &operator, (true, false), &other).await;
    assert_eq!(pool.v4, Some("10.7.0.0/24".parse().unwrap()));
    fake.stop(running).await;
    let last = pod_networks(&client, "n1", &Ipam::Kubernetes, (true, true), &file).await;
    assert_eq!(last, networks);
}

#[tokio::test]
async fn the_version_is_told_or_why_there_is_none() {
    let (fake, _running) = Fake::start().await;
    let client = fake.client().await;
    let info = json!({
        "major": "1", "minor": "36", "gitVersion": "v1.36.0", "platform": "linux/amd64", "buildDate": "",
        "compiler": "gc", "gitCommit": "", "gitTreeState": "", "goVersion": "",
    });
    fake.put("", "version", info);
    let version = server_version(&client).await;
    assert_eq!(version, Ok("1.36 (v1.36.0) [linux/amd64]".into()));
    fake.shared.lock().unwrap().missing.push("/version".into());
    assert!(server_version(&client).await.is_err());
}

#[tokio::test]
async fn resources_are_written_once_and_not_taken_from_others() {
    let (fake, _running) = Fake::start().await;
    let client = fake.client().await;
    let mut publication = Publication::new(client);
    let key = |name: &str| (Published::Endpoint, "shop".to_owned(), name.to_owned());
    let value = Body::from(&json!({"metadata": {}, "status": {"id": 7}}));
    let mut wanted = BTreeMap::from([(key("web"), value.clone()), (key("db"), value)]);
    publication.sync(&wanted).await.unwrap();
    publication.sync(&wanted).await.unwrap();
    let path = "/apis/cilium.io/v2/namespaces/shop/ciliumendpoints";
    {
        let shared = fake.shared.lock().unwrap();
        assert_eq!(shared.writes.len(), 2, "{:?}", shared.writes);
        let (method, at, body) = &shared.writes[1];
        assert_eq!(
            (method.as_str(), at.as_str()),
            ("PATCH", &*format!("{path}/web"))
        );
        assert_eq!(
            (&body["kind"], &body["metadata"]["name"]),
            (&json!("CiliumEndpoint"), &json!("web"))
        );
    }
    // Another node has written this one since.
    fake.put(path, "web", json!({"metadata": {"namespace": "shop"}}));
    wanted.clear();
    publication.sync(&wanted).await.unwrap();
    let shared = fake.shared.lock().unwrap();
    let left: Vec<_> = shared.objects[path].keys().cloned().collect();
    assert_eq!(left, ["web"]);
}

/// One resource that the server refuses keeps no other from being written or deleted.
#[tokio::test]
async fn a_refused_resource_stands_in_nobodys_way() {
    let (fake, running) = Fake::start().await;
    let client = fake.client().await;
    let mut publication = Publication::new(client);
    let key = |name: &str| (Published::Endpoint, "shop".to_owned(), name.to_owned());
    let value = Body::from(&json!({"metadata": {}, "status": {"id": 7}}));
    let all = |names: &[&str]| -> BTreeMap<_, _> {
        names
            .iter()
            .map(|name| (key(name), value.clone()))
            .collect()
    };
    let path = "/apis/cilium.io/v2/namespaces/shop/ciliumendpoints";
    publication.sync(&all(&["old"])).await.unwrap();
    fake.shared.lock().unwrap().missing = vec![format!("{path}/a")];
    let error = publication.sync(&all(&["a", "b"])).await.unwrap_err();
    assert!(error.starts_with("CiliumEndpoint a: "), "{error}");
    let left = |fake: &Fake| -> Vec<String> {
        let shared = fake.shared.lock().unwrap();
        shared.objects[path].keys().cloned().collect()
    };
    assert_eq!(left(&fake), ["b"]);
    fake.shared.lock().unwrap().missing.clear();
    publication.sync(&all(&["a", "b"])).await.unwrap();
    assert_eq!(left(&fake), ["a", "b"]);
    fake.stop(running).await;
    assert!(publication.sync(&all(&[])).await.is_err());
}
