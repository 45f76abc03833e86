// SPDX-License-Identifier: Apache-2.0
//! What a cluster may not claim for itself: special networks, labels and numbers that mean something of this cluster, and
//! what others have, by any field of a row.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::Ipv4Addr;
use std::time::Duration;

use clustermesh::{Kind, Rows, State, Value};
use common::{Lab, Peer, cluster, net};
use kvstore::schema::{encode_identity, encode_node, keys};
use model::{
    AddressType, ClusterId, IdentityScheme, Labels, Node, NodeAddress, NumericIdentity, reserved,
};

async fn put_node(peer: &Peer, node: &Node) {
    let key = keys::node(peer.name.as_str(), &node.name.name);
    peer.put(&key, encode_node(node)).await;
}

fn sorted(lab: &Lab, name: &str) -> Vec<String> {
    let mut words: Vec<String> = lab.words(name).lines().map(str::to_owned).collect();
    words.sort();
    words
}

#[tokio::test(start_paused = true)]
async fn special_networks_are_nobodys() {
    let peer = Peer::new("cluster7", 7);
    peer.populate().await;
    let mut lab = Lab::new(&[&peer]);
    lab.start();
    lab.seconds(1).await;
    let wide = [
        "0.0.0.0/0",
        "8.0.0.0/7",
        "10.0.0.0/8",
        "169.0.0.0/8",
        "169.254.169.0/24",
        "127.0.0.0/8",
        "224.0.0.0/4",
        "240.0.0.0/8",
    ];
    for (n, wide) in wide.iter().enumerate() {
        let mut node = peer.node(10 + n as u8);
        node.ipv4_alloc = Some(net(wide));
        put_node(&peer, &node).await;
    }
    let six = ["::/0", "fe80::/64", "ff00::/16", "::/16", "64:ff9b::/96"];
    for (n, wide) in six.iter().enumerate() {
        let mut node = peer.node(30 + n as u8);
        node.ipv6_alloc = Some(net(wide));
        put_node(&peer, &node).await;
    }
    for special in [
        "169.254.169.254",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "0.0.0.0",
    ] {
        let mut pod = peer.pod(1, 9, 1);
        pod.prefix = net(special);
        peer.put_ip(&pod).await;
    }
    lab.seconds(2).await;
    let status = lab.status("cluster7");
    assert_eq!(
        (status.nodes, status.endpoints, status.refused_rows),
        (1, 1, 18),
        "{}",
        lab.words("cluster7")
    );
}

#[tokio::test(start_paused = true)]
async fn no_field_of_a_node_takes_what_others_have() {
    let (good, bad) = (Peer::new("cluster7", 7), Peer::new("cluster8", 8));
    good.populate().await;
    bad.populate().await;
    let mut lab = Lab::new(&[&good, &bad]);
    lab.start();
    lab.seconds(1).await;
    let grab = |n: u8, change: &dyn Fn(&mut Node)| {
        let mut node = bad.node(n);
        change(&mut node);
        node
    };
    let victim = || "10.7.1.5".parse().expect("an address");
    let ours = || "10.5.0.7".parse().expect("an address");
    let address = |kind, ip| NodeAddress { kind, ip };
    let nodes = [
        grab(2, &|node| node.ingress = vec![victim()]),
        grab(3, &|node| node.health = vec![victim()]),
        grab(4, &|node| {
            node.addresses
                .push(address(AddressType::ExternalIp, victim()))
        }),
        grab(5, &|node| {
            node.addresses
                .push(address(AddressType::CiliumInternalIp, ours()))
        }),
        grab(6, &|node| {
            node.addresses.push(address(AddressType::Hostname, ours()))
        }),
        grab(7, &|node| {
            node.addresses.push(address(
                AddressType::ExternalIp,
                "169.254.169.254".parse().expect("an address"),
            ))
        }),
    ];
    for node in &nodes {
        put_node(&bad, node).await;
    }
    lab.seconds(2).await;
    assert_eq!(
        sorted(&lab, "cluster8"),
        [
            "nodes node2: 10.7.1.5/32 overlaps with 10.7.1.0/24 of cluster cluster7",
            "nodes node3: 10.7.1.5/32 overlaps with 10.7.1.0/24 of cluster cluster7",
            "nodes node4: 10.7.1.5/32 overlaps with 10.7.1.0/24 of cluster cluster7",
            "nodes node5: 10.5.0.7/32 overlaps with 10.5.0.0/16 of this cluster",
            "nodes node6: 10.5.0.7/32 overlaps with 10.5.0.0/16 of this cluster",
            "nodes node7: 169.254.169.254/32 is no address of a pod or node",
            "ready: ",
        ]
    );
    assert!(
        lab.agent
            .ips
            .contains_key(&(cluster("cluster7"), net("10.7.1.5")))
    );
}

