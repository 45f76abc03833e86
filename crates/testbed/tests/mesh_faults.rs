// SPDX-License-Identifier: Apache-2.0
//! Agents and etcds die and come back; traffic goes on, and what is applied meanwhile is enforced.

mod common;

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use common::{ANSWER, Mesh, manifests};
use testbed::client::{Connection, Stream};
use testbed::manifest::PodManifest;
use testbed::serve::ECHO_PORT;
use testbed::{Family, eventually};

const FROM: &str = "cluster5/frontend-1";
const TO: &str = "cluster7/backend-1";

/// Runs `fault` under 200 datagrams a second in each family and an open connection; nothing may be lost.
fn lossless(mesh: &mut Mesh, what: &str, fault: impl FnOnce(&mut Mesh)) {
    let place = mesh.lab.pod(FROM).expect("a pod").place.clone();
    let to = mesh.lab.pod(TO).expect("a pod");
    let echo = |family| SocketAddr::new(to.address(family).expect("an address"), ECHO_PORT);
    let streams = Family::BOTH.map(|family| Stream::start(&place, echo(family)).expect("a stream"));
    let mut connection = Connection::open(&place, echo(Family::V4)).expect("connected");
    sleep(Duration::from_millis(200));
    fault(mesh);
    sleep(Duration::from_millis(300));
    connection.echo().expect("the connection lives");
    for (family, stream) in Family::BOTH.into_iter().zip(streams) {
        let loss = stream.finish().expect("counted");
        assert_eq!(loss.lost(), 0, "{what}: {family}: {loss}");
    }
}

#[test]
fn agents_are_killed_and_restarted_without_loss() {
    let mut mesh = Mesh::start("kill");
    mesh.reach(FROM, TO, Family::V4);
    for round in 0..3 {
        for cluster in ["cluster7", "cluster5"] {
            lossless(&mut mesh, &format!("round {round}, {cluster}"), |mesh| {
                mesh.lab.cluster_mut(cluster).nodes[0].kill_agent();
                mesh.lab
                    .cluster_mut(cluster)
                    .start_agent(1)
                    .expect("ready again");
            });
        }
    }
    lossless(&mut mesh, "SIGTERM", |mesh| {
        assert!(
            mesh.lab.cluster_mut("cluster7").nodes[0].stop_agent(),
            "it ends by itself"
        );
        mesh.lab
            .cluster_mut("cluster7")
            .start_agent(1)
            .expect("ready again");
    });
    for family in Family::BOTH {
        mesh.reach(FROM, TO, family);
        mesh.reach(TO, FROM, family);
    }
}

#[test]
fn an_agent_that_is_away_for_longer_than_its_lease_cuts_no_pod() {
    let mut mesh = Mesh::start("orphans");
    let (near, far) = ("cluster5/reports-2", TO);
    mesh.reach(far, FROM, Family::V4);
    let key = "cilium/state/nodes/v1/cluster5/node1";
    lossless(&mut mesh, "the lease ends", |mesh| {
        mesh.lab.cluster_mut("cluster5").nodes[0].kill_agent();
        let etcd = &mesh.lab.cluster("cluster5").etcd;
        let row = etcd.etcdctl(&["get", key, "-w", "json"]).expect("read");
        let row: serde_json::Value = serde_json::from_str(&row).expect("JSON");
        let lease = row["kvs"][0]["lease"].as_i64().expect("a lease");
        etcd.etcdctl(&["lease", "revoke", &format!("{lease:x}")])
            .expect("revoked");
        assert_eq!(etcd.etcdctl(&["get", key]).expect("read").trim(), "");
        mesh.status_says("cluster7", 1, "orphaned rows", Duration::from_secs(5));
        mesh.status_says("cluster5", 2, "agents are away", Duration::from_secs(5));
    });
    for family in Family::BOTH {
        mesh.reach(FROM, far, family);
        mesh.reach(far, FROM, family);
        mesh.reach(near, FROM, family);
    }
    mesh.lab
        .cluster_mut("cluster5")
        .start_agent(1)
        .expect("ready again");
    let orphaned = || {
        let text = mesh.lab.cluster("cluster7").nodes[0].cli(&["status", "--all-clusters"])?;
        match text.contains("orphaned rows") {
            true => Err(testbed::LabError::Unmet(text)),
            false => Ok(()),
        }
    };
    eventually("no orphans are left", Duration::from_secs(10), orphaned).expect("none");
    mesh.reach(far, FROM, Family::V4);
}

