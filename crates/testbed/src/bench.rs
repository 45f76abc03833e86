// SPDX-License-Identifier: Apache-2.0
//! `lab bench`: our pods against a kernel VXLAN bridge and the bare wire, in interleaved rounds of one
//! run, because absolute figures of a shared machine mean nothing.

mod baseline;
mod load;
mod once;
mod rows;

use std::net::IpAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::cluster::ClusterSpec;
use crate::error::{Doing, Result};
use crate::lab::{Keep, Lab, Programs};
use crate::namespace::Place;
use crate::pod::Family;
use baseline::Baseline;
use load::Load;
use rows::{Ratio, Row, Verdict};

/// Two ends of a measurement.
pub(crate) struct Path2 {
    from: Place,
    to: IpAddr,
}

/// The ways to compare.
struct Ways {
    ours: [Path2; 2],
    bridge: [Path2; 2],
    host: [Path2; 2],
}

/// Runs all measurements, prints the table, writes `json`; true if no row is short.
///
/// # Errors
/// A lab cannot be built, or a measurement gives no figure.
pub fn run(programs: &Programs, manifests: &Path, json: &Path) -> Result<bool> {
    let mut lab = Lab::create("bench", programs, Keep::No)?;
    for id in [5, 7] {
        let cluster = lab.add_cluster(&ClusterSpec::numbered(id, 1))?;
        for pod in ["frontend-1", "reports-1", "backend-1"] {
            let file = manifests.join(&cluster.name).join(format!("{pod}.yaml"));
            if file.is_file() {
                cluster.apply(&file)?;
            }
        }
    }
    lab.connect_all()?;
    lab.start_agents()?;
    lab.run_pods()?;
    let baseline = Baseline::create(&lab)?;
    let ways = ways(&lab, &baseline)?;
    let mut rows = Vec::new();
    for (name, load, against, bound) in comparisons() {
        rows.push(compare(name, &load, &ways, against, bound)?);
        println!("{}", rows.last().expect("pushed above"));
    }
    for row in once::all(&mut lab)? {
        println!("{row}");
        rows.push(row);
    }
    write(json, &rows)?;
    Ok(rows.iter().all(|row| row.verdict != Verdict::Short))
}

/// What ours is divided by.
#[derive(Clone, Copy)]
enum Against {
    Bridge,
    Host,
}

fn comparisons() -> Vec<(&'static str, Load, Against, Ratio)> {
    let at_least = Ratio::AtLeast;
    vec![
        (
            "one TCP stream ÷ kernel VXLAN bridge",
            Load::tcp(1, Family::V4),
            Against::Bridge,
            at_least(1.0),
        ),
        (
            "one TCP stream ÷ host to host",
            Load::tcp(1, Family::V4),
            Against::Host,
            at_least(0.55),
        ),
        (
            "8 TCP streams ÷ kernel VXLAN bridge",
            Load::tcp(8, Family::V4),
            Against::Bridge,
            at_least(1.0),
        ),
        (
            "one IPv6 stream ÷ kernel VXLAN bridge",
            Load::tcp(1, Family::V6),
            Against::Bridge,
            at_least(0.95),
        ),
        (
            "1-byte request/response p50 ÷ bridge",
            Load::RoundTrip,
            Against::Bridge,
            Ratio::AtMost(1.0),
        ),
        (
            "connect + request + close ÷ bridge",
            Load::Connect,
            Against::Bridge,
            at_least(0.95),
        ),
        (
            "UDP 64-byte packets/s ÷ bridge",
            Load::Datagrams,
            Against::Bridge,
            at_least(1.0),
        ),
    ]
}

/// Adjacent measurements, ours and the other's, in alternating order, until the verdict is clear.
fn compare(
    name: &'static str,
    load: &Load,
    ways: &Ways,
    against: Against,
    bound: Ratio,
) -> Result<Row> {
    const FIRST: usize = 5;
    const MOST: usize = 30;
    let family = usize::from(load.family() == Family::V6);
    let other = match against {
        Against::Bridge => &ways.bridge[family],
        Against::Host => &ways.host[family],
    };
    let ours = &ways.ours[family];
    let mut ratios = Vec::new();
    loop {
        let ratio = if ratios.len() % 2 == 0 {
            let own = load.measure(ours)?;
            own / load.measure(other)?
        } else {
            let base = load.measure(other)?;
            load.measure(ours)? / base
        };
        ratios.push(ratio);
        let row = Row::of_ratios(name, bound, &ratios);
        if ratios.len() >= MOST || ratios.len() >= FIRST && row.verdict != Verdict::Unclear {
            return Ok(row);
        }
    }
}

fn ways(lab: &Lab, baseline: &Baseline) -> Result<Ways> {
    let (from, to) = (
        lab.pod("cluster5/frontend-1")?,
        lab.pod("cluster7/backend-1")?,
    );
    load::serve(lab, "ours", &to.place)?;
    let path = |from: &Place, to: IpAddr| Path2 {
        from: from.clone(),
        to,
    };
    let ours = [
        path(&from.place, to.address(Family::V4)?),
        path(&from.place, to.address(Family::V6)?),
    ];
    let [pod, _] = &baseline.pods;
    let [host, _] = &baseline.hosts;
    Ok(Ways {
        ours,
        bridge: baseline.pod_addresses.map(|to| path(pod, to)),
        host: baseline.host_addresses.map(|to| path(host, to)),
    })
}

fn write(path: &Path, rows: &[Row]) -> Result<()> {
    let rows: Vec<Value> = rows.iter().map(Row::to_json).collect();
    let text = serde_json::to_vec_pretty(&json!({ "rows": rows })).map_err(std::io::Error::other);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).doing("create", parent)?;
    }
    std::fs::write(path, text.doing("serialise", path)?).doing("write", path)
}
