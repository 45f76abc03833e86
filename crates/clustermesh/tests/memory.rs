// SPDX-License-Identifier: Apache-2.0
//! Memory per remote endpoint, measured with a counting allocator: at most 200 bytes, names included; and of rows that are
//! refused, however many.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clustermesh::{Kind, Room, Rows, Value};
use ipnet::Ipv4Net;
use kvstore::LeaseId;
use model::{
    AddressType, ClusterId, ClusterName, IdentityScheme, IpEntry, Labels, Node, NodeAddress,
    NodeName, NumericIdentity,
};

/// Counts the bytes in use, with what an allocator adds to each piece.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

fn real(layout: Layout) -> usize {
    (layout.size() + 8).next_multiple_of(16).max(32)
}

// SAFETY: every call goes to the system's allocator unchanged; only a counter is kept besides.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(real(layout), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(real(layout), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn labels(n: u32) -> Labels {
    let text = format!(
        "k8s:app=service-{};k8s:app.kubernetes.io/name=service-{};k8s:io.cilium.k8s.namespace.labels.team=team-{};\
         k8s:io.cilium.k8s.policy.cluster=cluster7;k8s:io.cilium.k8s.policy.serviceaccount=service-{};\
         k8s:io.kubernetes.pod.namespace=namespace-{};",
        n,
        n,
        n % 20,
        n,
        n % 50
    );
    Labels::parse(text.as_bytes()).unwrap()
}

fn node(cluster: &ClusterName, n: u32) -> Arc<Node> {
    let text = format!("node{n}");
    let name = NodeName {
        cluster: cluster.clone(),
        name: text.as_str().into(),
    };
    let address = NodeAddress {
        kind: AddressType::InternalIp,
        ip: Ipv4Addr::from(0xac07_0000 + n).into(),
    };
    // 128 addresses each, of which 100 are in use.
    let pods = Ipv4Net::new(Ipv4Addr::from(0x0a07_0000 + n * 128), 25).unwrap();
    Arc::new(Node {
        ipv4_alloc: Some(pods.into()),
        boot_id: "570d3fd1-93db-4862-ba99-6a3c2c10c38f".into(),
        labels: [("kubernetes.io/hostname".to_owned(), text)].into(),
        ..Node::new(name, ClusterId(7), vec![address])
    })
}

fn address(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a07_0000 + n / 100 * 128 + n % 100)
}

fn entry(n: u32) -> Box<IpEntry> {
    let address = address(n);
    let host = Ipv4Addr::from(0xac07_0000 + n / 100);
    let identity = NumericIdentity(7 * 65536 + n / 20);
    let mut entry = IpEntry::new(
        std::net::IpAddr::from(address).into(),
        identity,
        Some(host.into()),
    );
    let service = n / 20;
    entry.namespace = format!("namespace-{}", service % 50).into();
    entry.pod = format!("service-{service}-7f6d9c8b5-{:05x}", n).into();
    entry.service_account = format!("service-{service}").into();
    Box::new(entry)
}

fn a_remote_endpoint_costs_less_than_200_bytes() {
    let name = ClusterName::new("cluster7").unwrap();
    // Just after a table has doubled is the worst moment.
    for (count, nodes) in [(100_000u32, 1000), (114_700, 1147), (114_700, 0)] {
        let before = IN_USE.load(Ordering::Relaxed);
        let mut rows = Rows::new(IdentityScheme::default(), &[]);
        rows.open(&name, ClusterId(7));
        let mut told = 0;
        for kind in Kind::ALL {
            rows.begin(&name, kind);
            let of_kind = match kind {
                Kind::Nodes => nodes,
                Kind::Identities => count / 20 + 1,
                Kind::Ips => count,
            };
            for n in 0..of_kind {
                let (key, value) = match kind {
                    Kind::Nodes => (format!("node{n}"), Value::Node(node(&name, n))),
                    Kind::Identities => ((7 * 65536 + n).to_string(), Value::Identity(labels(n))),
                    _ => (address(n).to_string(), Value::Ip(entry(n))),
                };
                let lease = Some(LeaseId(i64::from(n / 100)));
                rows.put(Duration::ZERO, &name, kind, &key, Ok(value), lease);
                told += std::iter::from_fn(|| rows.pop_event()).count();
            }
            rows.listed(Duration::ZERO, &name, kind, false);
        }
        while rows.pop_event().is_some() {}
        let per_row = (IN_USE.load(Ordering::Relaxed) - before) as f64 / f64::from(count);
        println!(
            "{count} endpoints, {nodes} nodes, {} identities: {per_row:.1} bytes per endpoint, {told} events",
            count / 20
        );
        assert_eq!(rows.counts(&name).1, count as usize);
        assert!(per_row <= 200.0, "{per_row}");
    }
}

/// Measures are of the whole program, so they are one test after the other.
#[test]
fn memory_is_bounded() {
    a_remote_endpoint_costs_less_than_200_bytes();
    rows_beyond_the_room_cost_nothing();
}

fn rows_beyond_the_room_cost_nothing() {
    let name = ClusterName::new("cluster7").unwrap();
    let mut rows = Rows::new(IdentityScheme::default(), &[]);
    rows.set_room(Room {
        addresses: 1000,
        ..Room::ENDLESS
    });
    rows.open(&name, ClusterId(7));
    let mut put = |range: std::ops::Range<u32>| {
        for n in range {
            let (key, value) = (address(n).to_string(), Ok(Value::Ip(entry(n))));
            rows.put(Duration::ZERO, &name, Kind::Ips, &key, value, None);
            while rows.pop_event().is_some() {}
        }
        IN_USE.load(Ordering::Relaxed)
    };
    let before = put(0..5000);
    let after = put(5000..300_000);
    assert!(after < before + 100_000, "{before} {after}");
}
