// SPDX-License-Identifier: Apache-2.0
//! Pods come and go while the cluster's own etcd is away, has dead endpoints, or while nobody is there to write to it.

mod common;

use std::time::{Duration, Instant};

use common::{Mesh, SPREAD};
use testbed::manifest::PodManifest;
use testbed::{Family, LabError, eventually};

const FAR: &str = "cluster7/backend-1";

fn pod(name: &str, node: &str) -> PodManifest {
    PodManifest {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        node: node.to_owned(),
        ports: vec![80],
    }
}

#[test]
fn pods_are_added_without_the_own_etcd_if_their_identity_is_known() {
    let mut mesh = Mesh::start("own-etcd-down");
    let cluster = mesh.lab.cluster_mut("cluster5");
    cluster.etcd.kill();
    cluster
        .run_pod(&pod("frontend-3", "node1"), &[("app", "frontend")])
        .expect("its labels have an identity");
    let start = Instant::now();
    let refused = cluster.run_pod(&pod("new-1", "node1"), &[("app", "new")]);
    let (waited, text) = (
        start.elapsed(),
        refused.expect_err("no identity").to_string(),
    );
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    for words in ["no identity for", "k8s:app=new", "etcd"] {
        assert!(text.contains(words), "{text}");
    }
    mesh.reach("cluster5/frontend-3", "cluster5/reports-1", Family::V6);
    // Others hear of it when the etcd is back, and what was refused is made.
    let cluster = mesh.lab.cluster_mut("cluster5");
    cluster.etcd.start().expect("started");
    cluster.etcd.wait_until_healthy().expect("healthy");
    eventually("the new pod is made", SPREAD, || {
        mesh.lab.cluster_mut("cluster5").run_pods()
    })
    .expect("made");
    for from in ["cluster5/frontend-3", "cluster5/new-1"] {
        mesh.reach(from, FAR, Family::V4);
        mesh.reach(FAR, from, Family::V6);
    }
}

/// One endpoint refuses connections, one never answers, one is alive: in the cluster's own file and in the mesh's.
#[test]
fn dead_endpoints_of_an_etcd_are_no_obstacle() {
    let mut mesh = Mesh::prepare("dead-endpoints", &[]);
    let more = |text: &str| {
        text.replacen(
            "endpoints:\n",
            "endpoints:\n- https://172.31.5.100:1\n- https://172.31.250.250:2379\n",
            1,
        )
    };
    for cluster in &mesh.lab.clusters {
        let file = &cluster.settings.etcd_config;
        let text = std::fs::read_to_string(file).expect("written before");
        std::fs::write(file, more(&text)).expect("writable");
    }
    let names = ["cluster5", "cluster7"];
    let files = names.map(|name| {
        let text = std::fs::read_to_string(mesh.lab.mesh.path().join(name));
        more(&text.expect("written before"))
    });
    let files = names.iter().zip(&files);
    mesh.lab
        .mesh
        .update(files.map(|(name, text)| (*name, text.as_str())))
        .expect("swapped");
    mesh.lab.start_agents().expect("agents are ready");
    mesh.lab.run_pods().expect("pods run");
    mesh.status_says("cluster5", 1, "etcd: 1/3 connected", SPREAD);
    mesh.status_says("cluster5", 1, "1/1 remote clusters ready", SPREAD);
    for family in Family::BOTH {
        mesh.reach("cluster5/frontend-1", FAR, family);
    }
    // The one that is alive goes and comes back.
    let etcd = &mut mesh.lab.cluster_mut("cluster5").etcd;
    etcd.kill();
    etcd.start().expect("started");
    etcd.wait_until_healthy().expect("healthy");
    let cluster = mesh.lab.cluster_mut("cluster5");
    eventually("a new pod is made", Duration::from_secs(30), || {
        cluster.run_pod(&pod("late-1", "node2"), &[("app", "late")])
    })
    .expect("made");
    mesh.reach(FAR, "cluster5/late-1", Family::V4);
}

/// Nobody keeps the row of a pod that went while its agent was away, and its address is not its key's any more.
#[test]
fn a_pod_that_goes_without_its_agent_leaves_no_key() {
    let mut mesh = Mesh::start("leftovers");
    let gone = "cluster5/frontend-1";
    mesh.reach(FAR, gone, Family::V4);
    let cluster = mesh.lab.cluster_mut("cluster5");
    let at = cluster
        .pods
        .iter()
        .position(|pod| pod.full_name.ends_with("/frontend-1"));
    let pod = cluster.pods.remove(at.expect("it runs"));
    pod.check(&cluster.nodes[0]).expect("as it was made");
    let key = format!(
        "cilium/state/ip/v1/default/{}",
        pod.address(Family::V4).expect("an address")
    );
    cluster.nodes[0].kill_agent();
    pod.delete(&cluster.nodes[0]).expect("deleted");
    let read = |mesh: &Mesh| mesh.lab.cluster("cluster5").etcd.etcdctl(&["get", &key]);
    assert!(read(&mesh).expect("read").contains(&key), "its lease lives");
    mesh.lab
        .cluster_mut("cluster5")
        .start_agent(1)
        .expect("ready again");
    eventually("the key is gone", SPREAD, || match read(&mesh)?.trim() {
        "" => Ok(()),
        left => Err(LabError::Unmet(left.to_owned())),
    })
    .expect("gone");
    let status = mesh.lab.cluster("cluster7").nodes[0].cli(&["status", "--all-clusters"]);
    let status = status.expect("told");
    assert!(!status.contains("orphaned rows"), "{status}");
    mesh.reach(FAR, "cluster5/frontend-2", Family::V4);
}
