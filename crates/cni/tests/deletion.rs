// SPDX-License-Identifier: Apache-2.0
//! DEL in namespaces of the test's own, with and without an agent that is not one (needs root).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod lab;

use std::fs;
use std::time::{Duration, Instant};

use api::queue::{Deletion, Queue};
use cni::host_device;
use lab::{Lab, Mood};
use netlink::Socket;

#[test]
fn delete_is_idempotent() {
    let lab = Lab::new();
    assert!(lab.run("ADD").success);
    for _ in 0..2 {
        let output = lab.run("DEL");
        assert!(output.success && output.text.is_empty(), "{}", output.text);
        lab.assert_empty();
    }
    // The namespace is gone before the runtime says DEL.
    assert!(lab.run("ADD").success);
    let gone = lab.without_namespace("DEL");
    assert!(gone.success, "{}", gone.text);
    assert_eq!(
        Socket::open_in(&lab.host)
            .unwrap()
            .link(&host_device("c1", "eth0"))
            .unwrap(),
        None
    );
    assert!(lab.run("ADD").success);
}

#[test]
fn delete_without_agent_is_queued() {
    let lab = Lab::new();
    assert!(lab.run("ADD").success);
    lab.stop_agent();
    let start = Instant::now();
    for _ in 0..2 {
        let output = lab.run("DEL");
        assert!(output.success, "{}", output.text);
    }
    assert!(
        start.elapsed() < Duration::from_secs(6),
        "{:?}",
        start.elapsed()
    );
    lab.assert_no_devices();
    let queue = Queue::lock_for_taking(&lab.run_dir()).unwrap();
    let waiting = queue.list().unwrap();
    assert_eq!(waiting.len(), 1);
    let Some(Deletion::Endpoint(id)) = &waiting[0].1 else {
        panic!("{waiting:?}")
    };
    assert_eq!(id.to_string(), "cni-attachment-id:c1:eth0");
    let log = fs::read_to_string(lab.run_dir().join("cni.log")).unwrap();
    assert!(log.contains("deletion queued as"), "{log}");
}

#[test]
fn delete_at_an_agent_that_starts_is_queued() {
    let lab = Lab::new();
    assert!(lab.run("ADD").success);
    lab.agent.lock().unwrap().mood = Mood::NotReady;
    assert!(lab.run("DEL").success);
    lab.assert_no_devices();
    assert_eq!(
        Queue::lock_for_taking(&lab.run_dir())
            .unwrap()
            .list()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn delete_at_a_slow_agent_is_queued_in_time() {
    let lab = Lab::new();
    assert!(lab.run("ADD").success);
    lab.agent.lock().unwrap().mood = Mood::Slow;
    let start = Instant::now();
    assert!(lab.run("DEL").success);
    assert!(
        start.elapsed() < Duration::from_secs(9),
        "{:?}",
        start.elapsed()
    );
    lab.assert_no_devices();
    assert_eq!(Queue::take_waiting(&lab.run_dir()).unwrap().len(), 1);
}
