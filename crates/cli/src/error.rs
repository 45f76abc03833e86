// SPDX-License-Identifier: Apache-2.0
//! Why a command failed: one line each.

use std::io;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The agent cannot be asked, or refuses.
    #[error("{0}")]
    Agent(#[from] api::Error),
    /// An argument that only the command can judge.
    #[error("{argument}: {why}")]
    Argument {
        /// As typed.
        argument: String,
        /// What is wrong, what is right.
        why: String,
    },
    /// `policy wait` did not see the revision.
    #[error(
        "policy revision {revision} is not in force on all endpoints after {seconds} s: {waiting}; see: endpoint list"
    )]
    Wait {
        /// The wanted revision.
        revision: i64,
        /// How long was waited.
        seconds: f64,
        /// Which endpoints lack it.
        waiting: String,
    },
    /// Output.
    #[error("cannot write the output: {source}")]
    Write {
        /// The refusal.
        source: io::Error,
    },
    /// Output as YAML.
    #[error("cannot write the answer as {format}: {why}")]
    Format {
        /// The format.
        format: &'static str,
        /// The library's words.
        why: String,
    },
    /// Start.
    #[error("cannot start the event loop: {source}")]
    Runtime {
        /// The refusal.
        source: io::Error,
    },
}
