// SPDX-License-Identifier: Apache-2.0
//! The directory of saved rows where nothing can be written, or where a kill left something unfinished, in virtual time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Lab, Peer};

#[tokio::test(start_paused = true)]
async fn rows_that_cannot_be_saved_leave_nothing_behind_and_are_saved_when_they_can() {
    let peer = Peer::new("cluster7", 7);
    peer.populate().await;
    let mut lab = Lab::new(&[&peer]);
    let file = lab.dir.path().join("state/mesh/cluster7.rows");
    std::fs::create_dir_all(file.join("in the way")).unwrap();
    lab.start();
    lab.seconds(10).await;
    let told = lab.status("cluster7").disk_error;
    assert!(told.contains("cluster7.rows"), "{told}");
    assert!(!file.with_added_extension("new").exists());
    std::fs::remove_dir_all(&file).unwrap();
    lab.seconds(10).await;
    assert_eq!(lab.status("cluster7").disk_error, "");
    assert!(file.is_file());
}

#[tokio::test(start_paused = true)]
async fn what_a_kill_left_of_a_cluster_that_was_removed_goes() {
    let peer = Peer::new("cluster7", 7);
    let mut lab = Lab::new(&[&peer]);
    let file = lab.dir.path().join("state/mesh/cluster8.rows.new");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "half of it").unwrap();
    lab.start();
    lab.seconds(1).await;
    assert!(!file.exists());
}
