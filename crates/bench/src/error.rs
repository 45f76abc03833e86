// SPDX-License-Identifier: Apache-2.0
//! What can go wrong while something is measured.

use testbed::LabError;

/// Why a row has no figure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The lab could not be built or used.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A socket or file of the measurement itself.
    #[error("cannot {doing}: {source}")]
    Io {
        /// The operation.
        doing: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The kernel refused a program, a map or a test run.
    #[error("cannot {doing}: {reason}")]
    Kernel {
        /// The operation.
        doing: String,
        /// The kernel's or the library's words.
        reason: String,
    },
    /// The etcd client of the measurement failed.
    #[error("etcd of the measurement: {0}")]
    Etcd(#[from] etcd_client::Error),
    /// A tool answered something else than expected.
    #[error("{tool} answered {answer}")]
    Tool {
        /// Which.
        tool: &'static str,
        /// What it said.
        answer: String,
    },
    /// No row has this name.
    #[error("no row is called {name}; there are: {known}")]
    UnknownRow {
        /// What was asked for.
        name: String,
        /// All names.
        known: String,
    },
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Attaches the operation to an I/O error.
pub(crate) trait Doing<T> {
    fn doing(self, doing: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::Io {
            doing: doing.into(),
            source: source.into(),
        })
    }
}
