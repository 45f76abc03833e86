// SPDX-License-Identifier: Apache-2.0
//! Two clusters of a mesh under change: pods that come and go by the dozen, control planes and etcds that are
//! away, agents that are replaced under load. `OUTAGE_SECONDS` says how long what is away stays away.

mod kubernetes_common;

use std::time::{Duration, Instant};

use kubernetes_common::change::{
    API_SERVER, ETCD, Part, Traffic, asked_during, deployment, existing, scale,
};
use kubernetes_common::{READY, SOON, Talk, WEB_PORT as PORT, curl, mesh, mesh_of, pods, programs};
use serde_json::json;
use testbed::kubernetes::images::TOOLS;
use testbed::kubernetes::isthmus::NAMESPACE;
use testbed::kubernetes::{Cluster, Lab, OTHER_LAYOUT};
use testbed::{LabError, eventually};

/// How many pods a Deployment is scaled to.
const PODS: usize = 60;
/// How long that may take on a machine that other tests keep busy.
const SCALED: Duration = Duration::from_secs(240);
/// How long Kubernetes' own controllers may take after their API server is back: they wait longer with every failure.
const RESUMED: Duration = Duration::from_secs(180);
/// How long agents may list a node that is gone: another may have to follow the one that collected.
const FORGOTTEN: Duration = Duration::from_secs(150);
/// TCP connections per node that carry data while agents are replaced.
const CONNECTIONS: usize = 50;

#[test]
fn pods_and_agents_come_and_go() {
    let programs = programs().with_isthmus().expect("the product is built");
    let programs = programs.with_other_layout().expect("and once more");
    let lab = mesh_of("pods", &programs);
    let (five, seven) = (&lab.clusters[0], &lab.clusters[1]);
    a_deployment_scales_and_rolls(five, seven);
    a_pod_comes_back_with_another_address(five, seven);
    a_namespace_goes_with_its_pods(five, seven);
    agents_are_replaced_under_load(five);
    builds_follow_each_other_under_load(five);
}

#[test]
fn servers_go_and_come_back() {
    let mut lab = mesh("outage");
    an_outage_stops_nothing(&mut lab, &API_SERVER);
    an_outage_stops_nothing(&mut lab, &ETCD);
    a_node_goes_and_comes_back(&mut lab);
}

/// Pods of another cluster are asked all the time; whoever is ready answers.
fn a_deployment_scales_and_rolls(five: &Cluster, seven: &Cluster) {
    let kubectl = seven.kubectl();
    let objects = deployment("many", 0).to_string();
    kubectl.apply(&objects).expect("applied");
    let from = &pods(five, "web")[0];
    let client = five.machine(&from.node).pod(from.addresses[0]);
    let seen = asked_during(&client.expect("a pod's network"), seven, "many", || {
        for (count, doing) in [(PODS, "up"), (PODS, "rolled"), (0, "down")] {
            let started = Instant::now();
            match doing {
                "rolled" => {
                    let restart = ["rollout", "restart", "deployment/many"];
                    kubectl.run(&restart).map(drop).expect("begun");
                }
                _ => scale(&kubectl, "many", count),
            }
            kubectl
                .rolled_out("default", "deployment/many", SCALED)
                .expect("in time");
            existing(seven, "many", count, SCALED);
            println!(
                "figure: a Deployment of {PODS} pods {doing} after {:.1} s",
                started.elapsed().as_secs_f64()
            );
        }
    });
    println!("figure: requests of another cluster to its ready pods: {seen}");
    assert!(seen.answered > PODS, "{seen}");
    assert_eq!(seen.failed, Vec::<String>::new(), "{seen}");
    kubectl.delete(&objects).expect("deleted");
}

/// A pod of a StatefulSet has its name again, but not its address.
fn a_pod_comes_back_with_another_address(five: &Cluster, seven: &Cluster) {
    let kubectl = seven.kubectl();
    let labels = json!({"app": "store"});
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "store"},
        "spec": {
            "serviceName": "store", "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "server", "image": TOOLS,
                        "args": ["serve", "--name", "store", "--port", PORT.to_string()],
                        "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
                    }],
                },
            },
        },
    })
    .to_string();
    kubectl.apply(&set).expect("applied");
    let status = || {
        kubectl
            .rolled_out("default", "statefulset/store", READY)
            .expect("it runs");
        let pods = kubectl.pods("default", "app=store").expect("listed");
        assert_eq!(pods.len(), 1, "{pods:?}");
        pods[0].clone()
    };
    let client = &pods(five, "web")[0].name;
    let answers = |address| {
        eventually("it answers another cluster", SOON, || {
            curl(&five.kubectl(), client, address)
        })
        .expect("an answer")
    };
    let before = status();
    for address in &before.addresses {
        answers(*address);
    }
    kubectl
        .run(&["delete", "pod", &before.name])
        .expect("deleted");
    let after = status();
    let started = Instant::now();
    assert_eq!(before.name, after.name);
    for (old, new) in before.addresses.iter().zip(&after.addresses) {
        assert_ne!(old, new, "an address rests before it is reused");
        answers(*new);
        curl(&five.kubectl(), client, *old).expect_err("nobody has the old address");
    }
    println!(
        "figure: a pod with another address answered another cluster in both families {:.1} s after it was ready, \
         with two requests to the old one that nobody answered",
        started.elapsed().as_secs_f64()
    );
    kubectl.delete(&set).expect("deleted");
}

