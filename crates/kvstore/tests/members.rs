// SPDX-License-Identifier: Apache-2.0
//! An etcd of three members, of which the one that a client is connected to becomes useless. Needs root: it runs in a network
//! namespace of its own, which ends with its thread.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use kvstore::{Etcd, Store, Update, reflect};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use support::members::{FIRST_USER, Members};
use tables::Event;
use tokio::time::timeout;

const LONGEST: Duration = Duration::from_secs(40);

fn nft(arguments: &str) {
    let status = Command::new("nft")
        .args(arguments.split(' '))
        .status()
        .unwrap();
    assert!(status.success(), "nft {arguments}");
}

/// Waits for an event of a key, over whatever connection.
async fn seen(updates: &mut (impl Stream<Item = Update> + Unpin), key: &str) {
    let waiting = async {
        loop {
            match updates.next().await.unwrap() {
                Update::Event(Event::Apply(found, _) | Event::InitApply(found, _))
                    if found == key =>
                {
                    return;
                }
                _ => {}
            }
        }
    };
    timeout(LONGEST, waiting).await.expect("the key is seen");
}

async fn written(etcd: &Etcd, key: &str) {
    let start = Instant::now();
    loop {
        match etcd.put(key, "x".into(), None).await {
            Ok(_) => return,
            Err(error) => assert!(start.elapsed() < LONGEST, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The client writes and sees changes again, although its member stays as `fault` makes it.
async fn another_member_is_found(fault: impl FnOnce(&Members)) {
    let members = Members::start();
    let etcd = members.client_of_first().await;
    let mut updates = Box::pin(reflect(etcd.clone(), "r/"));
    written(&etcd, "r/1").await;
    seen(&mut updates, "r/1").await;
    fault(&members);
    let (_, ()) = tokio::join!(written(&etcd, "r/2"), seen(&mut updates, "r/2"));
}

fn isolate_first(members: &Members) {
    nft("add table inet members");
    nft("add chain inet members out { type filter hook output priority 0 ; }");
    let [a, b, c] = members.peers;
    for end in ["dport", "sport"] {
        nft(&format!(
            "add rule inet members out meta skuid {FIRST_USER} tcp {end} {{ {a}, {b}, {c} }} drop"
        ));
    }
}

fn in_a_namespace(test: impl Future<Output = ()> + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status()
            .unwrap();
        assert!(up.success());
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(test);
    });
    thread.join().unwrap();
}

#[test]
fn a_member_that_is_stopped_is_left() {
    in_a_namespace(another_member_is_found(|members| {
        members.signal(0, Signal::SIGSTOP);
    }));
}

#[test]
fn a_member_that_lost_the_others_is_left() {
    in_a_namespace(another_member_is_found(isolate_first));
}

#[test]
fn a_member_without_a_vote_is_left() {
    in_a_namespace(async {
        let mut members = Members::start();
        members.answer().await;
        members.first_becomes_learner();
        let etcd = members.client_of_first().await;
        written(&etcd, "r/1").await;
    });
}
