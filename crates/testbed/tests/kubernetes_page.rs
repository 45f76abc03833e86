// SPDX-License-Identifier: Apache-2.0
//! The page "Setting up the Cluster Mesh", step by step with kubectl, on two clusters whose pods run and talk
//! before the clusters know of a mesh; then what the page promises: policy by labels of another cluster, and
//! clusters that join and leave without a restart.

mod kubernetes_common;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kubernetes_common::{OLD_NAME, READY, Talk, curl, is_refused, name, pods, programs, servers};
use serde_json::{Value, json};
use testbed::client::Loss;
use testbed::kubernetes::isthmus::{AGENTS, NAMESPACE};
use testbed::kubernetes::{Cluster, ClusterSpec, Lab, Network, PodStatus};
use testbed::{Keep, LabError, eventually};

/// What `curl ADDRESS` asks for.
const PORT: u16 = 80;
/// How long the mesh may take to hear of something.
const SPREAD: Duration = Duration::from_secs(20);
/// How long the kubelet may take to bring a changed Secret into a pod.
const MOUNTED: Duration = Duration::from_secs(150);
/// How much later than the first the last agent may be ready after all were deleted.
const DISAGREEMENT: Duration = Duration::from_secs(5);
const SECRET: &str = "cilium-clustermesh";
const KUBE_SYSTEM: [&str; 2] = ["--namespace", NAMESPACE];

#[test]
fn the_page_connects_two_clusters() {
    let programs = programs().with_isthmus().expect("the product is built");
    let mut lab = Lab::create(&name("page"), &programs, Keep::No).expect("a lab");
    let specs = [5, 7].map(|id| ClusterSpec::numbered(id, 2));
    lab.add_clusters(&specs, Network::None).expect("clusters");
    for cluster in &lab.clusters {
        install_alone(cluster);
    }
    let talks: Vec<_> = lab.clusters.iter().map(Talk::begin).collect();

    the_pages_example_values_work(&lab.clusters[0]);
    step_1_name_and_id(&lab);
    step_2_secret(&lab);
    step_3_restart(&lab);
    step_4_all_nodes(&lab, SPREAD);
    step_4_pods(&lab);

    for (cluster, id) in lab.clusters.iter().zip([5, 7]) {
        pods_have_identities_of(cluster, id);
        nothing_has_the_old_name(cluster);
    }
    for talk in talks {
        // Nodes of a cluster that disagree about its id do not believe each other's packets, and two agents are not
        // ready with the new one in the same moment.
        let losses = talk.count("while it joined the mesh");
        let is_short = |loss: &Loss| loss.longest_gap < DISAGREEMENT;
        assert!(losses.iter().all(is_short), "{losses:?}");
    }
    policy_names_labels_of_the_other_cluster(&lab);
    a_third_cluster_joins_and_leaves(&mut lab);
}

/// A cluster in no mesh, with pods.
fn install_alone(cluster: &Cluster) {
    cluster.install_isthmus(&[]).expect("installed");
    cluster.wait_agents().expect("agents are ready");
    cluster.wait_nodes_ready().expect("nodes are ready");
    cluster.install_dns().expect("names");
    let kubectl = cluster.kubectl();
    let id = kubectl.config_value(NAMESPACE, "cilium-config", "cluster-id");
    assert_eq!(id.expect("a map").as_deref(), Some("0"));
    for app in ["web", "other"] {
        let objects = servers(app, false, PORT).to_string();
        kubectl.apply(&objects).expect("applied");
    }
    for app in ["web", "other"] {
        kubectl
            .rolled_out("default", &format!("daemonset/{app}"), READY)
            .expect("pods are ready");
    }
    let web = pods(cluster, "web");
    for family in [0, 1] {
        reaches(cluster, &web[0], &web[1], family);
    }
}

