// SPDX-License-Identifier: Apache-2.0
//! ADD, CHECK, DEL and STATUS in namespaces of the test's own, against an agent that is not one (needs root).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod lab;

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use api::queue::Queue;
use cni::host_device;
use lab::{Lab, Mood};
use netlink::Socket;

#[test]
fn add_makes_what_it_says() {
    let lab = Lab::new();
    let output = lab.run("ADD");
    assert!(output.success, "{}", output.text);
    let host = Socket::open_in(&lab.host).unwrap();
    let pod = Socket::open_in(&lab.pod).unwrap();
    let near = host.link(&host_device("c1", "eth0")).unwrap().unwrap();
    let eth0 = pod.link("eth0").unwrap().unwrap();
    assert!(near.up && near.carrier && eth0.up && eth0.carrier);
    assert_eq!(
        (near.mtu, eth0.mtu, near.parent),
        (1450, 1450, Some(eth0.index))
    );
    assert_eq!(eth0.altnames, ["cilium_cni:eth0"]);
    let addresses = pod.addresses_of(eth0.index).unwrap();
    for wanted in ["10.1.1.10/32", "fd00::10/128"] {
        let found = addresses
            .iter()
            .find(|a| a.net.to_string() == wanted)
            .unwrap();
        assert!(!found.tentative);
    }
    let routes = pod.routes().unwrap();
    for (destination, gateway) in [
        ("10.1.1.1/32", None),
        ("0.0.0.0/0", Some("10.1.1.1")),
        ("fd00::1/128", None),
        ("::/0", Some("fd00::1")),
    ] {
        let gateway = gateway.map(|g| g.parse().unwrap());
        let found = routes.iter().find(|r| {
            r.destination.to_string() == destination
                && r.gateway == gateway
                && r.link == Some(eth0.index)
        });
        assert!(found.is_some(), "{destination} {gateway:?}");
    }
    let agent = lab.agent.lock().unwrap();
    let change = &agent.endpoints["c1:eth0"];
    assert_eq!(change.interface_index, i64::from(near.index));
    assert_eq!(change.mac, eth0.mac.unwrap().to_string());
    assert_eq!(change.host_mac, near.mac.unwrap().to_string());
    assert_eq!(change.netns_cookie, lab.pod.cookie().unwrap().to_string());
    assert_eq!(
        (change.k8s_namespace.as_str(), change.k8s_pod_name.as_str()),
        ("default", "web-0")
    );
    assert!(change.sync_build_endpoint);
    assert_eq!(agent.owners, ["default/web-0"]);
    let (mac, near_mac) = (&change.mac, &change.host_mac);
    assert!(
        output.text.contains(mac) && output.text.contains(near_mac),
        "{}",
        output.text
    );
}

