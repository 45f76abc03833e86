// SPDX-License-Identifier: Apache-2.0
//! Reflector and locks over the in-memory twin, in paused time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kvstore::{Error, Memory, Store, Update, reflect};
use tables::Event;
use tokio::time::{Instant, timeout};

const WHILE: Duration = Duration::from_millis(200);

async fn next(updates: &mut (impl Stream<Item = Update> + Unpin)) -> Update {
    timeout(Duration::from_secs(120), updates.next())
        .await
        .expect("an update")
        .unwrap()
}

async fn listed(updates: &mut (impl Stream<Item = Update> + Unpin)) -> Vec<String> {
    let mut keys = Vec::new();
    loop {
        match next(updates).await {
            Update::Event(Event::Init) => keys.clear(),
            Update::Event(Event::InitApply(key, _)) => keys.push(key),
            Update::Event(Event::InitDone) => return keys,
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reflection_survives_faults() {
    let memory = Memory::default();
    for i in 0..700 {
        memory
            .put(&format!("a/{i:03}"), "1".into(), None)
            .await
            .unwrap();
    }
    let client = memory.client();
    let mut updates = pin!(reflect(client.clone(), "a/"));
    assert_eq!(listed(&mut updates).await.len(), 700);
    memory.put("b", "1".into(), None).await.unwrap();
    memory.delete("a/000").await.unwrap();
    assert_eq!(
        next(&mut updates).await,
        Update::Event(Event::Delete("a/000".into()))
    );
    client.connect(false);
    assert!(matches!(next(&mut updates).await, Update::Failed(_)));
    for i in 1..700 {
        memory.delete(&format!("a/{i:03}")).await.unwrap();
    }
    memory.compact();
    let cut = Instant::now();
    client.connect(true);
    assert!(listed(&mut updates).await.is_empty());
    assert!(cut.elapsed() < Duration::from_secs(2));
    memory.replace(7);
    assert!(matches!(
        next(&mut updates).await,
        Update::Failed(Error::ClusterIdChanged { .. })
    ));
    memory
        .client()
        .put("a/new", "1".into(), None)
        .await
        .unwrap();
    assert_eq!(listed(&mut updates).await, ["a/new"]);
}

#[tokio::test(start_paused = true)]
async fn failures_come_ever_slower() {
    let memory = Memory::default();
    memory.connect(false);
    let mut updates = pin!(reflect(memory.clone(), "a/"));
    let begin = Instant::now();
    let mut failures = 0;
    while begin.elapsed() < Duration::from_secs(300) {
        assert!(matches!(next(&mut updates).await, Update::Failed(_)));
        failures += 1;
    }
    // 50 ms doubled up to 5 s, each up to a quarter shorter.
    assert!((58..90).contains(&failures), "{failures}");
}

#[tokio::test(start_paused = true)]
async fn large_values_are_skipped() {
    let memory = Memory::default();
    let mut updates = pin!(reflect(memory.clone(), "a/"));
    listed(&mut updates).await;
    memory
        .put("a/large", vec![0; 2_000_000].into(), None)
        .await
        .unwrap();
    assert!(matches!(next(&mut updates).await, Update::Skipped { key, .. } if key == "a/large"));
}

#[tokio::test(start_paused = true)]
async fn locks_wait_for_each_other_and_for_the_dead() {
    let memory = Memory::default();
    let first = memory.lock("l").await.unwrap();
    let second = memory.client();
    let mut waiting = pin!(second.lock("l"));
    assert!(timeout(WHILE, &mut waiting).await.is_err());
    first.release().await.unwrap();
    let dead = timeout(WHILE, waiting).await.unwrap().unwrap();
    // A process that dies drops nothing.
    std::mem::forget(dead);
    let begin = Instant::now();
    let third = memory.lock("l").await.unwrap();
    let waited = begin.elapsed();
    assert!(
        waited > Duration::from_secs(20) && waited < Duration::from_secs(26),
        "{waited:?}"
    );
    third.release().await.unwrap();
    assert!(memory.dump().is_empty());
}

/// Callers that give up, with the lock and in its queue, hold up nobody, however often it happens.
#[tokio::test(start_paused = true)]
async fn who_gives_up_a_lock_holds_up_nobody() {
    let memory = Memory::default();
    for _ in 0..20 {
        drop(memory.lock("l").await.unwrap());
        let held = timeout(WHILE, memory.lock("l")).await.unwrap().unwrap();
        let other = memory.client();
        assert!(timeout(WHILE, other.lock("l")).await.is_err(), "it is held");
        drop(held);
    }
    let last = timeout(WHILE, memory.lock("l")).await.unwrap().unwrap();
    last.release().await.unwrap();
    assert!(memory.dump().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_kept_is_given_up() {
    let memory = Memory::default();
    let lease = memory.grant(Duration::from_secs(3600)).await.unwrap();
    memory.put("l/1", "".into(), Some(lease)).await.unwrap();
    let refused = memory.lock("l").await.unwrap_err();
    assert!(matches!(refused, Error::LockTimeout { .. }), "{refused}");
    assert_eq!(memory.dump().len(), 1, "the waiter's key is gone");
}
