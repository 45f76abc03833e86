// SPDX-License-Identifier: Apache-2.0
//! The kernel's network tables, synchronous and typed: links, addresses, routes, neighbours, namespaces,
//! nftables and sysctls. No other program is started, and no word of any domain is known here.
//!
//! Every verb that makes something is idempotent where the kernel can be (`ensure_…`), every verb that
//! removes something takes absence for success. A [`Socket`] may be shared between threads: one request
//! is answered before the next is sent.

mod address;
mod error;
mod filter;
pub mod ipsec;
mod link;
mod link_add;
mod link_set;
mod mac;
mod monitor;
mod neighbour;
mod netns;
pub mod nft;

mod route;
mod socket;
pub mod sysctl;
mod transport;

pub use address::{Address, Dad, Scope};
pub use error::{Error, Result};
pub use filter::{Filter, Side};
pub use link::{Link, LinkRef, LinkStats};
pub use link_add::{VethEnd, VethSpec, VxlanSpec};
pub use mac::{BadMac, Mac};
pub use monitor::{Monitor, Notice};
pub use netns::NetNs;
pub use route::{Route, RouteKind, TABLE_LOCAL, TABLE_MAIN};
pub use socket::Socket;
