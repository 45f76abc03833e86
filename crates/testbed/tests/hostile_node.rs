// SPDX-License-Identifier: Apache-2.0
//! Bad input on the node itself: options, the own etcd's file, a second agent, manifests, a full map, and a pod
//! network without a free address. The operator is told in words and pods go on.

mod hostile_common;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use hostile_common::{Host, SPREAD};
use testbed::manifest::PodManifest;
use testbed::{LabError, eventually};

#[test]
fn options_that_cannot_be_are_all_named() {
    let host = Host::prepare("options", &[]);
    let long = "a".repeat(33);
    let mesh = tempfile::tempdir().expect("temp dir");
    std::fs::write(mesh.path().join("cluster5"), "endpoints: [http://e]").expect("write");
    let mesh = mesh.path().to_str().expect("text");
    let cases: [(&[&str], &[&str]); 5] = [
        (&["--cluster-name", &long], &["33 characters", "32"]),
        (
            &["--cluster-name", "Cluster7"],
            &["\"Cluster7\"", "invalid"],
        ),
        (&["--cluster-id", "256"], &["--cluster-id=256", "255"]),
        (
            &["--cluster-id", "0", "--clustermesh-config", mesh],
            &["--clustermesh-config", "--cluster-id is 0"],
        ),
        (&["--kvstore", "consul"], &["--kvstore=consul", "etcd"]),
    ];
    for (options, words) in cases {
        let done = host.refused_agent(options);
        for word in words {
            assert!(done.stderr.contains(word), "{word:?}: {}", done.stderr);
        }
        assert!(done.stderr.lines().count() <= 3, "{}", done.stderr);
    }
}

#[test]
fn an_unusable_file_of_the_own_etcd_stops_no_pod() {
    let mut host = Host::start("ownfile", &[]);
    assert!(host.lab.cluster_mut("cluster7").nodes[0].stop_agent());
    let good = &host.cluster().settings.etcd_config;
    let good = fs::read_to_string(good).expect("readable");
    let cases = [
        ("endpoints: [".to_owned(), "YAML"),
        ("endpoints: []\n".to_owned(), "endpoints"),
        ("endpoints: [consul://10.0.0.1:8500]\n".to_owned(), "Consul"),
    ];
    let file = host.node().dir().join("bad.config");
    let option = format!("etcd.config={}", file.display());
    for (text, word) in cases {
        fs::write(&file, text).expect("written");
        let done = host.refused_agent(&["--kvstore-opt", &option]);
        let last = done.stderr.lines().last().unwrap_or_default();
        assert!(
            last.contains(word) && last.contains("bad.config"),
            "{}",
            done.stderr
        );
        host.assert_traffic();
    }
    // A certificate may come later: the agent serves what it knows and says what it misses.
    let key = good
        .lines()
        .find(|line| line.trim_start().starts_with("cert-file"))
        .expect("a certificate")
        .to_owned();
    let without = good.replace(&key, "cert-file: /nonexistent.crt");
    fs::write(&file, without).expect("written");
    let settings = host.cluster().settings.clone();
    let mut lacking = settings.clone();
    lacking.etcd_config = file;
    let node = &mut host.lab.cluster_mut("cluster7").nodes[0];
    node.start_agent(&lacking).expect("started");
    host.says(&["status"], &["Failure", "/nonexistent.crt"]);
    host.assert_traffic();
    let node = &mut host.lab.cluster_mut("cluster7").nodes[0];
    assert!(node.stop_agent(), "it ends when asked");
    node.start_agent(&settings).expect("started");
    node.wait_ready().expect("ready again");
    host.assert_traffic();
}

