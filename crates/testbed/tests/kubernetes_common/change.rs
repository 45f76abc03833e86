// SPDX-License-Identifier: Apache-2.0
//! Load while clusters change: requests to whatever pods are ready, and connections that carry data all the time.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::client::{self, Connection, Loss, Stream};
use testbed::kubernetes::images::TOOLS;
use testbed::kubernetes::{Cluster, Kubectl};
use testbed::serve::ECHO_PORT;
use testbed::{LabError, Place, eventually};

use super::{pods, url};

/// How long an answer may take: a lost packet of its beginning is sent again after a second.
const ANSWER: Duration = Duration::from_secs(3);
/// Streams of 200 datagrams a second per node: 1,000 packets a second each way.
const STREAMS: usize = 5;

/// Between two rounds over the connections of a node.
const PAUSE: Duration = Duration::from_millis(5);
/// Where pods serve HTTP.
const PORT: u16 = 80;

/// A Deployment of `count` pods that answer HTTP.
pub(crate) fn deployment(name: &str, count: usize) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": count, "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "server", "image": TOOLS,
                        "args": ["serve", "--name", name, "--port", PORT.to_string()],
                        "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
                    }],
                },
            },
        },
    })
}

pub(crate) fn scale(kubectl: &Kubectl, name: &str, count: usize) {
    let replicas = format!("--replicas={count}");
    kubectl
        .run(&["scale", &format!("deployment/{name}"), &replicas])
        .expect("scaled");
}

/// Waits until exactly `count` pods with the label `app` exist.
pub(crate) fn existing(cluster: &Cluster, app: &str, count: usize, limit: Duration) {
    eventually(format!("{count} pods {app} exist"), limit, || {
        let found = objects(cluster, app)?.len();
        match found == count {
            true => Ok(()),
            false => Err(LabError::Unmet(format!("{found}"))),
        }
    })
    .expect("in time");
}

/// The pods with the label `app`, as the API server has them.
pub(crate) fn objects(cluster: &Cluster, app: &str) -> Result<Vec<Value>, LabError> {
    let path = format!("/api/v1/namespaces/default/pods?labelSelector=app%3D{app}");
    let list = cluster.control_plane.object(&path)?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

/// (uid, addresses) of the pods that are ready and that nobody deletes.
pub(crate) fn ready(pods: &[Value]) -> BTreeMap<String, Vec<IpAddr>> {
    let is_ready = |pod: &&Value| {
        let conditions = pod["status"]["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        pod["metadata"]["deletionTimestamp"].is_null()
            && conditions.any(|one| one["type"] == "Ready" && one["status"] == "True")
    };
    let addresses = |pod: &Value| {
        let all = pod["status"]["podIPs"].as_array().into_iter().flatten();
        all.filter_map(|one| one["ip"].as_str()?.parse().ok())
            .collect()
    };
    let uid = |pod: &Value| {
        pod["metadata"]["uid"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let pods = pods.iter().filter(is_ready);
    pods.map(|pod| (uid(pod), addresses(pod))).collect()
}

/// What became of requests.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) answered: usize,
    /// To pods that were no longer ready when the failure was seen.
    pub(crate) overtaken: usize,
    /// To pods that were ready before and after.
    pub(crate) failed: Vec<String>,
    pub(crate) slowest: Duration,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} answered, {} failed, {} to pods that were going, the slowest answer after {} ms",
            self.answered,
            self.failed.len(),
            self.overtaken,
            self.slowest.as_millis()
        )
    }
}

/// Asks all ready pods with the label `app` of `cluster` over and over, from `client` in another, while `work` is done.
pub(crate) fn asked_during(
    client: &Place,
    cluster: &Cluster,
    app: &str,
    work: impl FnOnce(),
) -> Seen {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut seen = Seen::default();
            while !stop.load(Ordering::SeqCst) {
                seen.round(client, cluster, app);
            }
            seen
        });
        let done = catch_unwind(AssertUnwindSafe(work));
        stop.store(true, Ordering::SeqCst);
        let seen = asking.join().unwrap_or_else(|panic| resume_unwind(panic));
        done.unwrap_or_else(|panic| resume_unwind(panic));
        seen
    })
}

impl Seen {
    /// One request to each address of each pod, until one of them goes.
    fn round(&mut self, client: &Place, cluster: &Cluster, app: &str) {
        let now = ready(&objects(cluster, app).expect("listed"));
        for (uid, addresses) in &now {
            for address in addresses {
                let started = Instant::now();
                match client::curl(client, &url(*address, PORT), ANSWER) {
                    Ok(_) => {
                        self.answered += 1;
                        self.slowest = self.slowest.max(started.elapsed());
                    }
                    Err(error) => {
                        let still = ready(&objects(cluster, app).expect("listed"));
                        if still.contains_key(uid) {
                            self.failed.push(format!("{address}: {error}"));
                        } else {
                            self.overtaken += 1;
                            return;
                        }
                    }
                }
            }
        }
    }
}

