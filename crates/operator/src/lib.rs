// SPDX-License-Identifier: Apache-2.0
//! The cluster's operator: what is done once for all nodes, and what no node waits for. It keeps the definitions of the custom
//! resources, and takes away identities that nobody has and keys of nodes that Kubernetes has no more. One of its replicas
//! works; the others wait for its Lease. While none runs, nothing is lost and nothing is collected.
#![forbid(unsafe_code)]

mod app;
mod definitions;
mod gone_nodes;
mod identities;
mod nodes;
mod status;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use config::Process;

/// Runs the operator until it is told to stop or its configuration changes. `args` are the arguments after `operator`.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let (config, values) = match config::begin(Process::Operator, args.clone()) {
        Ok(begun) => begun,
        Err(code) => return code,
    };
    for warning in &config.warnings {
        tracing::warn!(warning, "configuration");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(2)
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime
            .block_on(app::run(config, values, args))
            .map_err(|error| error.to_string()),
        Err(error) => Err(format!("cannot start its thread: {error}")),
    };
    config::end(Process::Operator, result)
}
