// SPDX-License-Identifier: Apache-2.0
//! The node's agent: configuration → parts, wired. What the parts mean is decided below; here is who talks to whom.
#![forbid(unsafe_code)]

mod addresses;
mod app;
mod cni_file;
mod core;
mod endpoint;
mod events;
mod health;
mod held;
mod identities;
mod ipam;
mod listen;
mod lock;
mod metrics;
mod node;
mod own;
mod policy_text;
mod service;
mod shared;
mod start;
mod summary;

use std::ffi::OsString;
use std::process::ExitCode;

use config::Process;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Runs the agent until it is told to stop. `args` are the arguments after `agent`; `is_up` is called once, after the work of a start.
pub fn main(args: impl IntoIterator<Item = OsString>, is_up: fn()) -> ExitCode {
    let (config, values) = match config::begin(Process::Agent, args) {
        Ok(begun) => begun,
        Err(code) => return code,
    };
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime
            .block_on(app::run(config, values, is_up))
            .map_err(|error| error.to_string()),
        Err(error) => Err(format!("cannot start its threads: {error}")),
    };
    config::end(Process::Agent, result)
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
