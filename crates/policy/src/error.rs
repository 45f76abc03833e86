// SPDX-License-Identifier: Apache-2.0
//! Why a policy object is refused.

use ipnet::IpNet;

use crate::PolicyKey;

/// A policy object that is refused whole; its previous version stays in force. `field` is a path such as
/// `rules[0].ingress[1].fromEndpoints`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// No name, or namespace and kind do not fit.
    #[error("{key}: {problem}")]
    Key {
        /// The object.
        key: PolicyKey,
        /// What is wrong and what to do.
        problem: &'static str,
    },
    /// An object without rules.
    #[error("{key}: neither spec nor specs is given: write at least one rule")]
    NoRules {
        /// The object.
        key: PolicyKey,
    },
    /// A rule without entries.
    #[error(
        "{key}: {field}: none of ingress, ingressDeny, egress, egressDeny has an element: add one, or remove the rule"
    )]
    NoEntries {
        /// The object.
        key: PolicyKey,
        /// Path of the rule.
        field: String,
    },
    /// More than is accepted.
    #[error("{key}: {field}: {count} elements, at most {max} are allowed: split the policy")]
    TooMany {
        /// The object.
        key: PolicyKey,
        /// Path of the list.
        field: String,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// Two kinds of peers in one entry.
    #[error("{key}: {field}: {first} and {second} cannot stand in one element: make two elements")]
    MixedPeers {
        /// The object.
        key: PolicyKey,
        /// Path of the entry.
        field: String,
        /// One kind.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A prefix in `except` that is not inside the CIDR.
    #[error(
        "{key}: {field}: {except} is not inside {cidr}: only narrower prefixes can be taken out"
    )]
    Except {
        /// The object.
        key: PolicyKey,
        /// Path of the prefix.
        field: String,
        /// The prefix.
        except: IpNet,
        /// The CIDR.
        cidr: IpNet,
    },
    /// No node-local identities left for the prefixes of the policy.
    #[error(
        "{key}: {needed} new prefixes need an identity each and {free} of {max} are free: use fewer or wider prefixes"
    )]
    Prefixes {
        /// The object.
        key: PolicyKey,
        /// Identities that it needs.
        needed: usize,
        /// Identities that are left.
        free: usize,
        /// Identities that there are.
        max: usize,
    },
}

impl Error {
    /// The object that is refused.
    pub fn key(&self) -> &PolicyKey {
        match self {
            Self::Key { key, .. }
            | Self::NoRules { key }
            | Self::NoEntries { key, .. }
            | Self::TooMany { key, .. }
            | Self::MixedPeers { key, .. }
            | Self::Except { key, .. }
            | Self::Prefixes { key, .. } => key,
        }
    }
}
