// SPDX-License-Identifier: Apache-2.0
//! `lab kubernetes …`: real Kubernetes clusters by hand.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Subcommand, ValueEnum};
use testbed::kubernetes::conformance::{self, Case, Outcome};
use testbed::kubernetes::{ClusterSpec, Lab, Network, Programs, Proxy, admin_config, images};
use testbed::{Keep, LabError, Layout};

use crate::{down, take_down_on_interrupt};

/// The name of a lab that was given none.
const LAB: &str = "kubernetes";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Build clusters and leave them running
    Up {
        /// Name of the lab
        #[arg(long, default_value = LAB)]
        lab: String,
        /// Ids of the clusters
        #[arg(long, value_delimiter = ',', default_value = "5,7")]
        clusters: Vec<u8>,
        /// Nodes per cluster
        #[arg(long, default_value_t = 2)]
        nodes: u8,
        /// Who translates services
        #[arg(long, value_enum, default_value_t = ProxyName::Nftables)]
        proxy: ProxyName,
        /// Who connects the pods
        #[arg(long, value_enum, default_value_t = NetworkName::StandIn)]
        network: NetworkName,
        /// One more image archive for every node; may be repeated
        #[arg(long)]
        image: Vec<PathBuf>,
    },
    /// Remove a lab and all that belongs to it, also after a crash
    Down {
        /// Name of the lab
        #[arg(long, default_value = LAB)]
        lab: String,
    },
    /// Run kubectl as the administrator of a cluster
    Kubectl {
        /// Name of the lab
        #[arg(long, default_value = LAB)]
        lab: String,
        /// Name of the cluster
        cluster: String,
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run Kubernetes' own network tests against a cluster with Isthmus, and print a table of the cases
    Conformance {
        /// Name of the lab
        #[arg(long, default_value = "conformance")]
        lab: String,
        /// Who translates what is not a ClusterIP service of a pod
        #[arg(long, value_enum, default_value_t = ProxyName::Nftables)]
        proxy: ProxyName,
        /// Only cases whose names match this regular expression
        #[arg(long)]
        only: Option<String>,
    },
    /// Write the archives of the lab's images
    #[command(hide = true)]
    Images {
        /// Those of Kubernetes' own network tests
        #[arg(long)]
        tests: bool,
        /// Directory of the static programs
        from: PathBuf,
        /// Directory for the archives
        to: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ProxyName {
    /// kube-proxy with nftables
    Nftables,
    /// kube-proxy with iptables
    Iptables,
    /// Nobody
    None,
}

impl From<ProxyName> for Proxy {
    fn from(name: ProxyName) -> Self {
        match name {
            ProxyName::Nftables => Self::Nftables,
            ProxyName::Iptables => Self::Iptables,
            ProxyName::None => Self::None,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum NetworkName {
    /// A bridge and routes within each cluster, and CoreDNS
    StandIn,
    /// Isthmus, from `target/dist`, and CoreDNS; the clusters are not connected
    Isthmus,
    /// Nobody yet
    None,
}

pub(crate) fn run(command: Command) -> Result<ExitCode, LabError> {
    match command {
        Command::Up {
            lab,
            clusters,
            nodes,
            proxy,
            network,
            image,
        } => {
            take_down_on_interrupt(&lab)?;
            let proxy = proxy.into();
            let network = match network {
                NetworkName::StandIn => Network::StandIn,
                NetworkName::Isthmus => Network::Isthmus,
                NetworkName::None => Network::None,
            };
            let spec = |id| ClusterSpec {
                proxy,
                ..ClusterSpec::numbered(id, nodes)
            };
            let specs: Vec<_> = clusters.into_iter().map(spec).collect();
            up(&lab, &specs, network, image)
        }
        Command::Down { lab } => Ok(down(&lab)),
        Command::Kubectl {
            lab,
            cluster,
            arguments,
        } => Err(kubectl(&lab, &cluster, &arguments)?),
        Command::Conformance { lab, proxy, only } => {
            take_down_on_interrupt(&lab)?;
            conformance(&lab, proxy.into(), only.as_deref())
        }
        Command::Images { tests, from, to } => {
            if tests {
                images::write_test_images(&from, &to)?;
            } else {
                images::write_all(&from, &to)?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn programs() -> Result<Programs, LabError> {
    let me = std::env::current_exe()
        .map_err(|error| LabError::Unmet(format!("cannot find myself: {error}")))?;
    Programs::find(me)
}

fn up(
    name: &str,
    specs: &[ClusterSpec],
    network: Network,
    more_images: Vec<PathBuf>,
) -> Result<ExitCode, LabError> {
    let mut programs = programs()?;
    if network == Network::Isthmus {
        programs = programs.with_isthmus()?;
    }
    for image in more_images {
        let found = image.canonicalize().map_err(|_| LabError::Missing {
            what: "an image archive",
            path: image,
            advice: "give the file's path",
        })?;
        programs.more_images.push(found);
    }
    let started = Instant::now();
    let mut lab = Lab::create(name, &programs, Keep::Yes)?;
    lab.add_clusters(specs, network).inspect_err(|_| {
        eprintln!(
            "{}\nwhat is there stays until `lab down --lab {name}`",
            lab.diagnosis()
        );
    })?;
    println!("up after {:.1} s", started.elapsed().as_secs_f64());
    for cluster in &lab.clusters {
        println!(
            "lab kubernetes kubectl --lab {name} {} get nodes",
            cluster.name
        );
        for machine in &cluster.machines {
            println!("lab enter --lab {name} {}", machine.full_name());
        }
    }
    println!("lab down --lab {name}");
    Ok(ExitCode::SUCCESS)
}

/// One cluster of two nodes, which goes afterwards.
fn conformance(name: &str, proxy: Proxy, only: Option<&str>) -> Result<ExitCode, LabError> {
    let (programs, suite) = programs()?.with_isthmus()?.with_conformance()?;
    let mut lab = Lab::create(name, &programs, Keep::No)?;
    let spec = ClusterSpec {
        proxy,
        ..ClusterSpec::numbered(5, 2)
    };
    let cases = lab
        .add_clusters(&[spec], Network::Isthmus)
        .and_then(|()| conformance::run(lab.cluster("cluster5"), &suite, only))
        .inspect_err(|_| eprintln!("{}", lab.diagnosis()))?;
    drop(lab);
    Ok(table(&cases))
}

/// Says what became of the cases; success if some were run and none failed.
fn table(cases: &[Case]) -> ExitCode {
    let count = |outcome| cases.iter().filter(|case| case.outcome == outcome).count();
    for case in cases {
        let (word, reason) = match case.outcome {
            Outcome::Passed => ("passed", String::new()),
            Outcome::Failed => ("FAILED", format!("\n{}", case.message)),
            Outcome::Skipped => ("skipped", format!(": {}", case.message)),
        };
        let seconds = case.time.as_secs_f64();
        println!("{word:<8} {seconds:>6.1} s  {}{reason}", case.name);
    }
    let (passed, failed) = (count(Outcome::Passed), count(Outcome::Failed));
    let skipped = count(Outcome::Skipped);
    println!("{skipped} do not apply\n{passed} passed, {failed} failed");
    if passed > 0 && failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Replaces this process; returns only if that fails.
fn kubectl(lab: &str, cluster: &str, arguments: &[String]) -> Result<LabError, LabError> {
    let layout = Layout::named(lab);
    let record = layout.record()?;
    let plane = record.place(&format!("{cluster}/control-plane"))?;
    let mut process = plane.shell(layout.path().join("bin/kubectl"))?;
    let config = admin_config(&layout, cluster);
    process
        .arg("--cache-dir")
        .arg(config.with_file_name("cache"))
        .arg("--kubeconfig")
        .arg(config)
        .args(arguments);
    let error = process.exec();
    Ok(LabError::Unmet(format!("cannot run kubectl: {error}")))
}