#[tokio::test(start_paused = true)]
async fn labels_and_numbers_of_this_cluster_are_not_for_others() {
    let peer = Peer::new("cluster7", 7);
    peer.populate().await;
    let mut lab = Lab::new(&[&peer]);
    lab.start();
    lab.seconds(1).await;
    let claims = [
        "reserved:host=",
        "reserved:kube-apiserver=",
        "cidr:10.0.0.0/8=",
        "fqdn:example.org=",
    ];
    for (n, claim) in (10..).zip(claims) {
        let text = format!("{claim};k8s:io.cilium.k8s.policy.cluster=cluster7;");
        let labels = Labels::parse(text.as_bytes()).expect("labels");
        peer.put(&keys::identity(peer.identity(n)), encode_identity(&labels))
            .await;
    }
    // A pod whose labels its own cluster waits for.
    let waiting =
        Labels::parse(b"k8s:app=web;k8s:io.cilium.k8s.policy.cluster=cluster7;reserved:init=;");
    let waiting = encode_identity(&waiting.expect("labels"));
    peer.put(&keys::identity(peer.identity(20)), waiting).await;
    let numbers = [
        reserved::UNKNOWN,
        reserved::WORLD,
        reserved::KUBE_APISERVER,
        NumericIdentity(12),
        NumericIdentity(104),
        NumericIdentity(200),
    ];
    for (n, number) in (30..).zip(numbers) {
        let mut pod = peer.pod(1, n, 1);
        pod.identity = number;
        peer.put_ip(&pod).await;
    }
    for (n, number) in (50..).zip([
        reserved::HOST,
        reserved::HEALTH,
        reserved::INIT,
        reserved::INGRESS,
    ]) {
        let mut pod = peer.pod(1, n, 1);
        pod.identity = number;
        peer.put_ip(&pod).await;
    }
    lab.seconds(2).await;
    let status = lab.status("cluster7");
    assert_eq!(
        (
            status.state,
            status.identities,
            status.endpoints,
            status.refused_rows
        ),
        (State::Ready, 2, 5, 10),
        "{}",
        lab.words("cluster7")
    );
    let words = lab.words("cluster7");
    assert!(
        words.contains("label reserved:host is not for pods of a cluster to have")
            || words.contains("label cidr:"),
        "{words}"
    );
    assert!(
        words.contains("is not for other clusters to give to addresses"),
        "{words}"
    );
}

/// Many nodes with many addresses each fill no more of the kernel's maps than one cluster's share; who is in force stays.
#[test]
fn nodes_of_one_cluster_have_a_share_of_the_maps() {
    let peer = Peer::new("cluster7", 7);
    let mut rows = Rows::new(IdentityScheme::default(), &[]);
    rows.open(&peer.name, ClusterId(7));
    let mut put = |n: u32, addresses: u32| {
        let mut node = peer.node(1);
        node.name.name = format!("node{n}").into();
        node.ipv4_alloc = None;
        let ip = |i| Ipv4Addr::from(0x6400_0000 + n * 64 + i).into();
        let address = |i| NodeAddress {
            kind: AddressType::InternalIp,
            ip: ip(i),
        };
        node.addresses = (0..addresses).map(address).collect();
        let (name, node) = (node.name.name.clone(), Value::Node(node.into()));
        rows.put(
            Duration::ZERO,
            &peer.name,
            Kind::Nodes,
            &name,
            Ok(node),
            None,
        );
        let (refused, some) = rows.refused(&peer.name);
        let reason = some.first().map(|row| row.reason.clone());
        (rows.counts(&peer.name).0, refused, reason)
    };
    let full = 65_536 / 64;
    for n in 0..full {
        assert_eq!(put(n, 64), (n as usize + 1, 0, None));
    }
    let (nodes, refused, reason) = put(full, 64);
    assert_eq!((nodes, refused), (full as usize, 1));
    let told = "more than 65536 underlay addresses of the nodes of one cluster";
    assert_eq!(reason.as_deref(), Some(told));
    // One that shrinks makes room for another.
    assert_eq!(put(0, 1).1, 1);
    assert_eq!(put(full, 63), (full as usize + 1, 0, None));
}

/// What ends like the key of a row is not that key.
#[tokio::test(start_paused = true)]
async fn keys_below_keys_are_nobodys() {
    let peer = Peer::new("cluster7", 7);
    peer.populate().await;
    let mut lab = Lab::new(&[&peer]);
    lab.start();
    lab.seconds(1).await;
    let before = (lab.agent.identities.clone(), lab.agent.nodes.clone());
    let key = keys::identity(peer.identity(1));
    let nested = format!("{}/5/id/{}", keys::IDENTITY_IDS, peer.identity(1));
    peer.put(&nested, encode_identity(&peer.labels("other")))
        .await;
    peer.put(&format!("{key}/"), encode_identity(&peer.labels("other")))
        .await;
    peer.put(
        &keys::node("cluster7", "x/node1"),
        encode_node(&peer.node(1)),
    )
    .await;
    lab.seconds(1).await;
    assert_eq!(
        lab.status("cluster7").refused_rows,
        3,
        "{}",
        lab.words("cluster7")
    );
    for key in [
        &nested,
        &format!("{key}/"),
        &keys::node("cluster7", "x/node1"),
    ] {
        peer.delete(key).await;
    }
    lab.seconds(1).await;
    assert_eq!(
        before,
        (lab.agent.identities.clone(), lab.agent.nodes.clone())
    );
    assert_eq!(lab.words("cluster7"), "ready: ");
}

#[tokio::test(start_paused = true)]
async fn a_pod_behind_an_address_that_the_tunnel_cannot_reach_is_told() {
    let peer = Peer::new("cluster7", 7);
    peer.populate().await;
    let mut lab = Lab::new(&[&peer]);
    lab.start();
    lab.seconds(1).await;
    let mut pod = peer.pod(1, 9, 1);
    pod.host = "fd00:7::1".parse().ok();
    peer.put_ip(&pod).await;
    lab.seconds(1).await;
    assert_eq!(
        sorted(&lab, "cluster7"),
        [
            "addresses 10.7.1.9: host address fd00:7::1: it cannot be reached, the tunnel needs IPv4",
            "ready: "
        ]
    );
    assert!(
        !lab.agent
            .ips
            .contains_key(&(cluster("cluster7"), pod.prefix))
    );
}
