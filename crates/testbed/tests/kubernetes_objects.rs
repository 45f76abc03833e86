// SPDX-License-Identifier: Apache-2.0
//! Isthmus as the network of a cluster: what kubectl shows of it, what pods and their owners expect of any network, and
//! that neither its restarts nor the loss of the API server stops anything.

mod kubernetes_common;

use std::time::Instant;

use kubernetes_common::{
    READY, SOON, Talk, answer, check, curl, is_refused, mistakes, name, pods, programs, servers,
    service, services,
};
use serde_json::{Value, json};
use testbed::kubernetes::isthmus::NAMESPACE;
use testbed::kubernetes::{Cluster, ClusterSpec, Lab, Network};
use testbed::{Keep, LabError, eventually};

const PORT: u16 = 80;

#[test]
fn isthmus_is_the_network_of_a_cluster() {
    let programs = programs().with_isthmus().expect("the product is built");
    let mut lab = Lab::create(&name("objects"), &programs, Keep::No).expect("a lab");
    lab.add_clusters(&[ClusterSpec::numbered(5, 2)], Network::Isthmus)
        .expect("a cluster");
    let cluster = &mut lab.clusters[0];
    let kubectl = cluster.kubectl();
    for objects in [
        servers("web", false, PORT),
        service("web", PORT),
        servers("host", true, 8000),
    ] {
        kubectl.apply(&objects.to_string()).expect("applied");
    }
    for app in ["web", "host"] {
        kubectl
            .rolled_out("default", &format!("daemonset/{app}"), READY)
            .expect("pods are ready");
    }
    resources_are_listed(cluster);
    nodes_are_open(cluster);
    pods_are_used_as_on_any_network(cluster);
    services::are_what_policy_is_about(cluster);
    mistakes::are_refused_before_they_are_stored(cluster);
    policies_show_what_became_of_them(cluster);
    identities_follow_labels(cluster);
    a_rolling_restart_loses_nothing(cluster);
    the_agents_need_no_more_rights(cluster);
    the_api_server_may_go_away(cluster);
}

/// By the names and with the columns that people know.
fn resources_are_listed(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let listed = |resource: &str, wanted: &[&str]| {
        let what = format!("kubectl get {resource} shows {wanted:?}");
        eventually(what, SOON, || {
            let text = kubectl.run(&["get", resource])?;
            match wanted.iter().all(|word| text.contains(word)) {
                true => Ok(()),
                false => Err(LabError::Unmet(text)),
            }
        })
        .expect("it does");
    };
    listed(
        "cn",
        &[
            "CILIUMINTERNALIP",
            "INTERNALIP",
            "AGE",
            "node1",
            "node2",
            "172.31.5.1",
        ],
    );
    for pod in pods(cluster, "web") {
        let [v4, v6] = [pod.addresses[0].to_string(), pod.addresses[1].to_string()];
        listed(
            "cep",
            &[
                "SECURITY IDENTITY",
                "ENDPOINT STATE",
                "IPV4",
                "IPV6",
                &pod.name,
                "ready",
                &v4,
                &v6,
            ],
        );
    }
    let shown = kubectl
        .get(&["cep", "--selector", "app=web"])
        .expect("listed");
    let identity = shown["items"][0]["status"]["identity"]["id"]
        .as_u64()
        .expect("a number");
    assert_eq!(identity >> 16, 5);
    listed(
        "ciliumid",
        &[
            "NAMESPACE",
            "AGE",
            &identity.to_string(),
            "default",
            "kube-system",
        ],
    );
    let object = kubectl
        .get(&["ciliumid", &identity.to_string()])
        .expect("an identity");
    assert_eq!(object["security-labels"]["k8s:app"], "web");
    assert_eq!(
        object["security-labels"]["k8s:io.cilium.k8s.policy.cluster"],
        "cluster5"
    );
    kubectl
        .run(&[
            "get",
            "ciliumnodes,ciliumendpoints,ciliumidentities,ccnp,ccg",
        ])
        .expect("all are served");
}

