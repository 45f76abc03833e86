// SPDX-License-Identifier: Apache-2.0
//! Command lines.

use std::path::PathBuf;

/// Install isthmus in a cluster, and prepare and clean its nodes
#[derive(clap::Parser)]
#[command(version)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Print the objects of an installation, for `kubectl apply --server-side -f -`
    Install(InstallArgs),
    /// Install the CNI plugin on this node and mount its bpf file system
    NodeSetup(SetupArgs),
    /// Remove from this node what an agent left: programs, devices, routes, translation, network configuration
    Uninstall(UninstallArgs),
}

#[derive(clap::Args)]
pub(crate) struct InstallArgs {
    /// Namespace of everything that has one
    #[arg(long, short, default_value = "kube-system")]
    pub(crate) namespace: String,
    /// Values file, YAML; later files win
    #[arg(long, short = 'f', value_name = "FILE")]
    pub(crate) values: Vec<PathBuf>,
    /// Values, e.g. cluster.name=east,cluster.id=5 or devices={eth0,eth1} or tolerations[0].key=a; they win over files
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// Values that are text whatever they look like
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) set_string: Vec<String>,
    /// Print all values with their defaults and meaning instead
    #[arg(long)]
    pub(crate) show_values: bool,
}

#[derive(clap::Args)]
pub(crate) struct SetupArgs {
    /// Where the container runtime looks for plugins
    #[arg(long, default_value = "/opt/cni/bin")]
    pub(crate) cni_bin_dir: PathBuf,
    /// Where the bpf file system belongs
    #[arg(long, default_value = "/sys/fs/bpf")]
    pub(crate) bpf_root: PathBuf,
}

#[derive(clap::Args)]
pub(crate) struct UninstallArgs {
    /// Where the container runtime looks for plugins
    #[arg(long, default_value = "/opt/cni/bin")]
    pub(crate) cni_bin_dir: PathBuf,
    /// Where the container runtime looks for its network configuration
    #[arg(long, default_value = "/etc/cni/net.d")]
    pub(crate) cni_conf_dir: PathBuf,
    /// The bpf file system
    #[arg(long, default_value = "/sys/fs/bpf")]
    pub(crate) bpf_root: PathBuf,
    /// The agent's directory
    #[arg(long, default_value = "/var/run/cilium")]
    pub(crate) state_dir: PathBuf,
    /// Also if pods of this node still use the network
    #[arg(long)]
    pub(crate) force: bool,
}
