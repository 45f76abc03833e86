// SPDX-License-Identifier: Apache-2.0
//! Remote clusters → rows for this node. A directory names the clusters; a state machine per cluster connects,
//! checks what the cluster says about itself, and follows its keys; every row is validated before anybody sees
//! it; the last good rows outlive disconnections and restarts.
//!
//! Sans-IO: [`Remote`] (one cluster's connection) and [`Rows`] (everything that clusters say). I/O: the driver behind
//! [`Mesh`], [`ConfigDir`], [`persist`], and [`publish`], what a cluster without an operator says about itself.
#![forbid(unsafe_code)]

mod config_dir;
mod error;
mod ids;
mod intern;
mod link;
mod mesh;
mod nets;
pub mod persist;
pub mod publish;
mod refused;
mod remote;
mod rows;
mod status;
mod table;
mod validate;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use model::{
    ClusterId, ClusterName, IdentityScheme, Labels, NamedPort, Node, NodeName, NumericIdentity,
};
use tables::Event;

pub use config_dir::{ConfigChange, ConfigDir};
pub use error::Error;
pub use ids::{IdError, Ids};
pub use mesh::Mesh;
pub use refused::RefusedRow;
pub use remote::{Input, Output, Remote, Session, Watch};
pub use rows::{Kind, Pool, Room, Rows, Value};
pub use status::{EtcdStatus, RemoteStatus, State, Synced};
pub use table::IpRow;
pub use validate::{Refusal, decode};

/// What the mesh needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of this cluster. The file with this name is ignored.
    pub cluster: ClusterName,
    /// Its id, not 0.
    pub id: ClusterId,
    /// How identities are divided.
    pub scheme: IdentityScheme,
    /// Networks and addresses that no remote may claim: our pods' and nodes'. [`Mesh::protect`] changes them later.
    pub own_pod_cidrs: Vec<IpNet>,
    /// What all remote clusters may have together. [`Mesh::set_room`] changes it later.
    pub room: Room,
    /// One file per remote cluster, `clustermesh-config`.
    pub config_dir: PathBuf,
    /// Where the last good rows are kept, in `mesh/`. `None`: nowhere.
    pub state_dir: Option<PathBuf>,
    /// Longest wait of [`Mesh::synced`].
    pub sync_timeout: Duration,
}

/// What the mesh tells the agent.
///
/// Per cluster and kind there is one `Init … InitDone`: the last good rows from the disk, or the first live list.
/// Everything after that comes as differences: additions while a new list is read, deletions when it is complete. An
/// identity comes before the addresses that use it and goes after them. On removal of a cluster every row is
/// deleted before [`MeshEvent::Removed`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MeshEvent {
    /// A node of a remote cluster.
    Node(ClusterName, Event<NodeName, Arc<Node>>),
    /// An identity of a remote cluster.
    Identity(ClusterName, Event<NumericIdentity, Labels>),
    /// An address of a remote cluster. Names and ports of the pod: [`Mesh::ip`].
    Ip(ClusterName, Event<IpNet, IpRow>),
    /// What names of ports stand for with the pods of an identity, where these agree: all of them together, each name once.
    Ports(ClusterName, NumericIdentity, Arc<[NamedPort]>),
    /// The cluster is gone from the configuration and all its rows are deleted.
    Removed(ClusterName),
}