/// The taint of nodes without an agent goes, whenever it comes, and the condition says that there is a network.
fn nodes_are_open(cluster: &Cluster) {
    let taint = [
        "taint",
        "nodes",
        "node2",
        "node.cilium.io/agent-not-ready=true:NoSchedule",
    ];
    cluster.kubectl().run(&taint).expect("tainted");
    check("the taint goes", || {
        Ok(cluster.node("node2")?["spec"]["taints"].is_null())
    });
    let node = cluster.node("node2").expect("a node");
    let conditions = node["status"]["conditions"]
        .as_array()
        .expect("a list")
        .iter();
    let network = conditions.filter(|condition| condition["type"] == "NetworkUnavailable");
    let network: Vec<_> = network
        .map(|condition| (&condition["status"], &condition["reason"]))
        .collect();
    assert_eq!(network, [(&json!("False"), &json!("CiliumIsUp"))]);
}

/// Names, services, logs, exec, port-forward, pods of the host network.
fn pods_are_used_as_on_any_network(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let (web, host) = (
        pods(cluster, "web"),
        kubectl.pods("default", "app=host").expect("listed"),
    );
    // Of every node: CoreDNS runs on one of them, and the service's pods on both.
    for pod in &web {
        for _ in 0..4 {
            let named = eventually("a service by its name", READY, || {
                answer(&kubectl, &pod.name, "http://web.default.svc.cluster.local/")
            });
            assert!(named.expect("an answer").starts_with("node"));
        }
    }
    for to in &web {
        for address in &to.addresses {
            let url = kubernetes_common::url(*address, PORT);
            assert_eq!(
                answer(&kubectl, &host[0].name, &url).expect("an answer"),
                to.node
            );
        }
    }
    for from in &web {
        for to in &host {
            let url = kubernetes_common::url(to.addresses[0], 8000);
            assert_eq!(
                answer(&kubectl, &from.name, &url).expect("an answer"),
                to.node
            );
        }
    }
    kubectl.logs("default", &web[1].name).expect("logs");
    let forward = ["port-forward", &format!("pod/{}", web[1].name), "18080:80"];
    let mut forward = kubectl.command(&forward).expect("a command");
    let mut forward = forward
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("started");
    let place = &cluster.control_plane.place;
    let page = eventually("a forwarded port", SOON, || {
        place.run(
            "curl",
            &[
                "--silent",
                "--fail",
                "--max-time",
                "2",
                "http://127.0.0.1:18080/",
            ],
        )
    });
    forward.kill().expect("ended");
    forward.wait().expect("reaped");
    assert!(page.expect("a page").contains("node2"));
}

/// In the status of the object, as a column, and as an Event if it is refused.
fn policies_show_what_became_of_them(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let policy = |name: &str, entry: &Value| {
        json!({
            "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": name},
            "spec": {"endpointSelector": {"matchLabels": {"app": "web"}}, "ingress": [entry]},
        })
        .to_string()
    };
    let peers = json!({"fromEndpoints": [{"matchLabels": {"app": "nobody"}}]});
    let level_7 = json!({"toPorts": [{
        "ports": [{"port": "80", "protocol": "TCP"}], "rules": {"http": [{"path": "/"}]},
    }]});
    let (good, bad) = (policy("good", &peers), policy("bad", &level_7));
    let valid = |name: &str| {
        let object = kubectl.get(&["cnp", name])?;
        let condition = &object["status"]["conditions"][0];
        let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
        Ok::<_, LabError>((text("status"), text("message"), text("lastTransitionTime")))
    };
    for objects in [&good, &bad] {
        kubectl.apply(objects).expect("the API server takes it");
    }
    check("a good policy is valid", || Ok(valid("good")?.0 == "True"));
    check("a bad one is not", || {
        let (status, message, since) = valid("bad")?;
        Ok(status == "False"
            && message.contains("spec.ingress[0].toPorts[0].rules")
            && !since.is_empty())
    });
    let table = kubectl.run(&["get", "cnp"]).expect("listed");
    assert!(table.contains("VALID"), "{table}");
    check("an event says so", || {
        let events = kubectl.get(&["events", "--field-selector", "reason=PolicyRefused"])?;
        let about = &events["items"][0]["involvedObject"];
        Ok(about["name"] == "bad" && about["kind"] == "CiliumNetworkPolicy")
    });
    let web = pods(cluster, "web");
    let refused = || is_refused(&kubectl, &web[0].name, web[1].addresses[0]);
    eventually("the good one is in force", SOON, refused).expect("refused");
    kubectl.delete(&good).expect("deleted");
    kubectl.delete(&bad).expect("deleted");
    eventually("it is open again", SOON, || {
        curl(&kubectl, &web[0].name, web[1].addresses[0])
    })
    .expect("an answer");
}

