// SPDX-License-Identifier: Apache-2.0
//! Keys and values: those of a real Cilium byte for byte, those that its documentation and tests name, and those of
//! nobody.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use kvstore::schema::{self, keys};
use model::{ClusterConfig, ClusterId, IpEntry, Labels, NamedPort, NumericIdentity, Protocol};
use proptest::prelude::*;

/// One `key<TAB>value` per line, as read from the etcd of a Cilium in kvstore mode and of its mirror.
const GOLDEN: &str = include_str!("golden/etcd.txt");

fn check(key: &str, value: &str) {
    let bytes = value.as_bytes();
    if key.contains("/nodes/v1/") && !key.starts_with(keys::SYNCED) {
        let node = schema::decode_node(key, bytes).unwrap();
        assert_eq!(schema::encode_node(&node), value);
        assert!(key.ends_with(&format!("{}/{}", node.name.cluster, node.name.name)));
        assert!(node.tunnel_endpoint().is_some() && node.pod_cidrs().count() == 1);
    } else if key.contains("/ip/v1/") && !key.starts_with(keys::SYNCED) {
        let entry = schema::decode_ip(key, bytes).unwrap();
        assert_eq!(schema::encode_ip(&entry), value);
        if key.starts_with(keys::IPS) {
            assert_eq!(schema::ip_key(&entry.prefix), key);
            assert_eq!(schema::ip_of_key(keys::IPS, key), Ok(entry.prefix));
        }
    } else if key.contains("/id/") {
        let labels = schema::decode_identity(key, bytes).unwrap();
        assert!(keys::identity_of(key).is_some());
        // The reader must cope with another order; the writer sorts by key.
        assert_eq!(schema::encode_identity(&labels).len(), value.len());
    } else if key.starts_with(keys::IDENTITY_VALUES) {
        schema::decode_identity_number(key, bytes).unwrap();
        let uses = &key[..key.rfind('/').unwrap()];
        assert!(keys::is_use_of(uses, key));
        let labels =
            Labels::parse(&uses.strip_prefix(keys::IDENTITY_VALUES).unwrap().as_bytes()[1..])
                .unwrap();
        assert!(keys::identity_use(&labels, "172.30.0.1") == key || key.contains("reserved:init"));
    } else if key.starts_with(keys::CLUSTER_CONFIG) {
        let config = schema::decode_cluster_config(key, bytes).unwrap();
        assert_eq!(schema::encode_cluster_config(&config), value);
        assert_eq!(config.max_connected_clusters, 255);
    } else if key == keys::HEARTBEAT || key.starts_with(keys::SYNCED) {
        let at = schema::decode_time(key, bytes).unwrap();
        assert_eq!(schema::encode_time(at), value);
    } else {
        assert!(key.starts_with("cilium/kvstoremesh-lock/"), "{key}");
    }
}

#[test]
fn a_real_cilium() {
    let lines = GOLDEN.lines().map(|line| line.split_once('\t').unwrap());
    let mut count = 0;
    for (key, value) in lines {
        check(key, value);
        count += 1;
    }
    assert!(count > 15);
}

const NODE: &str = r#"{"Name":"test-node-1","Cluster":"cluster3","IPAddresses":[{"Type":"InternalIP","IP":"172.18.0.2"},
{"Type":"InternalIP","IP":"fc00:c111::2"},{"Type":"CiliumInternalIP","IP":"10.244.0.10"},{"Type":"Hostname","IP":"node1"},
{"Type":"Later","IP":"x"}],"IPv4AllocCIDR":"10.244.0.0/24","IPv4SecondaryAllocCIDRs":[{"IP":"10.245.0.0","Mask":"////AA=="}],
"IPv6AllocCIDR":{"IP":"fd00:10:244::","Mask":"//////////8AAAAAAAAAAA=="},"IPv4HealthIP":"10.244.0.134","ClusterID":3,
"EncryptionKey":255,"NodeIdentity":0,"Labels":null,"BootID":"570d3fd1-93db-4862-ba99-6a3c2c10c38f"}"#;

