// SPDX-License-Identifier: Apache-2.0
//! A network that drops everything is noticed within 10 s. Needs root: it runs in a network namespace of its own, which ends
//! with its thread.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::pin::pin;
use std::process::Command;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kvstore::{Update, reflect};
use nix::sched::{CloneFlags, unshare};
use support::Server;
use tables::Event;
use tokio::time::timeout;

fn run(program: &str, arguments: &str) {
    let status = Command::new(program)
        .args(arguments.split(' '))
        .status()
        .unwrap();
    assert!(status.success(), "{program} {arguments}");
}

async fn dropped() {
    let server = Server::start().await;
    let etcd = server.client().await;
    let mut updates = pin!(reflect(etcd, "r/"));
    loop {
        let update = timeout(Duration::from_secs(10), updates.next())
            .await
            .unwrap();
        if update == Some(Update::Event(Event::InitDone)) {
            break;
        }
    }
    assert!(
        timeout(Duration::from_millis(300), updates.next())
            .await
            .is_err()
    );
    run("nft", "add table inet silence");
    let silent = Instant::now();
    run(
        "nft",
        "add chain inet silence in { type filter hook input priority 0 ; policy drop ; }",
    );
    let update = timeout(Duration::from_secs(15), updates.next()).await;
    assert!(matches!(update, Ok(Some(Update::Failed(_)))), "{update:?}");
    assert!(
        silent.elapsed() < Duration::from_secs(10),
        "{:?}",
        silent.elapsed()
    );
}

#[test]
fn dropped_packets_are_noticed() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        run("ip", "link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(dropped());
    });
    thread.join().unwrap();
}