/// A running pod gets another label: another identity, and nothing that runs notices.
fn identities_follow_labels(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let talk = Talk::begin(cluster);
    let pod = &pods(cluster, "web")[1].name;
    let identity = || Ok::<_, LabError>(kubectl.get(&["cep", pod])?["status"]["identity"].clone());
    let before = identity().expect("an identity")["id"].clone();
    kubectl
        .run(&["label", "pod", pod, "tier=gold"])
        .expect("labelled");
    check("the identity has the label", || {
        let now = identity()?;
        Ok(now["id"] != before && now["labels"].to_string().contains("k8s:tier=gold"))
    });
    kubectl
        .run(&["label", "pod", pod, "tier-"])
        .expect("labelled");
    check("the old identity is back", || {
        Ok(identity()?["id"] == before)
    });
    talk.end("while a pod changed its labels");
}

fn a_rolling_restart_loses_nothing(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let talk = Talk::begin(cluster);
    let started = Instant::now();
    kubectl
        .run(&[
            "--namespace",
            NAMESPACE,
            "rollout",
            "restart",
            "daemonset/cilium",
        ])
        .expect("begun");
    cluster.wait_agents().expect("agents are ready");
    println!(
        "figure: the DaemonSet rolled in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    talk.end("while the DaemonSet rolled");
}

/// Without the API server pods talk on, an agent that starts serves what it knew, and afterwards it hears the rest.
fn the_api_server_may_go_away(cluster: &mut Cluster) {
    let kubectl = cluster.kubectl();
    let policy = json!({
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "kept"},
        "spec": {"endpointSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"fromEntities": ["all"]}]},
    })
    .to_string();
    kubectl.apply(&policy).expect("applied");
    let talk = Talk::begin(cluster);
    cluster.control_plane.kill("kube-apiserver");
    let agents = |cluster: &Cluster| {
        cluster
            .machine("node1")
            .run("pgrep", &["-f", "^/usr/bin/isthmus agent"])
    };
    let before = agents(cluster).expect("an agent");
    cluster
        .machine("node1")
        .run("pkill", &["-9", "-f", "^/usr/bin/isthmus agent"])
        .expect("killed");
    let machine = cluster.machine("node1");
    let started = Instant::now();
    // The kubelet waits longer with every crash of a container.
    eventually("the kubelet starts it again and it serves", READY, || {
        let now = agents(cluster)?;
        let probe = [
            "--silent",
            "--fail",
            "--header",
            "require-k8s-connectivity: false",
            "http://127.0.0.1:9879/healthz",
        ];
        match now == before {
            true => Err(LabError::Unmet("it runs not yet".into())),
            false => machine.run("curl", &probe),
        }
    })
    .expect("it serves");
    println!(
        "figure: without the API server an agent serves again {:.1} s after it was killed",
        started.elapsed().as_secs_f64()
    );
    cluster
        .control_plane
        .start("kube-apiserver")
        .expect("started");
    cluster.control_plane.wait_ready().expect("ready");
    talk.end("while the API server was away and an agent killed");
    kubectl.delete(&policy).expect("deleted");
    cluster.wait_agents().expect("agents are ready");
    the_agents_are_well(cluster);
    let web = pods(cluster, "web");
    eventually("pods talk", SOON, || {
        curl(&kubectl, &web[0].name, web[1].addresses[0])
    })
    .expect("an answer");
}

/// Nothing that an agent asked for was forbidden.
fn the_agents_need_no_more_rights(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    for agent in cluster.agents().expect("listed") {
        let log = kubectl.logs(NAMESPACE, &agent.name).expect("a log");
        assert!(!log.contains("forbidden"), "{log}");
    }
    the_agents_are_well(cluster);
}

fn the_agents_are_well(cluster: &Cluster) {
    for agent in cluster.agents().expect("listed") {
        let status = ["cilium", "status", "--brief"];
        let look = || cluster.kubectl().exec(NAMESPACE, &agent.name, &status);
        eventually("the agent has nothing to say", SOON, look).expect("its status is good");
    }
}
