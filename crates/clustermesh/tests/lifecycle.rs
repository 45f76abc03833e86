// SPDX-License-Identifier: Apache-2.0
//! A remote cluster from its file to its removal, in virtual time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use clustermesh::State;
use common::{Lab, Peer, cluster, net};
use kvstore::schema::{encode_cluster_config, encode_node, keys};
use model::{ClusterConfig, ClusterId, NumericIdentity, reserved};

#[tokio::test(start_paused = true)]
async fn connects_syncs_follows_and_drains() {
    let peer = Peer::new("cluster7", 7);
    peer.populate().await;
    let mut lab = Lab::new(&[&peer]);
    lab.start();
    lab.seconds(1).await;
    let status = lab.status("cluster7");
    assert!(status.ready && status.connected, "{status:?}");
    assert_eq!(
        (status.nodes, status.endpoints, status.identities),
        (1, 1, 1)
    );
    assert_eq!(status.etcd.cluster_id, "e007");
    assert_eq!(status.etcd.endpoints, ["http://peer:2379"]);
    assert_eq!(
        lab.mesh.as_ref().unwrap().status().len(),
        1,
        "the own file is ignored"
    );
    let row = lab.agent.ips[&(cluster("cluster7"), net("10.7.1.5"))];
    assert_eq!(row.identity, NumericIdentity(7 * 65536 + 1));
    let (of, entry) = lab.mesh.as_ref().unwrap().ip(&net("10.7.1.5")).unwrap();
    assert_eq!(
        (of.as_str(), &*entry.pod, &*entry.namespace),
        ("cluster7", "pod-1-5", "default")
    );

    peer.put_ip(&peer.pod(1, 6, 1)).await;
    peer.delete_ip(&peer.pod(1, 5, 1)).await;
    lab.seconds(1).await;
    assert_eq!(
        lab.agent.nets().into_iter().collect::<Vec<_>>(),
        ["cluster7 10.7.1.6"]
    );

    lab.file("cluster7", None);
    lab.seconds(6).await;
    assert_eq!(lab.agent.removed, [cluster("cluster7")]);
    assert!(lab.mesh.as_ref().unwrap().status().is_empty());
    assert!(!lab.dir.path().join("state/mesh/cluster7.rows").exists());
    lab.file("cluster7", Some("endpoints: [\"http://peer:2379\"]\n"));
    lab.seconds(6).await;
    assert_eq!(lab.state("cluster7"), State::Ready);
}

