// SPDX-License-Identifier: Apache-2.0
//! What operators are told by Events: clusters whose ids conflict, a map that is full, a NetworkPolicy that is refused.

mod kubernetes_common;

use std::fs;

use kubernetes_common::{READY, check, name, programs, servers};
use serde_json::{Value, json};
use testbed::kubernetes::isthmus::NAMESPACE;
use testbed::kubernetes::{Cluster, ClusterSpec, Lab, Network};
use testbed::{Keep, LabError};

/// What the map of addresses is given. The least that is possible.
const ADDRESSES: usize = 1024;
/// More ports than a policy can have.
const PORTS: u16 = 1601;

#[test]
fn operators_are_told() {
    let programs = programs().with_isthmus().expect("the product is built");
    let mut lab = Lab::create(&name("events"), &programs, Keep::No).expect("a lab");
    lab.add_clusters(&[ClusterSpec::numbered(5, 2)], Network::None)
        .expect("a cluster");
    let cluster = lab.cluster("cluster5");
    conflict(&lab);
    cluster
        .install_isthmus(&["cluster.name=cluster5", "cluster.id=5"])
        .expect("installed");
    let limit = ADDRESSES.to_string();
    cluster
        .kubectl()
        .edit_config_map(NAMESPACE, "cilium-config", &[("bpf-ipcache-max", &limit)])
        .expect("edited");
    cluster.restart_agents().expect("agents are ready");
    cluster.wait_agents().expect("agents are ready");
    cluster.wait_nodes_ready().expect("nodes are ready");
    ids_that_conflict_are_told(cluster);
    a_full_map_is_told(cluster);
    a_refused_network_policy_is_told_once(cluster);
}

/// Remote clusters with ids that are taken: cluster6 has ours, and cluster8 and cluster9 have one between them. One etcd
/// plays them all, which agents cannot know.
fn conflict(lab: &Lab) {
    let cluster = lab.cluster("cluster5");
    let dir = lab.layout().dir("mesh").expect("made");
    let mut files = cluster.mesh_files(&dir).expect("written");
    for (name, id) in [("cluster6", 5), ("cluster8", 8), ("cluster9", 8)] {
        let key = format!("cilium/cluster-config/{name}");
        let value = json!({"id": id, "capabilities": {"syncedCanaries": false}}).to_string();
        cluster
            .etcd
            .etcdctl(&["put", &key, &value])
            .expect("written");
        let file = dir.join(name);
        fs::copy(&files[0], &file).expect("copied");
        files.push(file);
    }
    let files: Vec<_> = files.iter().map(|file| file.as_path()).collect();
    cluster
        .kubectl()
        .create_secret(NAMESPACE, "cilium-clustermesh", &files)
        .expect("created");
}

/// (name of the object, text) of the Events with a reason.
fn events(cluster: &Cluster, reason: &str) -> Result<Vec<(String, String)>, LabError> {
    let selector = format!("reason={reason}");
    let events = cluster
        .kubectl()
        .get(&["events", "--field-selector", &selector])?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let events = events["items"].as_array().into_iter().flatten();
    let events = events.map(|event| {
        assert_eq!(event["type"], "Warning", "{event}");
        (
            text(&event["involvedObject"]["name"]),
            text(&event["message"]),
        )
    });
    Ok(events.collect())
}

/// By every agent about its own node, where `kubectl describe` shows it.
fn ids_that_conflict_are_told(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    for machine in &cluster.machines {
        let of_node = |wanted: &str| {
            let all = events(cluster, "ClusterRefused")?.into_iter();
            let mut own = all.filter(|(node, _)| *node == machine.name);
            Ok(own.any(|(_, text)| text.contains(wanted)))
        };
        check("a remote cluster with our id is told", || {
            of_node("remote cluster cluster6: cluster id 5 is the id of this cluster")
        });
        check("the second of two with one id is told", || {
            let second = of_node("cluster9: cluster id 8 is in use by remote cluster cluster8")?;
            let first = of_node("cluster8: cluster id 8 is in use by remote cluster cluster9")?;
            assert!(!(first && second), "one of them has it");
            Ok(first || second)
        });
        let described = kubectl.run(&["describe", "node", &machine.name]);
        let described = described.expect("described");
        assert!(described.contains("ClusterRefused"), "{described}");
    }
}

/// A policy of pods of both nodes with more single addresses than fit.
fn a_full_map_is_told(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let web = servers("web", false, 80).to_string();
    kubectl.apply(&web).expect("applied");
    kubectl
        .rolled_out("default", "daemonset/web", READY)
        .expect("pods are ready");
    let addresses: Vec<_> = (0..=ADDRESSES)
        .map(|number| format!("198.18.{}.{}/32", number / 256, number % 256))
        .collect();
    let policy = json!({
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "many"},
        "spec": {"endpointSelector": {"matchLabels": {"app": "web"}}, "egress": [{"toCIDR": addresses}]},
    })
    .to_string();
    assert!(events(cluster, "MapFull").expect("listed").is_empty());
    kubectl.apply(&policy).expect("applied");
    for machine in &cluster.machines {
        check("the full map is told", || {
            let all = events(cluster, "MapFull")?.into_iter();
            let mut own = all.filter(|(node, _)| *node == machine.name);
            Ok(own.any(|(_, text)| text.contains("ist_ipcache is full")))
        });
    }
    kubectl.delete(&policy).expect("deleted");
    for agent in cluster.agents().expect("listed") {
        check("there is room again", || {
            let status = ["cilium", "status", "--verbose"];
            let status = cluster.kubectl().exec(NAMESPACE, &agent.name, &status)?;
            Ok(!status.contains("is full"))
        });
    }
}

/// About the object, once for all agents, and again for another version of it.
fn a_refused_network_policy_is_told_once(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let policy = |ports: u16, label: &str| {
        let ports: Vec<_> = (1..=ports).map(|port| json!({"port": port})).collect();
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "wide", "labels": {"version": label}},
            "spec": {"podSelector": {}, "ingress": [{"ports": ports}]},
        })
        .to_string()
    };
    let told = || {
        let all = events(cluster, "PolicyRefused")?;
        assert!(all.iter().all(|(object, _)| object == "wide"), "{all:?}");
        Ok::<_, LabError>(all)
    };
    kubectl
        .apply(&policy(PORTS, "a"))
        .expect("the API server takes it");
    check("the refusal is told", || {
        Ok(told()?
            .iter()
            .any(|(_, text)| text.contains("1601 elements")))
    });
    let about = kubectl.run(&["events", "--for", "networkpolicy/wide"]);
    assert!(about.expect("listed").contains("PolicyRefused"));
    // All agents have seen it when they have seen what comes after it.
    kubectl.apply(&policy(1, "b")).expect("applied");
    for agent in cluster.agents().expect("listed") {
        check("the good version is in force", || {
            let list = kubectl.exec(NAMESPACE, &agent.name, &["cilium", "policy", "get"])?;
            Ok(list.contains("wide"))
        });
    }
    assert_eq!(told().expect("listed").len(), 1);
    kubectl.apply(&policy(PORTS, "c")).expect("applied");
    check("another version is told anew", || Ok(told()?.len() == 2));
    kubectl.delete(&policy(1, "d")).expect("deleted");
}
