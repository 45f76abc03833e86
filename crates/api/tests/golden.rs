// SPDX-License-Identifier: Apache-2.0
//! What a real Cilium agent answered, read into our models and written again: nothing may be lost or added.
#![expect(clippy::unwrap_used, reason = "a test")]

use api::models::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn round_trip<T: Serialize + DeserializeOwned>(text: &str) {
    let model: T = serde_json::from_str(text).unwrap();
    let written = serde_json::to_value(&model).unwrap();
    let original: Value = serde_json::from_str(text).unwrap();
    same(&original, &written, "");
}

fn same(a: &Value, b: &Value, place: &str) {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            for (key, value) in x {
                let other = y
                    .get(key)
                    .unwrap_or_else(|| panic!("{place}/{key} is lost"));
                same(value, other, &format!("{place}/{key}"));
            }
            if let Some(key) = y.keys().find(|key| !x.contains_key(*key)) {
                panic!("{place}/{key} is new");
            }
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            for (i, (x, y)) in x.iter().zip(y).enumerate() {
                same(x, y, &format!("{place}/{i}"));
            }
        }
        // Cilium writes either for an empty list; clients read both.
        (Value::Array(list), Value::Null) if list.is_empty() => {}
        _ => assert_eq!(a, b, "{place}"),
    }
}

#[test]
fn status() {
    round_trip::<StatusResponse>(include_str!("golden/status.json"));
}

#[test]
fn nodes() {
    round_trip::<Vec<NodeElement>>(include_str!("golden/node-list.json"));
}

#[test]
fn endpoints() {
    round_trip::<Vec<Endpoint>>(include_str!("golden/endpoint-list.json"));
}

#[test]
fn identities() {
    round_trip::<Vec<Identity>>(include_str!("golden/identity-list.json"));
}

#[test]
fn addresses() {
    round_trip::<Vec<IpListEntry>>(include_str!("golden/ip-list.json"));
}

#[test]
fn documented_answers() {
    round_trip::<ClusterNodeStatus>(
        r#"{"self":"east/kind-worker","nodes-removed":null,"nodes-added":[{"name":"west/kind-worker","source":"clustermesh",
        "primary-address":{"ipv4":{"enabled":true,"ip":"172.18.0.6","alloc-range":"10.2.1.0/24","address-type":"InternalIP"},"ipv6":{}},
        "secondary-addresses":null,"health-endpoint-address":{"ipv4":{"enabled":true,"ip":"10.2.1.91"}}}]}"#,
    );
    round_trip::<IpamResponse>(
        r#"{"address":{"ipv4":"10.1.1.73","ipv4-pool-name":"default","ipv4-expiration-uuid":"6c1f"},
        "host-addressing":{"ipv4":{"enabled":true,"ip":"10.1.1.17","alloc-range":"10.1.1.0/24"},"ipv6":{}},
        "ipv4":{"ip":"10.1.1.73","gateway":"10.1.1.17","expiration-uuid":"6c1f"}}"#,
    );
    round_trip::<Identity>(
        r#"{"id":70312,"labels":["k8s:app=web","k8s:io.cilium.k8s.policy.cluster=east"],"labelsSHA256":"5c"}"#,
    );
    round_trip::<EndpointChangeRequest>(
        r#"{"state":"waiting-for-identity","container-id":"9f8e","container-interface-name":"eth0","interface-name":"lxc1",
        "interface-index":17,"mac":"52:54:00:11:22:33","host-mac":"52:54:00:aa:bb:cc","addressing":{"ipv4":"10.1.1.73"},
        "k8s-pod-name":"web","k8s-namespace":"default","k8s-uid":"u","sync-build-endpoint":true,"netns-cookie":"123",
        "datapath-configuration":{"require-routing":false}}"#,
    );
}

#[test]
fn documented_status() {
    round_trip::<StatusResponse>(include_str!("golden/status-documented.json"));
}
