// SPDX-License-Identifier: Apache-2.0
//! Steps 4 and 5 of the demo: who is in the mesh, and who reaches whom.

use std::net::IpAddr;
use std::time::Duration;

use crate::error::{LabError, Result};
use crate::lab::Lab;
use crate::pod::{Family, Pod};
use crate::underlay::{WORLD_V4, WORLD_V6, url};
use crate::wait::eventually;

use super::report::Report;

/// How long a mesh may take to hear of something new.
pub(super) const SPREAD: Duration = Duration::from_secs(10);

pub(super) fn node_lists(lab: &Lab, report: &mut Report) {
    report.heading(4, "cilium node list, seen from each cluster");
    for cluster in &lab.clusters {
        let node = &cluster.nodes[0];
        let names: Vec<_> = lab.nodes().map(|node| node.full_name()).collect();
        let mut text = String::new();
        report.check(
            4,
            format!("{} lists all {} nodes", node.full_name(), names.len()),
            || {
                eventually("all nodes are listed", SPREAD, || {
                    text = node.cli(&["node", "list"])?;
                    match names.iter().find(|name| !text.contains(name.as_str())) {
                        None => Ok(format!("{} nodes", text.lines().count().saturating_sub(1))),
                        Some(name) => Err(LabError::Unmet(format!("{name} is missing in\n{text}"))),
                    }
                })
            },
        );
        report.show(&text);
    }
}

pub(super) fn curls(lab: &Lab, report: &mut Report) {
    report.heading(5, "curl from pod to pod, and to the world");
    let ways = [
        ("in one node", "cluster5/frontend-1", "cluster5/reports-1"),
        ("across nodes", "cluster5/frontend-1", "cluster5/reports-2"),
        ("across nodes", "cluster7/backend-2", "cluster7/frontend-1"),
        (
            "across clusters",
            "cluster5/frontend-1",
            "cluster7/backend-1",
        ),
        (
            "across clusters",
            "cluster5/reports-2",
            "cluster7/backend-2",
        ),
        (
            "across clusters",
            "cluster7/frontend-1",
            "cluster5/reports-1",
        ),
        (
            "across clusters",
            "cluster7/backend-2",
            "cluster5/frontend-2",
        ),
    ];
    for family in Family::BOTH {
        for (way, from, to) in ways {
            report.check(5, format!("{family} {way}: {from} → {to}"), || {
                reach(lab.pod(from)?, lab.pod(to)?, family)
            });
        }
        for name in ["cluster5", "cluster7"] {
            let pod = &lab.cluster(name).pods[0];
            report.check(
                5,
                format!("{family} to the world, masqueraded: {}", pod.full_name),
                || masqueraded(lab, name, pod, family),
            );
        }
    }
}

/// One pod reaches another within [`SPREAD`], and the server sees the client's own address.
pub(super) fn reach(from: &Pod, to: &Pod, family: Family) -> Result<String> {
    let (client, server) = (from.address(family)?, to.address(family)?);
    let answer = eventually(
        format!("{} reaches {}", from.full_name, to.full_name),
        SPREAD,
        || from.curl(&url(server, 80)),
    )?;
    if answer.server != to.full_name || answer.client != client {
        let (server, seen) = (answer.server, answer.client);
        return Err(LabError::Unmet(format!(
            "{server} answered and saw {seen} instead of {client}"
        )));
    }
    Ok(format!("{client} → {server}: 200"))
}

fn masqueraded(lab: &Lab, cluster: &str, pod: &Pod, family: Family) -> Result<String> {
    let node = lab.cluster(cluster).node(&pod.manifest.node)?;
    let (world, expected) = match family {
        Family::V4 => (IpAddr::V4(WORLD_V4), IpAddr::V4(node.ipv4)),
        Family::V6 => (IpAddr::V6(WORLD_V6), IpAddr::V6(node.ipv6)),
    };
    let answer = eventually("the world is reached", SPREAD, || pod.curl(&url(world, 80)))?;
    if answer.client != expected {
        let seen = answer.client;
        return Err(LabError::Unmet(format!(
            "the world saw {seen} instead of the node's {expected}"
        )));
    }
    Ok(format!("seen there as {expected}"))
}
