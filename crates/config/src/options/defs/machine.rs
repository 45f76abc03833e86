// SPDX-License-Identifier: Apache-2.0
//! Options about the machine: its kernel, its API server, its files.

use super::Kind::{Bool, Duration, List, Number, Text};
use super::{Def, def};

const DATAPATH: &str = "Datapath";
const KUBERNETES: &str = "Kubernetes";
const LOCAL: &str = "Files and sockets";
const OPERATOR: &str = "Operator";

/// What the operator reads; the rest of a cluster's options is for its agents.
const OF_OPERATOR: &[&str] = &[
    "cluster-name",
    "cluster-id",
    "max-connected-clusters",
    "kvstore",
    "kvstore-opt",
    "identity-gc-interval",
    "config-dir",
    "log-level",
];

/// Whether an option is one of the operator's.
pub(super) fn is_of_operator(def: &Def) -> bool {
    def.section == OPERATOR || def.name.starts_with("k8s-") || OF_OPERATOR.contains(&def.name)
}

/// Whether an option is one of the agent's.
pub(super) fn is_of_agent(def: &Def) -> bool {
    def.section != OPERATOR
}

pub(super) const OPTIONS: &[Def] = &[
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
        "ours: addresses of the whole mesh that fit the kernel map; a quarter at least is for this cluster",
    ),
    def(
        DATAPATH,
        "bpf-lb-map-max",
        Number,
        "65536",
        "Services that fit the kernel map, and backends of all services together",
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
        "enable-k8s-networkpolicy",
        Bool,
        "true",
        "NetworkPolicy of Kubernetes is enforced beside Cilium's policies",
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
        "Who gives this node's pods their networks: kubernetes = spec.podCIDRs of the Node; cluster-pool = the pools below, or an operator, in the CiliumNode; ipv4-range and ipv6-range win over both",
    ),
    def(
        KUBERNETES,
        "cluster-pool-ipv4-cidr",
        List,
        "",
        "Pool of which nodes without a network take one; empty = an operator gives them theirs",
    ),
    def(
        KUBERNETES,
        "cluster-pool-ipv4-mask-size",
        Number,
        "24",
        "Length of the prefix that a node takes of the IPv4 pool",
    ),
    def(
        KUBERNETES,
        "cluster-pool-ipv6-cidr",
        List,
        "",
        "The same for IPv6",
    ),
    def(
        KUBERNETES,
        "cluster-pool-ipv6-mask-size",
        Number,
        "120",
        "Length of the prefix that a node takes of the IPv6 pool",
    ),
    def(
        KUBERNETES,
        "k8s-namespace",
        Text,
        "kube-system",
        "Namespace of agents and operator, where the Leases are under which one of them works for all",
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
        OPERATOR,
        "operator-prometheus-serve-addr",
        Text,
        "",
        "Address on which its metrics are served, e.g. :9963 for all addresses of the node; empty = none",
    ),
    def(
        OPERATOR,
        "operator-api-serve-addr",
        Text,
        "127.0.0.1:9234",
        "Address for the kubelet's probes, GET /healthz; empty = none",
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
