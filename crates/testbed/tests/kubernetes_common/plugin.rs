// SPDX-License-Identifier: Apache-2.0
//! The CNI plugin on a node, called as the container runtime calls it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::kubernetes::isthmus::NAMESPACE;
use testbed::kubernetes::{Cluster, Machine};
use testbed::process::{Done, finish};
use testbed::{LabError, client};

use super::{READY, pods, url};

/// Where pods serve HTTP.
const PORT: u16 = 80;
const ANSWER: Duration = Duration::from_secs(2);

/// The plugin, called as the runtime calls it.
pub(crate) fn call(
    machine: &Machine,
    command: &str,
    more: &[&str],
    keys: &[(&str, Value)],
) -> Done {
    let list = machine
        .run("cat", &["/etc/cni/net.d/05-cilium.conflist"])
        .expect("the network configuration");
    let list: Value = serde_json::from_str(&list).expect("JSON");
    let mut config = list["plugins"][0].clone();
    config["name"] = list["name"].clone();
    config["cniVersion"] = json!("1.1.0");
    for (key, value) in keys {
        config[*key] = value.clone();
    }
    let mut call = machine.command("env").expect("a command");
    call.args([&format!("CNI_COMMAND={command}"), "CNI_PATH=/opt/cni/bin"]);
    call.args(more).arg("/opt/cni/bin/cilium-cni");
    finish(call, config.to_string().as_bytes(), READY).expect("it runs")
}

/// The attachments that the agent of a node knows.
fn attachments(cluster: &Cluster, node: &str) -> Result<BTreeSet<String>, LabError> {
    let agents = cluster.agents()?;
    let agent = agents
        .iter()
        .find(|agent| agent.node == node)
        .expect("an agent");
    let list = ["cilium", "endpoint", "list", "--output", "json"];
    let list = cluster.kubectl().exec(NAMESPACE, &agent.name, &list)?;
    let list: Value = serde_json::from_str(&list).expect("JSON");
    let ids = list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|endpoint| {
            let id = &endpoint["status"]["external-identifiers"]["cni-attachment-id"];
            id.as_str().map(str::to_owned)
        });
    Ok(ids.collect())
}

/// STATUS, and GC of a container that the runtime forgot.
pub(crate) fn answers_the_runtime(cluster: &Cluster) {
    const NETNS: &str = "CNI_NETNS=/run/netns/lost";
    let machine = cluster.machine("node2");
    let status = call(machine, "STATUS", &[], &[]);
    assert!(
        status.success && status.stdout.is_empty(),
        "{}",
        status.stdout
    );
    let living = attachments(cluster, "node2").expect("listed");
    assert!(!living.is_empty());
    let devices = || {
        machine
            .run("ip", &["-o", "link"])
            .expect("listed")
            .matches(": lxc")
            .count()
    };
    let count = devices();
    machine
        .run("ip", &["netns", "add", "lost"])
        .expect("a namespace");
    let web = pods(cluster, "web");
    // The agent makes no endpoint for a pod that it does not know.
    let pod = format!(
        "CNI_ARGS=K8S_POD_NAMESPACE=default;K8S_POD_NAME={}",
        web[1].name
    );
    let lost = ["CNI_CONTAINERID=lost", "CNI_IFNAME=eth0", NETNS, &pod];
    let added = call(machine, "ADD", &lost, &[]);
    assert!(added.success, "{}", added.stdout);
    machine
        .run("ip", &["netns", "delete", "lost"])
        .expect("deleted");
    let with = attachments(cluster, "node2").expect("listed");
    assert!(with.contains("lost:eth0"), "{with:?}");
    let pair = |id: &String| {
        let (container, interface) = id.split_once(':').expect("two parts");
        json!({"containerID": container, "ifname": interface})
    };
    let valid: Value = living.iter().map(pair).collect();
    let collected = call(machine, "GC", &[], &[("cni.dev/valid-attachments", valid)]);
    assert!(
        collected.success && collected.stdout.is_empty(),
        "{}",
        collected.stdout
    );
    assert_eq!(attachments(cluster, "node2").expect("listed"), living);
    assert_eq!(devices(), count);
    let refused = call(machine, "GC", &[], &[]);
    assert!(refused.stdout.contains(r#""code":7"#), "{}", refused.stdout);
    let from = cluster
        .machine("node1")
        .pod(web[0].addresses[0])
        .expect("a pod's network");
    for address in &web[1].addresses {
        client::curl(&from, &url(*address, PORT), ANSWER).expect("pods that live are reached");
    }
}
