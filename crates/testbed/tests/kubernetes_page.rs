// SPDX-License-Identifier: Apache-2.0
//! The page "Setting up the Cluster Mesh", step by step with kubectl, on two clusters whose pods run before
//! the clusters know of a mesh.

mod kubernetes_common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kubernetes_common::{READY, ask, name, programs, servers, url};
use testbed::kubernetes::isthmus::{AGENTS, NAMESPACE};
use testbed::kubernetes::{Cluster, ClusterSpec, Lab, Network, PodStatus};
use testbed::{Keep, LabError, eventually};

const PORT: u16 = 8080;

#[test]
fn the_page_connects_two_clusters() {
    let programs = programs().with_isthmus().expect("the product is built");
    let mut lab = Lab::create(&name("page"), &programs, Keep::No).expect("a lab");
    let specs = [5, 7].map(|id| ClusterSpec::numbered(id, 2));
    lab.add_clusters(&specs, Network::None).expect("clusters");
    for cluster in &lab.clusters {
        install_alone(cluster);
    }
    step_1_name_and_id(&lab);
    step_2_secret(&lab);
    step_3_restart(&lab);
    step_4_all_nodes(&lab);
    step_4_pods(&lab);
}

/// A cluster in no mesh, with pods.
fn install_alone(cluster: &Cluster) {
    cluster.install_isthmus(&[]).expect("installed");
    cluster.wait_agents().expect("agents are ready");
    cluster.wait_nodes_ready().expect("nodes are ready");
    cluster.install_dns().expect("names");
    let kubectl = cluster.kubectl();
    kubectl
        .apply(&servers("web", false, PORT).to_string())
        .expect("applied");
    kubectl
        .rolled_out("default", "daemonset/web", READY)
        .expect("pods are ready");
    let pods = pods(cluster);
    for family in [0, 1] {
        reaches(cluster, &pods[0], &pods[1], family);
    }
}

fn step_1_name_and_id(lab: &Lab) {
    for (cluster, id) in lab.clusters.iter().zip(["5", "7"]) {
        let values = [("cluster-name", cluster.name.as_str()), ("cluster-id", id)];
        cluster
            .kubectl()
            .edit_config_map(NAMESPACE, "cilium-config", &values)
            .expect("edited");
    }
}

fn step_2_secret(lab: &Lab) {
    let dir = lab.layout().dir("mesh").expect("made");
    let files: Vec<_> = lab
        .clusters
        .iter()
        .flat_map(|cluster| cluster.mesh_files(&dir).expect("written"))
        .collect();
    let files: Vec<_> = files.iter().map(|file| file.as_path()).collect();
    let (first, second) = (lab.clusters[0].kubectl(), lab.clusters[1].kubectl());
    first
        .create_secret(NAMESPACE, "cilium-clustermesh", &files)
        .expect("created");
    let saved = dir.join("clustermesh.yaml");
    let get = [
        "--namespace",
        NAMESPACE,
        "get",
        "secret",
        "cilium-clustermesh",
        "--output",
        "yaml",
    ];
    first.save(&get, &saved).expect("saved");
    let saved = saved.display().to_string();
    second
        .run(&["apply", "--filename", &saved])
        .expect("applied");
}

fn step_3_restart(lab: &Lab) {
    let started = Instant::now();
    let delete = [
        "--namespace",
        NAMESPACE,
        "delete",
        "pods",
        "--selector",
        AGENTS,
    ];
    for cluster in &lab.clusters {
        cluster.kubectl().run(&delete).expect("deleted");
    }
    for cluster in &lab.clusters {
        cluster.wait_agents().expect("agents are ready");
    }
    println!(
        "figure: agents of both clusters ready {:.1} s after their pods were deleted",
        started.elapsed().as_secs_f64()
    );
}

fn step_4_all_nodes(lab: &Lab) {
    let all: BTreeSet<_> = ["cluster5", "cluster7"]
        .iter()
        .flat_map(|cluster| ["node1", "node2"].map(|node| format!("{cluster}/{node}")))
        .collect();
    for cluster in &lab.clusters {
        let kubectl = cluster.kubectl();
        let agents = cluster.agents().expect("listed");
        assert_eq!(agents.len(), 2, "{agents:?}");
        for agent in agents {
            let what = format!("{} of {} lists all nodes", agent.name, cluster.name);
            let list = ["cilium", "node", "list"];
            eventually(what, Duration::from_secs(20), || {
                let text = kubectl.exec_at_terminal(NAMESPACE, &agent.name, &list)?;
                let lines = text.lines().skip(1).filter(|line| line.contains('/'));
                let names = lines.filter_map(|line| line.split_whitespace().next());
                if names.map(str::to_owned).collect::<BTreeSet<_>>() == all {
                    Ok(())
                } else {
                    Err(LabError::Unmet(text))
                }
            })
            .expect("all four");
        }
    }
}

fn step_4_pods(lab: &Lab) {
    let (five, seven) = (&lab.clusters[0], &lab.clusters[1]);
    for family in [0, 1] {
        reaches(five, &pods(five)[0], &pods(seven)[1], family);
        reaches(seven, &pods(seven)[0], &pods(five)[1], family);
    }
}

fn pods(cluster: &Cluster) -> Vec<PodStatus> {
    let pods = cluster.kubectl().pods("default", "app=web");
    let pods = pods.expect("listed");
    assert_eq!(pods.len(), 2, "{pods:?}");
    assert!(pods.iter().all(|pod| pod.addresses.len() == 2), "{pods:?}");
    pods
}

/// `from`, a pod of `cluster`, gets an answer of `to`, which sees the address of the pod itself.
fn reaches(cluster: &Cluster, from: &PodStatus, to: &PodStatus, family: usize) {
    let url = url(to.addresses[family], PORT);
    let what = format!("{} of {} reaches {url}", from.name, cluster.name);
    let answer = eventually(what, READY, || ask(&cluster.kubectl(), &from.name, &url));
    let expected = (to.node.clone(), from.addresses[family]);
    assert_eq!(answer.expect("an answer"), expected);
}
