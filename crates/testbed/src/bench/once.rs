// SPDX-License-Identifier: Apache-2.0
//! Figures of our own: memory, start, CNI calls, and loss over restarts.

use std::fs;
use std::net::SocketAddr;

use crate::client::{Connection, Stream};
use crate::error::{Doing, LabError, Result};
use crate::lab::Lab;
use crate::manifest::PodManifest;
use crate::pod::{Family, Pod};
use crate::serve::ECHO_PORT;

use super::rows::{Ratio, Row};

/// Restarts of an agent under traffic.
const KILLS: usize = 20;
/// CNI ADDs of each kind.
const ADDS: usize = 100;

pub(super) fn all(lab: &mut Lab) -> Result<Vec<Row>> {
    let mut rows = vec![memory(lab)?];
    rows.extend(restarts(lab)?);
    rows.extend(adds(lab, "known identity", 20.0, 80.0, |_| {
        "app: known".to_owned()
    })?);
    rows.extend(adds(lab, "new identity", 60.0, 150.0, |number| {
        format!("app: new-{number}")
    })?);
    Ok(rows)
}

fn memory(lab: &Lab) -> Result<Row> {
    let node = &lab.cluster("cluster5").nodes[0];
    let path = format!("/proc/{}/status", node.agent_pid().unwrap_or_default());
    let text = fs::read_to_string(&path).doing("read", &path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    let kilobytes = kilobytes.ok_or_else(|| LabError::Unmet(format!("no VmRSS in {path}")))?;
    Ok(Row::new(
        "agent's memory, 2 pods, 2 clusters",
        "MB",
        Ratio::AtMost(30.0),
        &[kilobytes / 1024.0],
        0.5,
    ))
}

/// `kill -9` and restart under traffic: loss, broken connections, and time until ready.
fn restarts(lab: &mut Lab) -> Result<Vec<Row>> {
    let (from, to) = (
        lab.pod("cluster5/frontend-1")?,
        lab.pod("cluster7/backend-1")?,
    );
    let target = SocketAddr::new(to.address(Family::V4)?, ECHO_PORT);
    let stream = Stream::start(&from.place, target)?;
    let mut connection = Connection::open(&from.place, target)?;
    let mut times = Vec::new();
    let mut broken = 0.0;
    for _ in 0..KILLS {
        let cluster = lab.cluster_mut("cluster7");
        cluster.nodes[0].kill_agent();
        times.push(cluster.start_agent(1)?.as_secs_f64());
        if connection.echo().is_err() {
            broken += 1.0;
            connection = Connection::open(&lab.pod("cluster5/frontend-1")?.place, target)?;
        }
    }
    let lost = f64::from(stream.finish()?.lost());
    Ok(vec![
        Row::new("agent start → ready", "s", Ratio::AtMost(0.5), &times, 0.5),
        Row::new(
            "packets lost over 20 × kill -9 + restart",
            "",
            Ratio::AtMost(0.0),
            &[lost],
            0.5,
        ),
        Row::new(
            "TCP connections broken meanwhile",
            "",
            Ratio::AtMost(0.0),
            &[broken],
            0.5,
        ),
    ])
}

/// Times of CNI ADD; each pod is deleted again.
fn adds(
    lab: &Lab,
    kind: &str,
    p50: f64,
    p99: f64,
    label: impl Fn(usize) -> String,
) -> Result<[Row; 2]> {
    let cluster = lab.cluster("cluster5");
    let node = &cluster.nodes[0];
    let mut times = Vec::new();
    for number in 0..ADDS {
        let name = format!("bench-{number}");
        let file = format!("{name}.yaml");
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: default\n  labels:\n    {}\n\
             spec:\n  nodeName: {}\n  containers:\n  - name: main\n    image: lab\n",
            label(number),
            node.name
        );
        cluster.apply_text(&file, &text)?;
        let manifest = PodManifest {
            namespace: "default".to_owned(),
            name,
            node: node.name.clone(),
            ports: Vec::new(),
        };
        let pod = Pod::create(lab.layout(), node, manifest)?;
        times.push(pod.added_in.as_secs_f64() * 1000.0);
        pod.delete(node)?;
        cluster.withdraw(&file)?;
    }
    // The first pod with a set of labels makes the identity that the others find.
    let times = if kind == "known identity" {
        &times[1..]
    } else {
        &times[..]
    };
    Ok([
        Row::new(
            &format!("CNI ADD, {kind}, p50"),
            "ms",
            Ratio::AtMost(p50),
            times,
            0.5,
        ),
        Row::new(
            &format!("CNI ADD, {kind}, p99"),
            "ms",
            Ratio::AtMost(p99),
            times,
            0.99,
        ),
    ])
}
