// SPDX-License-Identifier: Apache-2.0
//! How a process begins: options are read and checked, and its log is set up, or it says why not.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use crate::Config;
use crate::options::{OptionErrors, Values};

/// Whose options are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Process {
    /// The agent of a node.
    Agent,
    /// The operator of a cluster.
    Operator,
}

impl Process {
    /// How it is called.
    pub fn command(self) -> &'static str {
        match self {
            Process::Agent => "isthmus agent",
            Process::Operator => "isthmus operator",
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Process::Agent => "agent",
            Process::Operator => "operator",
        }
    }

    pub(crate) fn about(self) -> &'static str {
        match self {
            Process::Agent => {
                "The node's agent: addresses for pods, the node's part of the mesh, and the datapath"
            }
            Process::Operator => {
                "The cluster's operator: definitions of custom resources, and what nobody uses any more"
            }
        }
    }
}

/// Reads the options of `process` from `args`, the environment and the directory, and logs to standard error from now on.
///
/// # Errors
/// The process ends with this code: everything has been said.
pub fn begin(
    process: Process,
    args: impl IntoIterator<Item = OsString>,
) -> Result<(Config, Values), ExitCode> {
    let values = match Values::read(process, args, std::env::vars_os()) {
        Ok(values) => values,
        Err(OptionErrors::Help(text)) => return Err(print(&text)),
    };
    let host = std::env::var("K8S_NODE_NAME")
        .ok()
        .filter(|name| !name.is_empty())
        .or_else(host_name)
        .unwrap_or_default();
    let config = match Config::new(&values, &host) {
        Ok(config) => config,
        Err(errors) => {
            let text = format!("{} cannot start:\n{errors}\n", process.command());
            return Err(fail(&text));
        }
    };
    if let Err(error) = log_to_stderr(&config.log_level) {
        let (command, level) = (process.command(), &config.log_level);
        return Err(fail(&format!("{command}: --log-level={level}: {error}\n")));
    }
    Ok((config, values))
}

/// The end of `process`: its exit status, after it has said why, if there is a reason.
pub fn end(process: Process, result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => fail(&format!("{}: {reason}\n", process.command())),
    }
}

fn fail(text: &str) -> ExitCode {
    // Nobody left to read is no reason to fail differently.
    let _ = std::io::stderr().write_all(text.as_bytes());
    ExitCode::FAILURE
}

fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn host_name() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok()
}

fn log_to_stderr(directives: &str) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter: tracing_subscriber::EnvFilter = directives.parse()?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // It would tell standard error that standard error is gone, and panic.
        .log_internal_errors(false)
        .init();
    Ok(())
}