#[test]
fn check_sees_what_was_changed() {
    let lab = Lab::new();
    let result = lab.run("ADD").text;
    let check = |lab: &Lab| lab.run_with("CHECK", &format!(r#","prevResult":{result}"#));
    let output = check(&lab);
    assert!(output.success && output.text.is_empty(), "{}", output.text);

    lab.agent.lock().unwrap().health = "Failure".into();
    let unhealthy = check(&lab).text;
    assert!(unhealthy.contains(r#""code":101,"#), "{unhealthy}");
    assert!(
        unhealthy.contains("program from_pod is not on device"),
        "{unhealthy}"
    );
    lab.agent.lock().unwrap().health = "OK".into();

    let pod = Socket::open_in(&lab.pod).unwrap();
    let host = Socket::open_in(&lab.host).unwrap();
    let near = host_device("c1", "eth0");
    pod.set_mtu("eth0", 1400).unwrap();
    let told = "device eth0 has the MTU 1400, not 1450";
    assert!(check(&lab).text.contains(told), "{}", check(&lab).text);
    pod.set_mtu("eth0", 1450).unwrap();
    let mac = host.link(&near).unwrap().unwrap().mac.unwrap();
    host.set_mac(&near, "02:00:00:00:00:77".parse().unwrap())
        .unwrap();
    let told = format!("device {near} has the address 02:00:00:00:00:77, not {mac}");
    assert!(check(&lab).text.contains(&told), "{}", check(&lab).text);
    host.set_mac(&near, mac).unwrap();
    assert!(check(&lab).success);
    let link = pod.index_of("eth0").unwrap();
    let routes = pod.routes().unwrap();
    let default = routes
        .iter()
        .find(|r| r.destination.to_string() == "0.0.0.0/0")
        .unwrap();
    pod.delete_route(default).unwrap();
    assert!(check(&lab).text.contains("route 0.0.0.0/0 by eth0 is gone"));
    pod.delete_address(link, "10.1.1.10/32".parse().unwrap())
        .unwrap();
    assert!(
        check(&lab)
            .text
            .contains("address 10.1.1.10/32 of eth0 is gone")
    );
    pod.delete_link("eth0").unwrap();
    assert!(check(&lab).text.contains("of the host is gone"));
    lab.agent.lock().unwrap().endpoints.clear();
    assert!(check(&lab).text.contains(r#""code":100,"#));
}

/// Results before 1.1.0 do not tell the MTU, so a plugin behind this one may change it.
#[test]
fn a_pod_may_have_less_mtu_than_its_node_and_not_more() {
    let lab = Lab::new();
    let result = lab.run("ADD").text.replace(r#","mtu":1450"#, "");
    assert!(!result.contains("1450"), "{result}");
    let check = || lab.run_with("CHECK", &format!(r#","prevResult":{result}"#));
    let pod = Socket::open_in(&lab.pod).unwrap();
    pod.set_mtu("eth0", 1300).unwrap();
    let output = check();
    assert!(output.success, "{}", output.text);
    pod.set_mtu("eth0", 1500).unwrap();
    let near = host_device("c1", "eth0");
    let told = format!("{near} has the MTU 1450, eth0 the MTU 1500");
    assert!(check().text.contains(&told), "{}", check().text);
}

#[test]
fn failed_add_leaves_nothing() {
    let lab = Lab::new();
    let cases = [
        (
            Mood::Exhausted,
            r#""code":100,"msg":"cannot get an address: the agent refused: no free IPv4 address in 10.1.1.0/24 (502)""#,
        ),
        (
            Mood::RefusesEndpoint,
            r#""code":100,"msg":"cannot make the endpoint: the agent refused: identity not allocated within 10 s: etcd is down (500)","details":"status 500 of the agent""#,
        ),
        (
            Mood::BadMac,
            r#""code":100,"msg":"cannot use the agent's answer: `nonsense`"#,
        ),
        (Mood::BadMtu, "deviceMTU 100 cannot be"),
    ];
    for (mood, text) in cases {
        lab.agent.lock().unwrap().mood = mood;
        let output = lab.run("ADD");
        assert!(
            !output.success && output.text.contains(text),
            "{}",
            output.text
        );
        lab.assert_empty();
    }
    lab.agent.lock().unwrap().mood = Mood::Good;
    assert!(lab.run("ADD").success);
}

#[test]
fn failure_in_the_kernel_is_undone() {
    let lab = Lab::new();
    // The pod's namespace cannot have IPv6 addresses on a device with such a small MTU.
    let output = lab.run_with("ADD", r#","mtu":1000"#);
    assert!(
        output.text.contains("IPv6 needs an MTU of 1280"),
        "{}",
        output.text
    );
    lab.assert_empty();
    // Another device has the further name that ours needs.
    let pod = Socket::open_in(&lab.pod).unwrap();
    pod.add_bridge("other").unwrap();
    pod.add_altname("other", "cilium_cni:eth0").unwrap();
    let output = lab.run("ADD");
    assert!(output.text.contains(r#""code":5,"#), "{}", output.text);
    assert!(
        output
            .text
            .contains("add an alternative name to device eth0"),
        "{}",
        output.text
    );
    pod.delete_link("other").unwrap();
    lab.assert_empty();
}

#[test]
fn second_add_keeps_the_first() {
    let lab = Lab::new();
    assert!(lab.run("ADD").success);
    let again = lab.run("ADD");
    assert!(again.text.contains(r#""code":102,"#), "{}", again.text);
    assert!(
        Socket::open_in(&lab.pod)
            .unwrap()
            .link("eth0")
            .unwrap()
            .is_some()
    );
    assert_eq!(lab.agent.lock().unwrap().endpoints.len(), 1);
    // Devices of an ADD that was killed before the agent knew are no obstacle.
    lab.agent.lock().unwrap().endpoints.clear();
    assert!(lab.run("ADD").success);
}

/// A runtime that lost patience tries again, while the first ADD still waits for the agent.
#[test]
fn adds_of_one_container_take_turns() {
    let lab = Lab::new();
    lab.agent.lock().unwrap().mood = Mood::NotReady;
    std::thread::scope(|scope| {
        let adding = |timeout: u32| {
            let more = format!(r#","connect-timeout":{timeout}"#);
            let lab = &lab;
            scope.spawn(move || lab.run_with("ADD", &more))
        };
        let first = adding(20);
        let host = Socket::open_in(&lab.host).unwrap();
        while host.link(&host_device("c1", "eth0")).unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(10));
        }
        let impatient = adding(1).join().unwrap();
        let told = r#""code":11,"msg":"another ADD still works in CNI_NETNS "#;
        assert!(impatient.text.contains(told), "{}", impatient.text);
        let others = [adding(20), adding(20)];
        lab.agent.lock().unwrap().mood = Mood::Good;
        let output = first.join().unwrap();
        assert!(output.success, "{}", output.text);
        for other in others {
            let output = other.join().unwrap();
            assert!(output.text.contains(r#""code":102,"#), "{}", output.text);
        }
    });
    assert_eq!(lab.agent.lock().unwrap().endpoints.len(), 1);
    assert!(lab.run("DEL").success);
    lab.assert_empty();
}

#[test]
fn add_waits_for_the_agent_and_says_so() {
    let lab = Lab::new();
    lab.stop_agent();
    let start = Instant::now();
    let output = lab.run_with("ADD", r#","connect-timeout":1"#);
    assert!(
        (900..2500).contains(&start.elapsed().as_millis()),
        "{:?}",
        start.elapsed()
    );
    assert!(
        output
            .text
            .contains(r#""code":11,"msg":"no agent here: socket"#),
        "{}",
        output.text
    );
    assert!(
        output.text.contains("check that its pod or process runs"),
        "{}",
        output.text
    );
    lab.assert_no_devices();
    let output = std::thread::scope(|scope| {
        let adding = scope.spawn(|| lab.run_with("ADD", r#","connect-timeout":20"#));
        std::thread::sleep(Duration::from_millis(300));
        lab.start_agent();
        adding.join().unwrap()
    });
    assert!(output.success, "{}", output.text);
}

#[test]
fn add_waits_for_an_agent_that_starts() {
    let lab = Lab::new();
    lab.agent.lock().unwrap().mood = Mood::NotReady;
    let output = lab.run_with("ADD", r#","connect-timeout":1"#);
    assert!(
        output
            .text
            .contains(r#""code":11,"msg":"cannot make the endpoint: the agent refused"#),
        "{}",
        output.text
    );
    lab.assert_empty();
    let output = std::thread::scope(|scope| {
        let adding = scope.spawn(|| lab.run("ADD"));
        std::thread::sleep(Duration::from_millis(300));
        lab.agent.lock().unwrap().mood = Mood::Good;
        adding.join().unwrap()
    });
    assert!(output.success, "{}", output.text);
    // A deletion that waits must not hit what is made under the same name later.
    lab.agent.lock().unwrap().mood = Mood::NotReady;
    assert!(lab.run("DEL").success);
    let mut agent = lab.agent.lock().unwrap();
    agent.mood = Mood::Good;
    agent.endpoints.clear();
    drop(agent);
    assert!(lab.run("ADD").success);
    let queue = Queue::lock_for_taking(&lab.run_dir()).unwrap();
    assert!(queue.list().unwrap().is_empty());
}

#[test]
fn an_agent_that_hangs_stops_nobody() {
    let lab = Lab::new();
    assert!(lab.run("ADD").success);
    lab.stop_agent();
    // Connections are taken by the kernel, and nobody ever answers.
    let silent = UnixListener::bind(lab.run_dir().join("agent.sock")).unwrap();
    let start = Instant::now();
    let output = lab.run("DEL");
    assert!(output.success, "{}", output.text);
    lab.assert_no_devices();
    let output = lab.run_with("ADD", r#","connect-timeout":1"#);
    assert!(output.text.contains(r#""code":11,"#), "{}", output.text);
    assert!(
        output.text.contains("did not answer within"),
        "{}",
        output.text
    );
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
    drop(silent);
}

#[test]
fn status_tells_whether_pods_can_be_added() {
    let lab = Lab::new();
    let output = lab.run("STATUS");
    assert!(output.success, "{}", output.text);
    lab.agent.lock().unwrap().mood = Mood::NotReady;
    let output = lab.run("STATUS");
    let told = r#""code":50,"msg":"the agent is not ready: it waits for its first lists"#;
    assert!(output.text.contains(told), "{}", output.text);
    lab.stop_agent();
    let output = lab.run_with("STATUS", r#","connect-timeout":0"#);
    assert!(
        output
            .text
            .contains(r#""code":50,"msg":"the agent is not ready: "#),
        "{}",
        output.text
    );
}

#[test]
fn how_long_add_takes() {
    let lab = Lab::new();
    let mut times = Vec::new();
    for _ in 0..30 {
        let start = Instant::now();
        assert!(lab.run("ADD").success);
        times.push(start.elapsed());
        assert!(lab.run("DEL").success);
    }
    times.sort();
    println!(
        "ADD against an agent that answers at once: p50 {:?}, max {:?}",
        times[15], times[29]
    );
    assert!(times[15] < Duration::from_millis(500), "{:?}", times[15]);
}
