// SPDX-License-Identifier: Apache-2.0
//! What pods and agents take on Kubernetes: time until a pod has its network and is reached from another cluster, and the
//! agent's memory, rest and start. Figures are printed; only what is no matter of the machine's load fails.

mod kubernetes_common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kubernetes_common::change::{deployment, existing, objects, ready, scale};
use kubernetes_common::process::{agent, cpu, resident};
use kubernetes_common::{READY, SOON, WEB_PORT, check, curl, is_refused, mesh, pods, url};
use serde_json::{Value, json};
use testbed::client;
use testbed::kubernetes::images::TOOLS;
use testbed::kubernetes::isthmus::{AGENTS, NAMESPACE};
use testbed::kubernetes::{Cluster, Machine};
use testbed::{LabError, Place, eventually};

/// Pods whose identity nobody has had before.
const NEW: usize = 100;
/// How many of them begin together.
const TOGETHER: usize = 10;
/// Pods that begin one after the other while another cluster waits to ask them.
const FRESH: usize = 30;
/// Pods on the node whose agent is looked at.
const PODS: usize = 60;
/// Services whose memory is looked at, in calls of kubectl for so many.
const SERVICES: usize = 400;
const AT_ONCE: usize = 100;
const SCALED: Duration = Duration::from_secs(240);
/// How long an agent that rests is watched.
const REST: Duration = Duration::from_secs(60);
/// Starts of an agent.
const STARTS: usize = 5;

#[test]
fn what_pods_and_agents_take() {
    let lab = mesh("measures");
    let (five, seven) = (&lab.clusters[0], &lab.clusters[1]);
    new_identities_are_known_when_they_connect(five, seven);
    ready_pods_answer_another_cluster(five, seven);
    services_take_memory(five);
    agents_with_many_pods(five);
    starts(five);
}

/// Pods with an identity of their own connect, as the first thing they do, to a pod of another cluster that lets them in by
/// their labels.
fn new_identities_are_known_when_they_connect(five: &Cluster, seven: &Cluster) {
    let policy = json!({
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "probed"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": "web"}},
            "ingress": [{"fromEndpoints": [{
                "matchLabels": {"io.cilium.k8s.policy.cluster": five.name},
                "matchExpressions": [{"key": "probe", "operator": "Exists"}],
            }]}],
        },
    })
    .to_string();
    seven.kubectl().apply(&policy).expect("applied");
    let target = &pods(seven, "web")[0];
    let stranger = &pods(five, "web")[0].name;
    eventually("others are refused", SOON, || {
        is_refused(&five.kubectl(), stranger, target.addresses[0])
    })
    .expect("refused");
    let kubectl = five.kubectl();
    let mut times = Vec::new();
    for first in (0..NEW).step_by(TOGETHER) {
        let probe = |number: usize| {
            let address = target.addresses[number % 2];
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("probe-{number}"), "labels": {"app": "probe", "probe": number.to_string()}},
                "spec": {
                    "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
                    "containers": [{
                        "name": "probe", "image": TOOLS,
                        "command": [
                            "curl", "--silent", "--globoff", "--max-time", "5", "--output", "/dev/null",
                            "--write-out", "%{time_connect} %{http_code}", url(address, WEB_PORT),
                        ],
                    }],
                },
            })
        };
        let items: Vec<Value> = (first..first + TOGETHER).map(probe).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
        kubectl.apply(&list).expect("applied");
        eventually("they end", READY * 2, || {
            let pods = objects(five, "probe")?;
            let is_over = |pod: &&Value| {
                pod["status"]["phase"] == "Succeeded" || pod["status"]["phase"] == "Failed"
            };
            match pods.iter().filter(is_over).count() {
                TOGETHER => Ok(()),
                count => Err(LabError::Unmet(format!("{count} ended"))),
            }
        })
        .expect("in time");
        for number in first..first + TOGETHER {
            let text = kubectl
                .logs("default", &format!("probe-{number}"))
                .expect("a log");
            let (time, code) = text.trim().split_once(' ').expect("two words");
            let seconds: f64 = time.parse().expect("seconds");
            // What is not answered has no time.
            let seconds = if code == "200" {
                seconds
            } else {
                f64::INFINITY
            };
            times.push(seconds * 1e3);
        }
        kubectl
            .run(&["delete", "pods", "--selector=app=probe", "--wait=true"])
            .expect("deleted");
    }
    let slow = times.iter().filter(|time| **time > 1000.0).count();
    println!(
        "figure: {NEW} new identities connect to another cluster's pod that allows them: {}",
        spread(&mut times)
    );
    println!("figure: refused or slower than 1 s: {slow}");
    assert_eq!(slow, 0);
    println!(
        "figure: CNI ADD of {TOGETHER} pods together, each with a new identity: {}",
        spread(&mut adds(five, "probe-"))
    );
    seven.kubectl().delete(&policy).expect("deleted");
}

