// SPDX-License-Identifier: Apache-2.0
//! One cluster that publishes without end takes nothing from the others: every kind of room, and a mesh of four by chance.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use clustermesh::{Kind, MeshEvent, Room, Rows, Value};
use common::{Agent, Lab, Peer, net};
use kvstore::LeaseId;
use model::{AddressType, ClusterId, IdentityScheme, IpEntry, NodeAddress};
use proptest::prelude::*;

/// Rows of some clusters, and the agent that hears of them.
struct Mesh {
    rows: Rows,
    agent: Agent,
    now: Duration,
}

impl Mesh {
    fn new(peers: &[&Arc<Peer>], room: Room) -> Self {
        let mut rows = Rows::new(IdentityScheme::default(), &[]);
        rows.set_room(room);
        for peer in peers {
            rows.open(&peer.name, ClusterId(peer.id));
            for kind in Kind::ALL {
                rows.begin(&peer.name, kind);
                rows.listed(Duration::ZERO, &peer.name, kind, false);
            }
        }
        let (agent, now) = (Agent::default(), Duration::ZERO);
        let mut mesh = Self { rows, agent, now };
        mesh.hear();
        mesh
    }

    fn hear(&mut self) {
        while let Some(event) = self.rows.pop_event() {
            self.agent.take(event);
        }
    }

    fn put(&mut self, peer: &Peer, kind: Kind, key: &str, value: Value) {
        let lease = Some(LeaseId(1));
        self.rows
            .put(self.now, &peer.name, kind, key, Ok(value), lease);
        self.hear();
    }

    fn put_ip(&mut self, peer: &Peer, n: u32) {
        let entry = pod(peer, n);
        let key = entry.prefix.addr().to_string();
        self.put(peer, Kind::Ips, &key, Value::Ip(Box::new(entry)));
    }

    fn delete_ip(&mut self, peer: &Peer, n: u32) {
        let key = pod(peer, n).prefix.addr().to_string();
        // Its lease lives, so it was deleted.
        let (name, lease) = (&peer.name, LeaseId(1));
        self.rows.delete(self.now, name, Kind::Ips, &key);
        let left = Some(Duration::from_secs(60));
        self.rows.lease(self.now, name, lease, left);
        self.hear();
    }

    fn put_identity(&mut self, peer: &Peer, n: u32) {
        let labels = Value::Identity(peer.labels("web"));
        let key = peer.identity(n).to_string();
        self.put(peer, Kind::Identities, &key, labels);
    }

    fn second(&mut self) {
        self.now += Duration::from_secs(1);
        self.rows.tick(self.now);
        self.hear();
    }

    fn ips(&self, peer: &Peer) -> usize {
        let (_, ips, _) = self.rows.counts(&peer.name);
        let told = self.agent.ips.keys();
        assert_eq!(told.filter(|(of, _)| *of == peer.name).count(), ips);
        ips
    }
}

/// Pod `n`, of 20 per identity.
fn pod(peer: &Peer, n: u32) -> IpEntry {
    let mut entry = peer.pod(1, 1, n / 20);
    let first = u32::from(Ipv4Addr::new(10, peer.id as u8, 0, 0));
    entry.prefix = net(&Ipv4Addr::from(first + n).to_string());
    entry
}

fn addresses(addresses: usize) -> Room {
    Room {
        addresses,
        ..Room::ENDLESS
    }
}

#[test]
fn a_cluster_with_addresses_without_end_leaves_the_others_theirs() {
    let (good, bad) = (Peer::new("good", 7), Peer::new("bad", 8));
    let mut mesh = Mesh::new(&[&good, &bad], addresses(1280));
    for n in 0..250 {
        mesh.put_identity(&bad, n);
        mesh.put_identity(&good, n);
    }
    (0..5000).for_each(|n| mesh.put_ip(&bad, n));
    assert_eq!(
        mesh.ips(&bad),
        1260,
        "what nobody wants, but for a 64th of all"
    );
    let (refused, some) = mesh.rows.refused(&bad.name);
    assert_eq!(refused, 3740);
    let told = "the cluster has its share of what fits the kernel, 640 addresses (see --bpf-ipcache-max), and other clusters leave \
                no room for more";
    assert_eq!(some[0].reason, told);

    (0..640).for_each(|n| mesh.put_ip(&good, n));
    for _ in 0..3 {
        mesh.second();
        assert_eq!((mesh.ips(&good), mesh.ips(&bad)), (640, 640));
    }
    assert_eq!(mesh.rows.refused(&good.name).0, 0);
    // Beyond its share there is nothing to be had from the other's.
    mesh.put_ip(&good, 640);
    assert_eq!((mesh.ips(&good), mesh.rows.refused(&good.name).0), (640, 1));
    // What changes stays.
    mesh.put_ip(&good, 3);
    assert_eq!(mesh.ips(&good), 640);

    assert_eq!(mesh.rows.pop_list(), None);
    (0..640).for_each(|n| mesh.delete_ip(&good, n));
    mesh.second();
    mesh.second();
    assert_eq!(mesh.ips(&good), 1, "the one that found no room");
    assert!(mesh.ips(&bad) > 1250, "{}", mesh.ips(&bad));
    mesh.rows.set_room(addresses(10_000));
    mesh.second();
    let list = Some((bad.name.clone(), Kind::Ips));
    assert_eq!(mesh.rows.pop_list(), list, "others are not remembered");
    mesh.rows.begin(&bad.name, Kind::Ips);
    (0..5000).for_each(|n| mesh.put_ip(&bad, n));
    mesh.rows.listed(mesh.now, &bad.name, Kind::Ips, false);
    assert_eq!((mesh.ips(&bad), mesh.rows.refused(&bad.name).0), (5000, 0));
    // Not read again at once, nor without need.
    mesh.second();
    assert_eq!(mesh.rows.pop_list(), None);
    // This cluster needs more for itself.
    mesh.rows.set_room(addresses(100));
    mesh.hear();
    assert_eq!((mesh.ips(&good), mesh.ips(&bad)), (1, 99));
    mesh.rows.remove(&bad.name);
    mesh.hear();
    assert_eq!((mesh.ips(&good), mesh.agent.ips.len()), (1, 1));
}

