// SPDX-License-Identifier: Apache-2.0
//! The directory of remote clusters where it cannot be read or followed as usual, in virtual time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use clustermesh::State;
use common::{Lab, Peer, cluster};

#[tokio::test(start_paused = true)]
async fn a_directory_that_holds_too_much_ends_no_cluster_and_is_told() {
    let peer = Peer::new("cluster7", 7);
    peer.populate().await;
    let mut lab = Lab::new(&[&peer]);
    lab.start();
    lab.seconds(1).await;
    let unread = |lab: &Lab| lab.mesh.as_ref().unwrap().unread();
    assert_eq!(unread(&lab), None);
    let extra = |n: usize| format!("cluster-x{n}");
    (0..4096).for_each(|n| lab.file(&extra(n), Some("")));
    lab.seconds(6).await;
    let (_, told) = unread(&lab).expect("it is told");
    assert!(told.contains("more than 4096 files"), "{told}");
    assert_eq!(lab.state("cluster7"), State::Ready);
    (0..4096).for_each(|n| lab.file(&extra(n), None));
    lab.seconds(6).await;
    assert_eq!(unread(&lab), None);
    assert_eq!(lab.state("cluster7"), State::Ready);
}

/// As where other programs have taken all watches that the kernel gives.
#[tokio::test(start_paused = true)]
async fn without_notices_the_directory_is_read_now_and_then() {
    let peer = Peer::new("cluster7", 7);
    peer.populate().await;
    let mut lab = Lab::new(&[&peer]);
    lab.start();
    lab.without_notices();
    lab.seconds(1).await;
    lab.file("cluster7", None);
    lab.seconds(6).await;
    assert_eq!(lab.agent.removed, [cluster("cluster7")]);
}
