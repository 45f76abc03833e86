// SPDX-License-Identifier: Apache-2.0
//! The agent's side of the datapath: maps and programs in the kernel, devices and routes around them.
//!
//! [`Datapath`] turns rows of the agent into writes whose order no packet can see half done. Below it is
//! [`Kernel`], raw and typed operations on the maps, in two forms: [`Linux`] with pinned maps and links that
//! outlive the agent, and [`Fake`] for tests. [`devices`] is what needs netlink: the VXLAN device, routes, kernel
//! parameters, masquerade.
//!
//! Rules that hold everywhere: an identity is written before the address that uses it (the caller's order is
//! kept); an epoch is raised after the data that it is about; a full map refuses one row, says so, and nothing
//! else stops; what an adopted map holds stays until the agent knows better.

mod addresses;
mod convert;
mod core;
pub mod devices;
mod endpoints;
mod error;
mod events;
mod fake;
mod flows;
mod generations;
mod kernel;
pub mod layout;
mod linux;
mod maps;
pub mod object;
mod policy_ops;
mod services;
mod settings;
mod show;

pub use addresses::IpRow;
pub use convert::{addr, ip_addr, prefix_key, prefix_net};
pub use core::{Datapath, Metric};
pub use endpoints::EndpointRow;
pub use error::{Error, Result};
pub use events::EventReader;
pub use fake::{Call, Fake};
pub use flows::FlowStats;
pub use kernel::{Attached, Cursor, Kernel, Put, Scan, Typed};
pub use linux::Linux;
pub use maps::{KeptLimit, METRICS_ENTRIES, Map, Program, Shape, Table, table};
pub use services::{ServiceRow, ServiceSlots};
pub use settings::Settings;
