// SPDX-License-Identifier: Apache-2.0
//! `lab`: the demo, and labs by hand.

mod kubernetes_commands;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use testbed::{
    ClusterSpec, Keep, Lab, LabError, Layout, Programs, demo, interrupt, serve, teardown,
};

/// Labs: whole meshes of clusters on one machine.
#[derive(Parser)]
#[command(name = "lab", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build two clusters, show that the mesh works, and say so in a table
    Demo {
        /// Leave everything running
        #[arg(long, env = "KEEP", value_parser = clap::builder::FalseyValueParser::new())]
        keep: bool,
        /// Name of the lab
        #[arg(long, default_value = "demo")]
        lab: String,
        /// Directory of the manifests
        #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../demo"))]
        manifests: PathBuf,
    },
    /// Build two connected clusters with the demo's pods and leave them running
    Up {
        /// Name of the lab
        #[arg(long, default_value = "demo")]
        lab: String,
        /// Ids of the clusters
        #[arg(long, value_delimiter = ',', default_value = "5,7")]
        clusters: Vec<u8>,
        /// Nodes per cluster
        #[arg(long, default_value_t = 2)]
        nodes: u8,
        /// Directory with a directory of manifests per cluster
        #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../demo"))]
        manifests: PathBuf,
        /// Only namespaces, etcds and configuration: print the agents' command lines instead of running them
        #[arg(long)]
        no_agents: bool,
        /// One more argument for every agent; may be repeated
        #[arg(long, allow_hyphen_values = true)]
        agent_arg: Vec<String>,
    },
    /// Remove a lab and all that belongs to it, also after a crash
    Down {
        /// Name of the lab
        #[arg(long, default_value = "demo")]
        lab: String,
    },
    /// Run a command (a shell if none is given) inside a node or pod
    Enter {
        /// Name of the lab
        #[arg(long, default_value = "demo")]
        lab: String,
        /// `cluster/node`, `cluster/namespace/pod`, or the end of one
        place: String,
        /// The command
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Real Kubernetes clusters: build and use them (`down` and `enter` are as for other labs)
    #[command(subcommand)]
    Kubernetes(kubernetes_commands::Command),
    /// The guardian of a node of a Kubernetes lab
    #[command(hide = true)]
    KubernetesNode {
        /// The node's specification
        spec: PathBuf,
    },
    /// The first process of a node of a Kubernetes lab
    #[command(hide = true)]
    KubernetesInit {
        /// The node's specification
        spec: PathBuf,
    },
    /// An editor for `kubectl edit configmap`
    #[command(hide = true)]
    EditConfigMap {
        /// `key=value`; may be repeated
        #[arg(long)]
        set: Vec<String>,
        /// The file, from kubectl
        file: PathBuf,
    },
    /// Serve HTTP and echo: what runs in a pod
    Serve {
        /// What the server calls itself
        #[arg(long)]
        name: String,
        /// HTTP port; may be repeated
        #[arg(long)]
        port: Vec<u16>,
    },
}

fn main() -> ExitCode {
    let outcome = run(Arguments::parse().command);
    interrupt::leave_to_cleanup();
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, LabError> {
    match command {
        Command::Demo {
            keep,
            lab,
            manifests,
        } => {
            take_down_on_interrupt(&lab)?;
            let keep = if keep { Keep::Yes } else { Keep::No };
            let held = demo::run(&lab, &programs()?, &manifests, keep)?;
            Ok(if held {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Command::Up {
            lab,
            clusters,
            nodes,
            manifests,
            no_agents,
            agent_arg,
        } => {
            take_down_on_interrupt(&lab)?;
            let spec = |id| ClusterSpec {
                agent_arguments: agent_arg.clone(),
                ..ClusterSpec::numbered(id, nodes)
            };
            let specs: Vec<_> = clusters.into_iter().map(spec).collect();
            up(&lab, &specs, &manifests, no_agents).map(|()| ExitCode::SUCCESS)
        }
        Command::Down { lab } => Ok(down(&lab)),
        Command::Enter {
            lab,
            place,
            command,
        } => Err(enter(&lab, &place, command)?),
        Command::Kubernetes(command) => kubernetes_commands::run(command),
        Command::KubernetesNode { spec } => testbed::kubernetes::guard(&spec),
        Command::KubernetesInit { spec } => testbed::kubernetes::init(&spec),
        Command::EditConfigMap { set, file } => {
            testbed::kubernetes::edit_config_map(&file, &set).map(|()| ExitCode::SUCCESS)
        }
        Command::Serve { name, port } => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(serving)?;
            runtime
                .block_on(serve::serve(name, port))
                .map_err(serving)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn serving(error: std::io::Error) -> LabError {
    LabError::Unmet(format!("cannot serve: {error}"))
}

fn programs() -> Result<Programs, LabError> {
    let lab = std::env::current_exe()
        .map_err(|error| LabError::Unmet(format!("cannot find myself: {error}")))?;
    Programs::find(lab)
}

pub(crate) fn take_down_on_interrupt(lab: &str) -> Result<(), LabError> {
    let layout = Layout::named(lab);
    let cleanup = move || {
        eprintln!("\ninterrupted: taking the lab down");
        // Twice: what was being started during the first round goes in the second.
        teardown::down(&layout);
        teardown::down(&layout);
    };
    interrupt::on_interrupt(cleanup)
        .map_err(|error| LabError::Unmet(format!("cannot wait for signals: {error}")))
}

fn up(
    name: &str,
    specs: &[ClusterSpec],
    manifests: &std::path::Path,
    no_agents: bool,
) -> Result<(), LabError> {
    let mut lab = Lab::create(name, &programs()?, Keep::Yes)?;
    for spec in specs {
        let cluster = lab.add_cluster(spec)?;
        let dir = manifests.join(&cluster.name);
        if dir.is_dir() {
            cluster.apply(&dir)?;
        }
    }
    lab.connect_all()?;
    if no_agents {
        for cluster in &lab.clusters {
            for node in &cluster.nodes {
                let arguments = node.agent_arguments(&cluster.settings).join(" ");
                let (name, node) = (node.full_name(), &node.name);
                println!("lab enter {name} env K8S_NODE_NAME={node} isthmus {arguments}");
            }
        }
    } else {
        let time = lab.start_agents()?;
        println!("agents ready after {} ms", time.as_millis());
        lab.run_pods()?;
    }
    lab.remember()?;
    println!("{}", demo::how_to_enter(&lab));
    Ok(())
}

/// Takes a lab of any kind down.
pub(crate) fn down(lab: &str) -> ExitCode {
    let problems = teardown::down(&Layout::named(lab));
    for problem in &problems {
        eprintln!("lab {lab}: {problem}");
    }
    if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Replaces this process; returns only if that fails.
fn enter(lab: &str, place: &str, command: Vec<String>) -> Result<LabError, LabError> {
    let layout = Layout::named(lab);
    let record = layout.record()?;
    let mut words = command.into_iter();
    let program = words.next().unwrap_or_else(|| "bash".to_owned());
    let mut process = match record.machine(place) {
        Some(init) => testbed::kubernetes::inside(init, &program),
        None => {
            let mut process = record.place(place)?.shell(&program)?;
            let path = std::env::var("PATH").unwrap_or_default();
            let bin = layout.path().join("bin");
            process.env("PATH", format!("{}:{path}", bin.display()));
            process
        }
    };
    let error = process.args(words).exec();
    Ok(LabError::Unmet(format!("cannot run {program}: {error}")))
}
