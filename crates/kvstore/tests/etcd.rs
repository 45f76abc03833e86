// SPDX-License-Identifier: Apache-2.0
//! The client against a real etcd over TLS.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use kvstore::{
    ClientOptions, Error, Etcd, KeyValue, LeaseId, Op, Publisher, PublisherOptions, Store, Update,
    WatchEvent, reflect,
};
use nix::sys::signal::Signal;
use support::Server;
use tables::Event;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

async fn next(updates: &mut (impl Stream<Item = Update> + Unpin)) -> Update {
    timeout(SOON, updates.next())
        .await
        .expect("an update in time")
        .unwrap()
}

/// Reads up to the end of a list; its keys.
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

#[tokio::test]
async fn keys_leases_and_transactions() {
    let server = Server::start().await;
    let etcd = server.client().await;
    let status = etcd.status().await.unwrap();
    assert!(
        status.has_leader && status.version.starts_with('3'),
        "{status:?}"
    );
    assert_eq!(etcd.cluster_id(), Some(status.cluster_id));
    assert!(etcd.create("a", "1".into(), None).await.unwrap());
    assert!(!etcd.create("a", "2".into(), None).await.unwrap());
    assert!(
        !etcd
            .update_if_different("a", "1".into(), None)
            .await
            .unwrap()
    );
    assert!(
        etcd.update_if_different("a", "3".into(), None)
            .await
            .unwrap()
    );
    let kv: KeyValue = etcd.get("a").await.unwrap().unwrap();
    assert_eq!((&kv.value[..], kv.lease), (&b"3"[..], None));
    assert!(
        !etcd
            .delete_if_mod_revision("a", kv.create_revision)
            .await
            .unwrap()
    );
    assert!(
        etcd.delete_if_mod_revision("a", kv.mod_revision)
            .await
            .unwrap()
    );
    assert!(!etcd.delete("a").await.unwrap());
    let lease = etcd.grant(Duration::from_secs(60)).await.unwrap();
    etcd.put("b", "1".into(), Some(lease)).await.unwrap();
    assert_eq!(etcd.get("b").await.unwrap().unwrap().lease, Some(lease));
    let left = etcd.keep_alive(lease).await.unwrap();
    assert!(left > Duration::from_secs(55), "{left:?}");
    etcd.revoke(lease).await.unwrap();
    assert_eq!(etcd.get("b").await.unwrap(), None);
    etcd.revoke(lease).await.unwrap();
    assert_eq!(
        etcd.keep_alive(lease).await,
        Err(Error::LeaseGone { lease })
    );
    let gone = etcd.put("b", "1".into(), Some(LeaseId(77))).await;
    assert_eq!(gone, Err(Error::LeaseGone { lease: LeaseId(77) }));
}

#[tokio::test]
async fn a_lease_that_is_not_renewed_takes_its_keys_along() {
    let server = Server::start().await;
    let etcd = server.client().await;
    let lease = etcd.grant(Duration::from_secs(2)).await.unwrap();
    let revision = etcd.put("x/1", "1".into(), Some(lease)).await.unwrap();
    let mut watch = etcd.watch("x/", revision + 1).await.unwrap();
    let event = timeout(SOON, watch.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(event, WatchEvent::Delete { key, .. } if key == "x/1"));
}

#[tokio::test]
async fn pages_then_changes_then_compaction() {
    let server = Server::start().await;
    let etcd = server.client().await;
    for i in 0..600 {
        etcd.put(&format!("p/{i:04}"), "v".into(), None)
            .await
            .unwrap();
    }
    let first = etcd.list_page("p/", None).await.unwrap();
    assert_eq!(first.listing.kvs.len(), 256);
    etcd.delete("p/0599").await.unwrap();
    let second = etcd.list_page("p/", first.next).await.unwrap();
    let third = etcd.list_page("p/", second.next.clone()).await.unwrap();
    assert_eq!(third.listing.kvs.len(), 88, "the list is of one revision");
    assert_eq!(third.listing.revision, first.listing.revision);
    assert_eq!(third.next, None);
    let compacted = etcd.status().await.unwrap().revision.to_string();
    server.ctl(&["compact", &compacted]);
    let late = etcd.list_page("p/", second.next).await;
    assert!(matches!(late, Err(Error::Compacted { .. })), "{late:?}");
    let mut late = etcd.watch("p/", 2).await;
    if let Ok(stream) = &mut late {
        let event = stream.next().await.unwrap();
        assert!(matches!(event, Err(Error::Compacted { .. })), "{event:?}");
    } else {
        assert!(matches!(late, Err(Error::Compacted { .. })));
    }
}

