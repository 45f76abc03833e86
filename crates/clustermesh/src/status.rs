// SPDX-License-Identifier: Apache-2.0
//! What operators see of a remote cluster.

use std::fmt;
use std::time::SystemTime;

use model::{ClusterConfig, ClusterName};

use crate::RefusedRow;

/// Where a cluster stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// Its file is unusable and nothing is connected.
    Misconfigured,
    /// A connection is being made.
    Connecting,
    /// Connected; it has not said anything about itself yet.
    WaitingForConfig,
    /// What it says about itself is not acceptable.
    Refused,
    /// Its rows are being read for the first time.
    Synchronizing,
    /// All its rows are known and followed.
    Ready,
    /// The connection is lost; everything known stays in force.
    Stale,
}

impl State {
    /// All states, in order.
    pub const ALL: [State; 7] = [
        State::Misconfigured,
        State::Connecting,
        State::WaitingForConfig,
        State::Refused,
        State::Synchronizing,
        State::Ready,
        State::Stale,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Misconfigured => "misconfigured",
            State::Connecting => "connecting",
            State::WaitingForConfig => "waiting-for-cluster-config",
            State::Refused => "refused",
            State::Synchronizing => "synchronizing",
            State::Ready => "ready",
            State::Stale => "stale",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which kinds of rows were read completely over the present connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Synced {
    /// Nodes.
    pub nodes: bool,
    /// Addresses.
    pub endpoints: bool,
    /// Identities.
    pub identities: bool,
}

impl Synced {
    /// Whether all are.
    pub const fn all(self) -> bool {
        self.nodes && self.endpoints && self.identities
    }
}

/// The connection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EtcdStatus {
    /// Endpoints of the configuration file.
    pub endpoints: Vec<String>,
    /// Number of the etcd cluster that answers, hexadecimal; empty before the first answer.
    pub cluster_id: String,
    /// Last heartbeat seen over the present connection.
    pub last_heartbeat: Option<SystemTime>,
    /// Last answer or change of any kind, also over a connection that is lost since.
    pub last_answer: Option<SystemTime>,
}

/// A remote cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteStatus {
    /// Its name: the file's.
    pub name: String,
    /// Where it stands.
    pub state: State,
    /// Connected, accepted, and all rows known and followed.
    pub ready: bool,
    /// Its etcd answers.
    pub connected: bool,
    /// Since when it is in this state.
    pub since: SystemTime,
    /// Why, in words; empty when ready and nothing is wrong.
    pub reason: String,
    /// Nodes in force.
    pub nodes: usize,
    /// Addresses in force.
    pub endpoints: usize,
    /// Identities in force.
    pub identities: usize,
    /// Failed or lost connections so far.
    pub failures: u64,
    /// When the last one was.
    pub last_failure: Option<SystemTime>,
    /// What it was; empty if there was none.
    pub last_error: String,
    /// Failed attempts since the cluster was last connected; 0 while it is.
    pub failing: u64,
    /// What it says about itself, as far as accepted.
    pub config: Option<ClusterConfig>,
    /// What was read completely over the present connection.
    pub synced: Synced,
    /// Keys whose value is refused at present.
    pub refused_rows: u64,
    /// Some of them, the latest first.
    pub refused: Vec<RefusedRow>,
    /// Rows whose key went with its lease: their agents are away, they stay.
    pub orphans: usize,
    /// When the first of them became one.
    pub orphans_since: Option<SystemTime>,
    /// Its rows, or some, are those of the disk.
    pub served_from_disk: bool,
    /// What is wrong with saving or restoring its rows, empty if nothing.
    pub disk_error: String,
    /// The connection.
    pub etcd: EtcdStatus,
}

impl RemoteStatus {
    /// An entry for a file whose name is no cluster name, or that never was usable.
    pub fn misconfigured(name: &str, since: SystemTime, reason: String) -> Self {
        Self {
            name: name.to_owned(),
            state: State::Misconfigured,
            ready: false,
            connected: false,
            since,
            reason,
            nodes: 0,
            endpoints: 0,
            identities: 0,
            failures: 0,
            last_failure: None,
            last_error: String::new(),
            failing: 0,
            config: None,
            synced: Synced::default(),
            refused_rows: 0,
            refused: Vec::new(),
            orphans: 0,
            orphans_since: None,
            served_from_disk: false,
            disk_error: String::new(),
            etcd: EtcdStatus::default(),
        }
    }

    /// The name, if it is valid.
    pub fn cluster(&self) -> Option<ClusterName> {
        ClusterName::new(&self.name).ok()
    }
}
