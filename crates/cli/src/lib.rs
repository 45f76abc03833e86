// SPDX-License-Identifier: Apache-2.0
//! The operator's commands: ask the agent over its socket, print a table, JSON or YAML.
//!
//! Texts are those of `cilium-dbg` where it has the command, so that eyes and scripts need not learn anew.
//! Rendering is pure (model in, text out); only [`main`] and the commands' `run` do I/O.
#![forbid(unsafe_code)]

mod absent;
mod args;
mod commands;
mod error;
mod jsonpath;
mod output;
mod table;
mod text;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::FromArgMatches;
use clap::error::ErrorKind;

pub(crate) use error::Error;

/// Runs the command in `args` (without the program's name), under the name `program`. Returns its exit status.
pub fn main(program: &str, args: Vec<OsString>) -> ExitCode {
    let command = args::command().name(program.to_owned());
    let words = std::iter::once(OsString::from(program)).chain(args.iter().cloned());
    let parsed = command
        .try_get_matches_from(words)
        .and_then(|matches| args::Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            if error.kind() == ErrorKind::InvalidSubcommand
                && let Some(why) = absent::why(&commands_of(&args))
            {
                output::error(&why);
                return ExitCode::FAILURE;
            }
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            // Nobody is left to read it if this fails.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(commands::run(program, cli)),
        Err(source) => Err(Error::Runtime { source }),
    };
    match done {
        Ok(code) => code,
        Err(Error::Write { source }) if source.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::error(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// The words before the first flag; the socket may be named before them.
fn commands_of(args: &[OsString]) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = args.iter().filter_map(|word| word.to_str());
    while let Some(word) = rest.next() {
        match word {
            "-H" | "--host" => drop(rest.next()),
            flag if flag.starts_with('-') => {
                if !words.is_empty() {
                    break;
                }
            }
            word => words.push(word),
        }
    }
    words
}

/// The whole command line interface, for documentation.
pub fn command() -> clap::Command {
    args::command()
}
