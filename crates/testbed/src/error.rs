// SPDX-License-Identifier: Apache-2.0
//! Everything that can go wrong while a lab is built, used or taken down.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// What failed in a lab, named by the phase that failed.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A lab needs network and mount namespaces.
    #[error("a lab makes network namespaces and mounts, so it must run as root: use sudo")]
    NotRoot,
    /// A signal asked the lab to end while it was still being built.
    #[error("interrupted")]
    Interrupted,
    /// Another process is using the lab.
    #[error(
        "lab {lab} is in use by process {pid}: wait for its end, or end it first (Ctrl-C there takes the lab down)"
    )]
    InUse {
        /// The lab.
        lab: String,
        /// The process.
        pid: i32,
    },
    /// A needed program or file is not there.
    #[error("{what} not found at {path}: {advice}", path = path.display())]
    Missing {
        /// What it is.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// How to get it.
        advice: &'static str,
    },
    /// A file, mount or namespace operation of the lab itself.
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    Io {
        /// The operation.
        doing: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A program that the lab ran to its end failed.
    #[error("{command} failed with {status}: {output}")]
    Command {
        /// Program and arguments.
        command: String,
        /// Exit status, or "no answer within …".
        status: String,
        /// Standard error, or standard output where that is empty.
        output: String,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate for {subject}: {source}")]
    Certificate {
        /// Whose.
        subject: String,
        /// Why.
        source: rcgen::Error,
    },
    /// A manifest that the lab reads as a kubelet would is wrong.
    #[error("manifest {path}: {reason}", path = path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The CNI plugin answered something that is no CNI result.
    #[error("CNI {verb} of pod {pod}: {reason}")]
    Cni {
        /// ADD, DEL, CHECK.
        verb: &'static str,
        /// Cluster, namespace and name.
        pod: String,
        /// Why.
        reason: String,
    },
    /// Something that should become true did not in time.
    #[error("{what}: not within {waited:?}; last seen: {last}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// The last value of the probe.
        last: String,
    },
    /// A name that is not in this lab.
    #[error("no {kind} named {name} in this lab; there are: {known}")]
    Unknown {
        /// Node, pod, cluster, …
        kind: &'static str,
        /// The name that was asked for.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// A statement about the system under test does not hold.
    #[error("{0}")]
    Unmet(String),
}

/// Result of lab operations.
pub type Result<T> = std::result::Result<T, LabError>;

/// Attaches the operation and its path to an I/O error.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| LabError::Io {
            doing,
            path: path.as_ref().to_path_buf(),
            source: source.into(),
        })
    }
}
