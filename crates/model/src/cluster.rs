// SPDX-License-Identifier: Apache-2.0
//! Names and numbers of clusters, and what a cluster says about itself (Cilium's `pkg/clustermesh/types`).

use std::fmt;
use std::sync::Arc;

/// Number of a cluster. 0 is a cluster that is in no mesh; 1..=255 or 1..=511 are members.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct ClusterId(pub u16);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Name of a cluster: at most 32 characters, `^([a-z0-9][-a-z0-9]*)?[a-z0-9]$`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterName(Arc<str>);

/// Why a cluster name is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ClusterNameError {
    /// No characters.
    #[error("the cluster name is empty: give a name of 1 to 32 characters")]
    Empty,
    /// More than 32 characters.
    #[error("cluster name {name:?} has {length} characters, 32 are allowed: choose a shorter one")]
    TooLong {
        /// The name, cut to 64 characters.
        name: String,
        /// Its length.
        length: usize,
    },
    /// A character that may not stand there.
    #[error(
        "cluster name {name:?} is invalid: only a-z, 0-9 and '-' are allowed, with a letter or digit first and last"
    )]
    Invalid {
        /// The name.
        name: String,
    },
}

impl ClusterName {
    /// The name that a cluster has if nobody gave it one; not allowed for a member of a mesh.
    pub const DEFAULT: &'static str = "default";

    /// Checks `name`.
    pub fn new(name: &str) -> Result<Self, ClusterNameError> {
        let length = name.chars().count();
        if length == 0 {
            return Err(ClusterNameError::Empty);
        }
        if length > 32 {
            return Err(ClusterNameError::TooLong {
                name: name.chars().take(64).collect(),
                length,
            });
        }
        let alnum = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let bytes = name.as_bytes();
        let inner = bytes.iter().all(|&c| alnum(c) || c == b'-');
        let ends = [bytes.first(), bytes.last()]
            .iter()
            .all(|c| c.is_some_and(|&c| alnum(c)));
        if inner && ends {
            Ok(Self(name.into()))
        } else {
            Err(ClusterNameError::Invalid {
                name: name.to_owned(),
            })
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

/// What a cluster says about itself under `cilium/cluster-config/<name>`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClusterConfig {
    /// Its number.
    pub id: ClusterId,
    /// It writes sync canaries.
    pub synced_canaries: bool,
    /// Its keys are mirrored under `cilium/cache`.
    pub cached: bool,
    /// 0 if absent.
    pub max_connected_clusters: u32,
    /// `None`: that version has no service exports at all.
    pub service_exports_enabled: Option<bool>,
    /// How backends of services are exported, in its words; empty: as services only.
    pub endpoint_slices_export_mode: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "0", "cluster5", "a-b", &"x".repeat(32)] {
            assert!(ClusterName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "ä", &"x".repeat(33)] {
            assert!(ClusterName::new(bad).is_err(), "{bad}");
        }
    }
}
