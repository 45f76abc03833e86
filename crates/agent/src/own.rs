// SPDX-License-Identifier: Apache-2.0
//! This cluster's etcd as a source: its nodes, addresses and identities, and how the connection is.

mod follow;
mod former;
mod status;

use clustermesh::Kind;
use datapath::Linux;
use model::{Labels, NumericIdentity};

use crate::core::Core;

pub(crate) use follow::Follower;
pub(crate) use former::forget as forget_former_names;
pub(crate) use status::{OwnStatus, Writing};

/// Which lists are complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Synced {
    nodes: bool,
    ips: bool,
    identities: bool,
}

impl Synced {
    fn mark(&mut self, kind: Kind) {
        match kind {
            Kind::Nodes => self.nodes = true,
            Kind::Identities => self.identities = true,
            Kind::Ips => self.ips = true,
        }
    }

    pub(crate) fn all(self) -> bool {
        self.nodes && self.ips && self.identities
    }
}

/// The identities that an allocator should know before its etcd answers.
pub(crate) fn known_identities(core: &Core<Linux>) -> Vec<(NumericIdentity, Labels)> {
    core.endpoints
        .values()
        .map(|endpoint| (endpoint.identity, endpoint.labels.clone()))
        .collect()
}