/// Nothing is left in objects, etcd, and the lists of agents, here and in the other cluster.
fn a_namespace_goes_with_its_pods(five: &Cluster, seven: &Cluster) {
    let kubectl = seven.kubectl();
    kubectl
        .run(&["create", "namespace", "brief"])
        .expect("made");
    let mut objects = deployment("brief", 6);
    objects["metadata"]["namespace"] = json!("brief");
    let policy = json!({
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "brief", "namespace": "brief"},
        "spec": {"endpointSelector": {}, "ingress": [{"fromEntities": ["all"]}]},
    });
    for object in [objects, policy] {
        kubectl.apply(&object.to_string()).expect("applied");
    }
    kubectl
        .rolled_out("brief", "deployment/brief", READY)
        .expect("pods are ready");
    let pods = kubectl.pods("brief", "").expect("listed");
    let addresses: Vec<_> = pods.iter().flat_map(|pod| pod.addresses.clone()).collect();
    assert_eq!(addresses.len(), 12, "{pods:?}");
    let listed = |cluster: &Cluster, node: usize| {
        let agent = &cluster.agents()?[node].name;
        let list = ["cilium", "bpf", "ipcache", "list"];
        cluster.kubectl().exec(NAMESPACE, agent, &list)
    };
    eventually("the other cluster knows them", SOON, || {
        let text = listed(five, 0)?;
        match addresses
            .iter()
            .find(|one| !text.contains(&format!("{one}/")))
        {
            None => Ok(()),
            Some(one) => Err(LabError::Unmet(format!("{one}: {text}"))),
        }
    })
    .expect("all");

    let started = Instant::now();
    kubectl
        .run(&[
            "delete",
            "namespace",
            "brief",
            "--wait=true",
            "--timeout=50s",
        ])
        .expect("it goes");
    let gone = started.elapsed();
    eventually("nothing is left of its pods", SOON, || {
        let keys = seven
            .etcd
            .etcdctl(&["get", "--prefix", "--keys-only", "cilium/state/ip/"])?;
        let shown = kubectl
            .get(&["--all-namespaces", "ciliumendpoints,cnp"])?
            .to_string();
        let mut texts = vec![keys, shown];
        for cluster in [five, seven] {
            for node in [0, 1] {
                texts.push(listed(cluster, node)?);
            }
        }
        let is_left = |text: &String| {
            let words = text.split(|letter: char| "/\"\n ".contains(letter));
            let mut words = words.filter_map(|word| word.parse().ok());
            words.any(|word| addresses.contains(&word)) || text.contains("\"brief\"")
        };
        match texts.iter().find(|text| is_left(text)) {
            None => Ok(()),
            Some(text) => Err(LabError::Unmet(text.clone())),
        }
    })
    .expect("nothing");
    println!(
        "figure: a Namespace with 6 pods gone after {:.1} s, forgotten everywhere {:.1} s later",
        gone.as_secs_f64(),
        (started.elapsed() - gone).as_secs_f64()
    );
}