#[test]
fn nodes_of_older_and_newer_writers() {
    let node = schema::decode_node("k", NODE.as_bytes()).unwrap();
    assert_eq!(node.addresses.len(), 3);
    let nets: Vec<String> = node.pod_cidrs().map(|net| net.to_string()).collect();
    assert_eq!(nets, ["10.244.0.0/24", "fd00:10:244::/64", "10.245.0.0/24"]);
    let unset = NODE.replacen(
        r#"{"IP":"fd00:10:244::","Mask":"//////////8AAAAAAAAAAA=="}"#,
        r#""""#,
        1,
    );
    let unset = schema::decode_node("k", unset.as_bytes()).unwrap();
    assert_eq!(
        (unset.ipv4_alloc, unset.ipv6_alloc),
        (node.ipv4_alloc, None)
    );
    let again = schema::decode_node("k", &schema::encode_node(&node)).unwrap();
    assert_eq!(again, node);
}

#[test]
fn bad_nodes_name_key_field_and_reason() {
    let many = format!(
        "[{}]",
        vec![r#"{"Type":"InternalIP","IP":"1.1.1.1"}"#; 65].join(",")
    );
    for (from, to, field) in [
        ("\"test-node-1\"", "\"\"", "Name"),
        ("\"test-node-1\"", "\"a/b\"", "Name"),
        ("\"cluster3\"", "\"Cluster3\"", "Cluster"),
        ("\"ClusterID\":3", "\"ClusterID\":70000", "ClusterID"),
        ("172.18.0.2", "172.18.0.300", "IPAddresses"),
        ("10.244.0.0/24", "10.244.0.1/24", "IPv4AllocCIDR"),
        ("10.244.0.0/24", "fd00::/64", "IPv4AllocCIDR"),
        ("////AA==", "/wD/AA==", "IPv4SecondaryAllocCIDRs"),
        ("////AA==", "!", "IPv4SecondaryAllocCIDRs"),
        ("10.244.0.134", "x", "IPv4HealthIP"),
        ("570d3fd1-", "\\u0000", "BootID"),
        ("{\"Name\"", "{{\"Name\"", "value"),
    ] {
        let error =
            schema::decode_node("the/key", NODE.replacen(from, to, 1).as_bytes()).unwrap_err();
        assert_eq!(
            (error.key.as_str(), error.field),
            ("the/key", field),
            "{error}"
        );
    }
    let text = format!(r#"{{"Name":"a","Cluster":"b","IPAddresses":{many}}}"#);
    assert_eq!(
        schema::decode_node("k", text.as_bytes()).unwrap_err().field,
        "IPAddresses"
    );
    let large = vec![b' '; schema::MAX_OBJECT + 1];
    assert!(
        schema::decode_node("k", &large)
            .unwrap_err()
            .reason
            .contains("at most 65536")
    );
}

#[test]
fn addresses() {
    let mut entry = IpEntry::new(
        "10.1.0.0/16".parse().unwrap(),
        NumericIdentity(199494),
        None,
    );
    entry.named_ports = [("dns", 53, Protocol::Udp), ("http", 8080, Protocol::Tcp)]
        .map(|(name, port, protocol)| NamedPort {
            name: name.into(),
            port,
            protocol,
        })
        .into();
    let value = schema::encode_ip(&entry);
    assert_eq!(
        value,
        r#"{"IP":"10.1.0.0","Mask":"//8AAA==","HostIP":"","ID":199494,"Key":0,"Metadata":"","NamedPorts":[{"Name":"dns","Port":53,"Protocol":"UDP"},{"Name":"http","Port":8080,"Protocol":"TCP"}]}"#
    );
    assert_eq!(schema::decode_ip("k", &value).unwrap(), entry);
    assert_eq!(
        schema::ip_key(&entry.prefix),
        "cilium/state/ip/v1/default/10.1.0.0/16"
    );
    assert_eq!(
        schema::ip_key(&"fd00::1/128".parse().unwrap()),
        "cilium/state/ip/v1/default/fd00::1"
    );
    for bad in ["", "x", "10.1.0.1/16", "10.0.0.1/33", "10.0.0.1 "] {
        assert!(
            schema::ip_of_key(keys::IPS, &format!("{}/{bad}", keys::IPS)).is_err(),
            "{bad}"
        );
    }
    for bad in [
        "null",
        "{}",
        r#"{"IP":"1.1.1.1","ID":-1}"#,
        r#"{"IP":"1.1.1.1","Key":300}"#,
    ] {
        assert!(schema::decode_ip("k", bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn cluster_configs() {
    let text = r#"{"id":3,"capabilities":{"syncedCanaries":true,"cached":true,"maxConnectedClusters":255,"serviceExportsEnabled":false,"endpointSlicesExportMode":"services-and-endpointslices"}}"#;
    let config = schema::decode_cluster_config("k", text.as_bytes()).unwrap();
    assert_eq!(
        config.endpoint_slices_export_mode,
        "services-and-endpointslices"
    );
    assert_eq!(schema::encode_cluster_config(&config), text);
    let newer = r#"{"id":3,"capabilities":{"endpointSlicesExportMode":"a-mode-of-2030"}}"#;
    let config = schema::decode_cluster_config("k", newer.as_bytes()).unwrap();
    assert_eq!(schema::encode_cluster_config(&config), newer);
    let least = schema::decode_cluster_config("k", b"{}").unwrap();
    assert_eq!(
        least,
        ClusterConfig {
            id: ClusterId(0),
            ..ClusterConfig::default()
        }
    );
    for bad in [
        r#"{"id":65536}"#,
        r#"{"id":"3"}"#,
        r#"{"capabilities":{"endpointSlicesExportMode":7}}"#,
        r#"{"capabilities":{"endpointSlicesExportMode":"a\nb"}}"#,
        "[]",
    ] {
        assert!(
            schema::decode_cluster_config("k", bad.as_bytes()).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn keys_of_the_reference() {
    let labels = Labels::parse(b"k8s:app.kubernetes.io/name=a;").unwrap();
    let uses = keys::identity_uses(&labels);
    assert!(keys::is_use_of(
        &uses,
        &keys::identity_use(&labels, "172.18.0.2")
    ));
    assert!(!keys::is_use_of(
        &uses,
        &format!("{uses}/more=x;/172.18.0.2")
    ));
    assert_eq!(keys::cached(keys::NODES), "cilium/cache/nodes/v1");
    assert_eq!(
        keys::synced("c1", keys::NODES),
        "cilium/synced/c1/cilium/state/nodes/v1"
    );
    assert_eq!(keys::under(keys::IPS), "cilium/state/ip/v1/default/");
    for bad in [
        "a/id/",
        "a/id/01",
        "a/id/-1",
        "a/id/99999999999",
        "a/id/4294967296",
        "a/xid/1",
        "cilium/state/identities/v1/id/5/id/6",
        "cilium/state/identities/v1/id/",
    ] {
        assert_eq!(keys::identity_of(bad), None, "{bad}");
    }
    // The copies of a cluster that is called "id".
    let copy = "cilium/cache/identities/v1/id/id/458753";
    assert_eq!(keys::identity_of(copy), Some(NumericIdentity(458_753)));
}

/// Bytes, or a good value with some bytes changed.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let lines = GOLDEN.lines().map(|line| line.split_once('\t').unwrap().1);
    let values: Vec<Vec<u8>> = lines.chain([NODE]).map(|value| value.into()).collect();
    let changed = (
        prop::sample::select(values),
        prop::collection::vec((any::<usize>(), any::<u8>()), 1..8),
    );
    let changed = changed.prop_map(|(mut value, changes)| {
        for (at, byte) in changes {
            let length = value.len().max(1);
            if let Some(place) = value.get_mut(at % length) {
                *place = byte;
            }
        }
        value
    });
    prop_oneof![prop::collection::vec(any::<u8>(), 0..512), changed]
}

proptest! {
    #[test]
    fn decoders_never_panic(key in ".{0,64}", value in hostile()) {
        let key = format!("{}/{key}", keys::IPS);
        let _ip = schema::decode_ip(&key, &value).map(|entry| schema::encode_ip(&entry));
        let _node = schema::decode_node(&key, &value).map(|node| schema::encode_node(&node));
        let _config = schema::decode_cluster_config(&key, &value);
        let _identity = schema::decode_identity(&key, &value);
        let _number = schema::decode_identity_number(&key, &value);
        let _time = schema::decode_time(&key, &value);
        let _name = schema::ip_of_key(keys::IPS, &key);
        let _id = keys::identity_of(&key);
        let _use = keys::is_use_of(keys::IPS, &key);
        let _config = kvstore::Config::parse(&String::from_utf8_lossy(&value));
    }

    #[test]
    fn what_is_decoded_survives_encoding(value in hostile()) {
        if let Ok(node) = schema::decode_node("k", &value) {
            prop_assert_eq!(schema::decode_node("k", &schema::encode_node(&node)).unwrap(), node);
        }
        if let Ok(entry) = schema::decode_ip("k", &value) {
            prop_assert_eq!(schema::decode_ip("k", &schema::encode_ip(&entry)).unwrap(), entry);
        }
    }
}