#[test]
fn one_agent_per_node_whatever_its_socket() {
    let mut host = Host::start("two", &[]);
    let other = host.node().dir().join("other");
    fs::create_dir_all(&other).expect("made");
    let socket = other.join("cilium.sock");
    let (socket, state) = (socket.display().to_string(), other.display().to_string());
    // Each of the two directories alone is enough to damage the first agent.
    let programs = host.refused_agent(&["--socket-path", &socket, "--state-dir", &state]);
    let files = host.refused_agent(&["--socket-path", &socket, "--bpf-root", &state]);
    for (done, dir) in [(programs, "/bpf"), (files, "/state")] {
        assert!(
            done.stderr.contains("an agent already uses"),
            "{}",
            done.stderr
        );
        assert!(done.stderr.contains(dir), "{}", done.stderr);
        assert_eq!(done.stderr.trim().lines().count(), 1, "{}", done.stderr);
    }
    assert!(!other.join("cilium.sock").exists(), "nothing is left of it");
    host.becomes_well();
    host.assert_traffic();
    let settings = host.cluster().settings.clone();
    let node = &mut host.lab.cluster_mut("cluster7").nodes[0];
    node.kill_agent();
    node.start_agent(&settings).expect("started");
    node.wait_ready().expect("the lock goes with its holder");
    host.assert_traffic();
}

const POLICY: &str = "apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: guard, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: backend}}
  ingress:
  - fromEndpoints:
    - matchLabels: {app: frontend}
";

#[test]
fn refused_manifests_are_a_warning_until_they_are_mended() {
    let host = Host::start("refused", &[]);
    let cluster = host.cluster();
    cluster.apply_text("guard.yaml", POLICY).expect("written");
    host.says(&["policy", "get"], &["guard"]);
    host.assert_traffic();
    // The policy asks for something unknown, and would let nobody in; the pod after it is well.
    let broken = POLICY.replace("fromEndpoints:", "fromMoon:");
    let half = format!("{broken}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: half}}\n");
    cluster.apply_text("guard.yaml", &half).expect("written");
    host.becomes_warning("guard.yaml");
    let stays = "the previous version stays in force";
    host.says(
        &["status"],
        &["Warning", "default/guard", "fromMoon", stays],
    );
    host.says(&["policy", "get"], &["guard"]);
    host.assert_traffic();
    cluster.apply_text("guard.yaml", POLICY).expect("written");
    host.becomes_well();
    cluster
        .apply_text("garbage.yaml", "kind: [\n\u{1}")
        .expect("written");
    host.becomes_warning("garbage.yaml");
    host.assert_traffic();
    host.assert_alive();
    cluster.withdraw("garbage.yaml").expect("removed");
    host.becomes_well();
}

/// A policy that lets backends reach `count` addresses, each of which takes a row.
fn addresses(name: &str, block: u8, count: u32) -> String {
    let mut text = format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}, namespace: default}}\n\
         spec:\n  endpointSelector: {{matchLabels: {{app: backend}}}}\n  egress:\n  - toCIDR:\n"
    );
    for i in 0..count {
        writeln!(
            text,
            "    - 192.0.{}.{}/32",
            u32::from(block) + i / 256,
            i % 256
        )
        .expect("text");
    }
    text
}

#[test]
fn a_full_map_is_named_and_filled_up_when_there_is_room() {
    let host = Host::start("full", &["--bpf-ipcache-max", "1024"]);
    let cluster = host.cluster();
    cluster
        .apply_text("first.yaml", &addresses("first", 0, 900))
        .expect("written");
    host.says(&["bpf", "ipcache", "list"], &["192.0.3.131/32"]);
    host.becomes_well();
    cluster
        .apply_text("second.yaml", &addresses("second", 100, 300))
        .expect("written");
    host.becomes_warning("is full");
    host.says(&["status"], &["Warning", "is full", "limit"]);
    host.assert_traffic();
    host.assert_alive();
    let complaints = host
        .node()
        .log_errors()
        .iter()
        .filter(|line| line.contains("full"))
        .count();
    assert!(complaints <= 5, "{complaints} lines about one full map");
    cluster.withdraw("first.yaml").expect("removed");
    let mut table = String::new();
    eventually("every row of the second policy is there", SPREAD, || {
        table = host.node().cli_text(&["bpf", "ipcache", "list"]);
        let rows = table.matches("192.0.10").count();
        if rows >= 300 {
            Ok(())
        } else {
            Err(LabError::Unmet(format!("{rows} rows")))
        }
    })
    .expect("the rows come when there is room");
    host.becomes_well();
    host.assert_traffic();
}

