// SPDX-License-Identifier: Apache-2.0
//! Requests and answers of the agent's API, one file per subject.
//!
//! Names and omit-rules are those of the Cilium agent API, so that its clients work unmodified: an absent field
//! is zero, some arrays are always written, a timestamp is always written. What is under `/v1/isthmus/` is ours.
#![expect(
    missing_docs,
    reason = "fields carry the names of the API that they mirror; those with a unit or a rule are documented"
)]

mod bpf;
mod config;
mod controller;
mod datapath;
mod endpoint;
mod event;
mod identity;
mod ipam;
mod kvstore;
mod mesh;
mod metric;
mod node;
mod policy;
mod service;
mod status;
mod troubleshoot;

pub use bpf::*;
pub use config::*;
pub use controller::*;
pub use datapath::*;
pub use endpoint::*;
pub use event::*;
pub use identity::*;
pub use ipam::*;
pub use kvstore::*;
pub use mesh::*;
pub use metric::*;
pub use node::*;
pub use policy::*;
pub use service::*;
pub use status::*;
pub use troubleshoot::*;

/// Whether a field is left out: it has its zero value.
fn absent<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Declares a model: fields of the first block are omitted when zero, those of `always` are written always.
macro_rules! model {
    ($(#[$meta:meta])* $case:literal $name:ident {
        $($(#[$fm:meta])* $field:ident: $ty:ty,)*
    } $(always { $($(#[$am:meta])* $always:ident: $aty:ty,)* })?) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Debug, Default, serde::Serialize, serde::Deserialize)]
        #[serde(default, rename_all = $case)]
        pub struct $name {
            $($(#[$fm])* #[serde(skip_serializing_if = "crate::models::absent")] pub $field: $ty,)*
            $($($(#[$am])* pub $always: $aty,)*)?
        }
    };
}
use model;

/// Arrays that are always written: empty is `null`, and `null` is read as empty.
mod null_list {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        list: &Vec<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        if list.is_empty() {
            to.serialize_none()
        } else {
            list.serialize(to)
        }
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<T>, D::Error> {
        Ok(Option::deserialize(from)?.unwrap_or_default())
    }
}
