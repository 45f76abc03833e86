// SPDX-License-Identifier: Apache-2.0
//! The Kubernetes lab itself, without the product: nodes, pods of the host network, services with both
//! modes of kube-proxy, names, what tests do with kubectl, crashes, and that nothing is left behind.

mod kubernetes_common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use kubernetes_common::{READY, answer, name, programs, servers, service, url};
use serde_json::{Value, json};
use testbed::kubernetes::{Cluster, ClusterSpec, Lab, Network, Proxy};
use testbed::{Keep, LabError, Layout, eventually, teardown};

#[test]
fn nodes_register_and_pods_of_the_host_network_run() {
    let mut lab = Lab::create(&name("naked"), &programs(), Keep::No).expect("a lab");
    let spec = ClusterSpec::numbered(5, 1);
    lab.add_clusters(&[spec], Network::None).expect("a cluster");
    let cluster = lab.cluster("cluster5");
    let node = cluster.node("node1").expect("a node");
    let prefixes = json!(["10.5.0.0/24", "fd10:5::/112"]);
    assert_eq!(node["spec"]["podCIDRs"], prefixes);
    let addresses = node["status"]["addresses"].to_string();
    for address in ["172.31.5.1", "fd00:31::5:1"] {
        assert!(addresses.contains(address), "{addresses}");
    }

    let kubectl = cluster.kubectl();
    let objects = servers("host", true, 8000).to_string();
    kubectl.apply(&objects).expect("applied");
    kubectl
        .rolled_out("default", "daemonset/host", READY)
        .expect("it runs on a node that has no network");
    let pod = &kubectl.pods("default", "app=host").expect("listed")[0];
    assert_eq!(pod.node, "node1");
    let own = answer(&kubectl, &pod.name, "http://127.0.0.1:8000/").expect("an answer");
    assert_eq!(own, "node1");
    let typed = ["sh", "-c", "test -t 0 && echo 'a terminal'"];
    let typed = kubectl.exec_at_terminal("default", &pod.name, &typed);
    assert_eq!(typed.expect("run"), "a terminal\r\n");
    let failed = kubectl.exec("default", &pod.name, &["sh", "-c", "echo no; exit 3"]);
    failed.expect_err("the command's status is kubectl's");
    kubectl.logs("default", &pod.name).expect("logs");

    // kube-proxy works before there is a network: agents need the API server's service.
    let machine = cluster.machine("node1");
    let reached = eventually("the API server by its service", READY, || {
        let limit = ["--silent", "--insecure", "--max-time", "2"];
        machine.run(
            "curl",
            &[&limit[..], &["https://10.105.0.1/version"]].concat(),
        )
    });
    // Everybody may ask for the version.
    assert!(reached.expect("an answer").contains("gitVersion"));
}

#[test]
fn two_clusters_are_up_quickly_and_work() {
    let mut lab = Lab::create(&name("pair"), &programs(), Keep::No).expect("a lab");
    let specs = [
        ClusterSpec::numbered(5, 2),
        ClusterSpec {
            proxy: Proxy::Iptables,
            ..ClusterSpec::numbered(7, 2)
        },
    ];
    let started = Instant::now();
    lab.add_clusters(&specs, Network::StandIn)
        .expect("clusters");
    println!(
        "figure: two clusters of two nodes, names and services: up after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    for cluster in &lab.clusters {
        pods_reach_pods_services_and_names(cluster);
        objects_can_be_edited(cluster, lab.layout());
    }
    a_node_crashes_and_comes_back(&mut lab);
}

fn pods_reach_pods_services_and_names(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    for objects in [servers("web", false, 8080), service("web", 8080)] {
        kubectl.apply(&objects.to_string()).expect("applied");
    }
    kubectl
        .rolled_out("default", "daemonset/web", READY)
        .expect("pods are ready");
    let pods = kubectl.pods("default", "app=web").expect("listed");
    assert_eq!(pods.len(), 2);
    for (from, to) in [(&pods[0], &pods[1]), (&pods[1], &pods[0])] {
        assert_eq!(to.addresses.len(), 2, "{to:?}");
        for address in &to.addresses {
            let url = url(*address, 8080);
            assert_eq!(
                answer(&kubectl, &from.name, &url).expect("an answer"),
                to.node
            );
        }
    }
    let object = kubectl.get(&["service", "web"]).expect("a service");
    let addresses = object["spec"]["clusterIPs"].as_array().expect("addresses");
    let parse = |address: &Value| address.as_str().expect("text").parse().expect("an address");
    let mut urls: Vec<_> = addresses
        .iter()
        .map(|address| url(parse(address), 80))
        .collect();
    urls.push("http://web.default.svc.cluster.local/".to_owned());
    assert_eq!(urls.len(), 3);
    for url in urls {
        let served = eventually(format!("{url} answers in {}", cluster.name), READY, || {
            answer(&kubectl, &pods[0].name, &url)
        });
        assert!(served.expect("an answer").starts_with("node"));
    }
}