/// Connections of every node's pod to another node's pod that carry data all the time, both families, and datagrams.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    connections: Vec<JoinHandle<(usize, Duration)>>,
    streams: Vec<Vec<Stream>>,
    places: Vec<Place>,
    overflows: u64,
}

impl Traffic {
    /// `count` connections per node between the pods `web`.
    pub(crate) fn begin(cluster: &Cluster, count: usize) -> Self {
        let web = pods(cluster, "web");
        let stop = Arc::new(AtomicBool::new(false));
        let (mut workers, mut streams, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (from, to) in web.iter().zip(web.iter().cycle().skip(1)) {
            let place = cluster.machine(&from.node).pod(from.addresses[0]);
            let place = place.expect("a pod's network");
            let target = |number: usize| (to.addresses[number % 2], ECHO_PORT).into();
            let open = (0..count).map(|number| Connection::open(&place, target(number)));
            let open = open.collect::<Result<Vec<_>, _>>().expect("connected");
            let flag = Arc::clone(&stop);
            workers.push(thread::spawn(move || carry(open, &flag)));
            let started = (0..STREAMS).map(|number| Stream::start(&place, target(number)));
            streams.push(started.collect::<Result<_, _>>().expect("datagrams"));
            places.push(place);
        }
        Self {
            stop,
            connections: workers,
            streams,
            overflows: places.iter().map(overflows).sum(),
            places,
        }
    }

    /// No connection broke, and no datagram was lost but those that reached a pod which was too slow to read them.
    pub(crate) fn end(self, during: &str) {
        let streams = self.streams.into_iter().enumerate();
        let mut lost = 0u64;
        for (node, streams) in streams {
            let losses: Vec<_> = streams
                .into_iter()
                .map(|stream| stream.finish().expect("counted"))
                .collect();
            let node_lost: u32 = losses.iter().map(Loss::lost).sum();
            let sent: u32 = losses.iter().map(|loss| loss.sent).sum();
            let gap = losses.iter().map(|loss| loss.longest_gap).max();
            println!(
                "figure: node {} {during}: {node_lost} of {sent} datagrams lost, longest gap {} ms",
                node + 1,
                gap.unwrap_or_default().as_millis()
            );
            lost += u64::from(node_lost);
        }
        self.stop.store(true, Ordering::SeqCst);
        for (node, worker) in self.connections.into_iter().enumerate() {
            let (echoes, slowest) = worker.join().expect("no connection broke");
            println!(
                "figure: node {} {during}: {echoes} echoes over its connections, the slowest {} ms",
                node + 1,
                slowest.as_millis()
            );
        }
        let full: u64 = self.places.iter().map(overflows).sum();
        let full = full - self.overflows;
        println!("figure: {during} full sockets of busy pods lost {full}");
        assert!(lost <= full, "{lost} lost, {full} of them in pods");
    }
}

/// Datagrams that the sockets of a network namespace had no room for, of both families.
fn overflows(place: &Place) -> u64 {
    let read = |file| place.run("cat", &[file]).expect("readable");
    let (v4, v6) = (read("/proc/self/net/snmp"), read("/proc/self/net/snmp6"));
    // IPv4: a line of names and a line of values.
    let mut lines = v4.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = (lines.next(), lines.next());
    let words = names.into_iter().zip(values);
    let mut pairs = words.flat_map(|(names, values)| names.split(' ').zip(values.split(' ')));
    let v4 = pairs.find(|(name, _)| *name == "RcvbufErrors");
    let v6 = v6
        .lines()
        .find_map(|line| line.strip_prefix("Udp6RcvbufErrors"));
    let number = |text: &str| text.trim().parse::<u64>().expect("a number");
    v4.map_or(0, |(_, value)| number(value)) + v6.map_or(0, number)
}

/// Echoes over all connections in turn: how many, and how long the slowest took.
fn carry(mut connections: Vec<Connection>, stop: &AtomicBool) -> (usize, Duration) {
    let (mut echoes, mut slowest) = (0, Duration::ZERO);
    while !stop.load(Ordering::SeqCst) {
        for connection in &mut connections {
            let started = Instant::now();
            connection.echo().expect("the connection lives");
            slowest = slowest.max(started.elapsed());
            echoes += 1;
        }
        thread::sleep(PAUSE);
    }
    (echoes, slowest)
}

/// Something of a cluster that can be away.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) off: fn(&mut Cluster),
    pub(crate) on: fn(&mut Cluster),
}

pub(crate) const API_SERVER: Part = Part {
    name: "API servers",
    off: |cluster| cluster.control_plane.kill("kube-apiserver"),
    on: |cluster| {
        let plane = &mut cluster.control_plane;
        plane.start("kube-apiserver").expect("started");
        plane.wait_ready().expect("ready");
    },
};

pub(crate) const ETCD: Part = Part {
    name: "etcds",
    off: |cluster| cluster.etcd.kill(),
    on: |cluster| {
        cluster.etcd.start().expect("started");
        cluster.etcd.wait_until_healthy().expect("healthy");
    },
};