#[tokio::test]
async fn reflect_survives_a_restart_and_another_cluster() {
    let mut server = Server::start().await;
    let etcd = server.client().await;
    etcd.put("r/1", "1".into(), None).await.unwrap();
    let mut updates = pin!(reflect(etcd.clone(), "r/"));
    assert_eq!(listed(&mut updates).await, ["r/1"]);
    etcd.put("r/2", "2".into(), None).await.unwrap();
    assert!(
        matches!(next(&mut updates).await, Update::Event(Event::Apply(key, _)) if key == "r/2")
    );
    etcd.delete("r/1").await.unwrap();
    assert_eq!(
        next(&mut updates).await,
        Update::Event(Event::Delete("r/1".into()))
    );
    let killed = Instant::now();
    server.kill();
    assert!(matches!(next(&mut updates).await, Update::Failed(_)));
    assert!(
        killed.elapsed() < Duration::from_secs(3),
        "{:?}",
        killed.elapsed()
    );
    server.restart().await;
    assert_eq!(listed(&mut updates).await, ["r/2"]);
    server.replace().await;
    let mut changed = false;
    loop {
        match next(&mut updates).await {
            Update::Failed(Error::ClusterIdChanged { .. }) => changed = true,
            Update::Event(Event::InitDone) => break,
            Update::Event(Event::InitApply(key, _)) => panic!("{key} of the old etcd"),
            _ => {}
        }
    }
    assert!(changed);
}

/// Writes that many keys with this beginning.
/// Four of these do not fit a message.
#[tokio::test]
async fn values_beyond_measure_are_skipped_and_the_list_goes_on() {
    let server = Server::start().await;
    let etcd = server.client().await;
    for i in 0..4 {
        let value = vec![b'v'; 6_000_000];
        etcd.put(&format!("p/{i}"), value.into(), None)
            .await
            .unwrap();
    }
    etcd.put("p/small", "v".into(), None).await.unwrap();
    let mut updates = pin!(reflect(etcd.clone(), "p/"));
    assert_eq!(next(&mut updates).await, Update::Event(Event::Init));
    for i in 0..4 {
        let update = next(&mut updates).await;
        let Update::Skipped { key, error } = update else {
            panic!("{update:?}");
        };
        assert_eq!(key, format!("p/{i}"));
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    }
    assert_eq!(listed(&mut updates).await, ["p/small"]);
}

async fn fill(etcd: &Etcd, prefix: &str, count: usize) {
    let writes = (0..count).step_by(100).map(|first| async move {
        let put = |i| Op::Put {
            key: format!("{prefix}{i:06}"),
            value: "v".into(),
            lease: None,
        };
        let ops = (first..first + 100).map(put).collect();
        etcd.txn(Vec::new(), ops).await.unwrap();
    });
    let written = futures::stream::iter(writes).buffer_unordered(8);
    written.collect::<Vec<()>>().await;
}

/// As when somebody deletes the copy of a whole cluster.
#[tokio::test]
async fn everything_is_deleted_at_once() {
    let server = Server::start().await;
    let etcd = server.client().await;
    fill(&etcd, "d/", 100_000).await;
    let mut updates = pin!(reflect(etcd.clone(), "d/"));
    assert_eq!(listed(&mut updates).await.len(), 100_000);
    let begin = Instant::now();
    server.ctl(&["del", "--prefix", "d/"]);
    for _ in 0..100_000 {
        let update = next(&mut updates).await;
        assert!(matches!(update, Update::Event(Event::Delete(_))));
    }
    let after = begin.elapsed();
    assert!(after < Duration::from_secs(8), "{after:?}");

    let long = format!("l/{}/", "x".repeat(1000));
    fill(&etcd, &long, 20_000).await;
    let mut updates = pin!(reflect(etcd.clone(), "l/"));
    assert_eq!(listed(&mut updates).await.len(), 20_000);
    server.ctl(&["del", "--prefix", "l/"]);
    let update = next(&mut updates).await;
    assert!(matches!(update, Update::Failed(_)), "{update:?}");
    assert!(listed(&mut updates).await.is_empty(), "too large to tell");
}