/// As soon as Kubernetes calls a pod ready, another cluster asks it.
fn ready_pods_answer_another_cluster(five: &Cluster, seven: &Cluster) {
    let kubectl = five.kubectl();
    let from = &pods(seven, "web")[0];
    let client = seven
        .machine(&from.node)
        .pod(from.addresses[0])
        .expect("a pod's network");
    let objects_text = deployment("fresh", 0).to_string();
    kubectl.apply(&objects_text).expect("applied");
    let (mut seen, mut times, mut failed) = (BTreeSet::new(), Vec::new(), 0);
    let deadline = Instant::now() + SCALED;
    while seen.len() < FRESH {
        // One after the other: how pods share a processor is not the question.
        scale(&kubectl, "fresh", seen.len() + 1);
        let (uid, addresses) = loop {
            assert!(Instant::now() < deadline, "{} of {FRESH} ready", seen.len());
            let now = ready(&objects(five, "fresh").expect("listed"));
            if let Some(new) = now.into_iter().find(|(uid, _)| !seen.contains(uid)) {
                break new;
            }
            thread::sleep(Duration::from_millis(20));
        };
        seen.insert(uid);
        for address in addresses {
            let started = Instant::now();
            let limit = Duration::from_millis(500);
            while client::curl(&client, &url(address, WEB_PORT), limit).is_err() {
                failed += 1;
                assert!(started.elapsed() < SOON, "{address} does not answer");
            }
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
    }
    println!(
        "figure: a ready pod's answer to another cluster, with the start of curl: {}, {failed} requests failed",
        spread(&mut times)
    );
    println!(
        "figure: CNI ADD of one pod after the other with a known identity: {}",
        spread(&mut adds(five, "fresh-"))
    );
    kubectl.delete(&objects_text).expect("deleted");
}

/// Memory for objects of the whole cluster: services of both families with four endpoints.
fn services_take_memory(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let machine = &cluster.machines[0];
    let agent = agent(machine).expect("an agent runs");
    let before = resident(&agent);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "crowd"}});
    kubectl.apply(&namespace.to_string()).expect("applied");
    for first in (0..SERVICES).step_by(AT_ONCE) {
        let objects = (first..first + AT_ONCE).flat_map(service);
        let list =
            json!({"apiVersion": "v1", "kind": "List", "items": objects.collect::<Vec<_>>()});
        kubectl.apply(&list.to_string()).expect("applied");
    }
    let list = ["cilium", "service", "list"];
    check("the agent knows all services", || {
        let agents = kubectl.pods(NAMESPACE, AGENTS)?;
        let here = agents.iter().find(|pod| pod.node == machine.name);
        let known = kubectl.exec(NAMESPACE, &here.expect("its pod").name, &list)?;
        Ok(known.matches(":8080").count() >= SERVICES)
    });
    println!(
        "figure: resident memory of an agent per service with four endpoints: {:.1} kB ({SERVICES}, {:.1} MB)",
        (resident(&agent) - before) * 1e3 / SERVICES as f64,
        resident(&agent) - before,
    );
    let gone = ["delete", "namespace", "crowd"];
    kubectl.run(&gone).expect("deleted");
}

/// A service and the slice of its endpoints.
fn service(number: usize) -> [Value; 2] {
    let name = format!("crowd-{number}");
    let metadata = json!({
        "name": name, "namespace": "crowd", "labels": {"kubernetes.io/service-name": name, "app": "crowd"},
    });
    let endpoint = |host: usize| {
        let address = format!("10.99.{}.{}", number / 60, number % 60 * 4 + host + 1);
        json!({"addresses": [address], "conditions": {"ready": true}})
    };
    let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
    [
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"ipFamilyPolicy": "PreferDualStack", "ports": ports},
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata, "addressType": "IPv4",
            "endpoints": (0..4).map(endpoint).collect::<Vec<_>>(), "ports": ports,
        }),
    ]
}