#[test]
fn identities_without_end_leave_the_others_theirs() {
    let (good, bad) = (Peer::new("good", 7), Peer::new("bad", 8));
    let room = Room {
        identities: 1000,
        ..Room::ENDLESS
    };
    let mut mesh = Mesh::new(&[&good, &bad], room);
    // Those of pods stay for longest.
    for n in 0..600 {
        mesh.put_identity(&bad, n);
        mesh.put_ip(&bad, n * 20);
    }
    (600..5000).for_each(|n| mesh.put_identity(&bad, n));
    let counts = |mesh: &Mesh, peer: &Peer| {
        let (_, ips, identities) = mesh.rows.counts(&peer.name);
        (ips, identities)
    };
    assert_eq!(counts(&mesh, &bad), (600, 985));
    (0..380).for_each(|n| mesh.put_identity(&good, n));
    assert_eq!(counts(&mesh, &good), (0, 380));
    assert_eq!(counts(&mesh, &bad).0, 600);
    (380..500).for_each(|n| mesh.put_identity(&good, n));
    assert_eq!(counts(&mesh, &good), (0, 500));
    assert_eq!(counts(&mesh, &bad), (500, 500));
    mesh.second();
    assert_eq!(counts(&mesh, &good), (0, 500));
    let words = mesh.rows.refused(&bad.name).1;
    assert!(
        words[0].reason.contains("500 identities"),
        "{}",
        words[0].reason
    );
}

#[test]
fn nodes_without_end_leave_the_others_theirs() {
    let (good, bad) = (Peer::new("good", 7), Peer::new("bad", 8));
    for pool in ["claims", "underlay"] {
        let room = match pool {
            "claims" => addresses(2000),
            _ => Room {
                underlay: 2000,
                ..Room::ENDLESS
            },
        };
        let mut mesh = Mesh::new(&[&good, &bad], room);
        let node = |peer: &Peer, n: u32| {
            let mut node = peer.node(1);
            node.name.name = format!("node{n:04}").into();
            node.ipv4_alloc = None;
            let first = u32::from(Ipv4Addr::new(100, peer.id as u8, 0, 0)) + n * 10;
            node.addresses = (0..10)
                .map(|i| NodeAddress {
                    kind: AddressType::InternalIp,
                    ip: Ipv4Addr::from(first + i).into(),
                })
                .collect();
            node
        };
        let put = |mesh: &mut Mesh, peer: &Peer, n| {
            let node = node(peer, n);
            let key = node.name.name.clone();
            mesh.put(peer, Kind::Nodes, &key, Value::Node(node.into()));
            mesh.rows.counts(&peer.name).0
        };
        (0..1000).for_each(|n| {
            put(&mut mesh, &bad, n);
        });
        assert_eq!(mesh.rows.counts(&bad.name).0, 196, "{pool}");
        for n in 0..100 {
            assert_eq!(put(&mut mesh, &good, n), n as usize + 1, "{pool}");
        }
        mesh.second();
        assert_eq!(mesh.rows.counts(&good.name).0, 100, "{pool}");
        assert_eq!(mesh.rows.counts(&bad.name).0, 100, "{pool}");
        // Pods of those that it has left stay; the nodes of the one whose rows came first stay as well.
        assert_eq!(mesh.agent.nodes.len(), 200, "{pool}");
        mesh.rows.drain(&good.name);
        mesh.hear();
        mesh.second();
        assert_eq!(mesh.rows.counts(&bad.name).0, 196, "{pool}");
    }
}