/// `cluster-name: default` and `cluster-id: 1`, as the page writes them down: a mesh can be made with them, and
/// whoever looks is told that the name is everybody's.
fn the_pages_example_values_work(cluster: &Cluster) {
    set_name_and_id(cluster, OLD_NAME, "1");
    restart(&[cluster]);
    pods_have_identities_of(cluster, 1);
    for agent in cluster.agents().expect("listed") {
        let status = ["cilium", "status", "--verbose"];
        let text = cluster.kubectl().exec(NAMESPACE, &agent.name, &status);
        let text = text.expect("its status is good");
        assert!(text.contains("cluster-name is \"default\""), "{text}");
    }
    let web = pods(cluster, "web");
    reaches(cluster, &web[0], &web[1], 0);
}

fn step_1_name_and_id(lab: &Lab) {
    for (cluster, id) in lab.clusters.iter().zip(["5", "7"]) {
        set_name_and_id(cluster, &cluster.name, id);
    }
}

/// `kubectl -n kube-system edit cm cilium-config`.
fn set_name_and_id(cluster: &Cluster, name: &str, id: &str) {
    let values = [("cluster-name", name), ("cluster-id", id)];
    cluster
        .kubectl()
        .edit_config_map(NAMESPACE, "cilium-config", &values)
        .expect("edited");
}

/// The Secret is made in the first cluster, and brought to the second as YAML.
fn step_2_secret(lab: &Lab) {
    let files = mesh_files(lab);
    let (first, second) = (lab.clusters[0].kubectl(), lab.clusters[1].kubectl());
    first
        .create_secret(NAMESPACE, SECRET, &paths(&files))
        .expect("created");
    let saved = lab.layout().path().join("clustermesh.yaml");
    let get = ["get", "secret", SECRET, "--output", "yaml"];
    first
        .save(&[&KUBE_SYSTEM[..], &get].concat(), &saved)
        .expect("saved");
    let saved = saved.display().to_string();
    second
        .run(&["apply", "--filename", &saved])
        .expect("applied");
}

/// One file per cluster of the lab, and the certificates that it names.
fn mesh_files(lab: &Lab) -> Vec<PathBuf> {
    let dir = lab.layout().dir("mesh").expect("made");
    let files = lab.clusters.iter();
    let files = files.flat_map(|cluster| cluster.mesh_files(&dir).expect("written"));
    files.collect()
}

fn paths(files: &[PathBuf]) -> Vec<&std::path::Path> {
    files.iter().map(PathBuf::as_path).collect()
}

fn step_3_restart(lab: &Lab) {
    let took = restart(&lab.clusters.iter().collect::<Vec<_>>());
    println!(
        "figure: agents of both clusters ready {:.1} s after their pods were deleted",
        took.as_secs_f64()
    );
}

/// `kubectl -n kube-system delete pods -l k8s-app=cilium`.
fn restart(clusters: &[&Cluster]) -> Duration {
    let started = Instant::now();
    let delete = ["delete", "pods", "--selector", AGENTS];
    for cluster in clusters {
        cluster
            .kubectl()
            .run(&[&KUBE_SYSTEM[..], &delete].concat())
            .expect("deleted");
    }
    for cluster in clusters {
        cluster.wait_agents().expect("agents are ready");
    }
    started.elapsed()
}

/// `kubectl -n kube-system exec -ti AGENT -- cilium node list`, in every agent's pod of every cluster.
fn step_4_all_nodes(lab: &Lab, limit: Duration) {
    let nodes = lab.clusters.iter().flat_map(|cluster| &cluster.machines);
    let all = nodes.map(|machine| machine.full_name()).collect();
    for cluster in &lab.clusters {
        lists(cluster, &all, limit);
    }
}

