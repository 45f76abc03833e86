// SPDX-License-Identifier: Apache-2.0
//! Identities over the in-memory twin, in paused time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kvstore::schema::keys;
use kvstore::{Allocator, AllocatorOptions, Error, IsNew, Memory, Store};
use model::{ClusterId, Labels, NumericIdentity};
use tables::Event;
use tokio::time::{Instant, sleep, timeout};

fn labels(app: &str) -> Labels {
    let text =
        format!("k8s:app.kubernetes.io/name={app};k8s:io.cilium.k8s.policy.cluster=cluster5;");
    Labels::parse(text.as_bytes()).unwrap()
}

fn node(memory: &Memory, address: &str) -> Allocator<Memory> {
    Allocator::start(
        memory.client(),
        AllocatorOptions::new(ClusterId(5), address),
    )
}

fn stored(memory: &Memory) -> Vec<String> {
    memory.dump().into_iter().map(|kv| kv.key).collect()
}

#[tokio::test(start_paused = true)]
async fn nodes_agree_on_numbers() {
    let memory = Memory::default();
    let (one, two) = (node(&memory, "172.18.0.2"), node(&memory, "172.18.0.3"));
    let (id, is_new) = one.allocate(&labels("a")).await.unwrap();
    assert_eq!(is_new, IsNew::New);
    assert_eq!(id.0 >> 16, 5);
    assert_eq!(
        two.allocate(&labels("a")).await.unwrap(),
        (id, IsNew::Known)
    );
    assert_eq!(
        two.allocate(&labels("a")).await.unwrap(),
        (id, IsNew::Known)
    );
    let (other, _) = two.allocate(&labels("b")).await.unwrap();
    assert_ne!(other, id);
    let slave = |app, node| keys::identity_use(&labels(app), node);
    let all = memory.dump();
    let master = all.iter().find(|kv| kv.key == keys::identity(id)).unwrap();
    assert_eq!(
        (master.value.as_ref(), master.lease),
        (labels("a").canonical().as_bytes(), None)
    );
    let use_of_two = all
        .iter()
        .find(|kv| kv.key == slave("a", "172.18.0.3"))
        .unwrap();
    assert_eq!(use_of_two.value, id.to_string());
    assert!(use_of_two.lease.is_some());
    two.release(&labels("a"));
    sleep(Duration::from_secs(1)).await;
    assert!(
        stored(&memory).contains(&slave("a", "172.18.0.3")),
        "still used once"
    );
    two.release(&labels("a"));
    two.release(&labels("a"));
    sleep(Duration::from_secs(1)).await;
    let keys_now = stored(&memory);
    assert!(!keys_now.contains(&slave("a", "172.18.0.3")));
    assert!(
        keys_now.contains(&keys::identity(id)),
        "the master key is left to GC"
    );
    assert!(
        !keys_now
            .iter()
            .any(|key| key.starts_with(keys::IDENTITY_LOCKS)),
        "locks are given back"
    );
}

#[tokio::test(start_paused = true)]
async fn nodes_know_how_new_an_identity_is() {
    let memory = Memory::default();
    let (one, two) = (node(&memory, "172.18.0.2"), node(&memory, "172.18.0.3"));
    let (id, _) = one.allocate(&labels("a")).await.unwrap();
    // The other one may not have heard of it by itself yet.
    two.allocate(&labels("a")).await.unwrap();
    for allocator in [&one, &two] {
        assert!(allocator.age_of(id) < Duration::from_millis(100));
    }
    sleep(Duration::from_secs(3)).await;
    one.allocate(&labels("a")).await.unwrap();
    let third = node(&memory, "172.18.0.4");
    third.allocate(&labels("a")).await.unwrap();
    for allocator in [&one, &two] {
        let age = allocator.age_of(id);
        assert!(age.abs_diff(Duration::from_secs(3)) < Duration::from_millis(100));
    }
    assert!(third.age_of(id) > Duration::from_secs(300), "it was there");
}

