// SPDX-License-Identifier: Apache-2.0
//! The command line.

mod bpf;
mod flags;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::output::{Format, parse_format};
use flags::{boolean, duration, step};

pub(crate) use bpf::{Bpf, BpfCt, BpfEndpoint, BpfIpcache, BpfLb, BpfMetrics, BpfPolicy};

const OTHER_PROCESSES: &str = "\
Installing, by the same program:
  install       Print the objects of an installation, for kubectl apply
  node-setup    Install the CNI plugin on this node and mount its bpf file system
  uninstall     Remove from this node what an agent left

Processes of the same program:
  agent         Run the agent of this node (agent --help for its options)
  operator      Run the operator of this cluster (operator --help for its options)
  cni           Run as CNI plugin: environment and standard input as the CNI specification says

Called isthmus-cni or cilium-cni it is the CNI plugin; called cilium or cilium-dbg, these commands.";

/// A mesh of Kubernetes clusters: look at the agent of this node.
#[derive(Parser, Debug)]
#[command(name = "isthmus", version, after_help = OTHER_PROCESSES, max_term_width = 120)]
pub(crate) struct Cli {
    /// Socket of the agent: a path, also with unix:// before it
    #[arg(short = 'H', long = "host", global = true, env = api::SOCKET_ENV, default_value = api::DEFAULT_SOCKET, value_name = "SOCKET", value_parser = clap::builder::OsStringValueParser::new().map(socket))]
    pub(crate) host: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The command line of the program.
pub(crate) fn command() -> clap::Command {
    flags::like_go(Cli::command())
}

/// An empty name, as a manifest's empty variable is, names nothing.
fn socket(name: OsString) -> PathBuf {
    if name.is_empty() {
        api::DEFAULT_SOCKET.into()
    } else {
        api::socket_path(name.into())
    }
}

/// `-o`.
#[derive(Args, Debug, Clone)]
pub(crate) struct Output {
    /// Write the answer as json, yaml or jsonpath='{.path}'
    #[arg(short, long, value_parser = parse_format, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Show the state of the agent and of the remote clusters
    Status(StatusArgs),
    /// Show how the agent is configured
    Config(Config),
    /// Nodes of the mesh
    #[command(subcommand)]
    Node(Node),
    /// Endpoints of this node
    #[command(subcommand)]
    Endpoint(Endpoint),
    /// Security identities
    #[command(subcommand)]
    Identity(Identity),
    /// Addresses and the identities behind them
    #[command(subcommand)]
    Ip(Ip),
    /// Services and who answers for them
    #[command(subcommand)]
    Service(Service),
    /// Policy rules
    #[command(subcommand)]
    Policy(Policy),
    /// Contents of the kernel's maps
    #[command(subcommand)]
    Bpf(Bpf),
    /// Kernel maps
    #[command(subcommand)]
    Map(Map),
    /// Metrics of the agent
    #[command(subcommand)]
    Metrics(Metrics),
    /// This cluster's etcd
    #[command(subcommand)]
    Kvstore(Kvstore),
    /// Show dropped packets as they happen, with what dropped them
    Monitor(Monitor),
    /// Look for what is wrong between this node and others
    #[command(subcommand)]
    Troubleshoot(Troubleshoot),
    /// Write a script with which a shell completes these commands
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Show the version of this program and of the agent
    Version(Output),
}

/// `troubleshoot`.
#[derive(Subcommand, Debug)]
pub(crate) enum Troubleshoot {
    /// Try the way to the etcds of remote clusters: files, names, TCP, TLS, certificates, etcd
    Clustermesh(TroubleshootArgs),
}

/// `troubleshoot clustermesh`.
#[derive(Args, Debug)]
pub(crate) struct TroubleshootArgs {
    /// Only these clusters
    #[arg(value_name = "CLUSTER")]
    pub(crate) clusters: Vec<String>,
    /// Give up a step after so long, 1s to 10s in whole seconds, rounded up
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = step)]
    pub(crate) timeout: u64,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `status`.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// One line: OK, or the first thing that fails
    #[arg(long)]
    pub(crate) brief: bool,
    /// Everything: all addresses, clusters, controllers and map sizes
    #[arg(long)]
    pub(crate) verbose: bool,
    /// All remote clusters in detail, not only those that are not ready
    #[arg(long)]
    pub(crate) all_clusters: bool,
    /// All addresses of this node's pods
    #[arg(long)]
    pub(crate) all_addresses: bool,
    /// All controllers, not only failing ones
    #[arg(long)]
    pub(crate) all_controllers: bool,
    /// A lost Kubernetes API is a failure
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_parser = boolean, value_name = "BOOL")]
    pub(crate) require_k8s_connectivity: bool,
    /// Give up after so long
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `config`.
#[derive(Args, Debug)]
pub(crate) struct Config {
    /// What to show instead of all.
    #[command(subcommand)]
    pub(crate) command: Option<ConfigCommand>,
    /// Only what is set when the agent starts
    #[arg(short, long)]
    pub(crate) read_only: bool,
    /// Everything
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Taken so that the answer can say why nothing is changed.
    #[arg(value_name = "OPTION=VALUE", hide = true)]
    pub(crate) changes: Vec<String>,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `config get`.
#[derive(Subcommand, Debug)]
pub(crate) enum ConfigCommand {
    /// Show the value of one option
    Get {
        /// The option, such as cluster-name or ClusterName
        #[arg(value_name = "OPTION")]
        name: String,
        #[command(flatten)]
        output: Output,
    },
}

/// `node`.
#[derive(Subcommand, Debug)]
pub(crate) enum Node {
    /// List the nodes of all clusters
    List(Output),
}

/// `endpoint`.
#[derive(Subcommand, Debug)]
pub(crate) enum Endpoint {
    /// List the endpoints
    List(Output),
    /// Show one endpoint: a number, cep-name:NAMESPACE/POD, ipv4:…, ipv6:… or cni-attachment-id:…
    Get(EndpointArgs),
    /// Show the health of an endpoint
    Health(EndpointArgs),
    /// Show the labels of an endpoint
    Labels(EndpointArgs),
    /// Show what happened to an endpoint
    Log(EndpointArgs),
}

/// One endpoint.
#[derive(Args, Debug)]
pub(crate) struct EndpointArgs {
    /// Number, or prefix:value
    pub(crate) id: api::EndpointRef,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// `identity`.
#[derive(Subcommand, Debug)]
pub(crate) enum Identity {
    /// List the identities
    List {
        /// Those of this node's endpoints, with the number of endpoints
        #[arg(long, conflicts_with = "labels")]
        endpoints: bool,
        /// Only those with all of these labels
        #[arg(value_name = "LABEL")]
        labels: Vec<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Show one identity
    Get {
        /// Its number
        id: u32,
        #[command(flatten)]
        output: Output,
    },
}

/// `ip`.
#[derive(Subcommand, Debug)]
pub(crate) enum Ip {
    /// List the addresses
    List {
        /// Show the node and the encryption key too
        #[arg(short, long)]
        verbose: bool,
        /// Show identities as numbers
        #[arg(short, long)]
        numeric: bool,
        /// Only addresses inside this prefix
        #[arg(long, value_name = "PREFIX")]
        cidr: Option<String>,
        #[command(flatten)]
        output: Output,
    },
}

/// `service`.
#[derive(Subcommand, Debug)]
pub(crate) enum Service {
    /// List the services that this node translates
    #[command(alias = "ls")]
    List(Output),
}

/// `policy`.
#[derive(Subcommand, Debug)]
pub(crate) enum Policy {
    /// Show the rules in force
    Get(Output),
    /// Show the selectors in use and the identities that they select
    Selectors(Output),
    /// Show the selectors of those whom policies are for, and this node's identities that they select
    SubjectSelectors(Output),
    /// Wait until all endpoints enforce a policy revision
    Wait {
        /// The revision
        revision: i64,
        /// Give up after so long
        #[arg(long, default_value = "6m", value_parser = duration, value_name = "DURATION")]
        max_wait_time: Duration,
    },
}

/// `map`.
#[derive(Subcommand, Debug)]
pub(crate) enum Map {
    /// List the maps
    List(Output),
    /// Show what is in a map, field by field
    Get {
        /// The map, as in map list
        name: String,
        #[command(flatten)]
        output: Output,
    },
}

/// `metrics`.
#[derive(Subcommand, Debug)]
pub(crate) enum Metrics {
    /// List the values that Prometheus gets
    List {
        /// Only those whose name, or a label as name=value, matches this regular expression
        #[arg(
            short = 'p',
            long,
            default_value = "",
            hide_default_value = true,
            value_name = "PATTERN"
        )]
        match_pattern: String,
        #[command(flatten)]
        output: Output,
    },
}

/// `kvstore`.
#[derive(Subcommand, Debug)]
pub(crate) enum Kvstore {
    /// Show the value of a key
    Get {
        /// The key, or with --recursive how keys begin
        key: String,
        /// All keys that begin like this
        #[arg(long)]
        recursive: bool,
        #[command(flatten)]
        output: Output,
    },
}

/// Kinds of events.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
pub(crate) enum EventType {
    /// Dropped packets.
    Drop,
}

/// `monitor`.
#[derive(Args, Debug)]
pub(crate) struct Monitor {
    /// Kind of events
    #[arg(short = 't', long = "type", value_enum, default_value = "drop")]
    pub(crate) kind: EventType,
    /// One JSON object per line
    #[arg(short, long)]
    pub(crate) json: bool,
    /// Show identities as numbers
    #[arg(short, long)]
    pub(crate) numeric: bool,
    /// Only packets that this endpoint sent
    #[arg(long, value_name = "ENDPOINT")]
    pub(crate) from: Option<u16>,
    /// Only packets to this endpoint
    #[arg(long, value_name = "ENDPOINT")]
    pub(crate) to: Option<u16>,
    /// Only packets that this endpoint sent or was to receive
    #[arg(long, value_name = "ENDPOINT")]
    pub(crate) related_to: Option<u16>,
}
