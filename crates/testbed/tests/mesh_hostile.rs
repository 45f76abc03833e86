// SPDX-License-Identifier: Apache-2.0
//! Hostile neighbours: rows of a remote etcd, packets on the underlay, files in the mesh directory, and a
//! second agent. The last good state stays and the operator is told.

mod common;

use std::fs;
use std::net::SocketAddrV4;
use std::os::unix::fs::PermissionsExt;
use std::thread::sleep;
use std::time::Duration;

use common::{Mesh, SPREAD};
use testbed::fault::{Forged, Intruder};
use testbed::pki::{Authority, Role};
use testbed::process::finish;
use testbed::{ClusterSpec, Family, Volume, eventually};

const FROM: &str = "cluster5/frontend-1";
const TO: &str = "cluster7/backend-1";

#[test]
fn hostile_rows_are_refused_and_named() {
    let mesh = Mesh::start("rows");
    let identity = |pod: &str| {
        let address = format!(
            "{}/32",
            mesh.lab
                .pod(pod)
                .expect("a pod")
                .address(Family::V4)
                .expect("an address")
        );
        let table = mesh.lab.cluster("cluster7").nodes[0]
            .cli(&["bpf", "ipcache", "list"])
            .expect("a table");
        table
            .lines()
            .find(|line| line.starts_with(&address))
            .map(str::to_owned)
            .expect("a row")
    };
    let victim = identity(TO);
    let ip = |address: &str, id: u32| {
        let value = format!(
            r#"{{"IP":"{address}","Mask":null,"HostIP":"172.31.5.1","ID":{id},"Key":0,"Metadata":"","K8sNamespace":"default","K8sPodName":"x"}}"#
        );
        mesh.put(
            "cluster5",
            &format!("cilium/state/ip/v1/default/{address}"),
            &value,
        );
    };
    let foreign = "k8s:app=backend;k8s:io.cilium.k8s.policy.cluster=cluster7;";
    mesh.put("cluster5", "cilium/state/identities/v1/id/330001", foreign);
    mesh.put(
        "cluster5",
        "cilium/state/identities/v1/id/460001",
        "k8s:app=x;k8s:io.cilium.k8s.policy.cluster=cluster5;",
    );
    mesh.put(
        "cluster5",
        "cilium/state/nodes/v1/cluster5/broken",
        "{no json",
    );
    ip("10.7.1.2", 5 * 65536 + 300);
    ip("10.5.1.77", 7 * 65536 + 300);
    mesh.status_says("cluster7", 1, "refused rows: 5", SPREAD);
    // The text names the newest three.
    mesh.status_says("cluster7", 1, "10.5.1.77: identity", SPREAD);
    mesh.status_says(
        "cluster7",
        1,
        "10.7.1.2: 10.7.1.2/32 overlaps with 10.7.1.0/24 of this cluster",
        SPREAD,
    );
    assert_eq!(identity(TO), victim, "the row of our own pod stays");
    for family in Family::BOTH {
        mesh.reach(FROM, TO, family);
        mesh.reach(TO, FROM, family);
    }
}

