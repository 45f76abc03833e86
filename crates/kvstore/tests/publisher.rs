// SPDX-License-Identifier: Apache-2.0
//! The publisher over the in-memory twin, in paused time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use bytes::Bytes;
use kvstore::{LeaseId, Leftover, Memory, Publisher, PublisherOptions, Store};
use tokio::time::{Instant, sleep, timeout};

const WHILE: Duration = Duration::from_millis(200);

fn value(memory: &Memory, key: &str) -> Option<Bytes> {
    let all = memory.dump();
    all.into_iter().find(|kv| kv.key == key).map(|kv| kv.value)
}

fn options() -> PublisherOptions {
    PublisherOptions {
        lease_ttl: Duration::from_secs(30),
        prefixes: vec!["a/".into()],
        ..PublisherOptions::default()
    }
}

#[tokio::test(start_paused = true)]
async fn published_keys_stay() {
    let memory = Memory::default();
    let publisher = Publisher::start(memory.client(), options());
    publisher.put("a/1", "x").unwrap();
    publisher.put("a/2", "y").unwrap();
    publisher.settled().await;
    sleep(Duration::from_secs(300)).await;
    assert_eq!(memory.dump().len(), 2, "renewed");
    memory.delete("a/1").await.unwrap();
    sleep(WHILE).await;
    assert_eq!(
        value(&memory, "a/1").unwrap(),
        "x",
        "deleted by somebody else"
    );
    memory.put("a/2", "other".into(), None).await.unwrap();
    sleep(WHILE).await;
    assert_eq!(
        value(&memory, "a/2").unwrap(),
        "y",
        "changed by somebody else"
    );
    memory.expire_all();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(memory.dump().len(), 2, "expired");
    publisher.delete("a/1");
    publisher.delete("a/unknown");
    publisher.settled().await;
    assert_eq!(memory.dump().len(), 1);
    let status = publisher.status();
    assert_eq!((status.desired, status.pending, status.failures), (1, 0, 0));
    drop(publisher);
    sleep(Duration::from_secs(31)).await;
    assert!(memory.dump().is_empty(), "left to the lease");
}

#[tokio::test(start_paused = true)]
async fn what_others_wrote_is_not_deleted() {
    let memory = Memory::default();
    let publisher = Publisher::start(memory.client(), PublisherOptions::default());
    publisher.put("a/1", "x").unwrap();
    publisher.settled().await;
    memory
        .put("a/1", "of another node".into(), None)
        .await
        .unwrap();
    publisher.delete("a/1");
    publisher.settled().await;
    assert_eq!(value(&memory, "a/1").unwrap(), "of another node");
}

/// An earlier run wrote them and ended; what nothing stands for goes without waiting for its lease.
#[tokio::test(start_paused = true)]
async fn leftovers_of_an_earlier_run_go() {
    let memory = Memory::default();
    for (key, value) in [
        ("a/gone", "ours"),
        ("a/kept", "ours"),
        ("a/other", "theirs"),
        ("b/unwatched", "ours"),
    ] {
        memory.put(key, value.into(), None).await.unwrap();
    }
    memory.connect(false);
    let publisher = Publisher::start(
        memory.client(),
        PublisherOptions {
            leftover: Leftover::new(|kv| kv.value.starts_with(b"ours")),
            ..options()
        },
    );
    publisher.put("a/kept", "ours, anew").unwrap();
    memory.connect(true);
    sleep(Duration::from_secs(10)).await;
    let keys: Vec<String> = memory.dump().into_iter().map(|kv| kv.key).collect();
    assert_eq!(keys, ["a/kept", "a/other", "b/unwatched"]);
    assert_eq!(value(&memory, "a/kept").unwrap(), "ours, anew");
    memory.put("a/late", "ours".into(), None).await.unwrap();
    sleep(WHILE).await;
    assert!(value(&memory, "a/late").is_some(), "somebody else's");
    memory.compact();
    memory.reset_connection();
    sleep(Duration::from_secs(10)).await;
    assert!(value(&memory, "a/late").is_some(), "in later lists too");
    assert_eq!(publisher.status().pending, 0);
}

#[tokio::test(start_paused = true)]
async fn equal_rewrites_cost_nothing() {
    let memory = Memory::default();
    let publisher = Publisher::start(memory.client(), options());
    publisher.put("a/1", "x").unwrap();
    publisher.settled().await;
    let revision = memory.status().await.unwrap().revision;
    for _ in 0..10 {
        publisher.put("a/1", "x").unwrap();
        publisher.put("a/1", "z").unwrap();
        publisher.put("a/1", "x").unwrap();
    }
    publisher.settled().await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(memory.status().await.unwrap().revision, revision);
}

