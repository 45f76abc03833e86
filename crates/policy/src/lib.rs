// SPDX-License-Identifier: Apache-2.0
//! What policies mean: rules in, classes of identities and rows of verdicts out.
//!
//! Pure: no I/O, no clock, no async, no maps. [`PolicyObject`]s come from the `kubernetes` crate, [`Op`]s go to the
//! `datapath` crate.
#![forbid(unsafe_code)]

mod adopt;
mod ast;
mod cidrs;
mod classes;
mod commit;
mod compile;
mod content;
mod cookie;
mod crowds;
mod engine;
mod error;
mod groups;
mod ids;
mod index;
mod listing;
mod op;
mod peer;
mod ports;
mod records;
mod regroup;
mod room;
mod row;
mod rows;
mod selectors;
mod settings;
mod targets;
mod validate;

pub use ast::{
    CidrRule, DefaultDeny, Entity, Entry, GroupRule, NamedPortRule, Peers, PolicyKey, PolicyKind,
    PolicyObject, PortProtocol, PortRule, Rule,
};
pub use cookie::RuleInfo;
pub use engine::Engine;
pub use error::Error;
pub use groups::CidrGroup;
pub use listing::{Explanation, PolicyLine};
pub use op::{Action, Direction, Op, PORT_BITS, RowMatch, RowVerdict, kind};
pub use peer::Families;
pub use room::{Refusal, Room};
pub use settings::{EnforcementMode, Settings};
pub use validate::validate;
