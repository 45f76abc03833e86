// SPDX-License-Identifier: Apache-2.0
//! Kubernetes objects become model and policy values here and nowhere else. Its sources are a
//! directory of ordinary manifests that serves a whole cluster, and an API server; both are followed live, by one conversion.
#![forbid(unsafe_code)]

pub mod api;
mod cidr_group;
mod condition;
pub mod crds;
mod disk;
mod error;
mod field;
mod manifests;
mod network_policy;
mod object;
mod pods;
mod policy_object;
mod ports;
mod services;
mod source;
mod watch;

pub use cidr_group::CidrGroupObject;
pub use condition::{Condition, Verdict};
pub use error::{FieldError, Problem};
pub use manifests::{Manifests, ObjectEvent};
pub use object::Object;
pub use source::Source;
pub use watch::{Follow, Update, WatchError};