/// Memory with many pods, and processor time when nothing happens.
fn agents_with_many_pods(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let machine = &cluster.machines[0];
    let mut many = deployment("many", PODS);
    many["spec"]["template"]["spec"]["nodeName"] = json!(machine.name);
    let many = many.to_string();
    kubectl.apply(&many).expect("applied");
    kubectl
        .rolled_out("default", "deployment/many", SCALED)
        .expect("in time");
    let agent = agent(machine).expect("an agent runs");
    println!(
        "figure: resident memory of an agent with {PODS} pods more than it had: {:.1} MB",
        resident(&agent)
    );
    thread::sleep(Duration::from_secs(10));
    let (before, started) = (cpu(&agent), Instant::now());
    thread::sleep(REST);
    let used = (cpu(&agent) - before) / started.elapsed().as_secs_f64();
    println!(
        "figure: processor time of an agent with {PODS} pods that rest: {:.2} % of a core",
        used * 100.0
    );
    kubectl.delete(&many).expect("deleted");
    existing(cluster, "many", 0, SCALED);
}

/// From the process to the answer of its health endpoint.
fn starts(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let machine = &cluster.machines[1];
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let old = agent(machine).expect("an agent runs");
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let ready = scope.spawn(|| until_healthy(machine, &old, &stop));
            let on = format!("--field-selector=spec.nodeName={}", machine.name);
            let delete = [
                "--namespace",
                NAMESPACE,
                "delete",
                "pods",
                "--selector",
                AGENTS,
                &on,
            ];
            kubectl.run(&delete).expect("deleted");
            cluster.wait_agents().expect("agents are ready");
            stop.store(true, Ordering::SeqCst);
            times.push(
                ready
                    .join()
                    .expect("measured")
                    .expect("it was seen")
                    .as_secs_f64()
                    * 1e3,
            );
        });
    }
    println!(
        "figure: an agent's process to its first good answer at /healthz: {}",
        spread(&mut times)
    );
    let five = &pods(cluster, "web");
    curl(&kubectl, &five[0].name, five[1].addresses[0]).expect("an answer");
}

/// Time between the first sight of another agent than `old` and its first good answer.
fn until_healthy(machine: &Machine, old: &Path, stop: &AtomicBool) -> Option<Duration> {
    let mut started: Option<Instant> = None;
    while !stop.load(Ordering::SeqCst) {
        match started {
            None if agent(machine).is_some_and(|agent| agent != old) => {
                started = Some(Instant::now())
            }
            Some(at) if is_healthy(&machine.place) => return Some(at.elapsed()),
            _ => {}
        }
        thread::sleep(Duration::from_millis(5));
    }
    None
}

fn is_healthy(place: &Place) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, 9879)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nbrief: true\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).ok()?;
        Some(answer.ends_with(b" 200"))
    };
    place.within(ask).is_ok_and(|answer| answer == Some(true))
}

/// Milliseconds that the plugin took to add the pods whose name begins with `prefix`.
fn adds(cluster: &Cluster, prefix: &str) -> Vec<f64> {
    let mut times = Vec::new();
    for machine in &cluster.machines {
        let log = machine
            .run("cat", &["/var/run/cilium/cilium-cni.log"])
            .expect("a log");
        for line in log
            .lines()
            .filter(|line| line.contains(" ADD ") && line.contains(prefix))
        {
            let time = line
                .split("done in ")
                .nth(1)
                .and_then(|rest| rest.split(' ').next());
            times.extend(time.and_then(|time| time.parse::<f64>().ok()));
        }
    }
    times
}

/// Median, 99th percentile and worst, sorting them.
fn spread(times: &mut [f64]) -> String {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        times[((times.len() as f64 * share).ceil() as usize).clamp(1, times.len()) - 1]
    };
    match times.len() {
        0 => "none".to_owned(),
        count => format!(
            "p50 {:.0} ms, p99 {:.0} ms, at most {:.0} ms ({count})",
            at(0.5),
            at(0.99),
            at(1.0)
        ),
    }
}