/// A third cluster publishes more addresses than the kernel's map holds, and pods of the others come after them.
#[test]
fn a_cluster_without_measure_leaves_the_others_their_pods() {
    let mut mesh = Mesh::prepare("measure", &["--bpf-ipcache-max", "1024"]);
    let spec = ClusterSpec::numbered(9, 0);
    mesh.lab.add_cluster(&spec).expect("an etcd");
    let put = |key: &str, value: &str| mesh.put("cluster9", &format!("cilium/{key}"), value);
    put(".heartbeat", "2026-01-01T00:00:00Z");
    let config = r#"{"id":9,"capabilities":{"syncedCanaries":false}}"#;
    put("cluster-config/cluster9", config);
    let labels = "k8s:app=far;k8s:io.cilium.k8s.policy.cluster=cluster9;";
    put("state/identities/v1/id/590000", labels);
    let put = &put;
    std::thread::scope(|scope| {
        for block in 0..4 {
            scope.spawn(move || {
                for host in 1..=250 {
                    let address = format!("10.9.{block}.{host}");
                    let value = format!(
                        r#"{{"IP":"{address}","Mask":null,"HostIP":"172.31.9.1","ID":590000,"Key":0,"Metadata":""}}"#
                    );
                    put(&format!("state/ip/v1/default/{address}"), &value);
                }
            });
        }
    });
    mesh.lab.connect_all().expect("connected");
    mesh.lab.start_agents().expect("agents are ready");
    let told = "the cluster has its share of what fits the kernel";
    mesh.status_says("cluster7", 1, told, SPREAD);
    mesh.lab.run_pods().expect("pods run");
    for family in Family::BOTH {
        mesh.reach(FROM, TO, family);
        mesh.reach(TO, FROM, family);
        mesh.reach(TO, "cluster7/frontend-1", family);
    }
    let node = &mesh.lab.cluster("cluster7").nodes[0];
    let table = node.cli_text(&["bpf", "ipcache", "list"]);
    let rows = table.matches("10.9.").count();
    assert!((300..=768).contains(&rows), "{rows} rows of cluster9");
}

#[test]
fn forged_tunnel_packets_do_not_arrive() {
    let mesh = Mesh::start("forged");
    mesh.reach(FROM, TO, Family::V4);
    let intruder = Intruder::create(&mesh.lab.underlay, 1).expect("an intruder");
    let address = |pod: &str| match mesh.lab.pod(pod).expect("a pod").ipv4 {
        Some(address) => address,
        None => panic!("{pod} has no IPv4 address"),
    };
    let target = mesh.lab.cluster("cluster7").nodes[0].ipv4;
    let to = SocketAddrV4::new(address(TO), 7777);
    let catcher = mesh
        .lab
        .pod(TO)
        .expect("a pod")
        .place
        .within(|| std::net::UdpSocket::bind(("0.0.0.0", 7777)));
    let catcher = catcher.expect("a namespace").expect("a socket");
    catcher
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("set");
    let from = SocketAddrV4::new(address(FROM), 1234);
    let own = "172.31.250.1".parse().expect("an address");
    let forgeries = [
        (own, 5 * 65536 + 300, "an address that is no node's"),
        (own, 6, "remote-node from an unknown address"),
        (own, 1, "host from an unknown address"),
        (
            mesh.lab.cluster("cluster7").nodes[1].ipv4,
            5 * 65536 + 300,
            "cluster5's identity from a node of cluster7",
        ),
    ];
    for (from_node, identity, what) in forgeries {
        let forged = Forged {
            from_node,
            to_node: target,
            identity,
            from,
            to,
        };
        intruder.send(&forged, what.as_bytes()).expect("sent");
        let mut buffer = [0; 100];
        let got = catcher.recv(&mut buffer);
        assert!(got.is_err(), "{what} arrived");
    }
    mesh.reach(FROM, TO, Family::V4);
}

#[test]
fn bad_files_in_the_mesh_directory_are_named_and_hurt_nobody() {
    let mesh = Mesh::start("files");
    mesh.reach(FROM, TO, Family::V4);
    let own: Vec<(String, String)> = ["cluster5", "cluster7"]
        .map(|name| {
            (
                name.to_owned(),
                fs::read_to_string(mesh.lab.mesh.path().join(name)).expect("readable"),
            )
        })
        .into();
    let with = |name: &str, text: &str| {
        let mut files = own.clone();
        files.push((name.to_owned(), text.to_owned()));
        mesh.lab
            .mesh
            .update(
                files
                    .iter()
                    .map(|(name, text)| (name.as_str(), text.as_str())),
            )
            .expect("swapped");
    };
    with("cluster8", "endpoints: [https://172.31.8.100:2379\n");
    mesh.status_says("cluster7", 1, "cluster8", SPREAD);
    with("cluster9", "endpoints:\n- consul://172.31.9.100:8500\n");
    mesh.status_says("cluster7", 1, "cluster9", SPREAD);
    // The same etcd under another name: its cluster-config says another cluster, or the id is taken.
    with("cluster6", &own[0].1);
    mesh.status_says("cluster7", 1, "cluster6", SPREAD);
    for family in Family::BOTH {
        mesh.reach(FROM, TO, family);
    }
    mesh.lab
        .mesh
        .update(
            own.iter()
                .map(|(name, text)| (name.as_str(), text.as_str())),
        )
        .expect("swapped");
    mesh.status_says("cluster7", 1, "1/1 remote clusters ready", SPREAD);
}

