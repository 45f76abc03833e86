// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! What becomes of a packet: pure code over packet views and table lookups that runs in the kernel and in
//! `cargo test`.
//!
//! An entry point ([`from_pod`], [`to_pod`], [`from_overlay`], [`to_overlay`]) reads the packet through
//! [`Packet`], the state of the node through [`Tables`], and answers with a [`Step`]; what the step needs
//! (device, tunnel key, drop reason) is in [`Work::report`]. A packet of an established flow takes one lookup
//! and stays in the entry point; everything else goes to functions of their own (`inline(never)`), so that the
//! kernel's stack limit of 512 bytes holds. For the same reason the larger state lives in [`Work`], which the
//! programs keep in a per-CPU map, and functions that are not inlined return plain numbers or enums without
//! payload: the BPF target returns one register.
#![no_std]
#![forbid(unsafe_code)]

mod answer;
mod checksum;
mod flow;
mod from_overlay;
mod from_pod;
mod halves;
mod headers;
mod ingress;
mod judge;
mod mac;
mod neighbour;
mod outer;
mod packet;
mod parse;
mod policy;
mod related;
mod resolve;
mod service;
mod store;
mod tables;
mod to_overlay;
mod to_pod;
mod translate;
mod transport;
mod work;

pub use flow::{Moved, alive, moved, reopens};
pub use from_overlay::from_overlay;
pub use from_pod::from_pod;
pub use outer::{Frame, Inner, OUTER_LEN, Outer, TUNNEL_TTL, outer, source_port};
pub use packet::{Packet, Sum};
pub use parse::{Layer4, Parsed, parse};
pub use policy::kind_of;
pub use tables::{FlowRef, Insert, Tables};
pub use to_overlay::to_overlay;
pub use to_pod::to_pod;
pub use work::{FRAME_LEN, Report, Step, Tunnel, Work};