/// Every agent of `cluster` lists exactly these nodes, within `limit`.
fn lists(cluster: &Cluster, all: &BTreeSet<String>, limit: Duration) {
    let kubectl = cluster.kubectl();
    let agents = cluster.agents().expect("listed");
    assert_eq!(agents.len(), cluster.machines.len(), "{agents:?}");
    for agent in agents {
        let what = format!("{} of {} lists {all:?}", agent.name, cluster.name);
        eventually(what, limit, || {
            let list = ["cilium", "node", "list"];
            let text = kubectl.exec_at_terminal(NAMESPACE, &agent.name, &list)?;
            let lines = text.lines().skip(1).filter(|line| line.contains('/'));
            let names = lines.filter_map(|line| line.split_whitespace().next());
            if names.map(str::to_owned).collect::<BTreeSet<_>>() == *all {
                Ok(())
            } else {
                Err(LabError::Unmet(text))
            }
        })
        .expect("all of them");
    }
}

/// `kubectl exec -ti POD -- curl ADDRESS`, both ways and both families, between every two nodes.
fn step_4_pods(lab: &Lab) {
    let (five, seven) = (&lab.clusters[0], &lab.clusters[1]);
    for family in [0, 1] {
        for (from, to) in [(0, 1), (1, 0), (0, 0), (1, 1)] {
            reaches(
                five,
                &pods(five, "web")[from],
                &pods(seven, "web")[to],
                family,
            );
            reaches(
                seven,
                &pods(seven, "web")[from],
                &pods(five, "web")[to],
                family,
            );
        }
    }
}

/// `from`, a pod of `cluster`, gets an answer of `to`, which sees the address of the pod itself.
fn reaches(cluster: &Cluster, from: &PodStatus, to: &PodStatus, family: usize) {
    let address = to.addresses[family];
    let what = format!("{} of {} reaches {address}", from.name, cluster.name);
    let answer = eventually(what, SPREAD, || {
        curl(&cluster.kubectl(), &from.name, address)
    });
    let expected = (to.node.clone(), from.addresses[family]);
    assert_eq!(answer.expect("an answer"), expected);
}

/// The CiliumEndpoints of all pods, and with them what the etcd tells other clusters, have identities of the
/// cluster's range.
fn pods_have_identities_of(cluster: &Cluster, id: u64) {
    eventually(format!("identities are of cluster {id}"), SPREAD, || {
        let all = cluster
            .kubectl()
            .get(&["--all-namespaces", "ciliumendpoints"])?;
        let rows =
            cluster
                .etcd
                .etcdctl(&["get", "--prefix", "--print-value-only", "cilium/state/ip/"])?;
        let items = all["items"].as_array().map_or(&[][..], Vec::as_slice);
        let shown = items
            .iter()
            .map(|item| item["status"]["identity"]["id"].clone());
        let told = rows
            .lines()
            .filter_map(|row| serde_json::from_str::<Value>(row).ok());
        let told = told.map(|row| row["ID"].clone());
        let (shown, told): (Vec<_>, Vec<_>) = (shown.collect(), told.collect());
        // The reserved ones are those of nodes.
        let is_of = |identity: &Value| {
            identity
                .as_u64()
                .is_some_and(|identity| identity >> 16 == id || identity < 256)
        };
        if shown.len() >= 4 && told.len() >= shown.len() && shown.iter().chain(&told).all(is_of) {
            Ok(())
        } else {
            Err(LabError::Unmet(format!("{shown:?} {told:?}")))
        }
    })
    .expect("all of them");
}

/// The etcd says nothing any more under the name that the cluster had.
fn nothing_has_the_old_name(cluster: &Cluster) {
    eventually(
        format!("{} forgets its old name", cluster.name),
        SPREAD,
        || {
            let keys = cluster
                .etcd
                .etcdctl(&["get", "--prefix", "--keys-only", "cilium/"])?;
            // `default` in keys of addresses is no cluster.
            let old = keys.lines().filter(|key| {
                let parts: Vec<_> = key.split('/').collect();
                let of_label = format!("io.cilium.k8s.policy.cluster={OLD_NAME};");
                key.contains(&of_label) || (parts.contains(&OLD_NAME) && !key.contains("/ip/v1/"))
            });
            match old.collect::<Vec<_>>() {
                old if old.is_empty() => Ok(()),
                old => Err(LabError::Unmet(format!("{old:?}"))),
            }
        },
    )
    .expect("none");
}

