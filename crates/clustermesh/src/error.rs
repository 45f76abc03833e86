// SPDX-License-Identifier: Apache-2.0
//! What can go wrong with the mesh as a whole. What goes wrong with one cluster is its status, not an error.

use std::path::PathBuf;

/// A failure that concerns all clusters.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Settings that contradict each other.
    #[error(
        "cluster-id is 0 although clustermesh-config names {dir:?}: a member of a mesh needs a cluster-id from 1 to {max}"
    )]
    NoId {
        /// The directory.
        dir: PathBuf,
        /// Largest id.
        max: u16,
    },
    /// Our own id is too large.
    #[error("cluster-id {id} is larger than max-connected-clusters ({max})")]
    IdTooLarge {
        /// Our id.
        id: u16,
        /// Largest id.
        max: u16,
    },
    /// The directory cannot be watched.
    #[error("cannot watch the directory of clustermesh-config, {dir:?}: {reason}")]
    Watch {
        /// The directory.
        dir: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// Saved rows cannot be read.
    #[error("last good rows in {path:?} are ignored: {reason}")]
    Restore {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Rows cannot be saved.
    #[error("last good rows cannot be written to {path:?}: {reason}")]
    Save {
        /// The file.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
}
