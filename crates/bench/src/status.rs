// SPDX-License-Identifier: Apache-2.0
//! Rows of honesty: how long until `status` says that a remote etcd is gone.

use std::time::{Duration, Instant};

use testbed::{Cluster, LabError, eventually};

use crate::bed::Bed;
use crate::error::Result;
use crate::judge::{Bound, Figure};

/// How long recovery between two faults may take.
const RECOVERY: Duration = Duration::from_secs(90);

/// The three ways to lose an etcd: killed, packets dropped, process stopped.
pub(crate) fn run(bed: &mut Bed) -> Result<Vec<Figure>> {
    let killed = fault(
        bed,
        "killed",
        3.0,
        |cluster| {
            cluster.etcd.kill();
            Ok(())
        },
        |cluster| {
            cluster.etcd.start()?;
            cluster.etcd.wait_until_healthy()
        },
    )?;
    let dropped = fault(
        bed,
        "packets dropped",
        10.0,
        |cluster| cluster.etcd.drop_packets(true),
        |cluster| cluster.etcd.drop_packets(false),
    )?;
    let stopped = fault(
        bed,
        "process stopped",
        30.0,
        |cluster| cluster.etcd.freeze(true),
        |cluster| cluster.etcd.freeze(false),
    )?;
    Ok(vec![killed, dropped, stopped])
}

fn fault(
    bed: &mut Bed,
    what: &str,
    bound: f64,
    begin: impl FnOnce(&mut Cluster) -> testbed::Result<()>,
    end: impl FnOnce(&mut Cluster) -> testbed::Result<()>,
) -> Result<Figure> {
    says(bed, "1/1 remote clusters ready", RECOVERY)?;
    let started = Instant::now();
    begin(bed.lab.cluster_mut("cluster5"))?;
    let limit = Duration::from_secs_f64(bound * 2.0);
    let said = says(bed, "0/1 remote clusters ready", limit);
    let seconds = started.elapsed().as_secs_f64();
    end(bed.lab.cluster_mut("cluster5"))?;
    let what = format!("remote etcd {what} → status says so");
    let figure = Figure::plain(&what, "s", Bound::AtMost(bound), seconds, 1);
    Ok(match said {
        Ok(line) => figure.noted(line),
        Err(error) => figure.noted(error.to_string()),
    })
}

/// Waits for words in `cilium status --all-clusters`; returns the line after them.
fn says(bed: &Bed, words: &str, limit: Duration) -> Result<String> {
    let node = &bed.lab.cluster("cluster7").nodes[0];
    let said = eventually(format!("status says {words:?}"), limit, || {
        let text = node.cli(&["status", "--all-clusters"])?;
        let mut lines = text.lines().skip_while(|line| !line.contains(words));
        match (lines.next(), lines.next()) {
            (Some(_), next) => Ok(next.unwrap_or_default().trim().to_owned()),
            (None, _) => Err(LabError::Unmet(text)),
        }
    })?;
    Ok(said)
}