/// In cluster7 a policy lets only pods `app: web` of cluster5 reach its own.
fn policy_names_labels_of_the_other_cluster(lab: &Lab) {
    let (five, seven) = (&lab.clusters[0], &lab.clusters[1]);
    let peer = json!({"app": "web", "io.cilium.k8s.policy.cluster": "cluster5"});
    let policy = json!({
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "web"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": "web"}},
            "ingress": [{"fromEndpoints": [{"matchLabels": peer}]}],
        },
    })
    .to_string();
    seven.kubectl().apply(&policy).expect("applied");
    let to = &pods(seven, "web")[0];
    for address in &to.addresses {
        for (cluster, app) in [(five, "other"), (seven, "other"), (seven, "web")] {
            let from = &pods(cluster, app)[1];
            let what = format!("{app} of {} is refused at {address}", cluster.name);
            eventually(what, SPREAD, || {
                is_refused(&cluster.kubectl(), &from.name, *address)
            })
            .expect("refused");
        }
    }
    for family in [0, 1] {
        for from in pods(five, "web") {
            reaches(five, &from, to, family);
        }
    }
    // What is not selected is open as before.
    reaches(five, &pods(five, "other")[0], &pods(seven, "other")[0], 0);
    seven.kubectl().delete(&policy).expect("deleted");
    reaches(five, &pods(five, "other")[0], to, 0);
    reaches(seven, &pods(seven, "web")[1], to, 1);
}

/// A cluster whose file is added to the Secret is connected, and cut off when the file goes, both without a restart
/// of anything.
fn a_third_cluster_joins_and_leaves(lab: &mut Lab) {
    let before = mesh_files(lab);
    let agents: Vec<_> = lab
        .clusters
        .iter()
        .map(|cluster| cluster.agents().expect("listed"))
        .collect();
    let nine = ClusterSpec::numbered(9, 1);
    lab.add_clusters(&[nine], Network::Isthmus)
        .expect("a cluster");
    let nine = lab.cluster("cluster9");
    nine.kubectl()
        .apply(&servers("web", false, PORT).to_string())
        .expect("applied");
    nine.kubectl()
        .rolled_out("default", "daemonset/web", READY)
        .expect("a pod is ready");

    let files = mesh_files(lab);
    nine.kubectl()
        .create_secret(NAMESPACE, SECRET, &paths(&files))
        .expect("created");
    for cluster in &lab.clusters[..2] {
        cluster
            .kubectl()
            .replace_secret(NAMESPACE, SECRET, &paths(&files))
            .expect("replaced");
    }
    let started = Instant::now();
    step_4_all_nodes(lab, MOUNTED);
    println!(
        "figure: a third cluster is known everywhere {:.1} s after its file was added",
        started.elapsed().as_secs_f64()
    );
    let (five, to) = (&lab.clusters[0], &pods(nine, "web")[0]);
    for family in [0, 1] {
        reaches(five, &pods(five, "web")[0], to, family);
        reaches(nine, to, &pods(five, "web")[1], family);
    }

    for cluster in &lab.clusters[..2] {
        cluster
            .kubectl()
            .replace_secret(NAMESPACE, SECRET, &paths(&before))
            .expect("replaced");
    }
    let started = Instant::now();
    let two = lab.clusters[..2]
        .iter()
        .flat_map(|cluster| &cluster.machines);
    let two = two.map(|machine| machine.full_name()).collect();
    for cluster in &lab.clusters[..2] {
        lists(cluster, &two, MOUNTED);
    }
    println!(
        "figure: it is forgotten {:.1} s after its file was removed",
        started.elapsed().as_secs_f64()
    );
    let from = &pods(five, "web")[0].name;
    curl(&five.kubectl(), from, to.addresses[0]).expect_err("it is drained");
    step_4_pods(lab);
    let after: Vec<_> = lab.clusters[..2]
        .iter()
        .map(|cluster| cluster.agents().expect("listed"))
        .collect();
    assert_eq!(agents, after, "no agent was restarted");
}
