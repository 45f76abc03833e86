// SPDX-License-Identifier: Apache-2.0
//! A node in the hands of those around it: the world that knocks at its ports, Prometheus, the container runtime, and whoever
//! takes Isthmus away again.

mod kubernetes_common;

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use kubernetes_common::node_state::NodeState;
use kubernetes_common::{READY, SOON, check, name, plugin, pods, programs, servers, url};
use serde_json::json;
use testbed::kubernetes::images::TOOLS;
use testbed::kubernetes::isthmus::{AGENTS, NAMESPACE};
use testbed::kubernetes::{Cluster, ClusterSpec, Lab, Machine, Network};
use testbed::process::{Done, finish, output};
use testbed::{Keep, LabError, Place, client, eventually};

/// Where pods serve HTTP.
const PORT: u16 = 80;
/// The hostPort of the pod `ported`.
const HOST_PORT: u16 = 8081;
/// The NodePort whose packets kube-proxy gives the node's address, and the one for pods of the asked node alone.
const ANY: u16 = 30080;
const LOCAL: u16 = 30081;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(2);
/// How often is asked where kube-proxy chooses.
const TIMES: usize = 12;
const NODES: [&str; 2] = ["node1", "node2"];
const METRICS: &str = "9962";
const DASHBOARD: &str = include_str!("../../../deploy/chart/dashboards/cilium-dashboard.json");

#[test]
fn a_node_is_open_where_it_should_be_and_left_as_it_was() {
    let programs = programs().with_isthmus().expect("the product is built");
    let mut lab = Lab::create(&name("node"), &programs, Keep::No).expect("a lab");
    lab.add_clusters(&[ClusterSpec::numbered(5, 2)], Network::None)
        .expect("a cluster");
    let before: Vec<_> = lab
        .cluster("cluster5")
        .machines
        .iter()
        .map(before)
        .collect();
    install(&lab);
    let cluster = lab.cluster("cluster5");
    run_pods(cluster);
    host_ports_are_reached(&lab);
    node_ports_obey_policy(&lab);
    metrics_are_scraped(cluster);
    plugin::answers_the_runtime(cluster);
    nodes_are_left_as_they_were(cluster, &before);
}

/// The node once all that others bring is there.
fn before(machine: &Machine) -> NodeState {
    check("kube-proxy has its tables", || {
        let tables = machine.run("nft", &["list", "tables"])?;
        Ok(tables.matches("kube-proxy").count() == 2)
    });
    NodeState::of(machine)
}

/// With metrics, the dashboard, hostPorts, and a remote cluster that nobody answers for.
fn install(lab: &Lab) {
    let cluster = lab.cluster("cluster5");
    let dir = lab.layout().dir("mesh").expect("made");
    let file = dir.join("cluster9");
    fs::write(&file, "endpoints:\n- http://172.31.9.200:2379\n").expect("written");
    cluster
        .kubectl()
        .create_secret(NAMESPACE, "cilium-clustermesh", &[&file])
        .expect("created");
    let values = [
        "cluster.name=cluster5",
        "cluster.id=5",
        "cni.chainingMode=portmap",
        "prometheus.enabled=true",
        "dashboards.enabled=true",
    ];
    cluster.install_isthmus(&values).expect("installed");
    cluster.wait_agents().expect("agents are ready");
    cluster.wait_nodes_ready().expect("nodes are ready");
}

/// `web` on every node behind two NodePorts, and `ported` on node1 with a hostPort.
fn run_pods(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let node_port = |name: &str, port: u16, policy: &str| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {
                "type": "NodePort", "externalTrafficPolicy": policy, "ipFamilyPolicy": "RequireDualStack",
                "selector": {"app": "web"},
                "ports": [{"port": PORT, "targetPort": PORT, "nodePort": port}],
            },
        })
    };
    let ported = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ported", "labels": {"app": "ported"}},
        "spec": {
            "nodeName": "node1", "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "server", "image": TOOLS, "args": ["serve", "--name", "ported", "--port", PORT.to_string()],
                "ports": [{"containerPort": PORT, "hostPort": HOST_PORT}],
                "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
            }],
        },
    });
    let objects = [
        servers("web", false, PORT),
        node_port("any", ANY, "Cluster"),
        node_port("local", LOCAL, "Local"),
        ported,
    ];
    for object in &objects {
        kubectl.apply(&object.to_string()).expect("applied");
    }
    kubectl
        .rolled_out("default", "daemonset/web", READY)
        .expect("pods are ready");
    kubectl
        .wait("default", "condition=Ready", &["pod/ported"], READY)
        .expect("the pod is ready");
}

