// SPDX-License-Identifier: Apache-2.0
//! Bad input: what the operator reads, and that the last good state stays.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use clustermesh::{Error, Mesh, State};
use common::{Lab, Peer, cluster, net};
use kvstore::Memory;
use kvstore::schema::{encode_identity, encode_node, keys};
use model::{ClusterId, IdentityScheme, NumericIdentity};
use tokio::sync::mpsc;

#[tokio::test(start_paused = true)]
async fn hostile_rows_are_refused_and_named() {
    let peer = Peer::new("cluster7", 7);
    peer.populate().await;
    let mut lab = Lab::new(&[&peer]);
    lab.start();
    lab.seconds(1).await;
    let before = (
        lab.agent.nodes.clone(),
        lab.agent.ips.clone(),
        lab.agent.identities.clone(),
    );

    let other = Peer::new("cluster9", 9);
    let mut foreign = other.node(1);
    foreign.name.name = "node1".into();
    peer.put(&keys::node("cluster7", "node1"), encode_node(&foreign))
        .await;
    let mut grabbing = peer.node(2);
    grabbing.ipv4_alloc = Some(net("10.0.0.0/8"));
    peer.put(&keys::node("cluster7", "node2"), encode_node(&grabbing))
        .await;
    peer.put(
        &keys::identity(NumericIdentity(9 * 65536)),
        encode_identity(&peer.labels("x")),
    )
    .await;
    peer.put(
        &keys::identity(peer.identity(1)),
        encode_identity(&other.labels("x")),
    )
    .await;
    peer.put("cilium/state/ip/v1/default/10.7.1.5", "{not json")
        .await;
    let mut ours = peer.pod(1, 7, 1);
    ours.prefix = net("10.5.0.7");
    peer.put_ip(&ours).await;
    let mut reaching = peer.pod(1, 8, 1);
    reaching.identity = NumericIdentity(9 * 65536 + 3);
    peer.put_ip(&reaching).await;
    let mut nowhere = peer.pod(1, 9, 1);
    nowhere.host = None;
    peer.put_ip(&nowhere).await;
    lab.seconds(3).await;
    assert_eq!(
        before,
        (
            lab.agent.nodes.clone(),
            lab.agent.ips.clone(),
            lab.agent.identities.clone()
        )
    );
    let status = lab.status("cluster7");
    assert_eq!((status.state, status.refused_rows), (State::Ready, 8));
    let mut words: Vec<String> = lab.words("cluster7").lines().map(str::to_owned).collect();
    words.sort();
    assert_eq!(
        words.join("\n"),
        "addresses 10.5.0.7: 10.5.0.7/32 overlaps with 10.5.0.0/16 of this cluster
addresses 10.7.1.5: value: key must be a string at line 1 column 2
addresses 10.7.1.8: identity 589827 is outside the cluster's range 458752..=524287
addresses 10.7.1.9: no host address: it cannot be reached
identities 458753: the labels do not hold exactly k8s:io.cilium.k8s.policy.cluster=cluster7
identities 589824: identity 589824 is outside the cluster's range 458752..=524287
nodes node1: the node says that it belongs to cluster \"cluster9\", but cluster7 publishes it
nodes node2: 10.0.0.0/8 overlaps with 10.5.0.0/16 of this cluster
ready: "
    );
    // Good values end it, and so does a list that no longer names the bad keys.
    peer.put_node(1).await;
    peer.put_ip(&peer.pod(1, 5, 1)).await;
    peer.put_identity(1).await;
    lab.seconds(1).await;
    assert_eq!(lab.status("cluster7").refused_rows, 5);
    peer.network(false);
    for key in ["10.5.0.7", "10.7.1.8", "10.7.1.9"] {
        peer.delete(&format!("cilium/state/ip/v1/default/{key}"))
            .await;
    }
    peer.network(true);
    lab.seconds(6).await;
    assert_eq!(
        (lab.status("cluster7").refused_rows, lab.agent.ips.len()),
        (2, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_row_keeps_the_row_before_through_a_new_list() {
    let peer = Peer::new("cluster7", 7);
    peer.populate().await;
    let mut lab = Lab::new(&[&peer]);
    lab.start();
    lab.seconds(1).await;
    peer.network(false);
    peer.put("cilium/state/ip/v1/default/10.7.1.5", "x").await;
    peer.put(&keys::node("cluster7", "node1"), "x").await;
    peer.put(&keys::identity(peer.identity(1)), "").await;
    peer.network(true);
    lab.seconds(6).await;
    let status = lab.status("cluster7");
    assert_eq!((status.state, status.refused_rows), (State::Ready, 3));
    assert_eq!(
        (
            lab.agent.nodes.len(),
            lab.agent.identities.len(),
            lab.agent.ips.len()
        ),
        (1, 1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_takes_what_another_cluster_has() {
    let (good, bad) = (Peer::new("cluster7", 7), Peer::new("cluster8", 8));
    good.populate().await;
    bad.populate().await;
    // Before the victim's node is known, the address looks free.
    let mut stolen = bad.pod(1, 1, 1);
    stolen.prefix = net("10.7.2.9");
    bad.put_ip(&stolen).await;
    let mut lab = Lab::new(&[&good, &bad]);
    lab.start();
    lab.seconds(1).await;
    assert!(
        lab.agent
            .ips
            .contains_key(&(cluster("cluster8"), stolen.prefix))
    );
    good.put_node(2).await;
    good.put_ip(&good.pod(2, 9, 1)).await;
    let mut node = bad.node(3);
    node.ipv4_alloc = Some(net("10.7.1.0/25"));
    bad.put(&keys::node("cluster8", "node3"), encode_node(&node))
        .await;
    let mut host = bad.pod(1, 3, 1);
    host.host = Some("172.7.0.1".parse().unwrap());
    bad.put_ip(&host).await;
    lab.seconds(3).await;
    assert!(
        !lab.agent
            .ips
            .contains_key(&(cluster("cluster8"), stolen.prefix))
    );
    assert!(
        lab.agent
            .ips
            .contains_key(&(cluster("cluster7"), stolen.prefix))
    );
    let mut words: Vec<String> = lab.words("cluster8").lines().map(str::to_owned).collect();
    words.sort();
    assert_eq!(
        words.join("\n"),
        "addresses 10.7.2.9: 10.7.2.9/32 overlaps with 10.7.2.0/24 of cluster cluster7
addresses 10.8.1.3: 172.7.0.1/32 overlaps with 172.7.0.1/32 of cluster cluster7
nodes node3: 10.7.1.0/25 overlaps with 10.7.1.0/24 of cluster cluster7
ready: "
    );
    // A network that becomes ours later goes at once.
    lab.mesh
        .as_ref()
        .unwrap()
        .protect(&[net("10.5.0.0/16"), net("10.8.0.0/16")]);
    lab.seconds(1).await;
    assert!(
        !lab.agent
            .ips
            .keys()
            .any(|(of, _)| of.as_str() == "cluster8"),
        "{:?}",
        lab.agent.nets()
    );
    lab.mesh.as_ref().unwrap().protect(&[net("10.5.0.0/16")]);
    lab.seconds(1).await;
    assert!(
        lab.agent
            .ips
            .contains_key(&(cluster("cluster8"), net("10.8.1.5")))
    );
}

#[tokio::test(start_paused = true)]
async fn ids_that_clash_are_refused_until_they_do_not() {
    let (a, b, c) = (Peer::new("a", 7), Peer::new("b", 7), Peer::new("c", 5));
    let (d, e, f) = (Peer::new("d", 0), Peer::new("e", 256), Peer::new("f", 9));
    for peer in [&a, &b, &c, &d, &e, &f] {
        peer.beat().await;
        peer.config(peer.id).await;
    }
    f.put(&keys::cluster_config("f"), "[").await;
    let mut lab = Lab::new(&[&a, &b, &c, &d, &e, &f]);
    lab.start();
    lab.seconds(2).await;
    let (winner, loser) = if lab.state("a") == State::Ready {
        ("a", "b")
    } else {
        ("b", "a")
    };
    assert_eq!(
        lab.words(loser),
        format!(
            "refused: cluster id 7 is in use by remote cluster {winner}: every cluster of a mesh needs its own"
        )
    );
    assert_eq!(
        lab.words("c"),
        "refused: cluster id 5 is the id of this cluster: every cluster of a mesh needs its own"
    );
    assert_eq!(
        lab.words("d"),
        "refused: cluster id 0 is outside 1..=255: give that cluster an id in this range"
    );
    assert_eq!(
        lab.words("e"),
        "refused: cluster id 256 is outside 1..=255: give that cluster an id in this range"
    );
    assert!(
        lab.words("f")
            .starts_with("refused: cilium/cluster-config/f: value: "),
        "{}",
        lab.words("f")
    );
    lab.file(winner, None);
    f.config(9).await;
    c.config(10).await;
    lab.seconds(6).await;
    for name in [loser, "c", "f"] {
        assert_eq!(lab.state(name), State::Ready, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn unusable_files_are_named_and_change_nothing() {
    let peer = Peer::new("cluster7", 7);
    peer.populate().await;
    let mut lab = Lab::new(&[&peer]);
    let long = "x".repeat(33);
    let good = "endpoints: [\"http://peer:2379\"]\n";
    lab.file("Capitals", Some(good));
    lab.file(&long, Some(good));
    lab.file("consul", Some("endpoints: [\"consul://peer:8500\"]\n"));
    lab.file("noyaml", Some("endpoints: [\"http://peer\n - :"));
    lab.file("empty", Some("endpoint: typo\n"));
    lab.file("ca.crt", Some("-----BEGIN CERTIFICATE-----\n"));
    lab.file("key", Some("-----BEGIN PRIVATE KEY-----\n"));
    lab.start();
    lab.seconds(1).await;
    let names: Vec<String> = lab
        .mesh
        .as_ref()
        .unwrap()
        .status()
        .into_iter()
        .map(|status| status.name)
        .collect();
    assert_eq!(
        names,
        ["Capitals", "cluster7", "consul", "empty", "noyaml", &long]
    );
    assert!(
        lab.words("Capitals")
            .starts_with("misconfigured: cluster name \"Capitals\" is invalid")
    );
    assert!(
        lab.words(&long)
            .contains("has 33 characters, 32 are allowed")
    );
    assert!(
        lab.words("consul")
            .ends_with("names a Consul: only etcd is supported")
    );
    assert!(lab.words("empty").contains("has no endpoints"));
    assert!(lab.words("noyaml").contains("is not valid YAML"));

    lab.file("cluster7", Some("endpoints: nonsense"));
    lab.file("ca.crt", Some("-----BEGIN CERTIFICATE-----\nrenewed"));
    peer.put_ip(&peer.pod(1, 6, 1)).await;
    lab.seconds(6).await;
    let status = lab.status("cluster7");
    assert_eq!(
        (status.state, status.endpoints, status.failures),
        (State::Ready, 2, 0)
    );
    assert!(
        status
            .reason
            .ends_with("the last good configuration stays in force"),
        "{}",
        status.reason
    );
    lab.file("cluster7", Some(good));
    lab.file("consul", None);
    lab.seconds(6).await;
    assert_eq!(lab.words("cluster7"), "ready: ");
    assert_eq!(lab.mesh.as_ref().unwrap().status().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_etcd_that_never_answers_and_one_with_the_wrong_name() {
    let (silent, misnamed) = (Peer::new("silent", 7), Peer::new("misnamed", 8));
    silent.hang();
    misnamed.beat().await;
    let mut lab = Lab::new(&[&silent, &misnamed]);
    lab.start();
    lab.seconds(16).await;
    assert_eq!(lab.words("silent"), "connecting: no answer within 15 s");
    assert_eq!(
        lab.words("misnamed"),
        "waiting-for-cluster-config: cilium/cluster-config/misnamed not found in its etcd: is the file named after \
         the cluster, and does cluster misnamed publish its configuration?"
    );
}

#[tokio::test]
async fn settings_that_contradict_each_other() {
    let lab = Lab::new(&[]);
    let refused = |change: &dyn Fn(&mut clustermesh::Settings)| {
        let mut settings = lab.settings();
        change(&mut settings);
        let connect = |_: &_, _: &_| async { Ok(Memory::default()) };
        Mesh::start(settings, connect, mpsc::channel(1).0).expect_err("refused")
    };
    assert!(matches!(
        refused(&|s| s.id = ClusterId(0)),
        Error::NoId { .. }
    ));
    assert!(matches!(
        refused(&|s| s.id = ClusterId(256)),
        Error::IdTooLarge { .. }
    ));
    assert!(matches!(
        refused(&|s| s.config_dir = "/nonexistent".into()),
        Error::Watch { .. }
    ));
    assert!(IdentityScheme::new(300).is_err());
}

#[test]
fn damaged_files_of_rows_are_errors() {
    let name = cluster("cluster7");
    for bytes in [&b""[..], b"isthmus-mesh-row", &[0xff; 64]] {
        assert!(clustermesh::persist::parse(&name, bytes).is_err());
    }
}
