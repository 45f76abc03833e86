// SPDX-License-Identifier: Apache-2.0
//! How much one cluster may publish: each bound is reached, named in status, and free again when a row goes; what is refused
//! costs no memory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use clustermesh::{Kind, Rows, Value};
use common::Peer;
use ipnet::IpNet;
use model::{ClusterId, IdentityScheme, Labels};

struct One {
    peer: Arc<Peer>,
    rows: Rows,
    now: Duration,
}

impl One {
    fn new() -> Self {
        let peer = Peer::new("cluster7", 7);
        let mut rows = Rows::new(IdentityScheme::default(), &[]);
        rows.open(&peer.name, ClusterId(7));
        let now = Duration::ZERO;
        Self { peer, rows, now }
    }

    /// How many rows of any kind there are then, and how many are refused.
    fn put(&mut self, kind: Kind, key: &str, value: Value) -> (usize, u64) {
        let name = &self.peer.name;
        self.rows.put(self.now, name, kind, key, Ok(value), None);
        self.counts()
    }

    fn counts(&mut self) -> (usize, u64) {
        while self.rows.pop_event().is_some() {}
        let (nodes, ips, identities) = self.rows.counts(&self.peer.name);
        let (refused, _) = self.rows.refused(&self.peer.name);
        (nodes + ips + identities, refused)
    }

    fn reason(&self) -> String {
        self.rows.refused(&self.peer.name).1[0].reason.clone()
    }

    /// `key` goes; what was refused is tried again.
    fn delete(&mut self, kind: Kind, key: &str) -> (usize, u64) {
        self.rows.delete(self.now, &self.peer.name, kind, key);
        self.now += Duration::from_secs(1);
        self.rows.tick(self.now);
        self.counts()
    }

    fn node(&mut self, n: u32, annotation: usize) -> (usize, u64) {
        let mut node = self.peer.node(1);
        node.name.name = format!("node{n}").into();
        node.addresses[0].ip = Ipv4Addr::from(0x6400_0000 + n).into();
        node.ipv4_alloc = None;
        let text = ("note".to_owned(), "x".repeat(annotation));
        node.annotations.extend((annotation > 0).then_some(text));
        let key = node.name.name.clone();
        self.put(Kind::Nodes, &key, Value::Node(node.into()))
    }

    fn identity(&mut self, n: u32, text: &str) -> (usize, u64) {
        let labels = format!("k8s:a={text};k8s:io.cilium.k8s.policy.cluster=cluster7;");
        let labels = Value::Identity(Labels::parse(labels.as_bytes()).unwrap());
        let key = self.peer.identity(n).to_string();
        self.put(Kind::Identities, &key, labels)
    }

    fn ips(&mut self, range: std::ops::Range<u32>) -> (usize, u64) {
        let pod = self.peer.pod(1, 1, 1);
        for n in range {
            let ip = Ipv4Addr::from(0x0a00_0000 + n);
            let mut entry = Box::new(pod.clone());
            entry.prefix = IpNet::from(std::net::IpAddr::from(ip));
            let (name, value) = (&self.peer.name, Ok(Value::Ip(entry)));
            let key = ip.to_string();
            self.rows.put(self.now, name, Kind::Ips, &key, value, None);
            self.rows.pop_event();
        }
        self.counts()
    }
}

#[test]
fn nodes() {
    let mut one = One::new();
    for n in 0..20_000 {
        assert_eq!(one.node(n, 0), (n as usize + 1, 0));
    }
    assert_eq!(one.node(20_000, 0), (20_000, 1));
    assert_eq!(one.reason(), "more than 20000 nodes of one cluster");
    assert_eq!(one.delete(Kind::Nodes, "node7"), (20_000, 0));
}

#[test]
fn texts_of_nodes() {
    let mut one = One::new();
    let mut n = 0;
    while one.node(n, 60_000).1 == 0 {
        n += 1;
        assert!(n < 2300);
    }
    assert!(n > 2100, "{n}");
    assert!(
        one.reason().ends_with("nodes of one cluster"),
        "{}",
        one.reason()
    );
    assert_eq!(one.delete(Kind::Nodes, "node7").1, 0);
}

#[test]
fn texts_of_identities() {
    let mut one = One::new();
    let text = "x".repeat(32_000);
    let mut n = 0;
    while one.identity(n, &format!("{n}{text}")).1 == 0 {
        n += 1;
        assert!(n < 4300);
    }
    assert!(n > 4100, "{n}");
    assert!(
        one.reason().ends_with("identities of one cluster"),
        "{}",
        one.reason()
    );
    let gone = one.peer.identity(7).to_string();
    assert_eq!(one.delete(Kind::Identities, &gone), (n as usize, 0));
}

#[test]
fn addresses() {
    let mut one = One::new();
    assert_eq!(one.ips(0..1_000_000), (1_000_000, 0));
    assert_eq!(one.ips(1_000_000..1_000_001), (1_000_000, 1));
    assert_eq!(one.reason(), "more than 1000000 addresses of one cluster");
    assert_eq!(one.delete(Kind::Ips, "10.0.0.7"), (1_000_000, 0));
}
