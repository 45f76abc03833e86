// SPDX-License-Identifier: Apache-2.0
//! Clusters that change: ids that are swapped, files of the directory that turn into something else.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use clustermesh::State;
use common::{Lab, Peer, cluster, net};
use kvstore::schema::{encode_identity, encode_node, keys};
use model::ClusterId;

/// Makes `peer` what `other` is, all but the name.
async fn become_like(peer: &Peer, other: &Peer) {
    peer.config(other.id).await;
    peer.delete(&keys::identity(peer.identity(1))).await;
    peer.delete_ip(&peer.pod(1, 5, 1)).await;
    let mut node = other.node(1);
    node.name = peer.node(1).name;
    let key = keys::node(peer.name.as_str(), "node1");
    peer.put(&key, encode_node(&node)).await;
    let labels = encode_identity(&peer.labels("app1"));
    peer.put(&keys::identity(other.identity(1)), labels).await;
    peer.put_ip(&other.pod(1, 5, 1)).await;
}

fn assert_swapped(lab: &Lab) {
    for (name, id, pod) in [("cluster7", 9, "10.9.1.5"), ("cluster9", 7, "10.7.1.5")] {
        let status = lab.status(name);
        assert_eq!(status.state, State::Ready, "{}", lab.words(name));
        assert_eq!(status.config.unwrap().id, ClusterId(id));
        assert!(
            lab.agent.ips.contains_key(&(cluster(name), net(pod))),
            "{:?}",
            lab.agent.nets()
        );
    }
    assert_eq!(lab.agent.ips.len(), 2);
}

/// Two remote clusters with rows, and an agent that has just begun.
async fn two() -> (Arc<Peer>, Arc<Peer>, Lab) {
    let (a, b) = (Peer::new("cluster7", 7), Peer::new("cluster9", 9));
    a.populate().await;
    b.populate().await;
    let mut lab = Lab::new(&[&a, &b]);
    lab.start();
    (a, b, lab)
}

#[tokio::test(start_paused = true)]
async fn two_clusters_swap_their_ids() {
    let (a, b, mut lab) = two().await;
    lab.seconds(2).await;
    become_like(&a, &b).await;
    lab.seconds(2).await;
    assert_eq!(
        lab.words("cluster7").lines().next().unwrap(),
        "refused: cluster id 9 is in use by remote cluster cluster9: every cluster of a mesh needs its own"
    );
    become_like(&b, &a).await;
    lab.seconds(8).await;
    assert_swapped(&lab);
}

#[tokio::test(start_paused = true)]
async fn ids_are_swapped_while_no_agent_runs() {
    let (a, b, mut lab) = two().await;
    lab.seconds(10).await;
    lab.stop().await;
    become_like(&a, &b).await;
    become_like(&b, &a).await;
    lab.start();
    lab.seconds(10).await;
    assert_swapped(&lab);
}

/// The rows on disk are of the id before: nobody else could have that id after a restart.
#[tokio::test(start_paused = true)]
async fn rows_of_an_id_that_was_left_do_not_come_back() {
    let (a, _, mut lab) = two().await;
    lab.seconds(10).await;
    let file = lab.dir.path().join("state/mesh/cluster7.rows");
    assert!(file.exists(), "saved while running");
    a.config(9).await;
    lab.seconds(10).await;
    assert!(!file.exists(), "it is not of cluster7 any more");
    assert_eq!(lab.agent.nets().len(), 1, "{:?}", lab.agent.nets());
    lab.stop().await;
    assert!(!file.exists(), "it is not of cluster7 any more");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_turns_into_something_else_is_not_removed() {
    let peer = Peer::new("cluster7", 7);
    peer.populate().await;
    let mut lab = Lab::new(&[&peer]);
    lab.start();
    lab.seconds(2).await;
    let path = lab.config_dir().join("cluster7");
    let good = std::fs::read(&path).unwrap();
    let is_kept = async |lab: &mut Lab, what: &str| {
        lab.seconds(6).await;
        let status = lab.status("cluster7");
        assert_eq!(
            (status.state, status.endpoints),
            (State::Ready, 1),
            "{what}"
        );
        let words = "\"cluster7\" is no configuration file any more: it is binary, a certificate, or no file at all; \
                     the last good configuration stays in force";
        assert_eq!(status.reason, words, "{what}");
    };
    std::fs::write(&path, [0xff, 0xfe, 0x65, 0, 0x6e, 0]).unwrap();
    is_kept(&mut lab, "UTF-16").await;
    std::fs::write(&path, "-----BEGIN CERTIFICATE-----\n").unwrap();
    is_kept(&mut lab, "a certificate").await;
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    is_kept(&mut lab, "a directory").await;
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, good).unwrap();
    lab.seconds(6).await;
    assert_eq!(lab.words("cluster7"), "ready: ");
}

