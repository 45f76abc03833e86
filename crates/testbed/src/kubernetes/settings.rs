// SPDX-License-Identifier: Apache-2.0
//! Configuration of what runs on a node: containerd, kubelet, kube-proxy.

use serde_json::{Value, json};

use super::addresses::{Addresses, comma};
use super::images::PAUSE;

/// How services reach their backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxy {
    /// kube-proxy with nftables.
    Nftables,
    /// kube-proxy with iptables.
    Iptables,
    /// Nobody translates: for a network that does it itself.
    None,
}

/// Sysctls that the kubelet wants and that are the machine's, not the node's. It finds these values and
/// leaves the kernel alone.
pub(super) const WANTED_SYSCTLS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// containerd's file. A lab may lack CAP_SYS_RESOURCE, so nobody's OOM score is lowered.
pub(super) fn containerd() -> String {
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"#
    )
}

/// The kubelet's file.
pub(super) fn kubelet(addresses: Addresses) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "::",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": "/etc/kubernetes/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": "/",
        "failCgroupV1": false,
        "failSwapOn": false,
        "oomScoreAdj": 0,
        "clusterDNS": addresses.name_servers().map(|address| address.to_string()),
        "clusterDomain": "cluster.local",
        "resolvConf": "/etc/resolv.conf",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        // The disk is the machine's: how full others made it is no reason to evict.
        "evictionHard": {
            "memory.available": "100Mi", "nodefs.available": "200Mi", "imagefs.available": "200Mi",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        // Tests change Secrets and wait for them.
        "configMapAndSecretChangeDetectionStrategy": "Watch",
        "syncFrequency": "10s",
    })
}

/// kube-proxy's file; `None` if it does not run. Connection tracking limits are the machine's and stay.
pub(super) fn kube_proxy(proxy: Proxy, node: &str, addresses: Addresses) -> Option<Value> {
    let mode = match proxy {
        Proxy::Nftables => "nftables",
        Proxy::Iptables => "iptables",
        Proxy::None => return None,
    };
    Some(json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": mode,
        "hostnameOverride": node,
        "clusterCIDR": comma(&addresses.pods()),
        "clientConnection": {"kubeconfig": "/etc/kubernetes/kube-proxy.conf"},
        "conntrack": {
            "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_proxy_there_is_no_file() {
        let five = Addresses { id: 5 };
        assert_eq!(kube_proxy(Proxy::None, "node1", five), None);
        let file = kube_proxy(Proxy::Iptables, "node1", five).expect("a file");
        assert_eq!(file["mode"], "iptables");
        assert_eq!(file["clusterCIDR"], "10.5.0.0/16,fd10:5::/96");
    }
}