/// Addresses stay their cluster's when the node whose network they are in goes, and however many nodes go, all addresses are
/// looked at once: this would take minutes otherwise.
#[test]
fn addresses_of_nodes_that_went_are_not_to_be_had() {
    let (first, second) = (Peer::new("first", 7), Peer::new("second", 8));
    let mut mesh = Mesh::new(&[&first, &second], Room::ENDLESS);
    mesh.put_identity(&first, 0);
    mesh.put_identity(&second, 0);
    (0..20_000).for_each(|n| mesh.put_ip(&first, n));
    mesh.second();
    mesh.second();
    let node = |peer: &Peer, n: u32, net: &str| {
        let mut node = peer.node(1);
        node.name.name = format!("node{n}").into();
        node.addresses[0].ip = Ipv4Addr::from(0x6400_0000 + u32::from(peer.id) * 65_536 + n).into();
        node.ipv4_alloc = Some(common::net(net));
        (node.name.name.clone(), Value::Node(node.into()))
    };
    for n in 0..2000 {
        let (key, value) = node(&first, n, "10.7.0.0/16");
        let (name, now) = (&first.name, mesh.now);
        mesh.rows.put(now, name, Kind::Nodes, &key, Ok(value), None);
        mesh.rows.delete(now, name, Kind::Nodes, &key);
        mesh.hear();
    }
    // A network of another cluster's node takes what is in it; an address alone does not.
    let mut stolen = pod(&second, 0);
    stolen.prefix = pod(&first, 7).prefix;
    let value = Value::Ip(Box::new(stolen));
    mesh.put(&second, Kind::Ips, "10.7.0.7", value);
    let (refused, some) = mesh.rows.refused(&second.name);
    assert_eq!(refused, 1);
    assert!(
        some[0].reason.contains("of cluster first"),
        "{}",
        some[0].reason
    );
    assert_eq!(mesh.ips(&first), 20_000);
    // Who overlaps is not read again and again, however much there is of it.
    for n in 0..3000 {
        let mut stolen = Box::new(pod(&second, 0));
        stolen.prefix = pod(&first, n).prefix;
        let key = stolen.prefix.addr().to_string();
        mesh.put(&second, Kind::Ips, &key, Value::Ip(stolen));
    }
    mesh.delete_ip(&first, 19_999);
    mesh.second();
    mesh.second();
    assert_eq!(mesh.rows.refused(&second.name).0, 3000);
    assert_eq!(mesh.rows.pop_list(), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn everybody_has_a_share_and_all_together_no_more_than_the_room(
        room in 8usize..200,
        steps in proptest::collection::vec((0usize..4, 0u32..120, any::<bool>(), 1u32..40), 1..120),
    ) {
        let peers: Vec<_> = (0..4).map(|n| Peer::new(&format!("c{n}"), 10 + n)).collect();
        let all: Vec<&Arc<Peer>> = peers.iter().collect();
        let mut mesh = Mesh::new(&all, addresses(room));
        let mut published = vec![BTreeSet::new(); 4];
        for (at, first, gone, count) in steps {
            for n in first..first + count {
                if gone {
                    mesh.delete_ip(&peers[at], n);
                    published[at].remove(&n);
                } else {
                    mesh.put_ip(&peers[at], n);
                    published[at].insert(n);
                }
            }
            mesh.second();
            let has: Vec<usize> = peers.iter().map(|peer| mesh.rows.counts(&peer.name).1).collect();
            prop_assert!(has.iter().sum::<usize>() <= room, "{has:?}");
            for (peer, (has, published)) in peers.iter().zip(has.iter().zip(&published)) {
                prop_assert!(*has >= published.len().min(room / 4), "{has} of {}", published.len());
                let refused = mesh.rows.refused(&peer.name).0 as usize;
                prop_assert_eq!(has + refused, published.len());
            }
        }
        while let Some(event) = mesh.rows.pop_event() {
            prop_assert!(!matches!(event, MeshEvent::Node(..)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_mesh_takes_what_it_refused_when_there_is_room() {
    let (good, bad) = (Peer::new("good", 7), Peer::new("bad", 8));
    good.populate().await;
    bad.populate().await;
    for n in 0..4000 {
        bad.put_ip(&pod(&bad, n)).await;
    }
    let mut lab = Lab::new(&[&good, &bad]);
    lab.room = addresses(1000);
    lab.start();
    lab.seconds(5).await;
    for n in 0..200 {
        good.put_ip(&pod(&good, n)).await;
    }
    lab.seconds(5).await;
    let status = lab.status("good");
    assert_eq!((status.endpoints, status.refused_rows), (201, 0));
    let status = lab.status("bad");
    assert!(status.endpoints < 800, "{}", status.endpoints);
    // 10.8.1.5 is in both.
    assert_eq!(status.endpoints as u64 + status.refused_rows, 4000);
    lab.mesh.as_ref().unwrap().set_room(addresses(10_000));
    lab.seconds(5).await;
    let status = lab.status("bad");
    assert_eq!((status.endpoints, status.refused_rows), (4000, 0));
    assert_eq!(lab.status("good").endpoints, 201);
}