/// Who answers `place` at a port of a node.
fn knock(place: &Place, machine: &Machine, port: u16, family: usize) -> Result<String, LabError> {
    let url = url(machine.addresses[family], port);
    client::curl(place, &url, ANSWER).map(|page| page.server)
}

/// From another node, from a pod of another node, and from the world, which the pod sees as itself.
fn host_ports_are_reached(lab: &Lab) {
    let cluster = lab.cluster("cluster5");
    let (node1, node2) = (cluster.machine("node1"), cluster.machine("node2"));
    let pod = &pods(cluster, "web")[1];
    let pod = node2.pod(pod.addresses[0]).expect("a pod's network");
    let world = &lab.underlay.world;
    for family in [0, 1] {
        for (who, place) in [
            ("node2", &node2.place),
            ("a pod of node2", &pod),
            ("the world", world),
        ] {
            let what = format!("{who} reaches the hostPort, family {family}");
            let answer = eventually(what, SOON, || knock(place, node1, HOST_PORT, family));
            assert_eq!(answer.expect("an answer"), "ported");
        }
        let url = url(node1.addresses[family], HOST_PORT);
        let page = client::curl(world, &url, ANSWER).expect("an answer");
        let own: [IpAddr; 2] = [
            testbed::underlay::WORLD_V4.into(),
            testbed::underlay::WORLD_V6.into(),
        ];
        assert_eq!(page.client, own[family]);
        knock(&node2.place, node2, HOST_PORT, family).expect_err("no such pod on node2");
    }
}