fn objects_can_be_edited(cluster: &Cluster, layout: &Layout) {
    let kubectl = cluster.kubectl();
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cilium-config", "namespace": "kube-system"},
        "data": {"cluster-name": "default", "debug": "false"},
    });
    kubectl.apply(&map.to_string()).expect("applied");
    let values = [("cluster-name", cluster.name.as_str()), ("cluster-id", "5")];
    kubectl
        .edit_config_map("kube-system", "cilium-config", &values)
        .expect("edited");
    for (key, value) in values {
        let now = kubectl.config_value("kube-system", "cilium-config", key);
        assert_eq!(now.expect("a map").as_deref(), Some(value));
    }
    let debug = kubectl.config_value("kube-system", "cilium-config", "debug");
    assert_eq!(debug.expect("a map").as_deref(), Some("false"));

    let dir = layout.dir(format!("{}/mesh", cluster.name)).expect("made");
    let files = cluster.mesh_files(&dir).expect("written");
    let text = fs::read_to_string(&files[0]).expect("readable");
    let ca = format!(
        "trusted-ca-file: /var/lib/cilium/clustermesh/{}-ca.crt",
        cluster.name
    );
    assert!(text.contains(&ca), "{text}");
    let paths: Vec<_> = files.iter().map(|file| file.as_path()).collect();
    kubectl
        .create_secret("kube-system", "cilium-clustermesh", &paths)
        .expect("created");
    let saved = dir.join("secret.yaml");
    kubectl
        .save(
            &[
                "--namespace",
                "kube-system",
                "get",
                "secret",
                "cilium-clustermesh",
                "--output",
                "yaml",
            ],
            &saved,
        )
        .expect("saved");
    assert!(
        fs::read_to_string(saved)
            .expect("readable")
            .contains("-ca.crt:")
    );
}

fn a_node_crashes_and_comes_back(lab: &mut Lab) {
    let cluster = &mut lab.clusters[0];
    let kubectl = cluster.kubectl();
    let before = kubectl.pods("default", "app=web").expect("listed");
    let restarts = |pods: &[testbed::kubernetes::PodStatus]| -> u64 {
        let on_node = pods.iter().filter(|pod| pod.node == "node2");
        on_node.map(|pod| pod.restarts).sum()
    };
    let machine = &mut cluster.machines[1];
    machine.crash(&lab.underlay).expect("it is off");
    machine.run("true", &[]).expect_err("it is off");
    let started = Instant::now();
    machine.recover(&lab.underlay).expect("it is on");
    cluster.install_stand_in().expect("ready");
    eventually("its pods run again", READY, || {
        let pods = kubectl.pods("default", "app=web")?;
        let again = restarts(&pods) > restarts(&before) && pods.iter().all(|pod| pod.ready);
        if again {
            Ok(())
        } else {
            Err(LabError::Unmet(format!("{pods:?}")))
        }
    })
    .expect("pods are back");
    println!(
        "figure: a crashed node: pods ready again after {:.1} s",
        started.elapsed().as_secs_f64()
    );
}

#[test]
fn nothing_is_left_of_a_lab_that_was_killed_at_any_time() {
    for delay in [500, 3000, 9000, 20_000] {
        let name = name("killed");
        let mut child = Command::new(env!("CARGO_BIN_EXE_lab"))
            .args([
                "kubernetes",
                "up",
                "--clusters",
                "9",
                "--nodes",
                "1",
                "--lab",
                &name,
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        sleep(Duration::from_millis(delay));
        child.kill().expect("killed");
        child.wait().expect("reaped");
        let layout = Layout::named(&name);
        let groups = layout.groups();
        let problems = teardown::down(&layout);
        assert_eq!(problems, Vec::<String>::new(), "killed after {delay} ms");
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("readable");
        for path in [layout.path(), &layout.data()] {
            assert!(!path.exists(), "{} after {delay} ms", path.display());
            assert!(!mounts.contains(&path.display().to_string()), "{mounts}");
            assert_eq!(processes_naming(path), Vec::<String>::new());
        }
        let left: Vec<_> = groups.iter().filter(|group| group.exists()).collect();
        assert!(left.is_empty(), "{left:?} after {delay} ms");
    }
}

fn processes_naming(path: &Path) -> Vec<String> {
    let path = path.display().to_string();
    let entries = fs::read_dir("/proc").expect("readable").flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(&path)).collect()
}
