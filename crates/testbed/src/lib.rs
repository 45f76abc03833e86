// SPDX-License-Identifier: Apache-2.0
//! Labs: whole meshes of clusters on one machine, made of namespaces, with real etcd servers, real
//! agents, real pods and real faults. What the demo shows and what the mesh tests use.
//!
//! ```no_run
//! use testbed::{ClusterSpec, Keep, Lab, Programs};
//! let programs = Programs::find("target/debug/lab".into())?;
//! let mut lab = Lab::create("example", &programs, Keep::No)?;
//! for id in [5, 7] {
//!     lab.add_cluster(&ClusterSpec::numbered(id, 2))?;
//! }
//! lab.connect_all()?;
//! lab.start_agents()?;
//! # Ok::<(), testbed::LabError>(())
//! ```

pub mod client;
mod cluster;
pub mod demo;
mod error;
mod etcd;
pub mod fault;
mod ground;
pub mod interrupt;
pub mod kubernetes;
mod lab;
mod layout;
pub mod manifest;
mod monitor;
mod namespace;
mod node;
pub mod pki;
mod pod;
pub mod process;
pub mod serve;
pub mod teardown;
pub mod underlay;
mod volume;
mod wait;

pub use cluster::{Cluster, ClusterSpec};
pub use error::{LabError, Result};
pub use etcd::Etcd;
pub use lab::{Keep, Lab, OTHER_LAYOUT, Programs};
pub use layout::{AGENT_RUN, DATA, Layout, ROOT, Record};
pub use monitor::Monitor;
pub use namespace::Place;
pub use node::{AgentSettings, Node};
pub use pod::{Family, Pod};
pub use underlay::{Underlay, Wire};
pub use volume::Volume;
pub use wait::eventually;
