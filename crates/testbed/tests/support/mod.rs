// SPDX-License-Identifier: Apache-2.0
//! Two clusters with a pod or two each, packets made by hand, and what every packet test asks of them.
#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod raw;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use serde_json::Value;
use testbed::client::{Http, curl};
use testbed::manifest::PodManifest;
use testbed::underlay::url;
use testbed::{
    ClusterSpec, Family, Keep, Lab, Monitor, Node, Place, Pod, Programs, Result, eventually,
};

/// How long the mesh may take to hear of something.
pub(crate) const SPREAD: Duration = Duration::from_secs(10);
/// How long a request that should be answered may take.
pub(crate) const ANSWER: Duration = Duration::from_secs(2);
/// How long silence must last to count as refused.
pub(crate) const SILENCE: Duration = Duration::from_millis(500);

/// cluster5 with pods a (node1) and b (the last node), cluster7 with c (node1); all reach each other.
pub(crate) fn start(test: &str, nodes: u8, agent_arguments: &[&str]) -> Lab {
    let programs = Programs::find(env!("CARGO_BIN_EXE_lab").into()).expect("the product is built");
    let name = format!("{test}-{}", std::process::id());
    let mut lab = Lab::create(&name, &programs, Keep::No).expect("a lab");
    for id in [5, 7] {
        let agent_arguments = agent_arguments
            .iter()
            .map(|word| (*word).to_owned())
            .collect();
        let spec = ClusterSpec {
            agent_arguments,
            ..ClusterSpec::numbered(id, nodes)
        };
        lab.add_cluster(&spec).expect("a cluster");
    }
    lab.connect_all().expect("connected");
    lab.start_agents().expect("agents are ready");
    let last = format!("node{nodes}");
    for (cluster, pod, node) in [
        ("cluster5", "a", "node1"),
        ("cluster5", "b", last.as_str()),
        ("cluster7", "c", "node1"),
    ] {
        run(&mut lab, cluster, pod, node);
    }
    for family in Family::BOTH {
        for (from, to) in [
            ("cluster5/a", "cluster7/c"),
            ("cluster7/c", "cluster5/a"),
            ("cluster5/b", "cluster7/c"),
            ("cluster5/a", "cluster5/b"),
        ] {
            reach(&place(&lab, from), address(&lab, to, family));
        }
    }
    lab
}

/// Runs a pod with the label `app: <name>` that serves HTTP on 80 and echoes on 9.
pub(crate) fn run(lab: &mut Lab, cluster: &str, pod: &str, node: &str) {
    let manifest = PodManifest {
        namespace: "default".to_owned(),
        name: pod.to_owned(),
        node: node.to_owned(),
        ports: vec![80],
    };
    lab.cluster_mut(cluster)
        .run_pod(&manifest, &[("app", pod)])
        .expect("a pod");
}

/// A pod by `cluster/name`.
pub(crate) fn pod<'a>(lab: &'a Lab, name: &str) -> &'a Pod {
    lab.pod(name).expect("a pod")
}

/// A pod's namespace.
pub(crate) fn place(lab: &Lab, name: &str) -> Place {
    pod(lab, name).place.clone()
}

/// A pod's address.
pub(crate) fn address(lab: &Lab, name: &str, family: Family) -> IpAddr {
    pod(lab, name).address(family).expect("an address")
}

/// Node `number` of a cluster; 1 is the first.
pub(crate) fn node<'a>(lab: &'a Lab, cluster: &str, number: usize) -> &'a Node {
    &lab.cluster(cluster).nodes[number - 1]
}

/// A node's underlay address.
pub(crate) fn node_address(node: &Node, family: Family) -> IpAddr {
    match family {
        Family::V4 => node.ipv4.into(),
        Family::V6 => node.ipv6.into(),
    }
}

/// The page of `to`, asked for until it is answered.
pub(crate) fn reach(from: &Place, to: IpAddr) -> Http {
    let what = format!("{} reaches {to}", from.netns.display());
    eventually(what, SPREAD, || curl(from, &url(to, 80), ANSWER)).expect("an answer")
}

/// One request that is answered at once.
pub(crate) fn request(from: &Place, to: IpAddr) -> Result<Http> {
    curl(from, &url(to, 80), SILENCE)
}

/// Waits until `to` no longer answers.
pub(crate) fn becomes_refused(from: &Place, to: IpAddr) {
    let what = format!("{} is refused by {to}", from.netns.display());
    eventually(what, SPREAD, || match request(from, to) {
        Ok(answer) => Err(format!("{} answered", answer.server)),
        Err(_) => Ok(()),
    })
    .expect("refused");
}

/// Lets only `peers` (lines of an ingress rule, unindented) reach pods with `app: <app>` of a cluster.
pub(crate) fn allow_only(lab: &Lab, cluster: &str, app: &str, peers: &str) {
    let text = format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata:\n  name: only\n  namespace: default\n\
         spec:\n  endpointSelector:\n    matchLabels:\n      app: {app}\n  ingress:\n  - {peers}\n"
    );
    lab.cluster(cluster)
        .apply_text("only.yaml", &text)
        .expect("applied");
}

/// Takes the policy of [`allow_only`] away.
pub(crate) fn allow_all(lab: &Lab, cluster: &str) {
    lab.cluster(cluster)
        .withdraw("only.yaml")
        .expect("withdrawn");
}

/// A bound UDP socket in a place that waits 1 s for a datagram.
pub(crate) fn socket(place: &Place, family: Family, port: u16) -> UdpSocket {
    let any: SocketAddr = match family {
        Family::V4 => ([0; 4], port).into(),
        Family::V6 => ([0; 16], port).into(),
    };
    let socket = place
        .within(|| UdpSocket::bind(any))
        .expect("a namespace")
        .expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .expect("set");
    socket
}

/// Whether `size` bytes sent to the echo service of `to` come back.
pub(crate) fn echoes(from: &Place, to: IpAddr, size: usize) -> std::io::Result<()> {
    let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
    let socket = socket(from, family, 0);
    let payload: Vec<u8> = (0..size)
        .map(|at| u8::try_from(at % 251).expect("small"))
        .collect();
    socket.connect((to, testbed::serve::ECHO_PORT))?;
    socket.send(&payload)?;
    let mut answer = vec![0; 65_536];
    let length = socket.recv(&mut answer)?;
    assert_eq!(answer[..length], payload, "the same bytes come back");
    Ok(())
}

/// Waits for a drop with this reason and source address, provoking it again and again.
pub(crate) fn dropped(
    monitor: &Monitor,
    reason: &str,
    source: IpAddr,
    mut provoke: impl FnMut(),
) -> Value {
    let source = source.to_string();
    eventually(format!("a drop {reason:?} of {source}"), SPREAD, || {
        provoke();
        let events = monitor.events();
        let wanted = |event: &&Value| {
            event["reason"] == reason && event["isthmus"]["source"]["address"] == *source
        };
        let found = events.iter().rev().find(wanted).cloned();
        found.ok_or_else(|| {
            let tail = events.len().saturating_sub(3);
            format!("{} events, the last: {:?}", events.len(), &events[tail..])
        })
    })
    .expect("a drop")
}

/// Whether ping of `from` gets an answer.
pub(crate) fn pings(from: &Place, to: IpAddr, more: &[&str]) -> Result<String> {
    let to = to.to_string();
    let mut args = vec!["-n", "-c", "1", "-W", "1"];
    args.extend(more);
    args.push(&to);
    from.run("ping", &args)
}
