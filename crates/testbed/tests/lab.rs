// SPDX-License-Identifier: Apache-2.0
//! The lab itself, without the product: wires, etcd, faults, and that nothing is left behind.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use testbed::client::{Connection, Stream, curl};
use testbed::underlay::{WORLD_V4, WORLD_V6, url};
use testbed::{ClusterSpec, Keep, Lab, Layout, Programs, Wire, eventually, teardown};

/// These labs run no agent: any program will do.
fn programs() -> Programs {
    Programs {
        isthmus: "/bin/true".into(),
        other_layout: None,
        lab: env!("CARGO_BIN_EXE_lab").into(),
    }
}

fn name(test: &str) -> String {
    format!("{test}-{}", std::process::id())
}

fn is_gone(layout: &Layout) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("readable");
    !layout.path().exists() && !mounts.contains(&format!("{}/", layout.path().display()))
}

#[test]
fn nodes_reach_each_other_their_etcd_and_the_world() {
    let mut lab = Lab::create(&name("wires"), &programs(), Keep::No).expect("a lab");
    for id in [5, 7] {
        lab.add_cluster(&ClusterSpec::numbered(id, 1))
            .expect("a cluster");
    }
    lab.connect_all().expect("connected");
    let node = &lab.cluster("cluster5").nodes[0];
    let limit = Duration::from_secs(2);
    for (world, own) in [
        (IpAddr::V4(WORLD_V4), IpAddr::V4(node.ipv4)),
        (WORLD_V6.into(), node.ipv6.into()),
    ] {
        let answer = eventually("the world answers", limit, || {
            curl(&node.place, &url(world, 80), limit)
        });
        let answer = answer.expect("an answer");
        assert_eq!((answer.server.as_str(), answer.client), ("world", own));
    }
    let mesh = fs::read_to_string(lab.mesh.path().join("cluster7")).expect("a configuration file");
    assert!(
        mesh.starts_with("endpoints:\n- https://172.31.7.100:2379\n"),
        "{mesh}"
    );

    let health = format!("{}/health", lab.cluster("cluster7").etcd.endpoint());
    let anonymous = node
        .place
        .run("curl", &["-sSk", "--max-time", "2", &health]);
    anonymous.expect_err("etcd wants a client certificate");
    let foreign = lab.layout().path().join("cluster5/pki/admin.crt");
    let key = foreign.with_extension("key");
    let (foreign, key) = (foreign.display().to_string(), key.display().to_string());
    let stranger = [
        "-sSk",
        "--max-time",
        "2",
        "--cert",
        &foreign,
        "--key",
        &key,
        &health,
    ];
    node.place
        .run("curl", &stranger)
        .expect_err("a certificate of another cluster's authority");
}

#[test]
fn etcd_can_be_killed_frozen_and_cut_off() {
    let mut lab = Lab::create(&name("etcd"), &programs(), Keep::No).expect("a lab");
    let cluster = lab
        .add_cluster(&ClusterSpec::numbered(5, 1))
        .expect("a cluster");
    let etcd = &mut cluster.etcd;
    etcd.etcdctl(&["put", "key", "kept"]).expect("written");
    etcd.kill();
    etcd.etcdctl(&["get", "key"]).expect_err("it is dead");
    etcd.start().expect("started");
    etcd.wait_until_healthy().expect("healthy");
    assert!(
        etcd.etcdctl(&["get", "key"])
            .expect("read")
            .contains("kept")
    );

    let node = cluster.nodes[0].place.clone();
    let connect = || {
        let target: SocketAddr = "172.31.5.100:2379".parse().expect("an address");
        let limit = Duration::from_millis(500);
        node.within(|| std::net::TcpStream::connect_timeout(&target, limit))
            .expect("a namespace")
            .map(drop)
    };
    connect().expect("a connection");
    cluster.etcd.drop_packets(true).expect("dropped");
    connect().expect_err("packets are dropped");
    cluster.etcd.drop_packets(false).expect("passed");
    connect().expect("packets pass again");

    cluster.etcd.freeze(true).expect("frozen");
    connect().expect("the kernel still accepts");
    cluster
        .etcd
        .etcdctl(&["get", "key"])
        .expect_err("nobody answers");
    cluster.etcd.freeze(false).expect("continued");
    cluster.etcd.wait_until_healthy().expect("healthy");
}

#[test]
fn a_stream_counts_what_a_cut_wire_loses() {
    let mut lab = Lab::create(&name("cut"), &programs(), Keep::No).expect("a lab");
    lab.add_cluster(&ClusterSpec::numbered(5, 1))
        .expect("a cluster");
    let node = &lab.cluster("cluster5").nodes[0];
    let target = SocketAddr::new(WORLD_V4.into(), testbed::serve::ECHO_PORT);
    let limit = Duration::from_secs(2);
    let mut connection = eventually("connected", limit, || Connection::open(&node.place, target))
        .expect("connected");

    let whole = Stream::start(&node.place, target).expect("started");
    sleep(Duration::from_millis(300));
    let whole = whole.finish().expect("counted");
    assert_eq!(whole.lost(), 0, "{whole}");
    assert!(whole.sent > 40, "{whole}");

    let cut = Stream::start(&node.place, target).expect("started");
    sleep(Duration::from_millis(200));
    lab.underlay.cut(&node.port, Wire::Cut).expect("cut");
    sleep(Duration::from_millis(200));
    lab.underlay.cut(&node.port, Wire::Whole).expect("whole");
    sleep(Duration::from_millis(200));
    let cut = cut.finish().expect("counted");
    assert!((20..80).contains(&cut.lost()), "{cut}");
    connection.echo().expect("the connection outlives a cut");

    let second = lab
        .underlay
        .second_interface(&node.place, &node.port, 5, 1)
        .expect("a second interface");
    let devices = node
        .place
        .run("ip", &["-br", "address", "show", "dev", "eth1"])
        .expect("listed");
    assert!(devices.contains(&second.to_string()), "{devices}");
}

/// Runs `lab up`, kills it with SIGKILL after `delay`, and returns the lab's directory.
fn killed_lab(name: &str, delay: Duration) -> Layout {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["up", "--no-agents", "--lab", name])
        .env("ISTHMUS_BIN", "/bin/true")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    sleep(delay);
    child.kill().expect("killed");
    child.wait().expect("reaped");
    Layout::named(name)
}

#[test]
fn nothing_is_left_of_a_lab_that_was_killed_at_any_time() {
    for delay in [20, 60, 150, 400, 3000] {
        let layout = killed_lab(&name("killed"), Duration::from_millis(delay));
        let problems = teardown::down(&layout);
        assert_eq!(problems, Vec::<String>::new(), "killed after {delay} ms");
        assert!(is_gone(&layout), "killed after {delay} ms");
        let left = processes_naming(layout.path());
        assert_eq!(left, Vec::<String>::new(), "killed after {delay} ms");
    }
}

fn processes_naming(path: &Path) -> Vec<String> {
    let path = path.display().to_string();
    let entries = fs::read_dir("/proc").expect("readable").flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(&path)).collect()
}

#[test]
fn a_dropped_lab_is_gone() {
    let mut lab = Lab::create(&name("dropped"), &programs(), Keep::No).expect("a lab");
    lab.add_cluster(&ClusterSpec::numbered(9, 2))
        .expect("a cluster");
    let layout = lab.layout().clone();
    drop(lab);
    assert!(is_gone(&layout));
}