#[tokio::test]
async fn a_lock_is_held_by_one() {
    let server = Server::start().await;
    let (one, two) = (server.client().await, server.client().await);
    let guard = one.lock("l/app=a/b").await.unwrap();
    assert!(
        one.create_if_locked("k", "1".into(), None, &guard)
            .await
            .unwrap()
    );
    assert!(
        !one.create_if_locked("k", "1".into(), None, &guard)
            .await
            .unwrap()
    );
    let mut waiting = pin!(two.lock("l/app=a/b"));
    assert!(
        timeout(Duration::from_millis(300), &mut waiting)
            .await
            .is_err()
    );
    guard.release().await.unwrap();
    let guard = timeout(SOON, waiting).await.unwrap().unwrap();
    server.ctl(&["del", guard.key()]);
    let lost = two.put_if_locked("k", "2".into(), None, &guard).await;
    assert!(matches!(lost, Err(Error::LockLost { .. })), "{lost:?}");
    let lost = two.create_if_locked("k2", "2".into(), None, &guard).await;
    assert!(matches!(lost, Err(Error::LockLost { .. })), "{lost:?}");
}

/// Leases are renewed and keys read and deleted all the same; whoever wants to write reads what is to be done.
#[tokio::test]
async fn a_full_database_is_told_with_its_remedy() {
    let mut server = Server::start().await;
    server.kill();
    server
        .restart_with(&["--quota-backend-bytes=1000000"])
        .await;
    let etcd = server.client().await;
    let lease = etcd.grant(Duration::from_secs(60)).await.unwrap();
    etcd.put("k", "v".into(), Some(lease)).await.unwrap();
    let publisher = Publisher::start(etcd.clone(), PublisherOptions::default());
    publisher.put("ours", "v").unwrap();
    publisher.settled().await;
    let large = Bytes::from(vec![0; 600_000]);
    while etcd.put("large", large.clone(), None).await.is_ok() {}
    let error = etcd.put("k2", "v".into(), None).await.unwrap_err();
    assert!(
        error.to_string().contains("etcdctl alarm disarm"),
        "{error}"
    );
    assert!(etcd.status().await.unwrap().full);
    etcd.keep_alive(lease).await.unwrap();
    publisher.delete("ours");
    publisher.settled().await;
    assert_eq!(etcd.get("ours").await.unwrap(), None);
    publisher.put("later", "v").unwrap();
    let refused = async {
        while publisher.status().last_error.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, refused).await.unwrap();
    let full = publisher.status().last_error;
    assert!(matches!(full, Some(Error::NoSpace { .. })), "{full:?}");
    etcd.delete("large").await.unwrap();
    let revision = etcd.status().await.unwrap().revision.to_string();
    server.ctl(&["compact", &revision]);
    server.ctl(&["defrag"]);
    server.ctl(&["alarm", "disarm"]);
    timeout(Duration::from_secs(12), publisher.settled())
        .await
        .unwrap();
    assert_eq!(publisher.status().last_error, None);
    assert!(!etcd.status().await.unwrap().full);
}

#[tokio::test]
async fn a_stopped_process_is_noticed() {
    let server = Server::start().await;
    let etcd = server.client().await;
    let mut updates = pin!(reflect(etcd.clone(), "r/"));
    listed(&mut updates).await;
    // Polled as a consumer would, so that the watch is open.
    assert!(
        timeout(Duration::from_millis(300), updates.next())
            .await
            .is_err()
    );
    let stopped = Instant::now();
    server.signal(Signal::SIGSTOP);
    let update = timeout(Duration::from_secs(30), updates.next()).await;
    server.signal(Signal::SIGCONT);
    assert!(matches!(update, Ok(Some(Update::Failed(_)))), "{update:?}");
    assert!(
        stopped.elapsed() < Duration::from_secs(25),
        "{:?}",
        stopped.elapsed()
    );
    listed(&mut updates).await;
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let server = Server::start().await;
    let text = server
        .config_text("127.0.0.1")
        .replace(&server.port.to_string(), &port.to_string());
    let config = kvstore::Config::parse(&text).unwrap();
    let options = ClientOptions {
        dial_timeout: Duration::from_secs(1),
        ..ClientOptions::default()
    };
    let started = Instant::now();
    let error = Etcd::connect(config, options).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(6));
    assert!(
        error.to_string().contains("did not answer within"),
        "{error}"
    );
}