/// The files may be links into a volume that goes and comes.
#[tokio::test(start_paused = true)]
async fn a_link_that_leads_nowhere_is_not_removed() {
    let peer = Peer::new("cluster7", 7);
    peer.populate().await;
    let mut lab = Lab::new(&[&peer]);
    let elsewhere = tempfile::tempdir().unwrap();
    let (path, target) = (
        lab.config_dir().join("cluster7"),
        elsewhere.path().join("f"),
    );
    std::fs::rename(&path, &target).unwrap();
    std::os::unix::fs::symlink(&target, &path).unwrap();
    lab.start();
    lab.seconds(6).await;
    assert_eq!(lab.words("cluster7"), "ready: ");
    let away = elsewhere.path().join("away");
    std::fs::rename(&target, &away).unwrap();
    // Nothing in the directory itself changes: it is noticed with the next look.
    std::fs::write(lab.config_dir().join(".look"), "").unwrap();
    lab.seconds(60).await;
    let status = lab.status("cluster7");
    assert_eq!((status.state, status.endpoints), (State::Ready, 1));
    let says = status
        .reason
        .starts_with("cannot read the configuration file");
    assert!(says, "{}", status.reason);
    std::fs::rename(&away, &target).unwrap();
    lab.seconds(60).await;
    assert_eq!(lab.words("cluster7"), "ready: ");
    std::fs::remove_file(&path).unwrap();
    lab.seconds(60).await;
    let mesh = lab.mesh.as_ref().unwrap();
    assert!(mesh.status().is_empty(), "removed");
}

/// Whoever restarts an agent with a damaged file keeps the cluster's last rows, as whoever damages it while the agent runs.
#[tokio::test(start_paused = true)]
async fn a_file_that_was_damaged_while_no_agent_ran_keeps_the_rows() {
    let peer = Peer::new("cluster7", 7);
    peer.populate().await;
    let mut lab = Lab::new(&[&peer]);
    lab.start();
    lab.seconds(2).await;
    let path = lab.config_dir().join("cluster7");
    let good = std::fs::read(&path).unwrap();
    for bad in [&b"endpoints: [not a url"[..], &[0xff, 0xfe, 0x65, 0]] {
        lab.stop().await;
        std::fs::write(&path, bad).unwrap();
        lab.start();
        lab.seconds(6).await;
        let status = lab.status("cluster7");
        assert_eq!(status.state, State::Stale);
        assert!(
            status.reason.starts_with("configuration file")
                || status.reason.contains("no configuration file"),
            "{}",
            status.reason
        );
        assert_eq!(
            (status.nodes, status.endpoints, status.identities),
            (1, 1, 1)
        );
        let stays = "; the last good state stays in force";
        assert!(status.reason.ends_with(stays), "{}", status.reason);
    }
    std::fs::write(&path, good).unwrap();
    lab.seconds(6).await;
    assert_eq!(lab.words("cluster7"), "ready: ");
    // Removed while no agent runs, it is gone.
    lab.stop().await;
    std::fs::remove_file(&path).unwrap();
    lab.start();
    lab.seconds(6).await;
    assert!(
        lab.mesh
            .as_ref()
            .is_some_and(|mesh| mesh.status().is_empty())
    );
}

#[tokio::test(start_paused = true)]
async fn a_crowded_directory_ends_no_cluster() {
    let peer = Peer::new("cluster7", 7);
    peer.populate().await;
    let mut lab = Lab::new(&[&peer]);
    lab.start();
    lab.seconds(2).await;
    for n in 0..5000 {
        std::fs::write(lab.config_dir().join(format!("{n}.crt")), "").unwrap();
    }
    lab.seconds(6).await;
    assert_eq!(lab.words("cluster7"), "ready: ");
}
