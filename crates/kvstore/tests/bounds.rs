// SPDX-License-Identifier: Apache-2.0
//! The bound of every part of a value that strangers write: what is just within is read, one more is refused by name.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use kvstore::schema::{self, MAX_ITEMS, MAX_NAME, MAX_OBJECT};
use model::{
    AddressType, ClusterId, ClusterName, IpEntry, Labels, NamedPort, Node, NodeAddress, NodeName,
    NumericIdentity, Protocol,
};

fn node() -> Node {
    let name = NodeName {
        cluster: ClusterName::new("cluster7").unwrap(),
        name: "node1".into(),
    };
    Node::new(name, ClusterId(7), Vec::new())
}

fn address(n: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + n as u32)
}

fn network(n: usize) -> IpNet {
    let first = Ipv4Addr::from(0x0a00_0000 + ((n as u32) << 8));
    Ipv4Net::new(first, 24).unwrap().into()
}

fn text(length: usize) -> String {
    "x".repeat(length)
}

/// `within` of what `change` makes is read, one more is refused because of `field`.
fn check_node(field: &str, within: usize, change: &dyn Fn(&mut Node, usize)) {
    let read = |size| {
        let mut node = node();
        change(&mut node, size);
        schema::decode_node("k", &schema::encode_node(&node))
    };
    assert!(read(within).is_ok(), "{field}: {:?}", read(within));
    assert_eq!(read(within + 1).unwrap_err().field, field);
}

fn check_ip(field: &str, within: usize, change: &dyn Fn(&mut IpEntry, usize)) {
    let read = |size| {
        let net = IpNet::from(std::net::IpAddr::from(address(1)));
        let mut entry = IpEntry::new(net, NumericIdentity(7 << 16), Some(address(2).into()));
        change(&mut entry, size);
        schema::decode_ip("k", &schema::encode_ip(&entry))
    };
    assert!(read(within).is_ok(), "{field}: {:?}", read(within));
    assert_eq!(read(within + 1).unwrap_err().field, field);
}

#[test]
fn parts_of_a_node() {
    check_node("Name", MAX_NAME, &|node, n| {
        node.name.name = text(n).into();
    });
    check_node("IPAddresses", MAX_ITEMS, &|node, n| {
        let address = |n| NodeAddress {
            kind: AddressType::InternalIp,
            ip: address(n).into(),
        };
        node.addresses = (0..n).map(address).collect();
    });
    check_node("IPv4SecondaryAllocCIDRs", MAX_ITEMS, &|node, n| {
        node.secondary_alloc = (0..n).map(network).collect();
    });
    check_node("WireguardPubKey", 64, &|node, n| {
        node.wireguard_pub_key = text(n);
    });
    check_node("BootID", 64, &|node, n| node.boot_id = text(n));
    check_node("Labels", 2 * MAX_NAME, &|node, n| {
        node.labels = [(text(n), String::new())].into();
    });
    check_node("Labels", 4 * MAX_NAME, &|node, n| {
        node.labels = [(text(1), text(n))].into();
    });
    check_node("Annotations", 2 * MAX_NAME, &|node, n| {
        node.annotations = [(text(n), String::new())].into();
    });
    let rest = schema::encode_node(&node()).len() + r#""x":"""#.len();
    check_node("value", MAX_OBJECT - rest, &|node, n| {
        node.annotations = [(text(1), text(n))].into();
    });
}

#[test]
fn parts_of_an_address() {
    check_ip("K8sNamespace", MAX_NAME, &|entry, n| {
        entry.namespace = text(n).into();
    });
    check_ip("K8sPodName", MAX_NAME, &|entry, n| {
        entry.pod = text(n).into()
    });
    check_ip("K8sServiceAccount", MAX_NAME, &|entry, n| {
        entry.service_account = text(n).into();
    });
    check_ip("Metadata", 4 * MAX_NAME, &|entry, n| {
        entry.metadata = text(n).into();
    });
    let port = |name: String| NamedPort {
        name: name.into(),
        port: 80,
        protocol: Protocol::Tcp,
    };
    check_ip("NamedPorts", MAX_ITEMS, &|entry, n| {
        entry.named_ports = (0..n).map(|n| port(n.to_string())).collect();
    });
    check_ip("NamedPorts", 63, &|entry, n| {
        entry.named_ports = [port(text(n))].into();
    });
    let large = vec![b' '; MAX_OBJECT + 1];
    assert_eq!(schema::decode_ip("k", &large).unwrap_err().field, "value");
}

#[test]
fn parts_of_an_identity() {
    let labels = |count: usize| (0..count).map(|n| format!("k8s:k{n}=v;")).collect();
    let bytes = |length: usize| format!("k8s:k={};", text(length - "k8s:k=;".len()));
    let reads = |text: String| schema::decode_identity("k", text.as_bytes());
    assert!(reads(labels(Labels::MAX_COUNT)).is_ok());
    let many = reads(labels(Labels::MAX_COUNT + 1)).unwrap_err();
    assert_eq!(
        (many.field, &*many.reason),
        ("labels", "more than 1024 labels")
    );
    assert!(reads(bytes(Labels::MAX_BYTES)).is_ok());
    let long = reads(bytes(Labels::MAX_BYTES + 1)).unwrap_err();
    assert!(long.reason.contains("at most 262144"), "{long}");
}

/// A key of any length costs a refusal, and its text is cut.
#[test]
fn keys() {
    let key = format!("{}/{}", schema::keys::IPS, text(1 << 20));
    let error = schema::ip_of_key(schema::keys::IPS, &key).unwrap_err();
    assert!(error.to_string().len() < 400, "{}", error.to_string().len());
    let error = schema::decode_node(&key, b"x").unwrap_err();
    assert!(error.to_string().len() < 400, "{}", error.to_string().len());
}
