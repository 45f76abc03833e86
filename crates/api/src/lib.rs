// SPDX-License-Identifier: Apache-2.0
//! The agent's API: models, server and client over a unix socket.
//!
//! HTTP/1.1 and JSON under `/v1`, with the paths and models of the Cilium agent API where one exists, and own paths
//! under `/v1/isthmus/`. axum serves it (routing and extraction, no more), hyper is the client: both are small,
//! and the same HTTP implementation.
#![forbid(unsafe_code)]

mod agent;
mod client;
pub mod digest;
mod endpoint_ref;
mod error;
pub mod models;
pub mod queue;
mod server;
mod socket;
mod timestamp;

pub use agent::{Agent, Answer, ApiError, Deleted, Feed, IpQuery, StatusQuery};
pub use client::{Client, Lines};
pub use endpoint_ref::{EndpointRef, EndpointRefError};
pub use error::Error;
pub use http::StatusCode;
pub use server::{serve, serve_connection, serve_health, serve_metrics, serve_probe};
pub use socket::{Socket, bind, socket_path};
pub use timestamp::Timestamp;

/// Version of the own paths (`/v1/isthmus/`). Raised when one of them changes so that an older program reads it wrongly.
pub const API_VERSION: u32 = 1;
/// Where the agent listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/var/run/cilium/cilium.sock";
/// Environment variable that names the socket.
pub const SOCKET_ENV: &str = "CILIUM_SOCK";
