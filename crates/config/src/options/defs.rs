// SPDX-License-Identifier: Apache-2.0
//! Every option of the agent, defined once: flags, environment, the mounted ConfigMap, `--help` and validation
//! all come from this table. Names and defaults are those of Cilium's `cilium-config` where it has the option
//! (its documentation, "Command Reference: cilium-agent"); ours are marked so in their help.

mod machine;

use crate::Process;

use super::lookup::def;
pub(crate) use super::lookup::{Def, Kind};
use Kind::{Bool, Duration, List, Map, Number, Text};

const CLUSTER: &str = "Cluster and mesh";
const KVSTORE: &str = "Key-value store";
const NODE: &str = "Node and addresses";
const POLICY: &str = "Identity and policy";

/// All options, in the order of `--help`.
pub(crate) fn options() -> impl Iterator<Item = &'static Def> {
    CLUSTER_WIDE.iter().chain(machine::OPTIONS)
}

/// Whether `process` does something with an option. It takes all: agents and operator share the ConfigMap.
pub(crate) fn is_of(process: Process, def: &Def) -> bool {
    match process {
        Process::Agent => machine::is_of_agent(def),
        Process::Operator => machine::is_of_operator(def),
    }
}

/// What a cluster's nodes agree on.
const CLUSTER_WIDE: &[Def] = &[
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
        "An identity that no pod had in two rounds this far apart is given back, by the operator or, outside of Kubernetes, by one agent for its cluster, 1s to 24h; 0 = never",
    ),
    def(
        KVSTORE,
        "identity-change-grace-period",
        Duration,
        "1s",
        "How long a pod whose labels change keeps its identity where the new one is new in the cluster, so that all nodes know it by then, at most 10m; Cilium waits 5s",
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
];
