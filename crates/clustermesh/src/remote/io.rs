// SPDX-License-Identifier: Apache-2.0
//! What goes into a remote's state machine, and what comes out.

use model::{ClusterConfig, ClusterId};

use crate::Kind;

/// A connection attempt and what comes of it. Inputs of another than the present one are ignored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Session(pub u64);

/// Something to follow in the remote's kvstore.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Watch {
    /// What the cluster says about itself.
    Config,
    /// Announcements that a prefix is complete.
    Canaries,
    /// Rows.
    Rows(Kind),
}

/// What happens to a remote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// The last good rows were read from the disk; this is what the cluster said about itself.
    Restored(ClusterConfig),
    /// Its file is new or has changed and is usable.
    Configured {
        /// Endpoints in it.
        endpoints: Vec<String>,
    },
    /// Its file has changed and is not usable.
    Unusable(String),
    /// Its file is gone.
    Removed,
    /// The attempt failed or the connection is lost.
    Failed(Session, String),
    /// The list of heartbeats is complete: etcd answers. With the number of its etcd cluster.
    Answered(Session, Option<u64>),
    /// A heartbeat was written.
    Heartbeat(Session),
    /// The cluster configuration as it is now.
    Config(Session, Result<Option<ClusterConfig>, String>),
    /// The canary of a kind exists.
    Canary(Session, Kind),
    /// A complete list of a kind has been read.
    Listed(Session, Kind),
    /// An id became free.
    IdsChanged,
    /// Time has passed.
    Tick,
}

/// What the driver has to do, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// Make a connection with the present configuration and follow its heartbeats.
    Connect(Session),
    /// Drop it.
    Close(Session),
    /// Follow something.
    Watch {
        /// Over this connection.
        session: Session,
        /// What.
        watch: Watch,
        /// Below `cilium/cache`.
        cached: bool,
    },
    /// Rows of this id are acceptable from now on.
    Open(ClusterId),
    /// Delete all rows.
    Drain,
    /// Delete all rows and forget the cluster. Nothing comes after it.
    Remove,
    /// An id became free: tell all remotes.
    IdReleased,
    /// All kinds have been read completely.
    Synced,
}
