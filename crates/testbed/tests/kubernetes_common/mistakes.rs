// SPDX-License-Identifier: Apache-2.0
//! Policies that no agent would take: the API server refuses them, as far as a schema can tell.

use serde_json::{Value, json};
use testbed::kubernetes::Cluster;

/// About pods that do not exist.
fn policy(spec: &Value) -> String {
    let metadata = json!({"name": "mistake"});
    json!({"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": metadata, "spec": spec})
        .to_string()
}

fn with(entry: &Value) -> Value {
    json!({"endpointSelector": {"matchLabels": {"app": "nobody"}}, "ingress": [entry]})
}

fn port(port: &str) -> Value {
    with(&json!({"toPorts": [{"ports": [{"port": port}]}]}))
}

pub(crate) fn are_refused_before_they_are_stored(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let good = [
        port("0"),
        port("65535"),
        port("http-2"),
        with(&json!({"fromCIDRSet": [{"cidr": "fd00::/8"}, {"cidrGroupRef": "a.b"}]})),
        with(
            &json!({"fromEndpoints": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}),
        ),
        with(&json!({"fromEndpoints": [{"matchLabels": {"reserved:host": "", "k8s:a/b": "c.d"}}]})),
    ];
    for spec in good {
        kubectl.apply(&policy(&spec)).expect("it is taken");
    }
    kubectl.delete(&policy(&port("0"))).expect("deleted");
    let bad = [
        json!({"ingress": [{}]}),
        json!({"endpointSelector": {}, "ingress": []}),
        port("65536"),
        port("a--b"),
        with(&json!({"fromEntities": ["everyone"]})),
        with(&json!({"fromCIDR": ["10.0.0.0"]})),
        with(&json!({"fromCIDRSet": [{"cidr": "10.0.0.0/8", "cidrGroupRef": "a"}]})),
        with(&json!({"fromCIDR": ["10.0.0.0/8"], "fromEntities": ["all"]})),
        with(&json!({"fromEndpoints": [{"matchLabels": {"a": "b c"}}]})),
        with(&json!({"fromEndpoints": [{"matchExpressions": [{"key": "a", "operator": "In"}]}]})),
    ];
    for spec in bad {
        let error = kubectl.apply(&policy(&spec)).expect_err("it is refused");
        assert!(error.to_string().contains("is invalid"), "{spec}: {error}");
    }
}
