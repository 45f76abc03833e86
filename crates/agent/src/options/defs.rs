// SPDX-License-Identifier: Apache-2.0
//! Every option of the agent, defined once: flags, environment, the mounted ConfigMap, `--help` and validation
//! all come from this table. Names and defaults are those of Cilium's `cilium-config` where it has the option
//! (its documentation, "Command Reference: cilium-agent"); ours are marked so in their help.

use super::lookup::def;
pub(crate) use super::lookup::{Def, Kind};
use Kind::{Bool, Duration, List, Map, Number, Text};

const CLUSTER: &str = "Cluster and mesh";
const KVSTORE: &str = "Key-value store";
const NODE: &str = "Node and addresses";
const POLICY: &str = "Identity and policy";
const DATAPATH: &str = "Datapath";
const KUBERNETES: &str = "Kubernetes";
const LOCAL: &str = "Files and sockets";

/// All options, in the order of `--help`.
pub(crate) const OPTIONS: &[Def] = &[
    def(
        CLUSTER,
        "cluster-name",
        Text,
        "default",
        "Name of this cluster: 1 to 32 characters of a-z, 0-9 and '-'; unique in the mesh",
    ),
    def(
        CLUSTER,
        "cluster-id",
        Number,
        "0",
        "Number of this cluster, unique in the mesh: 1 to max-connected-clusters; 0 = in no mesh",
    ),
    def(
        CLUSTER,
        "max-connected-clusters",
        Number,
        "255",
        "Clusters that a mesh can have, 255 or 511; the same in all of them",
    ),
    def(
        CLUSTER,
        "clustermesh-config",
        Text,
        "",
        "Directory with one etcd client configuration file per remote cluster, named like the cluster; followed live; empty = no mesh",
    ),
    def(
        CLUSTER,
        "clustermesh-sync-timeout",
        Duration,
        "1m",
        "How long a start waits at most for remote clusters before it goes on without them",
    ),
    def(
        KVSTORE,
        "kvstore",
        Text,
        "",
        "Key-value store of this cluster: etcd; empty = none (a node on its own)",
    ),
    def(
        KVSTORE,
        "kvstore-opt",
        Map,
        "",
        "Options of the store: etcd.config=FILE (etcd client configuration), etcd.address=URL (without TLS, tests only), etcd.qps=N",
    ),
    def(
        KVSTORE,
        "kvstore-lease-ttl",
        Duration,
        "15m",
        "Life of this node's keys in the store after the agent is gone, 25s to 24h",
    ),
    def(
        KVSTORE,
        "identity-gc-interval",
        Duration,
        "15m",
        "An identity that no pod had in two rounds this far apart is given back, by one agent for its cluster, 1s to 24h; 0 = never",
    ),
    def(
        NODE,
        "node-name",
        Text,
        "",
        "Name of this node; default: environment K8S_NODE_NAME, else the host name",
    ),
    def(NODE, "enable-ipv4", Bool, "true", "Pods get IPv4 addresses"),
    def(NODE, "enable-ipv6", Bool, "true", "Pods get IPv6 addresses"),
    def(
        NODE,
        "ipv4-range",
        Text,
        "auto",
        "IPv4 network of this node's pods, e.g. 10.5.1.0/24; auto = 10.<last byte of ipv4-node>.0.0/16",
    ),
    def(
        NODE,
        "ipv6-range",
        Text,
        "auto",
        "IPv6 network of this node's pods, e.g. fd00:5:1::/112; auto = f00d::<ipv4-node>:0:0/96",
    ),
    def(
        NODE,
        "ipv4-node",
        Text,
        "auto",
        "Underlay IPv4 address of this node, published to the mesh; auto = the first address of the first of `devices`",
    ),
    def(
        NODE,
        "ipv6-node",
        Text,
        "auto",
        "Underlay IPv6 address of this node; auto = the first global one of the first of `devices`, if any",
    ),
    def(
        NODE,
        "devices",
        List,
        "",
        "Underlay devices; default: the device of the default route",
    ),
    def(
        POLICY,
        "identity-allocation-mode",
        Text,
        "kvstore",
        "Where identities are allocated: kvstore",
    ),
    def(
        POLICY,
        "labels",
        Text,
        "",
        "Rules for the labels that make up an identity, separated by blanks: prefix, !prefix to exclude, source:prefix",
    ),
    def(
        POLICY,
        "enable-policy",
        Text,
        "default",
        "default: a direction is closed once a policy selects the pod; always: closed from the start; never: open",
    ),
    def(
        POLICY,
        "allow-localhost",
        Text,
        "auto",
        "auto, always: this node may reach its pods unless a rule denies it; policy: it needs a rule",
    ),
    def(
        POLICY,
        "policy-default-local-cluster",
        Bool,
        "true",
        "Peers of a policy are pods of this cluster unless the selector names a cluster",
    ),
    def(
        DATAPATH,
        "tunnel-port",
        Number,
        "8472",
        "UDP port of the VXLAN tunnel, the same on all nodes of the mesh; 0 = 8472",
    ),
    def(
        DATAPATH,
        "mtu",
        Number,
        "0",
        "MTU of the underlay; pods get 50 bytes less; 0 = that of the first of `devices`",
    ),
    def(
        DATAPATH,
        "enable-ipv4-masquerade",
        Bool,
        "true",
        "Packets of pods that leave the mesh over IPv4 carry this node's address",
    ),
    def(
        DATAPATH,
        "enable-ipv6-masquerade",
        Bool,
        "true",
        "Packets of pods that leave the mesh over IPv6 carry this node's address",
    ),
    def(
        DATAPATH,
        "enable-host-legacy-routing",
        Bool,
        "false",
        "Packets of pods to other nodes go through this node's stack (VXLAN device, nftables output, IPsec) instead of straight to the underlay's device",
    ),
    def(
        DATAPATH,
        "outer-source-check",
        Text,
        "strict",
        "ours: packets of the tunnel must come from a node of the cluster that they claim: strict drops, audit counts and reports, off trusts",
    ),
    def(
        DATAPATH,
        "bpf-ct-global-max",
        Number,
        "262144",
        "ours: entries of the conntrack table, all protocols and families",
    ),
    def(
        DATAPATH,
        "bpf-ct-endpoint-share",
        Number,
        "50",
        "ours: per cent of the conntrack table that one endpoint may fill",
    ),
    def(
        DATAPATH,
        "bpf-ipcache-max",
        Number,
        "1048576",
        "ours: addresses of the whole mesh that fit the kernel map",
    ),
    def(
        DATAPATH,
        "bpf-ct-timeout-regular-tcp",
        Duration,
        "8000s",
        "Life of an idle TCP connection in conntrack",
    ),
    def(
        DATAPATH,
        "bpf-ct-timeout-regular-tcp-syn",
        Duration,
        "60s",
        "Life of a TCP connection that has only seen its SYN",
    ),
    def(
        DATAPATH,
        "bpf-ct-timeout-regular-tcp-fin",
        Duration,
        "10s",
        "Life of a TCP connection after both sides closed",
    ),
    def(
        DATAPATH,
        "bpf-ct-timeout-regular-any",
        Duration,
        "60s",
        "Life of an idle flow of another protocol",
    ),
    def(
        DATAPATH,
        "bpf-events-default-rate-limit",
        Number,
        "1000",
        "Drop events per second and CPU that are streamed at most",
    ),
    def(
        KUBERNETES,
        "enable-k8s",
        Bool,
        "true",
        "Kubernetes is this cluster's source where it can be reached: by the options below, or from within a pod",
    ),
    def(
        KUBERNETES,
        "k8s-api-server-urls",
        List,
        "",
        "URLs of the API servers, the next one when one fails; default: that of the kubeconfig or of the pod's environment",
    ),
    def(
        KUBERNETES,
        "k8s-api-server",
        Text,
        "",
        "URL of the API server; k8s-api-server-urls wins over it",
    ),
    def(
        KUBERNETES,
        "k8s-kubeconfig-path",
        Text,
        "",
        "Kubeconfig with the credentials; default: the service account of the pod",
    ),
    def(
        KUBERNETES,
        "k8s-client-qps",
        Number,
        "10",
        "Requests per second to the API server at most",
    ),
    def(
        KUBERNETES,
        "k8s-client-burst",
        Number,
        "20",
        "Requests at once to the API server at most",
    ),
    def(
        KUBERNETES,
        "ipam",
        Text,
        "cluster-pool",
        "Who gives this node's pods their networks: kubernetes = spec.podCIDRs of the Node; cluster-pool = the operator, in the CiliumNode; ipv4-range and ipv6-range win over both",
    ),
    def(
        LOCAL,
        "manifests",
        Text,
        "",
        "ours: directory of Kubernetes manifests (Namespace, Pod, CiliumNetworkPolicy) as this cluster's source, in place of Kubernetes; followed live",
    ),
    def(
        LOCAL,
        "config-dir",
        Text,
        "",
        "Directory with one file per option (a mounted ConfigMap); flags and environment win over it",
    ),
    def(
        LOCAL,
        "state-dir",
        Text,
        "/var/run/cilium",
        "Directory of what survives a restart",
    ),
    def(
        LOCAL,
        "socket-path",
        Text,
        "/var/run/cilium/cilium.sock",
        "Socket of the agent's API",
    ),
    def(
        LOCAL,
        "bpf-root",
        Text,
        "/sys/fs/bpf",
        "Mounted bpf file system for pinned maps and links",
    ),
    def(
        LOCAL,
        "agent-health-port",
        Number,
        "9879",
        "TCP port on the loopback addresses for the kubelet's probes, GET /healthz; 0 = none",
    ),
    def(
        LOCAL,
        "prometheus-serve-addr",
        Text,
        "",
        "Address on which metrics are served, e.g. :9962 for all addresses of the node; empty = none",
    ),
    def(
        LOCAL,
        "write-cni-conf-when-ready",
        Text,
        "",
        "File of the container runtime's network configuration, written once the node can serve pods; empty = none",
    ),
    def(
        LOCAL,
        "cni-exclusive",
        Bool,
        "false",
        "With write-cni-conf-when-ready: network configurations of others are set aside as *.cilium_bak",
    ),
    def(
        LOCAL,
        "cni-log-file",
        Text,
        "/var/run/cilium/cilium-cni.log",
        "Log of the CNI plugin, as the written network configuration names it",
    ),
    def(
        LOCAL,
        "cni-chaining-mode",
        Text,
        "none",
        "Plugins in the written network configuration: none = ours alone; portmap = the portmap plugin behind it, for hostPort",
    ),
    def(
        LOCAL,
        "log-level",
        Text,
        "info",
        "ours: error, warn, info, debug or trace, or directives such as info,clustermesh=debug",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_documented() {
        let names: std::collections::BTreeSet<_> = OPTIONS.iter().map(|def| def.name).collect();
        assert_eq!(names.len(), OPTIONS.len());
        assert!(OPTIONS.iter().all(|def| def.help.len() > 10));
    }
}
