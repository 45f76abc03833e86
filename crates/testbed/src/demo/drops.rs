// SPDX-License-Identifier: Apache-2.0
//! Step 6 of the demo: a policy across clusters, and what dropped a packet, from the event stream.

use std::path::Path;

use serde_json::Value;

use crate::error::{LabError, Result};
use crate::lab::Lab;
use crate::monitor::Monitor;
use crate::pod::{Family, Pod};
use crate::underlay::url;
use crate::wait::eventually;

use super::reach::{SPREAD, reach};
use super::report::Report;

/// The policy's file.
const FILE: &str = "backend-from-cluster5-frontend.yaml";

pub(super) fn policy(lab: &Lab, report: &mut Report, dir: &Path) {
    report.heading(
        6,
        "Policy in cluster7: only app=frontend of cluster5 reaches app=backend on TCP 80",
    );
    let cluster = lab.cluster("cluster7");
    let (Ok(backend), Ok(denied)) = (lab.pod("cluster7/backend-1"), lab.pod("cluster5/reports-1"))
    else {
        report.check(6, "the demo's pods exist", || {
            Err(LabError::Unmet("they do not".to_owned()))
        });
        return;
    };
    let applied = report.check(6, "policy applied: cluster5/reports-1 is refused", || {
        cluster.apply(&dir.join(FILE))?;
        eventually("the policy is in force", SPREAD, || {
            refused(denied, backend, Family::V4)
        })
    });
    for family in Family::BOTH {
        report.check(
            6,
            format!("{family} allowed: cluster5/frontend-1 → cluster7/backend-1"),
            || reach(lab.pod("cluster5/frontend-1")?, backend, family),
        );
        for from in ["cluster5/reports-2", "cluster7/frontend-1"] {
            report.check(
                6,
                format!("{family} refused: {from} → cluster7/backend-1"),
                || refused(lab.pod(from)?, backend, family),
            );
        }
    }
    if applied {
        named_drop(lab, report, denied, backend);
    }
    report.check(
        6,
        "policy removed: cluster5/reports-1 is let in again",
        || {
            cluster.withdraw(FILE)?;
            reach(denied, backend, Family::V4)
        },
    );
}

fn named_drop(lab: &Lab, report: &mut Report, from: &Pod, to: &Pod) {
    let mut shown = String::new();
    report.check(
        6,
        "the drop is named: node, reason, policy, both identities",
        || {
            let node = lab.cluster("cluster7").node(&to.manifest.node)?;
            let monitor = node.monitor()?;
            let event = provoke(&monitor, from, to)?;
            shown = words(&event);
            let text = shown.to_lowercase();
            for needed in [
                "policy denied",
                "backend-from-cluster5-frontend",
                "app=reports",
                "app=backend",
                "cluster5",
            ] {
                if !text.contains(needed) {
                    return Err(LabError::Unmet(format!(
                        "the event does not tell {needed:?}"
                    )));
                }
            }
            Ok(format!(
                "{}: Policy denied, {} → {}",
                node.full_name(),
                from.full_name,
                to.full_name
            ))
        },
    );
    report.show(&shown);
}

/// A drop event as a person reads it; every word is from the event.
fn words(event: &Value) -> String {
    let own = &event["isthmus"];
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let labels = |side: &Value| {
        let labels = side["labels"].as_array().map_or(&[][..], Vec::as_slice);
        labels.iter().map(text).collect::<Vec<_>>().join(" ")
    };
    let end = |name: &str| {
        let side = &own[name];
        format!(
            "{name:<12} {} identity {}: {}",
            text(&side["address"]),
            side["identity"],
            labels(side)
        )
    };
    [
        format!("{:<12} {}", "node", text(&own["node"])),
        format!(
            "{:<12} {} ({}), {}",
            "reason",
            text(&own["reason"]),
            text(&own["direction"]),
            text(&own["summary"])
        ),
        format!("{:<12} {}", "rule", text(&own["rule"]["text"])),
        end("source"),
        end("destination"),
    ]
    .join("\n")
}

/// Sends until the monitor, which takes a moment to listen, has seen a drop between the two.
fn provoke(monitor: &Monitor, from: &Pod, to: &Pod) -> Result<Value> {
    let (source, destination) = (
        from.address(Family::V4)?.to_string(),
        to.address(Family::V4)?.to_string(),
    );
    let between = |event: &Value| {
        let text = event.to_string();
        text.contains(&source) && text.contains(&destination)
    };
    eventually("the drop is in the event stream", SPREAD, || {
        refused(from, to, Family::V4)?;
        monitor.find("a drop between the two pods", between)
    })
}

fn refused(from: &Pod, to: &Pod, family: Family) -> Result<String> {
    let limit = std::time::Duration::from_millis(700);
    match crate::client::curl(&from.place, &url(to.address(family)?, 80), limit) {
        Ok(answer) => Err(LabError::Unmet(format!("{} answered", answer.server))),
        Err(LabError::Command { output, .. }) => Ok(format!("refused: {output}")),
        Err(error) => Err(error),
    }
}
