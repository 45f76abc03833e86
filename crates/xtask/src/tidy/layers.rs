// SPDX-License-Identifier: Apache-2.0
//! The edges between the crates, each with its reason. An edge that is not listed here is refused.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::cargo;

/// (from, to, why). Layers from top to bottom: programs, mesh, adapters, machinery, meaning, bytes.
const EDGES: [(&str, &str, &str); 61] = [
    ("isthmus", "agent", "one binary: `isthmus agent`"),
    ("isthmus", "cli", "one binary: every operator's command"),
    ("isthmus", "cni", "one binary: called as `isthmus-cni`"),
    ("isthmus", "operator", "one binary: `isthmus operator`"),
    (
        "isthmus",
        "install",
        "one binary: `isthmus install`, `node-setup`, `uninstall`",
    ),
    ("agent", "abi", "shows maps and drop reasons by name"),
    ("agent", "api", "serves the socket"),
    (
        "agent",
        "clustermesh",
        "wires remote clusters to the tables",
    ),
    ("agent", "config", "what it is told to be"),
    ("agent", "datapath", "wires the tables to the kernel"),
    ("agent", "kubernetes", "wires manifests to the tables"),
    (
        "agent",
        "kvstore",
        "publishes and reads this cluster's rows",
    ),
    ("agent", "model", "the nouns of what it wires"),
    ("agent", "netlink", "finds the node's devices and addresses"),
    ("agent", "policy", "resolves rules into rows"),
    ("agent", "tables", "owns the tables and their tasks"),
    ("operator", "api", "serves probes and metrics"),
    ("operator", "config", "what it is told to be"),
    (
        "operator",
        "kubernetes",
        "Nodes, endpoints, definitions, the Lease",
    ),
    ("operator", "kvstore", "what is to be taken away"),
    ("operator", "model", "the nouns of what it takes away"),
    ("operator", "tables", "owns its tasks"),
    ("bench", "abi", "reads and writes maps of test runs"),
    ("bench", "datapath", "measures the object that it embeds"),
    ("bench", "testbed", "measures whole labs"),
    ("config", "clustermesh", "checks the mesh directory"),
    (
        "config",
        "kubernetes",
        "where the API server is, and the pools",
    ),
    (
        "config",
        "kvstore",
        "checks the file of this cluster's etcd",
    ),
    ("config", "model", "names, ids and labels"),
    ("config", "policy", "when policy is enforced"),
    ("cni", "api", "asks the agent"),
    ("cni", "netlink", "makes the pod's device"),
    ("cli", "api", "asks the agent"),
    (
        "install",
        "datapath",
        "takes away from a node what the agent made there",
    ),
    ("install", "netlink", "finds and removes devices"),
    (
        "clustermesh",
        "kvstore",
        "reads remote rows through its trait and schema",
    ),
    (
        "clustermesh",
        "model",
        "validated rows are nouns of the model",
    ),
    (
        "clustermesh",
        "tables",
        "writes into tables, counts with revisions",
    ),
    (
        "kvstore",
        "model",
        "keys and values of nodes, identities and addresses",
    ),
    ("kvstore", "tables", "events, backoff and tasks"),
    (
        "kubernetes",
        "model",
        "pods and namespaces become endpoints and labels",
    ),
    (
        "kubernetes",
        "policy",
        "CiliumNetworkPolicy becomes the rule tree",
    ),
    (
        "kubernetes",
        "tables",
        "watches as events, backoff and tasks",
    ),
    ("datapath", "abi", "map keys and values"),
    (
        "datapath",
        "model",
        "converts nouns to keys, one file per map",
    ),
    ("datapath", "netlink", "devices, routes, nftables"),
    ("datapath", "policy", "writes resolved rows"),
    ("policy", "model", "labels, selectors, identities"),
    ("fuzz", "abi", "tables of the packets' node"),
    ("fuzz", "api", "its requests"),
    ("fuzz", "clustermesh", "rows on disk"),
    ("fuzz", "cni", "its input"),
    ("fuzz", "config", "options"),
    ("fuzz", "fastpath", "its entry points"),
    ("fuzz", "kubernetes", "manifests"),
    ("fuzz", "kvstore", "values and client configurations"),
    ("fuzz", "model", "labels"),
    ("fuzz", "policy", "compiles what manifests say"),
    ("fastpath", "abi", "reads and writes the maps' values"),
    ("ebpf", "abi", "declares the maps"),
    ("ebpf", "fastpath", "calls the decisions"),
];

pub(super) fn check(root: &Path) -> Result<Vec<String>, String> {
    let mut problems = Vec::new();
    let mut used = BTreeSet::new();
    let manifests = [root.join("Cargo.toml"), root.join("crates/ebpf/Cargo.toml")];
    for manifest in manifests {
        let metadata = cargo::metadata(root, &manifest)?;
        for package in list(&metadata["packages"]) {
            let from = package["name"].as_str().unwrap_or_default();
            for dependency in list(&package["dependencies"])
                .iter()
                .filter(|dependency| dependency["path"].is_string())
            {
                let to = dependency["name"].as_str().unwrap_or_default();
                if !allowed(from, to) {
                    problems.push(format!(
                        "crates/{from} must not depend on {to}: if it has to, give the reason in \
                         crates/xtask/src/tidy/layers.rs, and check that the edge goes down"
                    ));
                }
                used.insert((from.to_owned(), to.to_owned()));
            }
        }
    }
    let unused = EDGES
        .iter()
        .filter(|(from, to, _)| !used.contains(&((*from).to_owned(), (*to).to_owned())));
    problems.extend(unused.map(|(from, to, _)| {
        format!("{from} → {to} is listed in layers.rs and not used: remove it")
    }));
    Ok(problems)
}

fn allowed(from: &str, to: &str) -> bool {
    EDGES
        .iter()
        .any(|(own, other, _)| *own == from && *other == to)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
