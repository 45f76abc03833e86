// SPDX-License-Identifier: Apache-2.0
//! What can go wrong: the operation, its object, and the kernel's reason in words.

use std::io;
use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed operation on the kernel's network tables.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No netlink socket.
    #[error("cannot open a netlink socket ({family}): {source}")]
    Open {
        /// Netlink family.
        family: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The socket itself failed.
    #[error("cannot {operation} {object}: the netlink socket failed: {source}")]
    Transport {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused the request.
    #[error("cannot {operation} {object}: {source}{detail}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// The kernel's errno.
        source: io::Error,
        /// The kernel's own words, in brackets, or empty.
        detail: String,
    },
    /// The kernel answered something that is not understood.
    #[error("cannot {operation} {object}: the kernel's answer is not understood: {detail}")]
    Answer {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// What was wrong with it.
        detail: String,
    },
    /// The object that an operation needs does not exist.
    #[error("cannot {operation} {object}: there is no such {kind}")]
    Missing {
        /// What was tried.
        operation: &'static str,
        /// Its name.
        object: String,
        /// What kind of thing it is.
        kind: &'static str,
    },
    /// A device name that the kernel would not take.
    #[error(
        "`{0}` is not a device name: 1 to 15 bytes without blanks, `/` and `:`, and not `.` or `..`"
    )]
    Name(String),
    /// Something about a network namespace failed.
    #[error("cannot {operation} network namespace {path}: {source}", path = .path.display())]
    Namespace {
        /// What was tried.
        operation: &'static str,
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The path is there but is no network namespace.
    #[error("{path} is not a network namespace", path = .0.display())]
    NotNamespace(PathBuf),
    /// A sysctl could not be read or written.
    #[error("cannot {operation} sysctl {key}: {source}")]
    Sysctl {
        /// `read` or `set`.
        operation: &'static str,
        /// Its dotted name, and the value if it was written.
        key: String,
        /// Why.
        source: io::Error,
    },
    /// A description of a table that cannot be encoded.
    #[error("cannot describe {object}: {detail}")]
    Spec {
        /// What was described.
        object: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl Error {
    /// The kernel's errno, if the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Open { source, .. }
            | Error::Transport { source, .. }
            | Error::Refused { source, .. }
            | Error::Namespace { source, .. }
            | Error::Sysctl { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// Whether the object was not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Error::Missing { .. })
            || matches!(
                self.errno(),
                Some(libc::ENODEV | libc::ESRCH | libc::ENOENT | libc::EADDRNOTAVAIL | libc::ENXIO)
            )
    }

    /// Whether the object was already there.
    pub fn is_present(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }
}

/// Turns "was not there" into success, for verbs that remove.
pub(crate) fn absent_ok(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.is_absent() => Ok(()),
        other => other,
    }
}
