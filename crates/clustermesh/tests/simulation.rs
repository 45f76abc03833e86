// SPDX-License-Identifier: Apache-2.0
//! Hundreds of clusters in virtual time, with faults by chance: after they end, everybody knows exactly what is
//! published. `SEED=n` repeats a run.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use clustermesh::State;
use common::{Lab, Peer};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn seed() -> u64 {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(rand::random);
    println!("SEED={seed}");
    seed
}

fn published(peers: &[Arc<Peer>]) -> BTreeSet<String> {
    let ip = |peer: &Arc<Peer>, key: &str| {
        let ip = key.strip_prefix("cilium/state/ip/v1/default/")?;
        Some(format!("{} {ip}", peer.name))
    };
    let of = |peer: &Arc<Peer>| {
        let kvs = peer.store.dump();
        kvs.into_iter()
            .filter_map(|kv| ip(peer, &kv.key))
            .collect::<Vec<_>>()
    };
    peers.iter().flat_map(of).collect()
}

/// One random event somewhere.
async fn happen(peers: &[Arc<Peer>], random: &mut StdRng) {
    let peer = &peers[random.random_range(0..peers.len())];
    let (host, local) = (random.random_range(2..12), random.random_range(1..5));
    let pod = peer.pod(1, host, local);
    match random.random_range(0..13) {
        0..4 => {
            peer.put_identity(local).await;
            peer.put_ip(&pod).await;
        }
        4 => {
            peer.put_ip(&pod).await;
            peer.put_identity(local).await;
        }
        5..7 => peer.delete_ip(&pod).await,
        7 => {
            peer.delete(&kvstore::schema::keys::identity(peer.identity(local)))
                .await
        }
        8 => peer.network(false),
        9 => peer.network(true),
        10 => peer.store.compact(),
        11 => {
            peer.store.replace(random.random());
            peer.populate().await;
        }
        _ => {
            let lease = kvstore::Store::grant(&peer.store.client(), Duration::from_secs(30))
                .await
                .unwrap();
            let value = kvstore::schema::encode_ip(&pod);
            let key = kvstore::schema::ip_key(&pod.prefix);
            kvstore::Store::put(&peer.store.client(), &key, value, Some(lease))
                .await
                .unwrap();
            if random.random() {
                peer.store.expire(lease);
            }
        }
    }
}

async fn run(count: u16, events: u32, restarts: u32) {
    let mut random = StdRng::seed_from_u64(seed());
    let peers: Vec<Arc<Peer>> = (1..=count)
        .filter(|id| *id != 5)
        .map(|id| Peer::new(&format!("cluster{id}"), id))
        .collect();
    for peer in &peers {
        peer.populate().await;
    }
    let mut lab = Lab::new(&peers.iter().collect::<Vec<_>>());
    lab.start();
    for step in 1..=events {
        happen(&peers, &mut random).await;
        if random.random_ratio(1, 8) {
            lab.pass(Duration::from_millis(random.random_range(1..3000)))
                .await;
        }
        if restarts > 0 && step % (events / restarts) == 0 {
            lab.restart().await;
        }
    }
    for peer in &peers {
        peer.network(true);
        peer.beat().await;
    }
    lab.seconds(8).await;
    for peer in &peers {
        assert_eq!(
            lab.state(peer.name.as_str()),
            State::Ready,
            "{}",
            lab.words(peer.name.as_str())
        );
        assert_eq!(lab.status(peer.name.as_str()).refused_rows, 0);
    }
    // What went with its lease stays.
    let orphans: usize = peers
        .iter()
        .map(|peer| lab.status(peer.name.as_str()).orphans)
        .sum();
    let (known, published) = (lab.agent.nets(), published(&peers));
    assert!(known.is_superset(&published));
    assert_eq!(known.len(), published.len() + orphans);
    for name in peers.iter().map(|peer| peer.name.to_string()) {
        lab.file(&name, None);
    }
    lab.seconds(6).await;
    assert_eq!(lab.agent.removed.len(), peers.len());
    assert!(
        lab.agent.ips.is_empty() && lab.agent.nodes.is_empty() && lab.agent.identities.is_empty()
    );
}

#[tokio::test(start_paused = true)]
async fn two_hundred_clusters_with_faults() {
    run(200, 2000, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_few_clusters_with_faults_and_restarts() {
    run(8, 1500, 10).await;
}
