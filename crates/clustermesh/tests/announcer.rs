// SPDX-License-Identifier: Apache-2.0
//! Agents that announce their cluster: together they write each key once, and take over from each other.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use clustermesh::publish::{Announcement, Announcer};
use kvstore::{Memory, Store};
use model::{ClusterId, ClusterName, IdentityScheme};

fn announcement() -> Announcement {
    Announcement {
        cluster: ClusterName::new("cluster5").unwrap(),
        id: ClusterId(5),
        scheme: IdentityScheme::default(),
        lease_ttl: Duration::from_secs(60),
    }
}

async fn value(store: &Memory, key: &str) -> Option<String> {
    let kv = store.get(key).await.unwrap()?;
    Some(String::from_utf8(kv.value.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn agents_share_the_keys_of_their_cluster() {
    let store = Memory::new(5);
    let mut agents: Vec<Announcer> = (0..5)
        .map(|_| Announcer::start(store.client(), announcement()))
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        value(&store, "cilium/cluster-config/cluster5")
            .await
            .unwrap(),
        "{\"id\":5,\"capabilities\":{\"syncedCanaries\":true,\"maxConnectedClusters\":255,\"serviceExportsEnabled\":false}}"
    );
    assert!(value(&store, "cilium/.heartbeat").await.is_some());
    let canary = "cilium/synced/cluster5/cilium/state/nodes/v1";
    assert_eq!(
        value(&store, canary).await,
        None,
        "nothing is published yet"
    );
    agents.iter().for_each(Announcer::published);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(agents.iter().all(|agent| agent.status().announced));
    assert_eq!(
        store
            .list("cilium/synced/cluster5/")
            .await
            .unwrap()
            .kvs
            .len(),
        6
    );

    // Nobody writes what is right already, and one beats for all.
    let before = store.status().await.unwrap().revision;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let writes = store.status().await.unwrap().revision - before;
    assert!((8..=14).contains(&writes), "{writes} writes in 10 minutes");

    // The writer dies, its lease ends, the others write.
    while agents.len() > 1 {
        agents.remove(0);
        tokio::time::sleep(Duration::from_secs(62)).await;
        for key in [
            canary,
            "cilium/cluster-config/cluster5",
            "cilium/.heartbeat",
        ] {
            assert!(
                value(&store, key).await.is_some(),
                "{key} is gone with {} agents left",
                agents.len()
            );
        }
    }
    store.delete(canary).await.unwrap();
    store
        .put("cilium/cluster-config/cluster5", "{}".into(), None)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(value(&store, canary).await.is_some());
    assert!(
        value(&store, "cilium/cluster-config/cluster5")
            .await
            .unwrap()
            .contains("\"id\":5")
    );
    store.expire_all();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(
        value(&store, canary).await.is_some(),
        "a lost lease is noticed by what went with it"
    );
}

/// It has nothing left to do then.
#[tokio::test(start_paused = true)]
async fn a_beat_that_failed_is_no_failure_after_the_next() {
    let store = Memory::new(5);
    let client = store.client();
    let agent = Announcer::start(client.clone(), announcement());
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.lose_answers(true);
    tokio::time::timeout(Duration::from_secs(70), async {
        while agent.status().error.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("a beat fails");
    client.lose_answers(false);
    let beat = store.put("cilium/.heartbeat", "now".into(), None);
    beat.await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(agent.status().error, "");
}

/// The etcd of a cluster loses its disk, or is restored from a snapshot: same cluster id, and leases that nobody knows.
#[tokio::test(start_paused = true)]
async fn an_etcd_without_memory_is_told_again() {
    let store = Memory::new(5);
    let agent = Announcer::start(store.client(), announcement());
    agent.published();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let before = store.dump().len();
    store.replace(5);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(store.dump().len(), before - 1, "all but the heartbeat");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(store.dump().len(), before, "and it when it is due");
}
