// SPDX-License-Identifier: Apache-2.0
//! The CNI plugin: gives a container its device, addresses and routes, and tells the agent, by the CNI
//! specification 1.1.0. Started by the container runtime, it reads the environment and standard input, answers with
//! one JSON object on standard output, and ends. It starts no other program.
//!
//! ADD plans first (module `plan`, pure), then executes with undo (module `add`): a failed ADD leaves nothing behind. DEL
//! succeeds without the agent: what the agent must do is queued ([`api::queue`]). GC (module `collect`) removes what a
//! runtime lost.
#![forbid(unsafe_code)]

mod add;
mod agent;
mod check;
mod collect;
mod config;
mod delete;
mod error;
mod input;
mod log;
mod loopback;
mod names;
mod plan;
mod result;
mod version;

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

pub use error::Error;
pub use input::Invocation;
pub use names::host_device;

use error::Failure;
use input::{Command, Request};
use log::Log;

/// What the runtime gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// For standard output: a result, an error, or nothing.
    pub text: String,
    /// Whether the exit status is 0.
    pub success: bool,
}

/// Runs the plugin as the runtime started it.
pub fn main() -> ExitCode {
    finish(Invocation::from_process().map(|invocation| run(&invocation)))
}

fn finish(output: Result<Output, Error>) -> ExitCode {
    let output = output.unwrap_or_else(|error| refusal(version::NEWEST, &error.into()));
    // Nobody is left to be told if standard output is gone; the exit status still says it.
    let written = std::io::stdout().write_all(output.text.as_bytes());
    if output.success && written.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Whether environment and network configuration are acceptable; carries nothing out.
///
/// # Errors
/// What the runtime would be told.
pub fn check(invocation: &Invocation) -> Result<(), Error> {
    invocation.parse().map(|_request| ())
}

/// Runs the loopback plugin as the runtime started it.
pub fn loopback_main() -> ExitCode {
    finish(Invocation::from_process().map(|invocation| loopback::run(&invocation)))
}

/// Runs one invocation in the network namespace of the calling thread.
pub fn run(invocation: &Invocation) -> Output {
    let request = match invocation.parse() {
        Ok(request) => request,
        Err(error) => return refusal(&version::of_stdin(&invocation.stdin), &error.into()),
    };
    let started = Instant::now();
    let log = Log::open(&request);
    let answer = execute(&request, &log);
    match answer {
        Ok(text) => {
            let done = format!("done in {} ms", started.elapsed().as_millis());
            match request.command {
                // A runtime asks for these every few seconds.
                Command::Status | Command::Version => log.debug(&done),
                _ => log.info(&done),
            }
            Output {
                text,
                success: true,
            }
        }
        Err(failure) => {
            log.error(&failure.to_string());
            refusal(request.version.as_str(), &failure)
        }
    }
}

fn execute(request: &Request, log: &Log) -> Result<String, Failure> {
    if let Command::Version = request.command {
        return Ok(version::answer(request.version));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Runtime { source })?;
    runtime.block_on(async {
        match &request.command {
            Command::Add(add) => add::add(request, add, log).await,
            Command::Delete(delete) => Ok(delete::delete(request, delete, log).await?),
            Command::Check(check) => Ok(check::check(request, check).await?),
            Command::Status => Ok(check::status(request).await?),
            Command::Collect(gc) => Ok(collect::collect(request, gc, log).await?),
            Command::Version => Ok(version::answer(request.version)),
        }
    })
}

fn refusal(version: &str, failure: &Failure) -> Output {
    Output {
        text: failure.to_json(version),
        success: false,
    }
}
