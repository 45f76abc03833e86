// SPDX-License-Identifier: Apache-2.0
//! What can go wrong, for the person who installs.

use std::io;
use std::path::PathBuf;

/// Why a command fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A values file.
    #[error("cannot read values file {path}: {source}")]
    ReadValues {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A values file that is not YAML, or not a map.
    #[error("values file {path}: {problem}")]
    ParseValues {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// An assignment on the command line.
    #[error("--set {text}: expected name=value, e.g. cluster.name=east")]
    Assignment {
        /// What was given.
        text: String,
    },
    /// A name that no template reads.
    #[error("value {name} is not known{}; `install --show-values` prints all", hint(.nearest))]
    UnknownValue {
        /// The name with dots.
        name: String,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// A value of another type than its default.
    #[error("value {name} is {given}, expected {expected}")]
    ValueType {
        /// The name with dots.
        name: String,
        /// What it is.
        given: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A combination that cannot work.
    #[error("{problem}")]
    Values {
        /// What is wrong and what to do.
        problem: String,
    },
    /// A template of the chart, which is part of this program.
    #[error("template {name}: {problem}")]
    Template {
        /// Its file.
        name: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A file or directory of the node.
    #[error("cannot {doing} {path}: {source}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Steps of `uninstall` that failed; all others were done.
    #[error("not everything could be removed:\n{}", .0.join("\n"))]
    Leftovers(Vec<String>),
    /// Standard output.
    #[error("cannot print: {source}")]
    Print {
        /// Why.
        source: io::Error,
    },
}

fn hint(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|name| format!("; did you mean {name}?"))
        .unwrap_or_default()
}
