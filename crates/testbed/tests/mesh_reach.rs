// SPDX-License-Identifier: Apache-2.0
//! Who reaches whom: pods in one node, across nodes, across clusters, hosts and the world, both families.

mod common;

use std::net::IpAddr;

use common::{ANSWER, Mesh, SPREAD};
use testbed::client::curl;
use testbed::underlay::{WORLD_V4, WORLD_V6, url};
use testbed::{Family, eventually};

#[test]
fn pods_hosts_and_the_world() {
    let mut mesh = Mesh::prepare("reach", &["--identity-gc-interval=1s"]);
    mesh.lab.start_agents().expect("agents are ready");
    mesh.lab.run_pods().expect("pods run");
    every_node_lists_all(&mesh);
    for family in Family::BOTH {
        for (from, to) in [
            ("cluster5/frontend-1", "cluster5/reports-1"),
            ("cluster5/frontend-1", "cluster5/reports-2"),
            ("cluster5/reports-2", "cluster5/frontend-1"),
            ("cluster5/frontend-1", "cluster7/backend-1"),
            ("cluster5/frontend-2", "cluster7/backend-2"),
            ("cluster7/backend-1", "cluster5/frontend-1"),
            ("cluster7/frontend-2", "cluster5/reports-1"),
        ] {
            mesh.reach(from, to, family);
        }
        hosts_reach_pods(&mesh, family);
        the_world_sees_nodes(&mesh, family);
    }
    a_node_gets_other_networks(&mut mesh);
    deleted_pods_are_forgotten(mesh);
}

fn every_node_lists_all(mesh: &Mesh) {
    let names: Vec<_> = mesh.lab.nodes().map(|node| node.full_name()).collect();
    for node in mesh.lab.nodes() {
        eventually(
            format!("{} lists all nodes", node.full_name()),
            SPREAD,
            || {
                let text = node
                    .cli(&["node", "list"])
                    .map_err(|error| error.to_string())?;
                if names.iter().all(|name| text.contains(name.as_str())) {
                    Ok(())
                } else {
                    Err(text)
                }
            },
        )
        .expect("all are listed");
    }
}

fn hosts_reach_pods(mesh: &Mesh, family: Family) {
    let pod = mesh.lab.pod("cluster7/backend-1").expect("a pod");
    let target = url(pod.address(family).expect("an address"), 80);
    for (cluster, what) in [
        ("cluster7", "its own host"),
        ("cluster5", "a host of another cluster"),
    ] {
        let node = &mesh.lab.cluster(cluster).nodes[0];
        eventually(
            format!("{what} reaches a pod over {family}"),
            SPREAD,
            || curl(&node.place, &target, ANSWER),
        )
        .expect("an answer");
    }
}

fn the_world_sees_nodes(mesh: &Mesh, family: Family) {
    let cluster = mesh.lab.cluster("cluster5");
    let node = &cluster.nodes[0];
    let (world, expected): (IpAddr, IpAddr) = match family {
        Family::V4 => (WORLD_V4.into(), node.ipv4.into()),
        Family::V6 => (WORLD_V6.into(), node.ipv6.into()),
    };
    let pod = cluster.pod("frontend-1").expect("a pod");
    let answer =
        eventually("the world answers", SPREAD, || pod.curl(&url(world, 80))).expect("an answer");
    assert_eq!(answer.client, expected, "masqueraded");
}

/// Its pods keep their addresses, and with them the way to everybody, the world included.
fn a_node_gets_other_networks(mesh: &mut Mesh) {
    let cluster = mesh.lab.cluster_mut("cluster5");
    let networks = ["--ipv4-range=10.5.9.0/24", "--ipv6-range=fd00:5:9::/112"];
    cluster.settings.extra.extend(networks.map(str::to_owned));
    assert!(cluster.nodes[0].stop_agent(), "it ends");
    cluster.start_agent(1).expect("ready");
    let pod = cluster.pod("frontend-1").expect("a pod");
    let flush = ["-6", "neigh", "flush", "dev", "eth0"];
    pod.place.run("ip", &flush).expect("flushed");
    for family in Family::BOTH {
        the_world_sees_nodes(mesh, family);
        mesh.reach("cluster5/frontend-1", "cluster7/backend-1", family);
        mesh.reach("cluster7/backend-1", "cluster5/frontend-1", family);
    }
}

fn deleted_pods_are_forgotten(mut mesh: Mesh) {
    let cluster = mesh.lab.cluster_mut("cluster5");
    let mut address = String::new();
    for (node, name) in cluster.nodes.iter().zip(["reports-1", "reports-2"]) {
        let named = |pod: &testbed::Pod| pod.manifest.name == name;
        let at = cluster.pods.iter().position(named).expect("a pod");
        let pod = cluster.pods.remove(at);
        address = format!("{}/32", pod.address(Family::V4).expect("an address"));
        pod.check(node).expect("CHECK of a healthy pod");
        pod.delete(node).expect("DEL");
    }
    let remote = &mesh.lab.cluster("cluster7").nodes[1];
    eventually(
        "the other cluster forgets the pod's address",
        SPREAD,
        || {
            let text = remote
                .cli(&["bpf", "ipcache", "list"])
                .map_err(|error| error.to_string())?;
            match text.lines().find(|line| line.starts_with(&address)) {
                None => Ok(()),
                Some(line) => Err(line.to_owned()),
            }
        },
    )
    .expect("forgotten");
    eventually("its identity is given back", SPREAD, || {
        let text = remote
            .cli(&["identity", "list"])
            .map_err(|error| error.to_string())?;
        match text.contains("app=reports") {
            false => Ok(()),
            true => Err(text),
        }
    })
    .expect("given back");
}
