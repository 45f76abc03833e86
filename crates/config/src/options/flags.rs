// SPDX-License-Identifier: Apache-2.0
//! Options from the command line, and `--help`.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command};

use super::defs::{Def, Kind, is_of, options};
use super::lookup;
use crate::Process;

use super::{Given, OptionErrors, Source, foreign};

/// Flags that are no options.
const OTHERS: &[&str] = &["help", "version"];

/// Takes what the command line says.
pub(super) fn read(
    process: Process,
    args: Vec<OsString>,
    given: &mut Given,
) -> Result<(), OptionErrors> {
    given.problems.extend(unknown(process, &args));
    if !given.problems.is_empty() && !args.iter().any(|arg| arg == "--help" || arg == "-h") {
        return Ok(());
    }
    let matches = match command(process).try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            let text = error.render().to_string();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Err(OptionErrors::Help(text)),
                _ => {
                    given.problems.push(first_line(&text));
                    Ok(())
                }
            };
        }
    };
    for def in options() {
        if let Some(values) = matches.get_many::<String>(def.name) {
            let text = values.cloned().collect::<Vec<_>>().join(",");
            given.take(def, text, Source::Flag);
        }
    }
    Ok(())
}

/// All unknown flags at once: the parser would name the first only.
fn unknown(process: Process, args: &[OsString]) -> Vec<String> {
    let flags = args.iter().take_while(|arg| *arg != "--");
    let names = flags.filter_map(|arg| {
        let text = arg.to_string_lossy();
        let name = text.strip_prefix("--")?;
        Some(
            name.split_once('=')
                .map_or(name, |(name, _)| name)
                .to_owned(),
        )
    });
    let strange = names.filter(|name| lookup::find(name).is_none() && !OTHERS.contains(&&**name));
    let (word, command) = (process.word(), process.command());
    strange
        .map(|name| {
            let shown: String = name.chars().take(64).collect();
            match lookup::nearest(&name) {
                Some(near) => format!("--{shown} is not an option of the {word}; did you mean --{near}?"),
                None if foreign::is_known(&name) => format!(
                    "--{shown} is an option of Cilium that this {word} does not have: leave it out ({command} --help lists all options)"
                ),
                None => format!(
                    "--{shown} is not an option of the {word} ({command} --help lists all options)"
                ),
            }
        })
        .collect()
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

fn command(process: Process) -> Command {
    let args = options().map(|def| {
        let arg = Arg::new(def.name)
            .hide(!is_of(process, def))
            .long(def.name)
            .help(help_of(def))
            .help_heading(def.section);
        match def.kind {
            Kind::Bool => arg
                .num_args(0..=1)
                .default_missing_value("true")
                .require_equals(true)
                .value_name("BOOL"),
            Kind::List | Kind::Map => arg.action(ArgAction::Append).value_name("VALUE,…"),
            Kind::Duration => arg.value_name("DURATION"),
            Kind::Number => arg.value_name("N"),
            Kind::Text => arg.value_name("VALUE"),
        }
    });
    let name = process.command();
    Command::new(name)
        .about(process.about())
        .version(env!("CARGO_PKG_VERSION"))
        .override_usage(format!("{name} [OPTIONS]"))
        .after_help(AFTER)
        .no_binary_name(true)
        .args_override_self(true)
        .max_term_width(120)
        .args(args)
}

const AFTER: &str = "\
Every option can also be set by environment (CILIUM_CLUSTER_NAME=… for --cluster-name) or by a file of that name in \
--config-dir. Flags win over the environment, the environment wins over the directory. Given twice, the last flag \
counts, but lists are joined. A BOOL is true or false, behind '='; a DURATION is 30s, 15m or 1h30m.

The node's name comes from --node-name, else from the environment variable K8S_NODE_NAME, else it is the host's.";

fn help_of(def: &Def) -> String {
    if def.default.is_empty() {
        def.help.to_owned()
    } else {
        format!("{} [default: {}]", def.help, def.default)
    }
}