/// Every node's agent is replaced while connections and datagrams of every node are under way.
fn agents_are_replaced_under_load(cluster: &Cluster) {
    let traffic = Traffic::begin(cluster, CONNECTIONS);
    let started = Instant::now();
    let restart = ["rollout", "restart", "daemonset/cilium"];
    cluster
        .kubectl()
        .run(&[&["--namespace", NAMESPACE][..], &restart].concat())
        .expect("begun");
    cluster.wait_agents().expect("agents are ready");
    println!(
        "figure: the DaemonSet rolled in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    traffic.end("while the DaemonSet rolled");
}

/// To a build whose conntrack and policy maps have other layouts, and back, under the same load.
fn builds_follow_each_other_under_load(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let within = ["--namespace", NAMESPACE];
    let ask = |question: &[&str]| kubectl.run(&[&within[..], question].concat());
    let image = "jsonpath={.spec.template.spec.containers[0].image}";
    let own = ask(&["get", "daemonset/cilium", "--output", image]).expect("an image");
    let traffic = Traffic::begin(cluster, CONNECTIONS);
    for image in [OTHER_LAYOUT, own.trim()] {
        let started = Instant::now();
        let every = format!("*={image}");
        ask(&["set", "image", "daemonset/cilium", &every]).expect("begun");
        cluster.wait_agents().expect("agents are ready");
        println!(
            "figure: the DaemonSet rolled to {image} in {:.1} s",
            started.elapsed().as_secs_f64()
        );
        for machine in &cluster.machines {
            let pins = machine.run("ls", &["/sys/fs/bpf/isthmus"]).expect("pins");
            // A build with another layout counts its versions from a million on.
            let is_other = pins.lines().any(|pin| pin.starts_with("v1000"));
            assert_eq!(is_other, image == OTHER_LAYOUT, "{pins}");
        }
    }
    traffic.end("while builds with other layouts followed each other");
}

/// Control planes or etcds of both clusters are away, and come back.
fn an_outage_stops_nothing(lab: &mut Lab, part: &Part) {
    let seconds = std::env::var("OUTAGE_SECONDS").ok();
    let what = part.name;
    let seconds = seconds.map_or(30, |text| text.parse().expect("OUTAGE_SECONDS is a number"));
    let talks: Vec<_> = lab.clusters.iter().map(Talk::begin).collect();
    let across = Talk::across(&lab.clusters[0], &lab.clusters[1]);
    for cluster in &mut lab.clusters {
        (part.off)(cluster);
    }
    std::thread::sleep(Duration::from_secs(seconds));
    for cluster in &mut lab.clusters {
        (part.on)(cluster);
    }
    let started = Instant::now();
    for cluster in &lab.clusters {
        agents_are_well(cluster);
    }
    println!(
        "figure: the {what} were away for {seconds} s; agents have nothing to say {:.1} s after they are back",
        started.elapsed().as_secs_f64()
    );
    let during = format!("while the {what} were away for {seconds} s");
    for talk in talks.into_iter().chain([across]) {
        talk.end(&during);
    }
    // Pods made afterwards are known everywhere.
    let (five, seven) = (&lab.clusters[0], &lab.clusters[1]);
    let kubectl = seven.kubectl();
    let objects = deployment("after", 2).to_string();
    kubectl.apply(&objects).expect("applied");
    kubectl
        .rolled_out("default", "deployment/after", RESUMED)
        .expect("new pods run");
    for pod in kubectl.pods("default", "app=after").expect("listed") {
        eventually("a new pod answers another cluster", SOON, || {
            curl(
                &five.kubectl(),
                &pods(five, "web")[0].name,
                pod.addresses[0],
            )
        })
        .expect("an answer");
    }
    kubectl.delete(&objects).expect("deleted");
}

/// A machine is off, and its Node deleted: nobody lists it any more, nor its pods. On again, it is a node like any other.
fn a_node_goes_and_comes_back(lab: &mut Lab) {
    let underlay = &lab.underlay;
    let [five, seven] = &mut lab.clusters[..] else {
        panic!("two clusters");
    };
    let machine = &mut seven.machines[1];
    let (node, full) = (
        machine.name.clone(),
        format!("{}/{}", seven.name, machine.name),
    );
    machine.crash(underlay).expect("it is off");
    let kubectl = seven.kubectl();
    kubectl.run(&["delete", "node", &node]).expect("deleted");
    let started = Instant::now();
    let listed = |cluster: &Cluster, is_listed: bool| {
        let what = format!("agents of {} list {full}: {is_listed}", cluster.name);
        eventually(what, FORGOTTEN, || {
            let agents = cluster.agents()?;
            for agent in agents
                .iter()
                .filter(|agent| is_listed || agent.node != node || cluster.name == five.name)
            {
                let text =
                    cluster
                        .kubectl()
                        .exec(NAMESPACE, &agent.name, &["cilium", "node", "list"])?;
                if text
                    .lines()
                    .any(|line| line.starts_with(&format!("{full} ")))
                    != is_listed
                {
                    return Err(LabError::Unmet(text));
                }
            }
            Ok(())
        })
        .expect("in time");
    };
    listed(five, false);
    listed(seven, false);
    println!(
        "figure: a Node that was deleted while its machine was off is listed nowhere {:.1} s later",
        started.elapsed().as_secs_f64()
    );
    let keys = ["get", "--prefix", "--keys-only", "cilium/state/nodes/"];
    let keys = seven.etcd.etcdctl(&keys).expect("listed");
    assert!(!keys.contains(&full), "{keys}");

    seven.machines[1].recover(underlay).expect("it is on");
    seven.wait_registered().expect("it is back");
    seven.wait_nodes_ready().expect("it is ready");
    seven.wait_agents().expect("it has an agent");
    listed(five, true);
    listed(seven, true);
    kubectl
        .rolled_out("default", "daemonset/web", RESUMED)
        .expect("its pods run");
    let client = &pods(five, "web")[0].name;
    let back = pods(seven, "web");
    let back = back
        .iter()
        .find(|pod| pod.node == node)
        .expect("a pod there");
    for address in &back.addresses {
        eventually("a pod of it answers another cluster", SOON, || {
            curl(&five.kubectl(), client, *address)
        })
        .expect("an answer");
    }
}

fn agents_are_well(cluster: &Cluster) {
    eventually("no agent has anything to say", READY * 2, || {
        for agent in cluster.agents()? {
            let status = ["cilium", "status", "--brief"];
            cluster.kubectl().exec(NAMESPACE, &agent.name, &status)?;
        }
        Ok::<_, LabError>(())
    })
    .expect("their status is good");
}
