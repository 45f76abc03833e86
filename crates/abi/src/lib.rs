// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! What crosses the boundary between the agent and its BPF programs: map keys and values, map and
//! program names, drop reasons and events. Bytes only; no decision is made here.
//!
//! Every type is `repr(C)`, has no padding (zerocopy refuses it) and is in host byte order, except
//! fields documented as big endian. Addresses are 16 bytes, IPv4 as IPv4-mapped IPv6 (RFC 4291, 2.5.5.2).
//! A change of any layout must raise [`VERSION`]: pins live under a directory of that version, and an agent takes the maps
//! of another version over by the names of their fields ([`Record`]).
#![no_std]

mod addr;
mod event;
mod flow;
mod layout;
mod maps;
mod reason;
mod service;

pub use addr::Addr;
pub use event::{CAPTURE_LEN, DropEvent, EVENT_DROP};
pub use flow::{Flow, FlowKey, FragKey, FragPorts, flow_flags, next_hop};
pub use layout::{Field, Record};
pub use maps::*;
pub use reason::{Direction, DropReason, ExtError};
pub use service::*;

/// Version of all layouts and map names in this crate. Pins live under `…/isthmus/v<VERSION>/`.
#[cfg(not(feature = "other-layout"))]
pub const VERSION: u32 = 5;
/// For tests: the same in another order.
#[cfg(feature = "other-layout")]
pub const VERSION: u32 = 1_000_005;
