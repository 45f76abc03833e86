// SPDX-License-Identifier: Apache-2.0
//! The command line of `bpf`.

use clap::Subcommand;

use super::Output;

/// `bpf`.
#[derive(Subcommand, Debug)]
pub(crate) enum Bpf {
    /// Addresses and identities
    #[command(subcommand)]
    Ipcache(BpfIpcache),
    /// Connection tracking
    #[command(subcommand)]
    Ct(BpfCt),
    /// Endpoints
    #[command(subcommand)]
    Endpoint(BpfEndpoint),
    /// Services and the backends that new flows choose from
    #[command(subcommand)]
    Lb(BpfLb),
    /// Policy verdicts
    #[command(subcommand)]
    Policy(BpfPolicy),
    /// Packets per reason
    #[command(subcommand)]
    Metrics(BpfMetrics),
}

/// `bpf ipcache`.
#[derive(Subcommand, Debug)]
pub(crate) enum BpfIpcache {
    /// List the entries
    List(Output),
}

/// `bpf ct`.
#[derive(Subcommand, Debug)]
pub(crate) enum BpfCt {
    /// List the flows
    List {
        /// global, or the number of an endpoint
        #[arg(default_value = "global", value_name = "global|ENDPOINT")]
        which: String,
        /// Show how long each flow still lives
        #[arg(short = 'd', long)]
        time_diff: bool,
        #[command(flatten)]
        output: Output,
    },
}

/// `bpf endpoint`.
#[derive(Subcommand, Debug)]
pub(crate) enum BpfEndpoint {
    /// List the endpoints
    List(Output),
}

/// `bpf lb`.
#[derive(Subcommand, Debug)]
pub(crate) enum BpfLb {
    /// List the entries
    List(Output),
}

/// `bpf policy`.
#[derive(Subcommand, Debug)]
pub(crate) enum BpfPolicy {
    /// Show the verdicts of an endpoint
    Get {
        /// Number of the endpoint
        #[arg(required_unless_present = "all")]
        endpoint: Option<u16>,
        /// All endpoints
        #[arg(long, conflicts_with = "endpoint")]
        all: bool,
        /// Show identities as numbers
        #[arg(short, long)]
        numeric: bool,
        #[command(flatten)]
        output: Output,
    },
}

/// `bpf metrics`.
#[derive(Subcommand, Debug)]
pub(crate) enum BpfMetrics {
    /// List the counters
    List(Output),
}
