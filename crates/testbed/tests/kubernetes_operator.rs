// SPDX-License-Identifier: Apache-2.0
//! The operator of a cluster: one of two replicas works, another follows it, and what it looks after is put right.

mod kubernetes_common;

use std::time::{Duration, Instant};

use kubernetes_common::{READY, SOON, check, name, programs};
use serde_json::{Value, json};
use testbed::kubernetes::images::TOOLS;
use testbed::kubernetes::isthmus::NAMESPACE;
use testbed::kubernetes::{Cluster, ClusterSpec, Kubectl, Lab, Network};
use testbed::{Keep, LabError, eventually};

const LEASE: &str = "cilium-operator-leader";
const OPERATORS: &str = "io.cilium/app=operator";
/// Two rounds of identities, and what it takes to list them.
const GIVEN_BACK: Duration = Duration::from_secs(60);

#[test]
fn one_replica_works() {
    let programs = programs().with_isthmus().expect("the product is built");
    let mut lab = Lab::create(&name("operator"), &programs, Keep::No).expect("a lab");
    lab.add_clusters(&[ClusterSpec::numbered(5, 2)], Network::Isthmus)
        .expect("a cluster");
    let cluster = &lab.clusters[0];
    are_ready(&cluster.kubectl());
    one_says_that_it_leads(cluster);
    another_follows(cluster);
    definitions_come_back(&cluster.kubectl());
    identities_are_given_back(cluster);
}

fn are_ready(kubectl: &Kubectl) {
    kubectl
        .rolled_out(NAMESPACE, "deployment/cilium-operator", READY)
        .expect("both replicas are ready");
}

fn holder(kubectl: &Kubectl) -> Result<String, LabError> {
    let lease = kubectl.get(&["--namespace", NAMESPACE, "lease", LEASE])?;
    let holder = lease["spec"]["holderIdentity"].as_str();
    match holder {
        Some(holder) if !holder.is_empty() => Ok(holder.to_owned()),
        _ => Err(LabError::Unmet(format!("nobody leads: {lease}"))),
    }
}

/// By its metrics.
fn one_says_that_it_leads(cluster: &Cluster) {
    let metrics = |node: &Value| {
        let address = &node["status"]["addresses"][0]["address"];
        let url = format!("http://{}:9963/metrics", address.as_str().expect("text"));
        cluster
            .machine("node1")
            .run("curl", &["--silent", "--fail", &url])
    };
    check("exactly one leads, and looked for identities", || {
        let nodes = cluster.kubectl().get(&["nodes"])?;
        let nodes = nodes["items"].as_array().cloned().unwrap_or_default();
        // A control plane without a kubelet is no Node.
        let texts: Vec<String> = nodes.iter().map(metrics).collect::<Result<_, _>>()?;
        let say = |line: &str| {
            let with = texts
                .iter()
                .filter(|text| text.lines().any(|l| l.starts_with(line)));
            with.count()
        };
        Ok(say("cilium_operator_leader 1") == 1
            && say("cilium_operator_leader 0") == texts.len() - 1
            && say("cilium_operator_identity_gc_runs{outcome=\"success\"") == 1)
    });
}

fn another_follows(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let before = eventually("one leads", SOON, || holder(&kubectl)).expect("it does");
    // The holder's name begins with its node's.
    let node = before.rsplit_once('-').expect("a name with a number").0;
    let started = Instant::now();
    cluster
        .machine(node)
        .run("pkill", &["-9", "-f", "^/usr/bin/isthmus operator"])
        .expect("killed");
    eventually("another leads", SOON * 2, || match holder(&kubectl)? {
        same if same == before => Err(LabError::Unmet(same)),
        other => Ok(other),
    })
    .expect("it does");
    println!(
        "figure: another operator led {:.1} s after the leader was killed",
        started.elapsed().as_secs_f64()
    );
    are_ready(&kubectl);
}

fn definitions_come_back(kubectl: &Kubectl) {
    let name = "ciliumendpoints.cilium.io";
    let spoil = [
        "patch",
        "crd",
        name,
        "--type=json",
        r#"--patch=[{"op":"remove","path":"/spec/names/shortNames"}]"#,
    ];
    kubectl.run(&spoil).expect("spoiled");
    eventually("the definition is as it was", READY, || {
        let short = &kubectl.get(&["crd", name])?["spec"]["names"]["shortNames"];
        match short.to_string() {
            text if text.contains("cep") => Ok(()),
            text => Err(LabError::Unmet(text)),
        }
    })
    .expect("it is");
}

/// With rounds of a few seconds. The operator takes a changed ConfigMap up by itself, but a kubelet may take more than a
/// minute to show it.
fn identities_are_given_back(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    kubectl
        .edit_config_map(
            NAMESPACE,
            "cilium-config",
            &[("identity-gc-interval", "4s")],
        )
        .expect("edited");
    let restart = [
        "--namespace",
        NAMESPACE,
        "delete",
        "pods",
        "--selector",
        OPERATORS,
    ];
    kubectl.run(&restart).expect("deleted");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "short", "labels": {"app": "short-lived"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": TOOLS, "args": ["serve", "--name", "x", "--port", "80"]}],
        },
    })
    .to_string();
    kubectl.apply(&pod).expect("applied");
    let identity = eventually("it has an identity", READY, || {
        let id = &kubectl.get(&["cep", "short"])?["status"]["identity"]["id"];
        let id = id.as_u64();
        id.ok_or_else(|| LabError::Unmet("no identity yet".to_owned()))
    })
    .expect("it has")
    .to_string();
    are_ready(&kubectl);
    // Longer than two rounds.
    std::thread::sleep(Duration::from_secs(12));
    kubectl
        .get(&["ciliumid", &identity])
        .expect("an identity in use stays");
    kubectl.delete(&pod).expect("deleted");
    let started = Instant::now();
    eventually("nobody's identity goes", GIVEN_BACK, || {
        let shown = kubectl.run(&["get", "ciliumid", "--ignore-not-found", &identity])?;
        match shown.is_empty() {
            true => Ok(()),
            false => Err(LabError::Unmet(shown)),
        }
    })
    .expect("it goes");
    println!(
        "figure: an identity was given back {:.1} s after its last pod, with rounds 4 s apart",
        started.elapsed().as_secs_f64()
    );
}