#[tokio::test(start_paused = true)]
async fn many_at_once_get_one_number() {
    let memory = Memory::default();
    let nodes: Vec<_> = (0..8)
        .map(|i| Arc::new(node(&memory, &format!("172.18.0.{i}"))))
        .collect();
    let asked = nodes.iter().flat_map(|node| {
        (0..4).map(move |i| {
            let node = node.clone();
            async move {
                (
                    i,
                    node.allocate(&labels(&format!("app{i}"))).await.unwrap().0,
                )
            }
        })
    });
    let answers: HashSet<(i32, NumericIdentity)> =
        futures::future::join_all(asked).await.into_iter().collect();
    assert_eq!(answers.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_node_gets_the_same_number() {
    let memory = Memory::default();
    let first = node(&memory, "172.18.0.2");
    let (id, _) = first.allocate(&labels("a")).await.unwrap();
    drop(first);
    let second = node(&memory, "172.18.0.2");
    assert_eq!(
        second.allocate(&labels("a")).await.unwrap(),
        (id, IsNew::Known)
    );
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(stored(&memory).len(), 2, "renewed by its new lease");
}

#[tokio::test(start_paused = true)]
async fn a_number_left_without_users_is_used_again() {
    let memory = Memory::default();
    let id = NumericIdentity(5 << 16 | 42);
    memory
        .put(&keys::identity(id), labels("a").canonical().into(), None)
        .await
        .unwrap();
    let one = node(&memory, "172.18.0.2");
    assert_eq!(
        one.allocate(&labels("a")).await.unwrap(),
        (id, IsNew::Known)
    );
}

#[tokio::test(start_paused = true)]
async fn slave_keys_of_longer_labels_are_no_match() {
    let memory = Memory::default();
    let uses = keys::identity_uses(&labels("a"));
    memory
        .put(&format!("{uses}/x=;/172.18.0.9"), "327690".into(), None)
        .await
        .unwrap();
    memory
        .put(&format!("{uses}/172.18.0.9"), "77".into(), None)
        .await
        .unwrap();
    let (id, is_new) = node(&memory, "172.18.0.2")
        .allocate(&labels("a"))
        .await
        .unwrap();
    assert_eq!(is_new, IsNew::New);
    assert!(id != NumericIdentity(327690) && id != NumericIdentity(77));
}

#[tokio::test(start_paused = true)]
async fn deleted_keys_are_made_again() {
    let memory = Memory::default();
    let one = node(&memory, "172.18.0.2");
    let (id, _) = one.allocate(&labels("a")).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let mut events = pin!(one.subscribe());
    assert_eq!(events.next().await, Some(Event::Init));
    assert_eq!(events.next().await, Some(Event::InitApply(id, labels("a"))));
    assert_eq!(events.next().await, Some(Event::InitDone));
    memory.delete(&keys::identity(id)).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!(
        stored(&memory).contains(&keys::identity(id)),
        "master at once"
    );
    assert_eq!(
        events.next().await,
        Some(Event::Apply(id, labels("a"))),
        "no deletion is told"
    );
    let slave = keys::identity_use(&labels("a"), "172.18.0.2");
    memory.delete(&slave).await.unwrap();
    sleep(Duration::from_secs(301)).await;
    assert!(
        stored(&memory).contains(&slave),
        "slave within five minutes"
    );
    let unused = NumericIdentity(5 << 16 | 7);
    memory
        .put(
            &keys::identity(unused),
            labels("x").canonical().into(),
            None,
        )
        .await
        .unwrap();
    memory.delete(&keys::identity(unused)).await.unwrap();
    assert_eq!(events.next().await, Some(Event::Apply(unused, labels("x"))));
    assert_eq!(events.next().await, Some(Event::Delete(unused)));
    memory.replace(3);
    sleep(Duration::from_secs(120)).await;
    assert_eq!(stored(&memory).len(), 2, "in another etcd too");
    memory.replace(3);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(stored(&memory).len(), 2, "in one that lost its disk too");
}

#[tokio::test(start_paused = true)]
async fn without_the_kvstore_only_known_labels() {
    let memory = Memory::default();
    let client = memory.client();
    let one = Allocator::start(
        client.clone(),
        AllocatorOptions::new(ClusterId(5), "172.18.0.2"),
    );
    let (used, _) = one.allocate(&labels("used")).await.unwrap();
    let seen = NumericIdentity(5 << 16 | 9);
    memory
        .put(
            &keys::identity(seen),
            labels("seen").canonical().into(),
            None,
        )
        .await
        .unwrap();
    sleep(Duration::from_secs(1)).await;
    client.connect(false);
    sleep(Duration::from_secs(1)).await;
    let begin = Instant::now();
    assert_eq!(
        one.allocate(&labels("used")).await.unwrap(),
        (used, IsNew::Known)
    );
    assert_eq!(
        one.allocate(&labels("seen")).await.unwrap(),
        (seen, IsNew::Known)
    );
    assert!(begin.elapsed() < Duration::from_millis(100));
    let refused = one.allocate(&labels("new")).await.unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert!(matches!(refused, Error::Allocation { .. }));
    assert!(
        refused.to_string().contains("the connection is cut"),
        "{refused}"
    );
    client.connect(true);
    sleep(Duration::from_secs(61)).await;
    assert!(stored(&memory).contains(&keys::identity_use(&labels("seen"), "172.18.0.2")));
    one.allocate(&labels("new")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_start_without_the_kvstore() {
    let memory = Memory::default();
    memory.connect(false);
    let id = NumericIdentity(5 << 16 | 9);
    let known = vec![(id, labels("a")), (NumericIdentity(9), labels("b"))];
    let options = AllocatorOptions {
        known,
        ..AllocatorOptions::new(ClusterId(5), "172.18.0.2")
    };
    let one = Allocator::start(memory.clone(), options);
    assert_eq!(
        one.allocate(&labels("a")).await.unwrap(),
        (id, IsNew::Known)
    );
    assert!(one.allocate(&labels("b")).await.is_err());
    memory.connect(true);
    sleep(Duration::from_secs(61)).await;
    assert_eq!(stored(&memory).len(), 2, "master and slave are made");
}

#[tokio::test(start_paused = true)]
async fn bad_values_keep_what_was_known() {
    let memory = Memory::default();
    let one = node(&memory, "172.18.0.2");
    let id = NumericIdentity(5 << 16 | 9);
    memory
        .put(&keys::identity(id), labels("a").canonical().into(), None)
        .await
        .unwrap();
    sleep(Duration::from_secs(1)).await;
    memory
        .put(&keys::identity(id), "\u{1}".into(), None)
        .await
        .unwrap();
    memory
        .put(
            &keys::identity(NumericIdentity(1)),
            labels("b").canonical().into(),
            None,
        )
        .await
        .unwrap();
    memory
        .put("cilium/state/identities/v1/id/x", "".into(), None)
        .await
        .unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(one.labels_of(id), Some(labels("a")));
    let status = one.status();
    assert_eq!((status.known, status.refused), (1, 3), "{status:?}");
    memory.compact();
    memory.replace(4);
    memory
        .client()
        .put(&keys::identity(id), "\u{1}".into(), None)
        .await
        .unwrap();
    sleep(Duration::from_secs(61)).await;
    assert_eq!(
        one.labels_of(id),
        Some(labels("a")),
        "a list does not delete it either"
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_range_is_told() {
    let memory = Memory::default();
    for i in 256..=65535 {
        let text = format!("k8s:app=a{i};");
        memory
            .put(&keys::identity(NumericIdentity(i)), text.into(), None)
            .await
            .unwrap();
    }
    let one = Allocator::start(
        memory.client(),
        AllocatorOptions::new(ClusterId(0), "172.18.0.2"),
    );
    let refused = timeout(Duration::from_secs(10), one.allocate(&labels("a")))
        .await
        .unwrap();
    assert!(
        matches!(refused, Err(Error::IdentitiesExhausted { .. })),
        "{refused:?}"
    );
}
