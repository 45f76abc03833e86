// SPDX-License-Identifier: Apache-2.0
//! Keys that go with their lease: an agent that is away must not cut its pods; a node that is removed must go at once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Lab, Peer, net};
use kvstore::schema::{
    encode_cluster_config, encode_identity, encode_ip, encode_node, ip_key, keys,
};
use kvstore::{LeaseId, Store};
use model::{ClusterConfig, ClusterId, Node};

/// A node with two pods whose keys hang on a lease, as an agent publishes them.
async fn publish(peer: &Peer, n: u8, ttl: u64) -> LeaseId {
    let client = peer.store.client();
    let lease = client
        .grant(Duration::from_secs(ttl))
        .await
        .expect("granted");
    put_node(peer, &peer.node(n), lease).await;
    for host in [5, 6] {
        let pod = peer.pod(n, host, 1);
        let key = ip_key(&pod.prefix);
        let put = client.put(&key, encode_ip(&pod), Some(lease));
        put.await.expect("written");
    }
    lease
}

async fn put_node(peer: &Peer, node: &Node, lease: LeaseId) {
    let key = keys::node(peer.name.as_str(), &node.name.name);
    let client = peer.store.client();
    let put = client.put(&key, encode_node(node), Some(lease));
    put.await.expect("written");
}

async fn lab() -> (Arc<Peer>, Lab) {
    let peer = Peer::new("cluster7", 7);
    peer.config(7).await;
    peer.beat().await;
    peer.put_identity(1).await;
    let lab = Lab::new(&[&peer]);
    (peer, lab)
}

