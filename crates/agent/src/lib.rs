// SPDX-License-Identifier: Apache-2.0
//! The node's agent: configuration → parts, wired. What the parts mean is decided below; here is who talks to whom.
#![forbid(unsafe_code)]

mod addresses;
mod app;
mod cni_file;
mod config;
mod core;
mod endpoint;
mod events;
pub mod fuzzing;
mod health;
mod held;
mod identities;
mod ipam;
mod listen;
mod lock;
mod metrics;
mod node;
mod options;
mod own;
mod policy_text;
mod service;
mod shared;
mod start;
mod summary;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use config::Config;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use options::{OptionErrors, Values};

/// Runs the agent until it is told to stop. `args` are the arguments after `agent`.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let values = match Values::read(args, std::env::vars_os()) {
        Ok(values) => values,
        Err(OptionErrors::Help(text)) => return print(&text, true),
    };
    let host = std::env::var("K8S_NODE_NAME")
        .ok()
        .filter(|name| !name.is_empty())
        .or_else(host_name)
        .unwrap_or_default();
    let config = match Config::new(&values, &host) {
        Ok(config) => config,
        Err(errors) => return print(&format!("isthmus agent cannot start:\n{errors}\n"), false),
    };
    if let Err(error) = log_to_stderr(&config.log_level) {
        return print(
            &format!("isthmus agent: --log-level={}: {error}\n", config.log_level),
            false,
        );
    }
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return print(
                &format!("isthmus agent: cannot start its threads: {error}\n"),
                false,
            );
        }
    };
    match runtime.block_on(app::run(config, values)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => print(&format!("isthmus agent: {error}\n"), false),
    }
}

/// As many descriptors as this process may have. It begins with 1024 in most places, and each of up to 510 remote clusters
/// takes two.
fn raise_descriptors() {
    let limit = Resource::RLIMIT_NOFILE;
    let raised = getrlimit(limit).and_then(|(_, most)| setrlimit(limit, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "the number of open files stays limited");
    }
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

/// Prints to standard output if all is well, to standard error otherwise.
fn print(text: &str, well: bool) -> ExitCode {
    // Nobody left to read is no reason to fail differently.
    if well {
        let _ = std::io::stdout().write_all(text.as_bytes());
        ExitCode::SUCCESS
    } else {
        let _ = std::io::stderr().write_all(text.as_bytes());
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_descriptor_is_left_unused() {
        let limit = Resource::RLIMIT_NOFILE;
        let (now, most) = getrlimit(limit).expect("a limit");
        setrlimit(limit, now.min(512), most).expect("lowered");
        raise_descriptors();
        assert_eq!(getrlimit(limit), Ok((most, most)));
    }
}
