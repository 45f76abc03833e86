// SPDX-License-Identifier: Apache-2.0
//! What a node wrote that is gone for good, over the in-memory twin.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt;
use kvstore::schema::{encode_ip, encode_node, ip_key, keys};
use kvstore::{Memory, Store, WatchEvent, forget_node};
use model::{
    AddressType, ClusterId, ClusterName, IpEntry, Node, NodeAddress, NodeName, NumericIdentity,
};

const TTL: Duration = Duration::from_secs(900);

fn node(name: &str, host: &str) -> Node {
    let name = NodeName {
        cluster: ClusterName::new("east").unwrap(),
        name: name.into(),
    };
    let address = NodeAddress {
        kind: AddressType::InternalIp,
        ip: host.parse().unwrap(),
    };
    Node::new(name, ClusterId(1), vec![address])
}

fn address(ip: &str, host: &str) -> IpEntry {
    let host = Some(host.parse().unwrap());
    IpEntry::new(ip.parse().unwrap(), NumericIdentity(65_537), host)
}

fn stored(memory: &Memory) -> Vec<String> {
    memory.dump().into_iter().map(|kv| kv.key).collect()
}

#[tokio::test(start_paused = true)]
async fn its_node_and_addresses_go_and_others_stay() {
    let memory = Memory::default();
    let store = memory.client();
    let lease = store.grant(TTL).await.unwrap();
    let (gone, stays) = (node("gone", "172.18.0.2"), node("stays", "172.18.0.3"));
    for node in [&gone, &stays] {
        let key = keys::node("east", &node.name.name);
        store
            .put(&key, encode_node(node), Some(lease))
            .await
            .unwrap();
    }
    for entry in [
        address("10.0.0.1/32", "172.18.0.2"),
        address("10.0.1.1/32", "172.18.0.3"),
    ] {
        let key = ip_key(&entry.prefix);
        store
            .put(&key, encode_ip(&entry), Some(lease))
            .await
            .unwrap();
    }
    let of_leader = store.grant(TTL).await.unwrap();
    let hosts: [IpAddr; 1] = ["172.18.0.2".parse().unwrap()];
    assert!(forget_node(&store, of_leader, &gone, &hosts).await.unwrap());
    let left = [
        ip_key(&"10.0.1.1/32".parse().unwrap()),
        keys::node("east", "stays"),
    ];
    assert_eq!(stored(&memory), left);
}

#[tokio::test(start_paused = true)]
async fn readers_see_a_deletion_under_a_lease_that_lives() {
    let memory = Memory::default();
    let store = memory.client();
    let of_leader = store.grant(TTL).await.unwrap();
    let mut events = store.watch(&keys::under(keys::NODES), 1).await.unwrap();
    let gone = node("gone", "172.18.0.2");
    // Its keys went with its lease.
    assert!(!forget_node(&store, of_leader, &gone, &[]).await.unwrap());
    let Some(Ok(WatchEvent::Put(kv))) = events.next().await else {
        panic!("its key comes");
    };
    assert_eq!((kv.lease, kv.value), (Some(of_leader), encode_node(&gone)));
    let next = events.next().await;
    assert!(matches!(next, Some(Ok(WatchEvent::Delete { key, .. })) if key == kv.key));
    assert!(stored(&memory).is_empty());
}