#[tokio::test(start_paused = true)]
async fn an_identity_comes_before_and_goes_after_its_addresses() {
    let peer = Peer::new("cluster7", 7);
    peer.populate().await;
    let mut lab = Lab::new(&[&peer]);
    lab.start();
    lab.seconds(1).await;
    peer.put_ip(&peer.pod(1, 8, 2)).await;
    lab.pass(Duration::from_millis(500)).await;
    assert!(
        !lab.agent
            .ips
            .contains_key(&(cluster("cluster7"), net("10.7.1.8"))),
        "it waits for its identity"
    );
    peer.put_identity(2).await;
    lab.pass(Duration::from_millis(100)).await;
    assert!(
        lab.agent
            .ips
            .contains_key(&(cluster("cluster7"), net("10.7.1.8")))
    );
    assert_eq!(lab.agent.late_identities, 0);

    // The key of the identity goes first: it stays until its address has gone.
    peer.delete(&keys::identity(peer.identity(2))).await;
    lab.seconds(1).await;
    assert!(lab.agent.identities.contains_key(&peer.identity(2)));
    peer.delete_ip(&peer.pod(1, 8, 2)).await;
    lab.seconds(1).await;
    assert!(!lab.agent.identities.contains_key(&peer.identity(2)));

    // An address that is known already must not keep its old identity, nor does one wait for ever.
    peer.put_ip(&peer.pod(1, 5, 3)).await;
    peer.put_ip(&peer.pod(1, 9, 3)).await;
    lab.pass(Duration::from_millis(100)).await;
    assert_eq!(
        lab.agent.ips[&(cluster("cluster7"), net("10.7.1.5"))].identity,
        peer.identity(3)
    );
    lab.seconds(2).await;
    assert_eq!(
        lab.agent.ips[&(cluster("cluster7"), net("10.7.1.9"))].identity,
        peer.identity(3)
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_keeps_everything_and_a_new_one_prunes() {
    let peer = Peer::new("cluster7", 7);
    peer.populate().await;
    let mut lab = Lab::new(&[&peer]);
    lab.start();
    lab.seconds(1).await;
    peer.network(false);
    lab.seconds(1).await;
    let status = lab.status("cluster7");
    assert_eq!(
        (status.state, status.connected, status.endpoints),
        (State::Stale, false, 1)
    );
    assert!(
        status
            .reason
            .ends_with("the last good state stays in force"),
        "{}",
        status.reason
    );
    let since = status.since;
    lab.seconds(600).await;
    assert_eq!(
        lab.status("cluster7").failures,
        *peer.connects.lock().unwrap() as u64
    );
    let attempts = *peer.connects.lock().unwrap();
    assert!(
        (120..200).contains(&attempts),
        "{attempts} attempts in 10 minutes"
    );
    let drift = lab
        .status("cluster7")
        .since
        .duration_since(since)
        .unwrap_or_else(|error| error.duration());
    assert!(
        drift < Duration::from_secs(1000),
        "stale since the loss, not since the last attempt"
    );
    assert_eq!(lab.agent.ips.len(), 1);

    peer.delete_ip(&peer.pod(1, 5, 1)).await;
    peer.put_ip(&peer.pod(1, 6, 1)).await;
    peer.beat().await;
    peer.network(true);
    lab.seconds(6).await;
    assert_eq!(lab.state("cluster7"), State::Ready);
    assert_eq!(
        lab.agent.nets().into_iter().collect::<Vec<_>>(),
        ["cluster7 10.7.1.6"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_heartbeat_is_a_dead_connection() {
    let peer = Peer::new("cluster7", 7);
    peer.populate().await;
    let mut lab = Lab::new(&[&peer]);
    lab.start();
    lab.seconds(60).await;
    peer.beat().await;
    lab.seconds(119).await;
    assert_eq!(lab.state("cluster7"), State::Ready);
    lab.pass(Duration::from_millis(1100)).await;
    let status = lab.status("cluster7");
    assert_eq!(status.state, State::Stale);
    assert!(
        status.reason.starts_with("no heartbeat for 2 min"),
        "{}",
        status.reason
    );
}

#[tokio::test(start_paused = true)]
async fn canaries_are_awaited_when_announced() {
    let peer = Peer::new("cluster7", 7);
    peer.populate().await;
    let config = ClusterConfig {
        id: ClusterId(7),
        synced_canaries: true,
        max_connected_clusters: 255,
        ..ClusterConfig::default()
    };
    peer.put(
        &keys::cluster_config("cluster7"),
        encode_cluster_config(&config),
    )
    .await;
    let mut lab = Lab::new(&[&peer]);
    lab.start();
    lab.seconds(5).await;
    assert_eq!(
        lab.words("cluster7"),
        "synchronizing: waiting for nodes (not announced as complete), identities (not announced as complete), \
         endpoints (not announced as complete)"
    );
    for prefix in [keys::NODES, keys::IP_STATE, keys::IDENTITIES] {
        assert_eq!(lab.agent.ips.len(), 0);
        peer.put(&keys::synced("cluster7", prefix), "2026-01-01T00:00:00Z")
            .await;
        lab.seconds(1).await;
    }
    assert_eq!(lab.state("cluster7"), State::Ready);
    assert_eq!(lab.agent.ips.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_mirror_is_read_where_it_keeps_its_copies() {
    let peer = Peer::new("cluster7", 7);
    peer.beat().await;
    let config = ClusterConfig {
        id: ClusterId(7),
        cached: true,
        ..ClusterConfig::default()
    };
    peer.put(
        &keys::cluster_config("cluster7"),
        encode_cluster_config(&config),
    )
    .await;
    peer.put(
        "cilium/cache/nodes/v1/cluster7/node1",
        encode_node(&peer.node(1)),
    )
    .await;
    let identity = format!(
        "cilium/cache/identities/v1/cluster7/id/{}",
        peer.identity(1)
    );
    peer.put(
        &identity,
        kvstore::schema::encode_identity(&peer.labels("x")),
    )
    .await;
    let pod = peer.pod(1, 5, 1);
    peer.put(
        "cilium/cache/ip/v1/cluster7/10.7.1.5",
        kvstore::schema::encode_ip(&pod),
    )
    .await;
    let mut lab = Lab::new(&[&peer]);
    lab.start();
    lab.seconds(1).await;
    let status = lab.status("cluster7");
    assert_eq!(
        (
            status.ready,
            status.nodes,
            status.endpoints,
            status.identities
        ),
        (true, 1, 1, 1)
    );
    // The mirror forgets the cluster: its configuration goes first, then everything else.
    peer.delete(&keys::cluster_config("cluster7")).await;
    lab.seconds(1).await;
    peer.delete("cilium/cache/ip/v1/cluster7/10.7.1.5").await;
    lab.seconds(10).await;
    assert_eq!(
        lab.agent.ips.len(),
        1,
        "rows stay until our own configuration entry goes"
    );
    assert_eq!(lab.state("cluster7"), State::WaitingForConfig);
}

#[tokio::test(start_paused = true)]
async fn a_changed_id_drains_first() {
    let peer = Peer::new("cluster7", 7);
    peer.populate().await;
    let mut lab = Lab::new(&[&peer]);
    lab.start();
    lab.seconds(1).await;
    let renamed = Peer::new("cluster7", 8);
    peer.config(8).await;
    let mut node = renamed.node(1);
    node.name = peer.node(1).name;
    peer.put(&keys::node("cluster7", "node1"), encode_node(&node))
        .await;
    peer.delete(&keys::identity(peer.identity(1))).await;
    let labels = kvstore::schema::encode_identity(&peer.labels("x"));
    peer.put(&keys::identity(renamed.identity(1)), labels).await;
    peer.put_ip(&renamed.pod(1, 5, 1)).await;
    lab.seconds(3).await;
    let status = lab.status("cluster7");
    assert_eq!(
        (status.state, status.config.unwrap().id),
        (State::Ready, ClusterId(8))
    );
    assert_eq!(
        lab.agent.identities.keys().collect::<Vec<_>>(),
        [&renamed.identity(1)]
    );
    assert!(
        lab.agent
            .ips
            .contains_key(&(cluster("cluster7"), net("10.8.1.5")))
    );
    assert!(
        !lab.agent
            .ips
            .contains_key(&(cluster("cluster7"), net("10.7.1.5"))),
        "{:?}",
        lab.agent.nets()
    );
}

#[tokio::test(start_paused = true)]
async fn another_etcd_behind_the_address_is_listed_from_scratch() {
    let peer = Peer::new("cluster7", 7);
    peer.populate().await;
    let mut lab = Lab::new(&[&peer]);
    lab.start();
    lab.seconds(1).await;
    peer.store.replace(0xbeef);
    peer.populate().await;
    peer.put_ip(&peer.pod(1, 9, 1)).await;
    peer.delete_ip(&peer.pod(1, 5, 1)).await;
    lab.seconds(5).await;
    let status = lab.status("cluster7");
    assert_eq!(
        (status.state, status.etcd.cluster_id.as_str()),
        (State::Ready, "beef")
    );
    assert_eq!(
        lab.agent.nets().into_iter().collect::<Vec<_>>(),
        ["cluster7 10.7.1.9"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_compacted_history_is_listed_again() {
    let peer = Peer::new("cluster7", 7);
    peer.populate().await;
    let mut lab = Lab::new(&[&peer]);
    lab.start();
    lab.seconds(1).await;
    peer.network(false);
    lab.seconds(1).await;
    for host in 10..40 {
        peer.put_ip(&peer.pod(1, host, 1)).await;
    }
    peer.delete_ip(&peer.pod(1, 5, 1)).await;
    peer.store.compact();
    peer.network(true);
    lab.seconds(6).await;
    assert_eq!(
        (lab.state("cluster7"), lab.agent.ips.len()),
        (State::Ready, 30)
    );
}

#[tokio::test(start_paused = true)]
async fn the_last_good_rows_survive_a_restart_without_the_remote() {
    let peer = Peer::new("cluster7", 7);
    peer.populate().await;
    let mut lab = Lab::new(&[&peer]);
    lab.start();
    lab.seconds(10).await;
    assert!(
        lab.dir.path().join("state/mesh/cluster7.rows").exists(),
        "saved while running"
    );
    peer.put_ip(&peer.pod(1, 6, 1)).await;
    lab.pass(Duration::from_millis(100)).await;
    lab.stop().await;
    peer.network(false);
    lab.start();
    assert!(lab.mesh.as_ref().unwrap().synced().await);
    lab.seconds(1).await;
    let status = lab.status("cluster7");
    assert_eq!(
        (status.state, status.served_from_disk),
        (State::Stale, true)
    );
    assert_eq!(
        (status.nodes, status.endpoints, status.identities),
        (1, 2, 1)
    );
    assert_eq!(
        lab.agent.identities[&peer.identity(1)].1,
        peer.labels("app1")
    );

    peer.delete_ip(&peer.pod(1, 5, 1)).await;
    peer.network(true);
    lab.seconds(8).await;
    let status = lab.status("cluster7");
    assert_eq!(
        (status.state, status.served_from_disk),
        (State::Ready, false)
    );
    assert_eq!(
        lab.agent.nets().into_iter().collect::<Vec<_>>(),
        ["cluster7 10.7.1.6"]
    );

    lab.stop().await;
    let path = lab.dir.path().join("state/mesh/cluster7.rows");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 0x40;
    std::fs::write(&path, bytes).unwrap();
    peer.network(false);
    lab.start();
    lab.seconds(1).await;
    let status = lab.status("cluster7");
    assert_eq!((status.state, status.endpoints), (State::Connecting, 0));
    assert!(
        status
            .disk_error
            .ends_with("its checksum is wrong: it is damaged"),
        "{}",
        status.disk_error
    );
}

#[tokio::test(start_paused = true)]
async fn synced_is_bounded() {
    let peer = Peer::new("cluster7", 7);
    peer.network(false);
    let mut lab = Lab::new(&[&peer]);
    lab.start();
    let start = tokio::time::Instant::now();
    assert!(!lab.mesh.as_ref().unwrap().synced().await);
    assert_eq!(start.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn an_address_moves_between_nodes_and_clusters() {
    let (a, b) = (Peer::new("cluster7", 7), Peer::new("cluster8", 8));
    a.populate().await;
    b.populate().await;
    // Outside the pod networks of both.
    let mut from = a.pod(1, 1, 1);
    from.prefix = net("192.168.9.9");
    let mut to = b.pod(1, 1, 1);
    to.prefix = from.prefix;
    a.put_ip(&from).await;
    let mut lab = Lab::new(&[&a, &b]);
    lab.start();
    lab.seconds(1).await;
    b.put_ip(&to).await;
    lab.seconds(1).await;
    assert!(
        lab.agent
            .ips
            .contains_key(&(cluster("cluster7"), from.prefix))
    );
    assert_eq!(
        lab.words("cluster8"),
        "ready: \naddresses 192.168.9.9: 192.168.9.9/32 overlaps with 192.168.9.9/32 of cluster cluster7"
    );
    from.host = Some("172.7.0.2".parse().unwrap());
    a.put_ip(&from).await;
    lab.seconds(1).await;
    assert_eq!(
        lab.agent.ips[&(cluster("cluster7"), from.prefix)].host,
        from.host
    );
    a.delete_ip(&from).await;
    lab.seconds(1).await;
    assert_eq!(
        lab.agent.ips[&(cluster("cluster8"), to.prefix)].identity,
        b.identity(1)
    );
    assert_eq!(lab.words("cluster8"), "ready: ");
    let mut host = b.pod(1, 2, 1);
    host.identity = reserved::HOST;
    b.put_ip(&host).await;
    lab.seconds(1).await;
    assert_eq!(
        lab.agent.ips[&(cluster("cluster8"), host.prefix)].identity,
        reserved::REMOTE_NODE
    );
}
