// SPDX-License-Identifier: Apache-2.0
//! Rows about the agent's process: memory, and how long until it is ready.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bed::Bed;
use crate::error::{Doing, Error, Result};
use crate::judge::{Bound, Figure};

/// How long an agent may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Memory of an agent with 2 pods and 2 clusters, after it has been at rest.
pub(crate) fn memory(bed: &Bed) -> Result<Vec<Figure>> {
    sleep(Duration::from_secs(3));
    let pid = bed.lab.cluster("cluster7").nodes[0].agent_pid();
    let path = format!("/proc/{}/status", pid.unwrap_or_default());
    let text = std::fs::read_to_string(&path).doing(format!("read {path}"))?;
    let field = |name: &str| -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let missing = || Error::Tool {
        tool: "the agent's status",
        answer: text.clone(),
    };
    let resident = field("VmRSS:").ok_or_else(missing)? / 1024.0;
    let note = ["RssAnon:", "RssFile:"]
        .map(|name| format!("{name} {:.1} MB", field(name).unwrap_or(0.0) / 1024.0));
    let what = "agent with 2 pods, 2 clusters: resident";
    let figure = Figure::plain(what, "MB", Bound::AtMost(30.0), resident, 1);
    Ok(vec![figure.noted(note.join(", "))])
}

/// Median of `count` starts after `kill -9` until the agent says that it is ready.
pub(crate) fn start(bed: &mut Bed, count: usize) -> Result<Vec<Figure>> {
    let mut times = Vec::new();
    for _ in 0..count {
        let cluster = bed.lab.cluster_mut("cluster7");
        let node = &mut cluster.nodes[0];
        node.kill_agent();
        let socket = node.dir().join("run/cilium.sock");
        let started = Instant::now();
        node.start_agent(&cluster.settings)?;
        while !ready(&socket) {
            if started.elapsed() > PATIENCE {
                node.wait_ready()?;
            }
            sleep(Duration::from_millis(1));
        }
        times.push(started.elapsed().as_secs_f64());
        sleep(Duration::from_millis(500));
    }
    let what = "agent start → ready";
    let bound = Bound::AtMost(0.5);
    Ok(vec![Figure::of_median(what, "s", bound, &times)])
}

/// Does `/healthz` say Ok?
fn ready(socket: &Path) -> bool {
    let ask = || {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(
            b"GET /v1/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    let Ok(text) = ask() else {
        return false;
    };
    let body = text.split_once("\r\n\r\n").unwrap_or_default().1;
    let health: Value = serde_json::from_str(body).unwrap_or_default();
    health["cilium"]["state"] == "Ok"
}
