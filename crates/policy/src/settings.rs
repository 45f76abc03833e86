// SPDX-License-Identifier: Apache-2.0
//! Options of the engine.

use model::{ClusterId, ClusterName, IdentityScheme};

use crate::{Families, Room};

/// `enable-policy`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EnforcementMode {
    /// An endpoint is closed in a direction once a policy says so.
    #[default]
    Default,
    /// Every endpoint is closed.
    Always,
    /// Every endpoint is open, whatever policies say.
    Never,
}

/// What does not change while the engine lives.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How identities are divided among clusters.
    pub scheme: IdentityScheme,
    /// `cluster-id`.
    pub cluster_id: ClusterId,
    /// `cluster-name`.
    pub cluster: ClusterName,
    /// `policy-default-local-cluster`: endpoint selectors that name no cluster mean the own one.
    pub default_local_cluster: bool,
    /// Address families of the pods.
    pub families: Families,
    /// `enable-policy`.
    pub mode: EnforcementMode,
    /// `allow-localhost`: the local host reaches its endpoints unless a rule denies it.
    pub allow_localhost: bool,
    /// Classes that the identities of one other cluster may make, about. The labels of who would make more do not count.
    pub max_classes: usize,
    /// What policies may take of the kernel's maps. While endpoints change to others, both are there: twice as much.
    pub room: Room,
}
