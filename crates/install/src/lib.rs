// SPDX-License-Identifier: Apache-2.0
//! Installing: `install` prints the objects of an installation, the same that the Helm chart in `deploy/chart` makes, from
//! the same templates; `node-setup` prepares a node before its first agent; `uninstall` takes away from a node what the
//! agent left there on purpose.
#![forbid(unsafe_code)]

mod args;
mod assignment;
mod chart;
mod error;
mod functions;
mod node;
mod schema;
mod uninstall;
mod values;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use args::{Args, Command};
pub use error::Error;

/// First arguments that are ours.
pub const COMMANDS: [&str; 3] = ["install", "node-setup", "uninstall"];

/// Runs the command in `args` (without the program's name), under the name `program`. Returns its exit status.
pub fn main(program: &str, args: Vec<OsString>) -> ExitCode {
    let command = Args::command().name(program.to_owned());
    let words = std::iter::once(OsString::from(program)).chain(args);
    let parsed = command
        .try_get_matches_from(words)
        .and_then(|matches| Args::from_arg_matches(&matches));
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            // Nobody is left to read it if this fails.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let done = match parsed.command {
        Command::Install(args) => chart::install(&args),
        Command::NodeSetup(args) => node::setup(&args),
        Command::Uninstall(args) => uninstall::run(&args),
    };
    match done.and_then(|text| print(&text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The exit status says it too.
            let _ = writeln!(std::io::stderr(), "Error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> Result<(), Error> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(source) if source.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::Print { source })
        }
        _ => Ok(()),
    }
}
