// SPDX-License-Identifier: Apache-2.0
//! What policies mean: rules in, classes of identities and rows of verdicts out.
//!
//! Pure: no I/O, no clock, no async, no maps. [`PolicyObject`]s come from the `kubernetes` crate, [`Op`]s go to the
//! `datapath` crate.
#![forbid(unsafe_code)]

mod ast;
mod error;
mod op;
mod validate;

pub use ast::{
    CidrRule, DefaultDeny, Entity, Entry, Peers, PolicyKey, PolicyKind, PolicyObject, PortProtocol,
    PortRule, Rule,
};
pub use error::Error;
pub use op::{Action, Direction, Op, PORT_BITS, RowMatch, RowVerdict, kind};
pub use validate::validate;
