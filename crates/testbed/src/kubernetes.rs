// SPDX-License-Identifier: Apache-2.0
//! Real Kubernetes clusters on one machine, without a container engine: a control plane in a network
//! namespace, and nodes that have namespaces of every kind, a root and control groups of their own, with
//! containerd and the kubelet inside. Everything is dual-stack and on the underlay of other labs.
//!
//! ```no_run
//! use testbed::Keep;
//! use testbed::kubernetes::{ClusterSpec, Lab, Network, Programs};
//! let programs = Programs::find("target/debug/lab".into())?;
//! let mut lab = Lab::create("example", &programs, Keep::No)?;
//! let specs = [5, 7].map(|id| ClusterSpec::numbered(id, 2));
//! lab.add_clusters(&specs, Network::StandIn)?;
//! println!("{}", lab.cluster("cluster5").kubectl().run(&["get", "nodes"])?);
//! # Ok::<(), testbed::LabError>(())
//! ```

mod addresses;
mod cgroups;
mod cluster;
pub mod conformance;
mod control_plane;
mod dns;
mod editor;
mod image;
pub mod images;
mod init;
pub mod isthmus;
mod kubeconfig;
mod kubectl;
mod lab;
mod machine;
mod network;
mod programs;
mod settings;

pub use addresses::Addresses;
pub use cluster::{Cluster, ClusterSpec, Network};
pub use control_plane::{ControlPlane, admin_config};
pub use editor::edit_config_map;
pub use image::{Content, Image};
pub use init::{guard, init};
pub use kubectl::{Kubectl, PodStatus};
pub use lab::Lab;
pub use machine::{Machine, inside};
pub use programs::{OTHER_LAYOUT, Programs};
pub use settings::Proxy;

pub(crate) use cgroups::remove as remove_group;
