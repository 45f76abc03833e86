// SPDX-License-Identifier: Apache-2.0
//! A remote cluster that was well and then sends or becomes nonsense: its last good rows stay, its status says why.

mod hostile_common;

use std::net::{Ipv4Addr, TcpListener};

use hostile_common::{Host, REMOTE};
use testbed::eventually;

/// One more address of cluster5.
const FAR: &str =
    r#"{"IP":"10.5.1.10","Mask":null,"HostIP":"172.31.5.1","ID":328000,"Key":0,"Metadata":""}"#;

/// The rows of before, in the agent and in the kernel.
fn assert_rows(host: &Host) {
    host.says(&["ip", "list"], &["10.5.1.9/32"]);
    host.says(&["bpf", "ipcache", "list"], &["10.5.1.9/32", "172.31.5.1"]);
    host.says(&["node", "list"], &["cluster5/node1"]);
    host.assert_traffic();
    host.assert_alive();
}

#[test]
fn a_file_that_becomes_useless_keeps_what_it_brought() {
    let host = Host::meshed("useless");
    assert_rows(&host);
    let certificates = host.lab.layout().dir("again").expect("a directory");
    let etcd = &host.lab.cluster(REMOTE).etcd;
    let good = etcd
        .client_configuration(&certificates, "again")
        .expect("written");
    // Accepts connections in its backlog and never says a word.
    let silent = etcd
        .place()
        .within(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 2999)))
        .expect("a namespace")
        .expect("a socket");
    let line = |name: &str| {
        let found = good
            .lines()
            .find(|line| line.trim_start().starts_with(name));
        found.expect("a field").to_owned()
    };
    let without = |name: &str| good.replace(&line(name), "");
    let cases = [
        ("endpoints: [".to_owned(), "YAML"),
        ("{}\n".to_owned(), "no endpoints"),
        ("endpoints: [consul://10.0.0.1:8500]\n".to_owned(), "Consul"),
        (
            good.replace(&line("cert-file"), "cert-file: /nonexistent.crt"),
            "/nonexistent.crt",
        ),
        (
            good.replace(&line("trusted-ca-file"), "trusted-ca-file: /nonexistent.ca"),
            "/nonexistent.ca",
        ),
        (
            without("cert-file").replace(&line("key-file"), ""),
            "certificate",
        ),
        (good.replace(":2379", ":2999"), "did not answer"),
    ];
    for (text, word) in cases {
        let update = host.lab.mesh.update([(REMOTE, text.as_str())]);
        update.expect("swapped");
        host.says(&["status", "--all-clusters"], &[REMOTE, word]);
        assert_rows(&host);
    }
    drop(silent);
    host.lab
        .mesh
        .update([(REMOTE, good.as_str())])
        .expect("swapped");
    host.says(
        &["status", "--all-clusters"],
        &["1/1 remote clusters ready"],
    );
    assert_rows(&host);
}

#[test]
fn an_id_that_cannot_be_is_refused_in_words() {
    let host = Host::meshed("ids");
    for (id, words) in [
        (7, "cluster id 7 is the id of this cluster"),
        (0, "cluster id 0 is outside 1..=255"),
        (256, "cluster id 256 is outside 1..=255"),
    ] {
        host.put_config(id);
        host.says(&["status", "--all-clusters"], &[words]);
        host.assert_traffic();
        host.assert_alive();
    }
    host.put("cilium/cluster-config/cluster5", "[");
    host.says(
        &["status", "--all-clusters"],
        &["cilium/cluster-config/cluster5"],
    );
    host.put_config(5);
    host.says(
        &["status", "--all-clusters"],
        &["1/1 remote clusters ready"],
    );
    assert_rows(&host);
}

#[test]
fn names_that_cannot_be_and_a_second_cluster_with_the_same_id() {
    let host = Host::meshed("names");
    let etcd = &host.lab.cluster(REMOTE).etcd;
    let certificates = host.lab.layout().dir("more").expect("a directory");
    let good = etcd
        .client_configuration(&certificates, "more")
        .expect("written");
    let long = "x".repeat(33);
    host.put(
        "cilium/cluster-config/cluster8",
        r#"{"id":5,"capabilities":{}}"#,
    );
    let files = [REMOTE, "cluster7", "cluster8", "Capitals", &long];
    let update = host
        .lab
        .mesh
        .update(files.map(|name| (name, good.as_str())));
    update.expect("swapped");
    let text = host.says(
        &["status", "--all-clusters"],
        &[
            "\"Capitals\" is invalid",
            "33 characters",
            "cluster id 5 is in use by remote cluster cluster5",
        ],
    );
    assert!(
        !text.contains("cluster7: "),
        "the own name is no remote: {text}"
    );
    assert_rows(&host);
    let update = host.lab.mesh.update([(REMOTE, good.as_str())]);
    update.expect("swapped");
    eventually("the others are forgotten", hostile_common::SPREAD, || {
        let text = host.node().cli(&["status", "--all-clusters"])?;
        if text.contains("Capitals") || text.contains("cluster8") {
            Err(testbed::LabError::Unmet(text))
        } else {
            Ok(())
        }
    })
    .expect("forgotten");
    assert_rows(&host);
}

#[test]
fn rows_that_cannot_be_saved_are_a_warning() {
    let host = Host::meshed("unsaved");
    let rows = host.node().dir().join("state/state/mesh/cluster5.rows");
    eventually("the rows are saved", hostile_common::SPREAD, || {
        if rows.is_file() {
            Ok(())
        } else {
            Err(testbed::LabError::Unmet("not yet".into()))
        }
    })
    .expect("saved");
    std::fs::remove_file(&rows).expect("removed");
    std::fs::create_dir_all(rows.join("in the way")).expect("made");
    host.put("cilium/state/ip/v1/default/10.5.1.10", FAR);
    host.becomes_warning("cluster5.rows");
    host.says(&["status"], &["last good rows cannot be written"]);
    std::fs::remove_dir_all(&rows).expect("removed");
    host.becomes_well();
    assert!(rows.is_file());
}
