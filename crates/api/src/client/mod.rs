// SPDX-License-Identifier: Apache-2.0
//! A client of the agent's API. One connection per request: the socket is local, and an agent that restarts
//! in between is not noticed.

mod lines;
mod operations;
mod transport;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use lines::Lines;

/// How long an answer may take, unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(90);

/// Whose answers are accepted on the paths that Cilium's API has too. Own paths need the same API version always.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Peer {
    /// Those of any release: these paths are stable.
    AnyRelease,
    /// Those of an agent with our API version.
    SameVersion,
}

/// A client. Cheap to make; holds no connection.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
    timeout: Duration,
    peer: Peer,
}

impl Client {
    /// A client of the agent that listens on `path`. It accepts agents of other releases on the paths that
    /// Cilium's API has too (the CNI plugin must work while an agent is upgraded).
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            timeout: TIMEOUT,
            peer: Peer::AnyRelease,
        }
    }

    /// The same, accepting only agents with this API version (for people's tools: a clear word beats a wrong table).
    #[must_use]
    pub fn same_version(mut self) -> Self {
        self.peer = Peer::SameVersion;
        self
    }

    /// The same, giving up after `timeout` per request.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
