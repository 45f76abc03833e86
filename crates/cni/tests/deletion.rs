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

/// A path may name the namespace of another container by the time a runtime comes around to a DEL.
#[test]
fn another_containers_interface_stays() {
    let lab = Lab::new();
    assert!(lab.run("ADD").success);
    let output = lab.run_as("c0", "DEL");
    assert!(output.success, "{}", output.text);
    let output = lab.run_as("c2", "ADD");
    let told = "an interface eth0 already, of another plugin or container";
    assert!(
        !output.success && output.text.contains(told),
        "{}",
        output.text
    );
    let pod = Socket::open_in(&lab.pod).unwrap();
    assert!(pod.link("eth0").unwrap().is_some());
    assert_eq!(lab.agent.lock().unwrap().endpoints.len(), 1);
    assert!(lab.run("DEL").success);
    lab.assert_empty();
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

#[test]
fn what_nobody_has_is_collected() {
    const VALID: &str = r#","cni.dev/valid-attachments""#;
    let lab = Lab::new();
    assert!(lab.run("ADD").success);
    let host = Socket::open_in(&lab.host).unwrap();
    // One that the agent never heard of, and one of others.
    let (lost, other) = (host_device("c0", "eth0"), "lxcbr0");
    for name in [lost.as_str(), other] {
        host.add_bridge(name).unwrap();
    }
    let living = format!(r#"{VALID}:[{{"containerID":"c1","ifname":"eth0"}}]"#);
    let output = lab.run_with("GC", &living);
    assert!(output.success && output.text.is_empty(), "{}", output.text);
    assert_eq!(host.link(&lost).unwrap(), None);
    assert!(host.link(other).unwrap().is_some());
    assert!(host.link(&host_device("c1", "eth0")).unwrap().is_some());
    assert_eq!(lab.agent.lock().unwrap().endpoints.len(), 1);
    // Of another interface alone, of nothing at all: it goes, and once more there is nothing to do.
    for valid in [r#"[{"containerID":"c1","ifname":"eth1"}]"#, "null", "[]"] {
        let output = lab.run_with("GC", &format!("{VALID}:{valid}"));
        assert!(output.success, "{}", output.text);
        lab.assert_empty();
    }
    // Without the agent its endpoints are not known; what is lost here goes all the same, and the runtime is told.
    assert!(lab.run("ADD").success);
    lab.stop_agent();
    let output = lab.run_with("GC", &format!(r#"{VALID}:[],"connect-timeout":0"#));
    assert!(output.text.contains(r#""code":11"#), "{}", output.text);
    lab.assert_no_devices();
}
