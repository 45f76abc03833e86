// SPDX-License-Identifier: Apache-2.0
//! Unused identities are given back, by one of many; over the in-memory twin, in paused time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::time::Duration;

use kvstore::schema::keys;
use kvstore::{Allocator, AllocatorOptions, Collector, Leader, Memory, Store};
use model::{ClusterId, IdentityScheme, Labels, NumericIdentity};
use tokio::time::sleep;

fn labels(app: &str) -> Labels {
    let text = format!("k8s:app={app};k8s:io.cilium.k8s.policy.cluster=cluster5;");
    Labels::parse(text.as_bytes()).unwrap()
}

fn node(memory: &Memory, address: &str) -> Allocator<Memory> {
    let options = AllocatorOptions::new(ClusterId(5), address);
    Allocator::start(memory.client(), options)
}

fn stored(memory: &Memory) -> Vec<String> {
    memory.dump().into_iter().map(|kv| kv.key).collect()
}

fn collector(memory: &Memory) -> Collector<Memory> {
    Collector::new(memory.client(), ClusterId(5), IdentityScheme::default())
}

fn is_there(memory: &Memory, id: NumericIdentity) -> bool {
    stored(memory).contains(&keys::identity(id))
}

#[tokio::test(start_paused = true)]
async fn an_identity_that_stays_unused_is_given_back() {
    let memory = Memory::default();
    let (one, two) = (node(&memory, "172.18.0.2"), node(&memory, "172.18.0.3"));
    let (id, _) = one.allocate(&labels("a")).await.unwrap();
    two.allocate(&labels("a")).await.unwrap();
    let (gone, _) = one.allocate(&labels("b")).await.unwrap();
    let (away, _) = one.allocate(&labels("c")).await.unwrap();
    for app in ["a", "b", "c"] {
        one.release(&labels(app));
    }
    sleep(Duration::from_secs(1)).await;

    let mut collector = collector(&memory);
    let kept = HashSet::from([away]);
    let first = collector.round(&kept).await.unwrap();
    assert_eq!((first.known.len(), first.unused, first.deleted), (3, 1, 0));
    assert!(is_there(&memory, gone));
    let second = collector.round(&kept).await.unwrap();
    assert_eq!(second.known, HashSet::from([id, away]));
    assert_eq!((second.unused, second.deleted), (0, 1));
    assert!(!is_there(&memory, gone));
    assert!(is_there(&memory, id) && is_there(&memory, away));
    assert!(stored(&memory).iter().all(|key| !key.contains("/locks/")));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(two.labels_of(gone), None);
    assert_ne!(two.allocate(&labels("b")).await.unwrap().0, gone);
}

#[tokio::test(start_paused = true)]
async fn an_identity_that_was_used_between_two_rounds_stays() {
    let memory = Memory::default();
    let one = node(&memory, "172.18.0.2");
    let (id, _) = one.allocate(&labels("a")).await.unwrap();
    one.release(&labels("a"));
    sleep(Duration::from_secs(1)).await;
    let mut collector = collector(&memory);
    let none = HashSet::new();
    assert_eq!(collector.round(&none).await.unwrap().unused, 1);
    // In use again, and once more unused: the count begins anew only with another revision or a round that sees a use.
    one.allocate(&labels("a")).await.unwrap();
    assert_eq!(collector.round(&none).await.unwrap().unused, 0);
    one.release(&labels("a"));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(collector.round(&none).await.unwrap().deleted, 0);
    // Written anew by somebody: another revision.
    let client = memory.client();
    let value = labels("a").canonical().to_owned();
    client
        .put(&keys::identity(id), value.into(), None)
        .await
        .unwrap();
    assert_eq!(collector.round(&none).await.unwrap().deleted, 0);
    assert_eq!(collector.round(&none).await.unwrap().deleted, 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_this_clusters_is_left_alone() {
    let memory = Memory::default();
    let client = memory.client();
    let strange = [
        (
            keys::identity(NumericIdentity(7 << 16 | 9)),
            &b"k8s:a=b;"[..],
        ),
        (keys::identity(NumericIdentity(5 << 16 | 9)), b"\xff"),
        (format!("{}/nonsense", keys::IDENTITY_IDS), b"k8s:a=b;"),
    ];
    for (key, value) in &strange {
        client
            .put(key, bytes::Bytes::from_static(value), None)
            .await
            .unwrap();
    }
    let mut collector = collector(&memory);
    for _ in 0..3 {
        let done = collector.round(&HashSet::new()).await.unwrap();
        assert_eq!(done.deleted, 0);
    }
    assert_eq!(stored(&memory).len(), strange.len());
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_another_follows() {
    let memory = Memory::default();
    let ttl = Duration::from_secs(60);
    let candidate = |name: &'static str| Leader::new(memory.client(), "cilium/turn", name, ttl);
    let (mut one, mut two) = (candidate("one"), candidate("two"));
    assert!(one.leads().await.unwrap());
    assert!(!two.leads().await.unwrap());
    for _ in 0..4 {
        sleep(ttl / 3).await;
        assert!(one.leads().await.unwrap());
        assert!(!two.leads().await.unwrap());
    }
    sleep(ttl * 2).await;
    assert!(two.leads().await.unwrap());
    assert!(!one.leads().await.unwrap());
    // A key that somebody deletes is contended for anew.
    memory.client().delete("cilium/turn").await.unwrap();
    assert!(one.leads().await.unwrap());
    assert!(!two.leads().await.unwrap());
    // Who is back under its name before its time is over goes on.
    let mut back = candidate("one");
    assert!(back.leads().await.unwrap());
    assert!(!two.leads().await.unwrap());
}