/// Family, asked port, asked node, and who answered.
type Answer = (usize, u16, &'static str, String);

/// Who answers the world at both nodes' ports, both families.
fn open_to_the_world(lab: &Lab) -> BTreeSet<Answer> {
    let cluster = lab.cluster("cluster5");
    let limit = Duration::from_millis(700);
    let mut open = BTreeSet::new();
    for family in [0, 1] {
        for node in NODES {
            let address = cluster.machine(node).addresses[family];
            for (port, times) in [(HOST_PORT, 1), (LOCAL, 1), (ANY, TIMES)] {
                for _ in 0..times {
                    let answer = client::curl(&lab.underlay.world, &url(address, port), limit);
                    open.extend(answer.map(|page| (family, port, node, page.server)));
                }
            }
        }
    }
    open
}

/// What the world may reach: nothing by default deny; where policy allows the world, what comes with its address; and where
/// policy allows nodes, what kube-proxy gave a node's address, which is never the host.
fn node_ports_obey_policy(lab: &Lab) {
    let kubectl = lab.cluster("cluster5").kubectl();
    let policy = |entities: &[&str]| {
        let ingress = match entities {
            [] => json!([{}]),
            entities => json!([{"fromEntities": entities}]),
        };
        json!({
            "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "closed"},
            "spec": {"endpointSelector": {}, "ingress": ingress},
        })
        .to_string()
    };
    let of = |answers: &[(u16, &'static str, &str)]| -> BTreeSet<Answer> {
        let both = answers.iter().flat_map(|(port, asked, who)| {
            [0, 1].map(|family| (family, *port, *asked, (*who).to_owned()))
        });
        both.collect()
    };
    let [one, two] = NODES;
    let direct = of(&[
        (HOST_PORT, one, "ported"),
        (LOCAL, one, one),
        (LOCAL, two, two),
    ]);
    let translated = of(&[
        (ANY, one, one),
        (ANY, one, two),
        (ANY, two, one),
        (ANY, two, two),
    ]);
    let nothing = BTreeSet::new();
    let all: BTreeSet<_> = direct.union(&translated).cloned().collect();
    let expect = |what: &str, wanted: &BTreeSet<_>| {
        eventually(what, READY, || {
            let open = open_to_the_world(lab);
            match open == *wanted {
                true => Ok(()),
                false => Err(LabError::Unmet(format!("{open:?}"))),
            }
        })
        .expect("in time");
    };
    expect("without policy all is open", &all);
    for (entities, wanted) in [
        (&[][..], &nothing),
        (&["cluster"], &translated),
        (&["host"], &nothing),
        (&["world"], &direct),
        (&["world", "remote-node"], &all),
    ] {
        kubectl.apply(&policy(entities)).expect("applied");
        expect(&format!("what is open to {entities:?}"), wanted);
    }
    kubectl.delete(&policy(&[])).expect("deleted");
    expect("without policy all is open again", &all);
}

/// By the port and the annotations of the pods: everything that the dashboard asks for is there.
fn metrics_are_scraped(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let agents = kubectl.get(&["--namespace", NAMESPACE, "pods", "--selector", AGENTS]);
    let agents = agents.expect("listed")["items"].clone();
    let mut served = BTreeSet::new();
    for agent in agents.as_array().expect("a list") {
        let annotations = &agent["metadata"]["annotations"];
        assert_eq!(annotations["prometheus.io/scrape"], "true");
        assert_eq!(annotations["prometheus.io/port"], METRICS);
        let port = &agent["spec"]["containers"][0]["ports"][0];
        assert_eq!(port["name"], "prometheus");
        let address = agent["status"]["hostIP"].as_str().expect("an address");
        let url = format!("http://{address}:{}/metrics", port["containerPort"]);
        let scrape = [
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "5",
            &url,
        ];
        // From a host that is no node.
        let page = cluster
            .control_plane
            .place
            .run("curl", &scrape)
            .expect("a page");
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        served.extend(lines.filter_map(|line| Some(line.split_once(['{', ' '])?.0.to_owned())));
        let nodes = page
            .lines()
            .find(|line| line.starts_with("cilium_nodes_all_num"));
        assert!(nodes.is_some_and(|line| line.ends_with(" 2")), "{page}");
        assert!(page.contains(r#"target_cluster="cluster9""#), "{page}");
    }
    let map = kubectl.get(&["--namespace", NAMESPACE, "configmap", "cilium-dashboard"]);
    let map = map.expect("the dashboard");
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    assert_eq!(map["data"]["cilium-dashboard.json"], DASHBOARD);
    let names = DASHBOARD.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let missing: BTreeSet<_> = names
        .filter(|name| name.starts_with("cilium_") && !served.contains(*name))
        .collect();
    assert!(missing.is_empty(), "{missing:?} of {served:?}");
    println!(
        "figure: {} metrics of an agent, the dashboard finds all of its own",
        served.len()
    );
}

/// Without its objects, and after `uninstall`, nothing of Isthmus is on a node.
fn nodes_are_left_as_they_were(cluster: &Cluster, before: &[NodeState]) {
    let kubectl = cluster.kubectl();
    let machine = cluster.machine("node2");
    let during = NodeState::of(machine).since(&before[1]);
    for trace in [
        "cilium_vxlan",
        "/sys/fs/bpf/isthmus",
        "inet isthmus",
        "05-cilium.conflist",
    ] {
        let found = during.iter().any(|line| line.contains(trace));
        assert!(found, "{trace}: {during:?}");
    }
    let program = cluster.layout().path().join("bin/isthmus");
    let mut install = Command::new(&program);
    install.args(["install", "--set", "etcd.enabled=false"]);
    kubectl
        .delete(&output(install, READY).expect("printed"))
        .expect("deleted");
    check("the agents are gone", || Ok(cluster.agents()?.is_empty()));
    let status = plugin::call(machine, "STATUS", &[], &[("connect-timeout", json!(0))]);
    assert!(status.stdout.contains(r#""code":50"#), "{}", status.stdout);
    let web = pods(cluster, "web");
    let from = machine.pod(web[1].addresses[0]).expect("a pod's network");
    for address in &web[0].addresses {
        client::curl(&from, &url(*address, PORT), ANSWER).expect("pods talk on");
    }

    for machine in &cluster.machines {
        fs::copy(&program, machine.file("root/isthmus")).expect("copied");
        let refused = uninstall(machine);
        let words = refused.stderr;
        assert!(
            !refused.success && words.contains("drain the node"),
            "{words}"
        );
    }
    let used = [
        "daemonset/web",
        "pod/ported",
        "service/any",
        "service/local",
    ];
    kubectl
        .run(&[&["delete"], &used[..]].concat())
        .expect("deleted");
    check("no pod is left", || {
        Ok(kubectl.pods("default", "")?.is_empty())
    });
    for (machine, before) in cluster.machines.iter().zip(before) {
        for _again in 0..2 {
            let removed = uninstall(machine);
            assert!(removed.success, "{}", removed.stderr);
        }
        fs::remove_file(machine.file("root/isthmus")).expect("removed");
        let left = NodeState::of(machine).since(before);
        assert!(left.is_empty(), "{}: {left:#?}", machine.name);
    }
}

/// With the program that was copied there.
fn uninstall(machine: &Machine) -> Done {
    let mut call = machine.command("/root/isthmus").expect("a command");
    call.arg("uninstall");
    finish(call, &[], READY).expect("it runs")
}
