// SPDX-License-Identifier: Apache-2.0
//! Reading options: flags win over the environment (`CILIUM_…`), which wins over the directory.
//!
//! Flags and environment are written for this program: an unknown one is an error that names the nearest. The
//! directory is a map that people share with other parts: an unknown key is a warning, see [`foreign`].
//!
//! Whatever is wrong is gathered, so that a start names all of it at once.

mod defs;
mod directory;
mod flags;
mod foreign;
mod lookup;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::Process;
use defs::{Def, Kind, options};

/// Environment variables with our prefix that are no options of the agent.
const OTHER_ENV: &[&str] = &[
    "CILIUM_SOCK",
    "CILIUM_HEALTH_SOCK",
    "CILIUM_MONITOR_SOCK",
    "CILIUM_CLI_MODE",
    "CILIUM_ETCD_STATUS_CHECK_INTERVAL",
];

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Source {
    Flag,
    Env,
    File(PathBuf),
}

/// What was read so far.
#[derive(Default)]
struct Given {
    values: BTreeMap<&'static str, (String, Source)>,
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl Given {
    /// Takes a value unless a stronger source gave one. A number, a duration or a switch that is empty is not given.
    fn take(&mut self, def: &Def, text: String, source: Source) {
        let empty_is_none = matches!(def.kind, Kind::Bool | Kind::Duration | Kind::Number);
        if source != Source::Flag && empty_is_none && text.trim().is_empty() {
            return;
        }
        self.values.entry(def.name).or_insert((text, source));
    }
}

/// Values by option name, complete with defaults, and what to tell the operator.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Values {
    values: BTreeMap<&'static str, String>,
    /// Where those that somebody set come from.
    sources: BTreeMap<&'static str, Source>,
    /// What makes a start impossible.
    pub problems: Vec<String>,
    /// Keys of the directory that have no effect.
    pub warnings: Vec<String>,
}

/// Nothing was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OptionErrors {
    /// `--help` or `--version` was asked for: what to print.
    Help(String),
}

fn env_name(option: &str) -> String {
    format!("CILIUM_{}", option.replace('-', "_").to_ascii_uppercase())
}

impl Values {
    /// Reads flags, environment and directory. What is wrong with them is in [`Values::problems`].
    pub fn read(
        process: Process,
        args: impl IntoIterator<Item = OsString>,
        env: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Values, OptionErrors> {
        let mut given = Given::default();
        flags::read(process, args.into_iter().collect(), &mut given)?;
        from_env(process, env, &mut given);
        let dir = given.values.get("config-dir").map(|(dir, _)| dir.clone());
        if let Some(dir) = dir.filter(|dir| !dir.is_empty()) {
            directory::read(dir.as_ref(), &mut given);
        }
        let mut read = Values {
            problems: given.problems,
            warnings: given.warnings,
            ..Values::default()
        };
        for def in options() {
            let (value, source) = match given.values.remove(def.name) {
                Some((value, source)) => (value, Some(source)),
                None => (def.default.to_owned(), None),
            };
            read.values.insert(def.name, value);
            read.sources.extend(source.map(|source| (def.name, source)));
        }
        Ok(read)
    }

    /// The value of an option of the table.
    pub fn get(&self, name: &str) -> &str {
        self.values
            .get(name)
            .map(String::as_str)
            .expect("an option of the table")
    }

    /// Whether somebody set the option.
    pub fn is_given(&self, name: &str) -> bool {
        self.sources.contains_key(name)
    }

    /// The option and its value in the words of whoever set it.
    pub fn named(&self, name: &str) -> String {
        let value: String = self.get(name).chars().take(256).collect();
        match self.sources.get(name) {
            None | Some(Source::Flag) => format!("--{name}={value}"),
            Some(Source::Env) => format!("{}={value}", env_name(name)),
            Some(Source::File(path)) => format!("{} ({name}={value})", path.display()),
        }
    }

    /// All options and values, for status.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.values
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
    }
}

fn from_env(
    process: Process,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    given: &mut Given,
) {
    let mut env: Vec<_> = env.into_iter().collect();
    env.sort();
    for (name, value) in env {
        let Some(name) = name.to_str() else { continue };
        let Some(rest) = name.strip_prefix("CILIUM_") else {
            continue;
        };
        if OTHER_ENV.contains(&name) || is_service_variable(rest) {
            continue;
        }
        let option = rest.replace('_', "-").to_ascii_lowercase();
        match (lookup::find(&option), value.into_string()) {
            (Some(def), Ok(value)) => given.take(def, value, Source::Env),
            (Some(_), Err(_)) => given.problems.push(format!("{name}: not UTF-8 text")),
            (None, _) => given.problems.push(unknown_env(process, name, &option)),
        }
    }
}

fn unknown_env(process: Process, name: &str, option: &str) -> String {
    let word = process.word();
    let more = match lookup::nearest(option) {
        Some(near) => format!("; did you mean {}?", env_name(near)),
        None if foreign::is_known(option) => {
            format!(": Cilium has this option and this {word} does not; leave it out")
        }
        None => String::new(),
    };
    format!("environment variable {name} is not an option of the {word}{more}")
}

/// Kubernetes sets such variables for every Service, e.g. for one named `cilium-ingress`.
fn is_service_variable(rest: &str) -> bool {
    rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || rest.ends_with("_PORT")
        || rest.contains("_PORT_")
}