#[test]
fn a_dead_remote_etcd_hurts_nobody_and_is_named() {
    let mut mesh = Mesh::start("etcd-loss");
    mesh.reach(FROM, TO, Family::V4);
    lossless(&mut mesh, "etcd killed", |mesh| {
        mesh.lab.cluster_mut("cluster5").etcd.kill()
    });
    mesh.status_says(
        "cluster7",
        1,
        "0/1 remote clusters ready",
        Duration::from_secs(3),
    );

    lossless(
        &mut mesh,
        "restart while the remote's etcd is dead",
        |mesh| {
            mesh.lab.cluster_mut("cluster7").nodes[0].kill_agent();
            mesh.lab
                .cluster_mut("cluster7")
                .start_agent(1)
                .expect("ready from the last good state");
        },
    );
    a_policy_naming_the_dead_cluster_is_enforced(&mesh);

    let cluster = mesh.lab.cluster_mut("cluster5");
    cluster.etcd.start().expect("started");
    cluster.etcd.wait_until_healthy().expect("healthy");
    mesh.status_says(
        "cluster7",
        1,
        "1/1 remote clusters ready",
        Duration::from_secs(30),
    );
    let manifest = PodManifest {
        namespace: "default".to_owned(),
        name: "late-1".to_owned(),
        node: "node2".to_owned(),
        ports: vec![80],
    };
    mesh.lab
        .cluster_mut("cluster5")
        .run_pod(&manifest, &[("app", "late")])
        .expect("a new pod");
    for family in Family::BOTH {
        mesh.reach("cluster7/backend-1", "cluster5/late-1", family);
    }
}

fn a_policy_naming_the_dead_cluster_is_enforced(mesh: &Mesh) {
    let file = "backend-from-cluster5-frontend.yaml";
    mesh.lab
        .cluster("cluster7")
        .apply(&manifests().join("policy").join(file))
        .expect("applied");
    mesh.becomes_refused("cluster5/reports-1", TO);
    for family in Family::BOTH {
        mesh.reach(FROM, TO, family);
        mesh.assert_refused("cluster5/reports-2", TO, family);
    }
    mesh.lab
        .cluster("cluster7")
        .withdraw(file)
        .expect("withdrawn");
    mesh.reach("cluster5/reports-1", TO, Family::V4);
}

#[test]
fn a_silent_remote_etcd_is_noticed() {
    let mesh = Mesh::start("silence");
    let etcd = &mesh.lab.cluster("cluster5").etcd;
    etcd.drop_packets(true).expect("dropped");
    mesh.status_says(
        "cluster7",
        1,
        "0/1 remote clusters ready",
        Duration::from_secs(12),
    );
    etcd.drop_packets(false).expect("passed");
    mesh.status_says(
        "cluster7",
        1,
        "1/1 remote clusters ready",
        Duration::from_secs(60),
    );

    etcd.freeze(true).expect("frozen");
    mesh.status_says(
        "cluster7",
        1,
        "0/1 remote clusters ready",
        Duration::from_secs(30),
    );
    mesh.reach(FROM, TO, Family::V4);
    etcd.freeze(false).expect("continued");
    mesh.status_says(
        "cluster7",
        1,
        "1/1 remote clusters ready",
        Duration::from_secs(60),
    );
}

#[test]
fn a_node_that_is_cut_off_comes_back() {
    let mesh = Mesh::start("cut-off");
    mesh.reach(FROM, TO, Family::V4);
    let port = mesh.lab.cluster("cluster7").nodes[0].port.clone();
    mesh.lab
        .underlay
        .cut(&port, testbed::Wire::Cut)
        .expect("cut");
    mesh.becomes_refused(FROM, TO);
    mesh.lab
        .underlay
        .cut(&port, testbed::Wire::Whole)
        .expect("whole");
    eventually("it is reached again", Duration::from_secs(20), || {
        mesh.request(FROM, TO, Family::V6, ANSWER)
    })
    .expect("reached");
}
