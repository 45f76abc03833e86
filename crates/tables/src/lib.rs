// SPDX-License-Identifier: Apache-2.0
//! Machinery between sources and sinks, without domain words: one vocabulary of change, stores that turn
//! it into differences, back-off, and tasks that somebody owns.
#![forbid(unsafe_code)]

mod backoff;
mod event;
mod store;
mod tasks;

pub use backoff::Backoff;
pub use event::Event;
pub use store::{Change, Store};
pub use tasks::{TaskFailed, Tasks};
