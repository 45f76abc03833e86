// SPDX-License-Identifier: Apache-2.0
//! Kubernetes' own network tests against a cluster: which cases are run, and what they say.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::cluster::{Cluster, together};
use crate::error::{Doing, LabError, Result};
use crate::process::Daemon;
use crate::wait::eventually;

/// How long a group may take.
const LIMIT: Duration = Duration::from_secs(3600);

/// Cases that run one after the other, beside other groups: each case has a namespace of its own.
#[derive(Debug, Clone, Copy)]
pub struct Group<'a> {
    /// What they have in common.
    pub name: &'a str,
    /// Regular expressions of the cases' names, joined by or.
    focus: &'a [&'a str],
    /// The same for cases that are left out.
    skip: &'a [&'a str],
}

/// All groups. Of the conformance cases of sig-network none is left out. The others are those about ClusterIP
/// services and both families. They have no conformance mark, because networks may do without IPv6, and services may be
/// somebody else's.
pub const GROUPS: [Group<'static>; 6] = [
    Group {
        name: "conformance",
        focus: &[r"\[sig-network\].*\[Conformance\]"],
        skip: &[r"\[sig-network\] Services "],
    },
    Group {
        name: "conformance-services",
        focus: &[r"\[sig-network\] Services .*\[Conformance\]"],
        skip: &[],
    },
    Group {
        name: "services",
        focus: &[
            "Granular Checks: Services should function for (pod|endpoint)-Service",
            "Granular Checks: Services should function for (multiple|client IP|service endpoints)",
            "Granular Checks: Services should (update endpoints|be able to handle large requests)",
            r"\[sig-network\] Services should (allow pods to hairpin|be able to up and down|be updated after)",
            r"\[sig-network\] Services should (be rejected when|implement service.kubernetes.io)",
            r"\[sig-network\] Services should (preserve source pod IP|work after the service has been recreated)",
            r"\[sig-network\] Services should have session affinity timeout work for service with type clusterIP",
        ],
        // The kernel need not have SCTP.
        skip: &["sctp", "Secondary IP Family"],
    },
    Group {
        name: "services-change",
        focus: &[
            r"\[sig-network\] Services should (respect internalTrafficPolicy|fallback to .*internalTrafficPolicy)",
            r"\[sig-network\] Services should (not )?be able to connect to terminating and unready endpoints",
            r"\[sig-network\] Services should (create endpoints for unready pods|support named targetPorts)",
            r"\[sig-network\] Conntrack .* for a ClusterIP service",
            r"\[sig-network\] Conntrack .* initial unready endpoints get ready",
        ],
        skip: &[],
    },
    Group {
        name: "pods-and-names",
        focus: &[
            r"\[sig-network\] (Connectivity Pod Lifecycle|NoSNAT) ",
            r"\[sig-network\] DNS ",
        ],
        // Serial cases change the cluster's name server while others ask it.
        skip: &[r"\[(Conformance|Serial|Provider:GCE|Feature:OffByDefault)\]"],
    },
    Group {
        name: "both-families",
        focus: &[r"\[Feature:IPv6DualStack\]"],
        skip: &["sctp", "node-Service"],
    },
];

/// What became of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It held.
    Passed,
    /// It did not.
    Failed,
    /// It found that it does not apply to this cluster.
    Skipped,
}

/// A case that was run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// As upstream calls it.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// How long it took.
    pub time: Duration,
    /// Why it did not pass.
    pub message: String,
}

/// Runs all groups at once on the host of the control plane, with the suite's program `suite`, and returns their cases,
/// group by group. With the regular expression `only`, the cases whose names match it instead.
///
/// # Errors
/// A program cannot be started, does not end within an hour, or leaves no report.
pub fn run(cluster: &Cluster, suite: &Path, only: Option<&str>) -> Result<Vec<Case>> {
    cluster.route_control_plane()?;
    if let Some(only) = only {
        let focus = &[only];
        let group = Group {
            name: "some",
            focus,
            skip: &[],
        };
        return run_group(cluster, suite, &group);
    }
    let groups = together(&GROUPS, |group| run_group(cluster, suite, group))?;
    Ok(groups.into_iter().flatten().collect())
}