#[test]
fn foreign_and_expired_certificates_are_told_apart_from_silence() {
    let mut mesh = Mesh::prepare("certificates", &[]);
    let dir = mesh
        .lab
        .layout()
        .dir("bad-certificates")
        .expect("a directory");
    let etcd = &mesh.lab.cluster("cluster5").etcd;
    let expired = etcd
        .authority()
        .issue(&dir, "expired", Role::ExpiredClient)
        .expect("issued");
    let stranger = Authority::new("stranger").expect("made");
    let foreign = stranger
        .issue(&dir, "foreign", Role::Client)
        .expect("issued");
    let endpoint = etcd.endpoint();
    let volume = Volume::create(mesh.lab.layout().path().join("bad-mesh")).expect("a volume");
    mesh.lab.cluster_mut("cluster7").settings.mesh_dir = Some(volume.path().to_path_buf());
    volume
        .update([("cluster5", expired.client_configuration(&endpoint).as_str())])
        .expect("written");
    let cluster = mesh.lab.cluster_mut("cluster7");
    let settings = cluster.settings.clone();
    cluster.nodes[0].start_agent(&settings).expect("started");
    mesh.status_says("cluster7", 1, "certificate", Duration::from_secs(15));
    volume
        .update([("cluster5", foreign.client_configuration(&endpoint).as_str())])
        .expect("written");
    mesh.status_says("cluster7", 1, "certificate", Duration::from_secs(15));
}

#[test]
fn a_second_agent_and_an_unusable_socket_say_so() {
    let mesh = Mesh::start("second");
    let cluster = mesh.lab.cluster("cluster7");
    let node = &cluster.nodes[0];
    let mut second = node
        .place
        .command(node.program("isthmus"))
        .expect("a command");
    second
        .args(node.agent_arguments(&cluster.settings))
        .env("K8S_NODE_NAME", &node.name);
    let done = finish(second, &[], Duration::from_secs(10)).expect("run");
    assert!(!done.success, "only one agent can run on a node");
    assert!(done.stderr.contains("agent already"), "{}", done.stderr);
    assert_eq!(
        done.stderr.trim().lines().count(),
        1,
        "one helpful line: {}",
        done.stderr
    );
    node.health().expect("the first agent is well");

    let mut stranger = node
        .place
        .command(node.program("cilium"))
        .expect("a command");
    stranger.args(["-H", "/nonexistent.sock", "status"]);
    let done = finish(stranger, &[], Duration::from_secs(5)).expect("run");
    assert!(
        !done.success && done.stderr.trim().lines().count() == 1,
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("/nonexistent.sock"), "{}", done.stderr);
    mesh.reach(FROM, TO, Family::V4);
}

#[test]
fn half_valid_manifests_keep_the_valid_half() {
    let mesh = Mesh::start("manifests");
    let cluster = mesh.lab.cluster("cluster7");
    cluster
        .apply_text(
            "broken.yaml",
            "kind: CiliumNetworkPolicy\nmetadata: [this is no mapping\n",
        )
        .expect("written");
    cluster
        .apply_text("binary.yaml", "\u{0}\u{1}\u{2}")
        .expect("written");
    let unreadable = cluster.settings.manifests.join("directory.yaml");
    fs::create_dir(&unreadable).expect("made");
    fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o000)).expect("set");
    sleep(Duration::from_millis(500));
    let node = &cluster.nodes[0];
    eventually("the file is named in the log", SPREAD, || {
        let log = node.log_tail(100);
        if log.contains("broken.yaml") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .expect("named");
    mesh.reach(FROM, TO, Family::V4);
}