#[tokio::test(start_paused = true)]
async fn publishing_outlives_the_kvstore() {
    let memory = Memory::default();
    memory.connect(false);
    let publisher = Publisher::start(memory.clone(), options());
    publisher.put("a/1", "x").unwrap();
    sleep(Duration::from_secs(600)).await;
    let status = publisher.status();
    assert!(
        status.failures > 10 && status.last_error.is_some(),
        "{status:?}"
    );
    assert_eq!((status.pending, status.last_success), (1, None));
    memory.connect(true);
    timeout(Duration::from_secs(11), publisher.settled())
        .await
        .unwrap();
    assert_eq!(publisher.status().last_error, None);
    memory.connect(false);
    sleep(Duration::from_secs(60)).await;
    assert!(memory.dump().is_empty(), "its lease ended");
    memory.connect(true);
    sleep(Duration::from_secs(61)).await;
    assert_eq!(value(&memory, "a/1").unwrap(), "x");
    memory.replace(9);
    sleep(Duration::from_secs(11)).await;
    assert_eq!(value(&memory, "a/1").unwrap(), "x", "in the new cluster");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_failed_is_forgotten_once_it_works() {
    let memory = Memory::default();
    let long = PublisherOptions {
        lease_ttl: Duration::from_secs(900),
        ..options()
    };
    let publisher = Publisher::start(memory.clone(), long);
    publisher.put("a/1", "x").unwrap();
    publisher.settled().await;
    memory.connect(false);
    sleep(Duration::from_secs(400)).await;
    assert!(publisher.status().last_error.is_some());
    memory.connect(true);
    sleep(Duration::from_secs(11)).await;
    let status = publisher.status();
    assert_eq!((status.failures, status.last_error), (0, None));
}

/// Same cluster id, an earlier revision: keys have values of before, and deleted ones are back under leases that live.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_set_back_is_told_everything_again() {
    let memory = Memory::default();
    let publisher = Publisher::start(memory.client(), options());
    for key in ["a/changed", "a/deleted", "a/kept"] {
        publisher.put(key, "before").unwrap();
    }
    publisher.settled().await;
    let theirs = memory.grant(Duration::from_secs(900)).await.unwrap();
    let put = memory.put("a/theirs", "before".into(), Some(theirs));
    put.await.unwrap();
    let snapshot = memory.snapshot();
    publisher.put("a/changed", "now").unwrap();
    publisher.put("a/new", "now").unwrap();
    publisher.delete("a/deleted");
    publisher.settled().await;
    sleep(WHILE).await;
    memory.restore(&snapshot);
    sleep(Duration::from_secs(60)).await;
    let keys: Vec<String> = memory.dump().into_iter().map(|kv| kv.key).collect();
    assert_eq!(keys, ["a/changed", "a/kept", "a/new", "a/theirs"]);
    assert_eq!(value(&memory, "a/changed").unwrap(), "now");
    assert_eq!(publisher.status().contested, None);
}

/// Whether it was written is not known; its lease would be renewed for ever.
#[tokio::test(start_paused = true)]
async fn a_key_whose_answer_was_lost_is_deleted_all_the_same() {
    for prefixes in [vec![], vec!["a/".to_owned()]] {
        let memory = Memory::default();
        let client = memory.client();
        let publisher = Publisher::start(
            client.clone(),
            PublisherOptions {
                prefixes,
                ..options()
            },
        );
        publisher.put("a/1", "x").unwrap();
        publisher.settled().await;
        client.lose_answers(true);
        publisher.put("a/2", "x").unwrap();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(memory.dump().len(), 2, "written all the same");
        publisher.delete("a/2");
        client.lose_answers(false);
        publisher.settled().await;
        let keys: Vec<String> = memory.dump().into_iter().map(|kv| kv.key).collect();
        assert_eq!(keys, ["a/1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn keys_share_leases_and_writes_are_limited() {
    let memory = Memory::default();
    let options = PublisherOptions {
        keys_per_lease: 10,
        burst: 5,
        ..options()
    };
    let publisher = Publisher::start(memory.client(), options);
    let begin = Instant::now();
    for i in 0..105 {
        publisher.put(format!("a/{i}"), "x").unwrap();
    }
    publisher.settled().await;
    let took = begin.elapsed().as_secs_f64();
    assert!((4.8..5.5).contains(&took), "{took}");
    let mut leases: Vec<LeaseId> = memory.dump().iter().filter_map(|kv| kv.lease).collect();
    leases.sort();
    leases.dedup();
    assert_eq!(leases.len(), 11);
    assert!(publisher.put("a/large", vec![0; 2_000_000]).is_err());
}

#[tokio::test(start_paused = true)]
async fn two_who_claim_one_key_do_not_write_for_ever() {
    let memory = Memory::default();
    let one = Publisher::start(memory.client(), options());
    let two = Publisher::start(memory.client(), options());
    one.put("a/1", "one").unwrap();
    two.put("a/1", "two").unwrap();
    let before = memory.status().await.unwrap().revision;
    sleep(Duration::from_secs(300)).await;
    let writes = memory.status().await.unwrap().revision - before;
    assert!(writes < 60, "{writes} writes");
    assert!([&one, &two].iter().any(|p| p.status().contested.is_some()));
}