fn run_group(cluster: &Cluster, suite: &Path, group: &Group<'_>) -> Result<Vec<Case>> {
    let layout = cluster.layout();
    let name = format!("{}/conformance/{}", cluster.name, group.name);
    let dir = layout.dir(&name)?;
    let report = dir.join("report.json");
    let plane = &cluster.control_plane;
    let mut command = plane.place.command(suite)?;
    // kubectl, which cases call, keeps a cache at home.
    command.current_dir(&dir).env("HOME", &dir).args([
        format!("--kubeconfig={}", plane.admin_config().display()),
        format!(
            "--kubectl-path={}",
            layout.path().join("bin/kubectl").display()
        ),
        "--provider=skeleton".to_owned(),
        format!("--num-nodes={}", cluster.machines.len()),
        "--allowed-not-ready-nodes=0".to_owned(),
        "--disable-log-dump".to_owned(),
        "--ginkgo.no-color".to_owned(),
        format!("--ginkgo.timeout={}s", LIMIT.as_secs()),
        format!("--ginkgo.json-report={}", report.display()),
    ]);
    let focus = group.focus.iter();
    command.args(focus.map(|focus| format!("--ginkgo.focus={focus}")));
    let skip = group.skip.iter();
    command.args(skip.map(|skip| format!("--ginkgo.skip={skip}")));
    let log = layout.log(&name);
    let mut process = Daemon::start(command, &log, &layout.process(&name))?;
    let ended = eventually(format!("{} ends", group.name), LIMIT, || {
        process.exit_status().ok_or("it runs")
    });
    process.kill();
    let status = ended?;
    let text = fs::read_to_string(&report).doing("read", &report)?;
    let cases = serde_json::from_str(&text)
        .ok()
        .and_then(|report| cases(&report));
    let missing = || LabError::Unmet(format!("{name} ended with {status}, see {}", log.display()));
    cases.ok_or_else(missing)
}

/// The cases of a report that were run; a part of the suite's own set-up counts if it failed.
fn cases(report: &Value) -> Option<Vec<Case>> {
    let specs = report[0]["SpecReports"].as_array()?;
    Some(specs.iter().filter_map(case).collect())
}

fn case(spec: &Value) -> Option<Case> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut words: Vec<_> = spec["ContainerHierarchyTexts"]
        .as_array()
        .into_iter()
        .flatten()
        .map(text)
        .collect();
    words.push(text(&spec["LeafNodeText"]));
    let is_case = spec["LeafNodeType"] == "It";
    if !is_case {
        words.push(text(&spec["LeafNodeType"]));
    }
    let message = text(&spec["Failure"]["Message"]);
    let outcome = match spec["State"].as_str()? {
        "passed" if is_case => Outcome::Passed,
        "passed" | "pending" => return None,
        // One that was not selected gives no reason.
        "skipped" if message.is_empty() => return None,
        "skipped" => Outcome::Skipped,
        _ => Outcome::Failed,
    };
    Some(Case {
        name: words.join(" ").trim().to_owned(),
        outcome,
        time: Duration::from_nanos(spec["RunTime"].as_u64().unwrap_or_default()),
        message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(kind: &str, state: &str, message: &str) -> Value {
        json!({
            "ContainerHierarchyTexts": ["[sig-network] Services"], "LeafNodeType": kind,
            "LeafNodeText": "should work", "State": state, "RunTime": 1_500_000_000,
            "Failure": {"Message": message},
        })
    }

    #[test]
    fn what_was_run_is_told_and_a_broken_set_up_too() {
        let specs = [
            spec("It", "passed", ""),
            spec("It", "skipped", ""),
            spec("It", "skipped", "needs three nodes"),
            spec("It", "timedout", "late"),
            spec("SynchronizedBeforeSuite", "passed", ""),
            spec("SynchronizedBeforeSuite", "failed", "no nodes"),
        ];
        let found = cases(&json!([{"SpecReports": specs}])).expect("a report");
        let outcomes: Vec<_> = found.iter().map(|case| case.outcome).collect();
        let expected = [
            Outcome::Passed,
            Outcome::Skipped,
            Outcome::Failed,
            Outcome::Failed,
        ];
        assert_eq!(outcomes, expected);
        assert_eq!(found[0].name, "[sig-network] Services should work");
        assert_eq!(found[0].time, Duration::from_millis(1500));
        assert!(found[3].name.ends_with("SynchronizedBeforeSuite"));
        assert_eq!(cases(&json!({})), None);
    }
}
