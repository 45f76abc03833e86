// SPDX-License-Identifier: Apache-2.0
//! Either source of a cluster's objects, to whoever only wants the objects.

use crate::{Follow, Update, api};

/// Where objects come from.
#[derive(Debug)]
pub enum Source {
    /// A directory.
    Directory(Box<Follow>),
    /// An API server.
    Api(Box<api::Source>),
}

impl Source {
    /// Waits for the next change; the first answer is the whole state. Cancel safe.
    pub async fn next(&mut self) -> Update {
        match self {
            Source::Directory(follow) => follow.next().await,
            Source::Api(source) => source.next().await,
        }
    }
}
