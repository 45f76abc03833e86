// SPDX-License-Identifier: Apache-2.0
//! CoreDNS as every cluster has it: the Deployment `coredns` behind the Service `kube-dns`.

use serde_json::{Value, json};

use super::addresses::Addresses;
use super::images::COREDNS;

const COREFILE: &str = ".:53 {
    errors
    health
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 5
    }
    cache 5
    reload
}
";

/// The objects, as one list.
pub(super) fn objects(addresses: Addresses) -> Value {
    let named = |name: &str| json!({"name": name, "namespace": "kube-system"});
    let labels = json!({"k8s-app": "kube-dns"});
    let service = addresses.name_servers().map(|address| address.to_string());
    let mut items = access();
    items.push(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": named("coredns"),
        "data": {"Corefile": COREFILE},
    }));
    items.push(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": named("coredns"),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod()},
        },
    }));
    items.push(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
        "spec": {
            "selector": labels,
            "ipFamilyPolicy": "RequireDualStack",
            "clusterIP": service[0],
            "clusterIPs": service,
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
            ],
        },
    }));
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

fn access() -> Vec<Value> {
    let group = "rbac.authorization.k8s.io";
    let version = format!("{group}/v1");
    let name = "system:coredns";
    vec![
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "coredns", "namespace": "kube-system"},
        }),
        json!({
            "apiVersion": version, "kind": "ClusterRole", "metadata": {"name": name},
            "rules": [
                {
                    "apiGroups": [""],
                    "resources": ["endpoints", "services", "pods", "namespaces"],
                    "verbs": ["list", "watch"],
                },
                {
                    "apiGroups": ["discovery.k8s.io"],
                    "resources": ["endpointslices"],
                    "verbs": ["list", "watch"],
                },
            ],
        }),
        json!({
            "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"}],
        }),
    ]
}

fn pod() -> Value {
    json!({
        "serviceAccountName": "coredns",
        "priorityClassName": "system-cluster-critical",
        // It must not ask itself for what it does not know.
        "dnsPolicy": "Default",
        "tolerations": [{"key": "CriticalAddonsOnly", "operator": "Exists"}],
        "containers": [{
            "name": "coredns",
            "image": COREDNS,
            "args": ["-conf", "/etc/coredns/Corefile"],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
            "livenessProbe": {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 10},
            "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
        }],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    })
}
