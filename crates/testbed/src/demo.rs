// SPDX-License-Identifier: Apache-2.0
//! The demo: two clusters, a mesh, real pods, real faults, and a table of what held.

mod drops;
mod faults;
mod reach;
mod report;

use std::fmt::Write;
use std::path::Path;

use crate::cluster::ClusterSpec;
use crate::error::{LabError, Result};
use crate::lab::{Keep, Lab, Programs};
use report::Report;

/// Builds the lab `name`, goes through all steps and prints the table; true if every step held.
///
/// # Errors
/// The lab cannot be built, or so little works that going on makes no sense.
pub fn run(name: &str, programs: &Programs, manifests: &Path, keep: Keep) -> Result<bool> {
    let mut report = Report::new();
    let mut lab = Lab::create(name, programs, keep)?;
    let outcome = steps(&mut lab, &mut report, manifests);
    let held = report.finish();
    if let Err(error) = &outcome {
        println!("\nstopped early: {error}");
    }
    if !held || outcome.is_err() {
        println!("\n{}", lab.diagnosis());
    }
    lab.remember()?;
    if keep == Keep::Yes {
        println!("\n{}", how_to_enter(&lab));
    }
    Ok(held && outcome.is_ok())
}

fn steps(lab: &mut Lab, report: &mut Report, manifests: &Path) -> Result<()> {
    build(lab, report)?;
    agents(lab, report)?;
    pods(lab, report, manifests)?;
    reach::node_lists(lab, report);
    reach::curls(lab, report);
    drops::policy(lab, report, &manifests.join("policy"));
    faults::all(lab, report);
    Ok(())
}

fn build(lab: &mut Lab, report: &mut Report) -> Result<()> {
    report.heading(1, "Two clusters, two nodes each, each cluster with its own etcd (TLS, client certificates, own CA)");
    for id in [5, 7] {
        let spec = ClusterSpec::numbered(id, 2);
        must(
            report,
            1,
            format!("{}: etcd and 2 nodes", spec.name),
            || {
                let cluster = lab.add_cluster(&spec)?;
                Ok(format!(
                    "id {id}, etcd healthy at {}",
                    cluster.etcd.endpoint()
                ))
            },
        )?;
        let cluster = lab.cluster(&spec.name);
        must(
            report,
            1,
            format!("{}: etcd refuses a client without certificate", spec.name),
            || {
                let url = format!("{}/health", cluster.etcd.endpoint());
                match cluster.nodes[0]
                    .place
                    .run("curl", &["-sS", "-k", "--max-time", "3", &url])
                {
                    Ok(answer) => Err(LabError::Unmet(format!("it answered {answer:?}"))),
                    Err(_) => Ok("refused".to_owned()),
                }
            },
        )?;
    }
    Ok(())
}

fn agents(lab: &mut Lab, report: &mut Report) -> Result<()> {
    report.heading(2, "Configuration as on the user's page, agents started");
    must(
        report,
        2,
        "one directory of client configurations for both clusters",
        || {
            lab.connect_all()?;
            Ok(format!(
                "{}/{{cluster5,cluster7}}",
                lab.mesh.path().display()
            ))
        },
    )?;
    must(report, 2, "the agents of both clusters are ready", || {
        let time = lab.start_agents()?;
        let count = lab.nodes().count();
        Ok(format!(
            "the slowest of {count} after {} ms",
            time.as_millis()
        ))
    })
}

fn pods(lab: &mut Lab, report: &mut Report, manifests: &Path) -> Result<()> {
    report.heading(3, "Pods from manifests, through the CNI plugin");
    for cluster in &mut lab.clusters {
        must(
            report,
            3,
            format!("{}: pods of {}", cluster.name, cluster.name),
            || {
                cluster.apply(&manifests.join(&cluster.name))?;
                cluster.run_pods()?;
                let dual = cluster
                    .pods
                    .iter()
                    .filter(|pod| pod.ipv4.is_some() && pod.ipv6.is_some())
                    .count();
                match dual == cluster.pods.len() {
                    true => Ok(format!("{dual} pods, all with IPv4 and IPv6")),
                    false => Err(LabError::Unmet(format!(
                        "{dual} of {} pods have both families",
                        cluster.pods.len()
                    ))),
                }
            },
        )?;
    }
    lab.remember()
}

/// A part without which the rest makes no sense.
fn must(
    report: &mut Report,
    step: u8,
    expectation: impl Into<String>,
    part: impl FnOnce() -> Result<String>,
) -> Result<()> {
    let expectation = expectation.into();
    match report.check(step, expectation.clone(), part) {
        true => Ok(()),
        false => Err(LabError::Unmet(format!("{expectation} does not hold"))),
    }
}

/// How to enter each node and pod of a lab that stays.
#[must_use]
pub fn how_to_enter(lab: &Lab) -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "lab".into());
    let name = lab.layout().name();
    let enter = format!("{} enter --lab {name}", program.display());
    let mut text = "Enter a node or pod (add a command, or get a shell):\n".to_owned();
    for node in lab.nodes() {
        let _infallible = writeln!(text, "  {enter} {}   # {}", node.full_name(), node.ipv4);
    }
    for pod in lab.clusters.iter().flat_map(|cluster| &cluster.pods) {
        let addresses = [
            pod.ipv4.map(|ip| ip.to_string()),
            pod.ipv6.map(|ip| ip.to_string()),
        ];
        let addresses = addresses
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ");
        let _infallible = writeln!(text, "  {enter} {}   # {addresses}", pod.full_name);
    }
    let _infallible = write!(
        text,
        "Remove everything: {} down --lab {name}",
        program.display()
    );
    text
}