#[test]
fn a_pod_without_a_free_address_is_refused_in_words() {
    let mut host = Host::prepare("noaddress", &[]);
    // Network, router, one pod, broadcast.
    host.lab.cluster_mut("cluster7").nodes[0].pods_v4 = "10.7.1.0/30".into();
    host.lab.start_agents().expect("ready");
    let refused = host.lab.run_pods().expect_err("one address for two pods");
    let text = refused.to_string();
    assert!(
        text.contains("no free address") && text.contains("10.7.1.0/30"),
        "{text}"
    );
    assert!(text.contains("ADD"), "{text}");
    assert_eq!(host.cluster().pods.len(), 1, "the first one runs");
    let endpoints = host.node().cli_json(&["endpoint", "list"]).expect("a list");
    let list = endpoints.as_array().expect("an array").clone();
    let pods = list
        .iter()
        .filter(|e| e.to_string().contains("k8s-pod-name\":\""))
        .count();
    assert_eq!(pods, 1, "nothing is left of the second: {endpoints}");
    host.assert_alive();
    let first = host.lab.cluster_mut("cluster7").pods.remove(0);
    let cluster = host.cluster();
    first.delete(&cluster.nodes[0]).expect("deleted");
    for file in ["backend-1.yaml", "frontend-1.yaml"] {
        cluster.withdraw(file).expect("removed");
    }
    let late = PodManifest {
        namespace: "default".into(),
        name: "late".into(),
        node: "node1".into(),
        ports: vec![80],
    };
    host.lab
        .cluster_mut("cluster7")
        .run_pod(&late, &[("app", "late")])
        .expect("the freed address serves again");
}

/// A runtime that kills its plugin in the middle leaves no address behind.
#[test]
fn an_endpoint_that_nobody_waits_for_leaves_no_address() {
    let host = Host::start("abandoned", &[]);
    let socket = host.node().dir().join("run/cilium.sock");
    let ask = |text: String| {
        let mut stream = UnixStream::connect(&socket).expect("the agent listens");
        stream.write_all(text.as_bytes()).expect("sent");
        stream
    };
    let ip = "10.7.1.77";
    let body = format!(
        r#"{{"container-id":"abandoned","container-interface-name":"eth0","interface-name":"lxcabandoned","interface-index":1,"mac":"02:00:00:00:00:01","host-mac":"02:00:00:00:00:02","addressing":{{"ipv4":"{ip}"}},"k8s-pod-name":"nobody","k8s-namespace":"default","state":"waiting-for-identity","sync-build-endpoint":true}}"#
    );
    let head = |method: &str, path: &str, length: usize| {
        format!(
            "{method} /v1/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )
    };
    let taken = || host.node().cli_text(&["status", "--verbose"]).contains(ip);
    // The agent waits for the object of a pod that nobody knows; meanwhile the address is taken.
    let waiting = ask(head("PUT", "endpoint/cilium-local:0", body.len()) + &body);
    eventually("the address is taken", SPREAD, || {
        taken().then_some(()).ok_or("free")
    })
    .expect("taken");
    drop(waiting);
    eventually("the address is free again", SPREAD, || {
        (!taken()).then_some(()).ok_or("taken")
    })
    .expect("free");
    let answers = |method, address, code: &str| {
        let path = format!("ipam/{address}?owner=default/other");
        let mut answer = String::new();
        let read = ask(head(method, &path, 0)).read_to_string(&mut answer);
        read.expect("an answer");
        let start = format!("HTTP/1.1 {code}");
        assert!(answer.starts_with(&start), "{method} {path}: {answer}");
    };
    answers("POST", ip, "200");
    // What pods and the node itself have is not to be had.
    for taken in ["10.7.1.1", "10.7.1.2"] {
        answers("DELETE", taken, "500");
        answers("POST", taken, "409");
    }
    host.assert_traffic();
}
