// SPDX-License-Identifier: Apache-2.0
//! Kubernetes objects become model and policy values here and nowhere else. The source of this crate is a
//! directory of ordinary manifests that serves a whole cluster and is followed live.
#![forbid(unsafe_code)]

mod error;
mod field;
mod manifests;
mod object;
mod pods;
mod policy_object;
mod watch;

pub use error::{FieldError, Problem};
pub use manifests::{Manifests, ObjectEvent};
pub use object::Object;
pub use watch::{Follow, Update, WatchError};