fn counts(lab: &Lab) -> (usize, usize, usize) {
    let status = lab.status("cluster7");
    (status.nodes, status.endpoints, status.orphans)
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_makes_orphans_and_their_keys_take_them_back() {
    let (peer, mut lab) = lab().await;
    publish(&peer, 1, 60).await;
    publish(&peer, 2, 3600).await;
    lab.start();
    lab.seconds(2).await;
    assert_eq!(counts(&lab), (2, 4, 0));
    lab.seconds(30).await;
    peer.beat().await;
    lab.seconds(30).await;
    assert_eq!(counts(&lab), (2, 4, 3));
    assert!(lab.status("cluster7").orphans_since.is_some());
    assert_eq!(lab.agent.ips.len(), 4);
    // Identities that orphans use stay too.
    peer.delete(&keys::identity(peer.identity(1))).await;
    lab.seconds(1).await;
    assert_eq!(lab.agent.identities.len(), 1);
    peer.put_identity(1).await;
    // Neither a new connection nor a new agent forgets them.
    peer.network(false);
    lab.seconds(1).await;
    peer.network(true);
    lab.seconds(6).await;
    assert_eq!(counts(&lab), (2, 4, 3));
    lab.restart().await;
    lab.seconds(6).await;
    assert_eq!((counts(&lab), lab.agent.ips.len()), ((2, 4, 3), 4));
    // The agent is back.
    publish(&peer, 1, 3600).await;
    lab.seconds(1).await;
    assert_eq!(counts(&lab), (2, 4, 0));
    assert_eq!(lab.status("cluster7").orphans_since, None);
}

/// A pod that went while its agent was away for longer than its lease: nobody deletes its key, which is gone already. Its
/// agent is back and does not name it.
#[tokio::test(start_paused = true)]
async fn an_agent_that_is_back_without_a_pod_ends_it() {
    let (peer, mut lab) = lab().await;
    publish(&peer, 1, 60).await;
    publish(&peer, 2, 60).await;
    lab.start();
    let minutes = async |lab: &mut Lab, count| {
        for _ in 0..count {
            peer.beat().await;
            lab.seconds(60).await;
        }
    };
    minutes(&mut lab, 2).await;
    assert_eq!(counts(&lab), (2, 4, 6));
    minutes(&mut lab, 30).await;
    assert_eq!(counts(&lab), (2, 4, 6), "agents that stay away cut nobody");
    publish(&peer, 1, 36_000).await;
    let client = peer.store.client();
    let gone = peer.pod(1, 6, 1);
    client.delete(&ip_key(&gone.prefix)).await.expect("deleted");
    lab.seconds(1).await;
    assert_eq!(counts(&lab), (2, 3, 3));
    // The same without a deletion that anybody could see.
    let left = peer.pod(1, 7, 1);
    let short = client
        .grant(Duration::from_secs(60))
        .await
        .expect("granted");
    let key = ip_key(&left.prefix);
    let put = client.put(&key, encode_ip(&left), Some(short));
    put.await.expect("written");
    minutes(&mut lab, 3).await;
    assert_eq!(counts(&lab), (2, 4, 4));
    minutes(&mut lab, 10).await;
    assert_eq!(counts(&lab), (2, 4, 4), "it may be on its way");
    minutes(&mut lab, 25).await;
    assert_eq!(counts(&lab), (2, 3, 3), "the other node's stay");
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_goes_at_once() {
    let (peer, mut lab) = lab().await;
    publish(&peer, 1, 3600).await;
    lab.start();
    lab.seconds(2).await;
    peer.delete_ip(&peer.pod(1, 6, 1)).await;
    lab.pass(Duration::from_millis(100)).await;
    assert_eq!(counts(&lab), (1, 1, 0));
    // Also what was deleted while nobody looked.
    peer.network(false);
    peer.delete_ip(&peer.pod(1, 5, 1)).await;
    peer.network(true);
    lab.seconds(6).await;
    assert_eq!(counts(&lab), (1, 0, 0));
    peer.delete(&keys::node("cluster7", "node1")).await;
    lab.pass(Duration::from_millis(100)).await;
    assert_eq!((counts(&lab), lab.agent.nodes.len()), ((0, 0, 0), 0));
}

#[tokio::test(start_paused = true)]
async fn a_removed_node_takes_its_orphans_along() {
    let (peer, mut lab) = lab().await;
    let lease = publish(&peer, 1, 60).await;
    let other = peer
        .store
        .client()
        .grant(Duration::from_secs(3600))
        .await
        .expect("granted");
    put_node(&peer, &peer.node(1), other).await;
    lab.start();
    lab.seconds(2).await;
    peer.store.expire(lease);
    lab.seconds(1).await;
    assert_eq!(counts(&lab), (1, 2, 2));
    peer.delete(&keys::node("cluster7", "node1")).await;
    lab.seconds(1).await;
    assert_eq!((counts(&lab), lab.agent.ips.len()), ((0, 0, 0), 0));
}

#[tokio::test(start_paused = true)]
async fn orphans_give_way_to_their_cluster_and_to_ours_but_to_no_other() {
    let (peer, mut lab) = lab().await;
    let thief = Peer::new("cluster8", 8);
    thief.populate().await;
    lab.peers.insert(thief.name.clone(), thief.clone());
    lab.file("cluster8", Some("endpoints: [\"http://peer:2379\"]\n"));
    let lease = publish(&peer, 1, 60).await;
    lab.start();
    lab.seconds(2).await;
    peer.store.expire(lease);
    lab.seconds(1).await;
    let mut stolen = thief.pod(1, 9, 1);
    stolen.prefix = net("10.7.1.5");
    thief.put_ip(&stolen).await;
    lab.seconds(1).await;
    assert_eq!(counts(&lab), (1, 2, 3));
    assert_eq!(lab.status("cluster8").refused_rows, 1);
    // The address is given to a pod elsewhere in the cluster.
    let mut moved = peer.pod(2, 5, 1);
    moved.prefix = net("10.7.1.5");
    peer.put_ip(&moved).await;
    lab.seconds(1).await;
    assert_eq!(counts(&lab), (1, 2, 2));
    peer.delete_ip(&moved).await;
    // A new node has the network of the one that is away.
    let mut heir = peer.node(3);
    heir.ipv4_alloc = peer.node(1).ipv4_alloc;
    let other = peer
        .store
        .client()
        .grant(Duration::from_secs(3600))
        .await
        .expect("granted");
    put_node(&peer, &heir, other).await;
    lab.seconds(1).await;
    assert_eq!(counts(&lab), (1, 0, 0));
    assert_eq!(
        lab.agent
            .nodes
            .keys()
            .map(|n| &*n.name)
            .filter(|n| *n == "node3")
            .count(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn an_announced_list_is_whole_and_orphans_do_not_live_for_ever() {
    let (peer, mut lab) = lab().await;
    publish(&peer, 1, 60).await;
    lab.start();
    lab.seconds(2).await;
    peer.store.expire_all();
    lab.seconds(1).await;
    assert_eq!(counts(&lab), (1, 2, 3));
    for _ in 0..24 * 60 {
        peer.beat().await;
        lab.seconds(60).await;
    }
    assert_eq!(counts(&lab), (0, 0, 0));

    publish(&peer, 1, 600).await;
    lab.seconds(1).await;
    peer.store.expire_all();
    lab.seconds(1).await;
    assert_eq!(counts(&lab), (1, 2, 3));
    put_leased_identity(&peer).await;
    announce(&peer).await;
    lab.seconds(6).await;
    assert_eq!(counts(&lab), (0, 0, 0));
}

/// Says that every list is whole.
async fn announce(peer: &Peer) {
    let config = ClusterConfig {
        id: ClusterId(7),
        max_connected_clusters: 255,
        synced_canaries: true,
        ..Default::default()
    };
    for prefix in [keys::NODES, keys::IDENTITIES, keys::IP_STATE] {
        peer.put(&keys::synced("cluster7", prefix), kvstore::schema::now())
            .await;
    }
    peer.put(
        &keys::cluster_config("cluster7"),
        encode_cluster_config(&config),
    )
    .await;
}

/// As somebody does who publishes all rows of the cluster.
async fn put_leased_identity(peer: &Peer) {
    let client = peer.store.client();
    let lease = client.grant(Duration::from_secs(3600)).await.unwrap();
    let labels = encode_identity(&peer.labels("app1"));
    let key = keys::identity(peer.identity(1));
    client.put(&key, labels, Some(lease)).await.unwrap();
}

/// The first agent that is back announces lists that are whole as far as it knows.
#[tokio::test(start_paused = true)]
async fn an_etcd_that_lost_its_disk_cuts_no_pods_of_agents_that_are_away() {
    let (peer, mut lab) = lab().await;
    announce(&peer).await;
    publish(&peer, 1, 3600).await;
    publish(&peer, 2, 3600).await;
    lab.start();
    lab.seconds(2).await;
    assert_eq!(counts(&lab), (2, 4, 0));
    peer.store.replace(7);
    peer.beat().await;
    peer.put_identity(1).await;
    publish(&peer, 1, 3600).await;
    announce(&peer).await;
    lab.seconds(10).await;
    assert_eq!(counts(&lab), (2, 4, 3), "{}", lab.words("cluster7"));
    publish(&peer, 2, 3600).await;
    lab.seconds(1).await;
    assert_eq!(counts(&lab), (2, 4, 0));
}

/// As Cilium's clustermesh-apiserver does.
#[tokio::test(start_paused = true)]
async fn who_publishes_all_rows_of_a_cluster_says_what_is_gone() {
    let (peer, mut lab) = lab().await;
    for nodes in [&[1, 2][..], &[1]] {
        peer.store.replace(7);
        peer.beat().await;
        put_leased_identity(&peer).await;
        for n in nodes {
            publish(&peer, *n, 3600).await;
        }
        announce(&peer).await;
        if lab.mesh.is_none() {
            lab.start();
        }
        lab.seconds(10).await;
        let all = nodes.len();
        assert_eq!(counts(&lab), (all, 2 * all, 0), "{}", lab.words("cluster7"));
    }
}

#[test]
fn rows_of_this_cluster_are_checked_too() {
    use clustermesh::{Kind, Refusal, Rows, Value};
    let (peer, other) = (Peer::new("cluster7", 7), Peer::new("cluster8", 8));
    let mut rows = Rows::new(Default::default(), &[]);
    rows.open_own(&peer.name, ClusterId(7));
    let now = Duration::ZERO;
    let mut put = |kind: Kind, suffix: &str, value: Value| {
        rows.put(now, &peer.name, kind, suffix, Ok(value), None)
    };
    for n in [1u8, 2] {
        put(
            Kind::Nodes,
            &format!("node{n}"),
            Value::Node(Arc::new(peer.node(n))),
        );
    }
    put(Kind::Nodes, "node3", Value::Node(Arc::new(other.node(3))));
    let local = |n: u32| (7 * 65536 + n).to_string();
    put(
        Kind::Identities,
        &local(1),
        Value::Identity(peer.labels("web")),
    );
    // A label filter may leave the cluster's label out, but not name another cluster.
    let bare = model::Labels::parse(b"k8s:app=web;").expect("labels");
    put(Kind::Identities, &local(2), Value::Identity(bare));
    put(
        Kind::Identities,
        &local(3),
        Value::Identity(other.labels("web")),
    );
    put(
        Kind::Identities,
        &(8 * 65536).to_string(),
        Value::Identity(peer.labels("web")),
    );
    let mut ip = |suffix: &str, change: &dyn Fn(&mut model::IpEntry)| {
        let mut entry = peer.pod(1, 5, 1);
        entry.prefix = net(suffix);
        change(&mut entry);
        put(Kind::Ips, suffix, Value::Ip(Box::new(entry)));
    };
    ip("10.7.1.5", &|_| {});
    ip("10.7.1.6", &|entry| {
        entry.identity = model::NumericIdentity(104)
    });
    ip("10.7.1.7", &|entry| entry.identity = other.identity(1));
    ip("10.7.1.8", &|entry| entry.identity = model::reserved::WORLD);
    // In the network of another node.
    ip("10.7.2.9", &|_| {});
    assert_eq!(rows.counts(&peer.name), (2, 2, 2));
    let (refused, some) = rows.refused(&peer.name);
    assert_eq!(refused, 6);
    let words = Refusal::OtherNode {
        net: net("10.7.2.9"),
        node: "node2".into(),
    };
    assert!(
        some.iter().any(|row| row.reason == words.to_string()),
        "{some:?}"
    );
}
