// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Policy lookup: identity → class → row → verdict. What the tables say is final; what they do not say is
//! denied.

use abi::{
    Direction, DropReason, ExtError, NodeConfig, PolicyKey, ROW_BITS_PORT, RowKey, RowVerdict,
    action, kind,
};

use crate::headers::UDP;
use crate::{Report, Tables};

/// Identities below this are reserved.
pub(crate) const FIRST_IDENTITY: u32 = 256;
pub(crate) const HOST: u32 = 1;
pub(crate) const WORLD: u32 = 2;
pub(crate) const REMOTE_NODE: u32 = 6;
pub(crate) const KUBE_APISERVER: u32 = 7;
pub(crate) const WORLD4: u32 = 9;
pub(crate) const WORLD6: u32 = 10;
const SCOPE_CIDR: u32 = 1;
const SCOPE_NODE: u32 = 2;

/// Whether the number is an identity of pods, of whatever cluster.
#[inline(always)]
pub(crate) fn is_pod(identity: u32) -> bool {
    identity >= FIRST_IDENTITY && identity >> 24 == 0
}

/// Whether the number is remote-node, that of nodes with an API server, or a node-local identity of nodes.
#[inline(always)]
pub(crate) fn is_node(identity: u32) -> bool {
    matches!(identity, REMOTE_NODE | KUBE_APISERVER) || identity >> 24 == SCOPE_NODE
}

/// Whether the number is one of world's, or a CIDR identity.
#[inline(always)]
pub(crate) fn is_world(identity: u32) -> bool {
    matches!(identity, WORLD | WORLD4 | WORLD6) || identity >> 24 == SCOPE_CIDR
}

/// The kind (one of [`abi::kind`]) that an identity's number tells.
#[inline(always)]
pub fn kind_of(identity: u32, config: &NodeConfig) -> u32 {
    if is_world(identity) {
        kind::WORLD
    } else if is_node(identity) && identity != KUBE_APISERVER {
        kind::REMOTE_NODE
    } else if identity < FIRST_IDENTITY || identity >> 24 != 0 {
        kind::OTHER
    } else if identity >> (config.cluster_shift & 31) == config.cluster_id {
        kind::OWN_CLUSTER
    } else {
        kind::OTHER_CLUSTER
    }
}

/// What is asked of a policy.
#[derive(Clone, Copy)]
pub(crate) struct Question {
    pub(crate) policy: u32,
    pub(crate) identity: u32,
    pub(crate) direction: Direction,
    pub(crate) proto: u8,
    pub(crate) port: [u8; 2],
}

impl Question {
    /// Whether a pod sends to the tunnel's port. It is not for pods: where the node's address is put before such a packet it
    /// is one of the tunnel, with whatever identity the pod wrote.
    #[inline(always)]
    pub(crate) fn encapsulates(&self, config: &NodeConfig) -> bool {
        self.direction == Direction::Egress
            && self.proto == UDP
            && u32::from(u16::from_be_bytes(self.port)) == config.tunnel_port
    }
}

/// Asks a policy; the rule that decided, and the reason of a refusal, go to `report`. True: allowed.
#[inline(always)]
pub(crate) fn allows<T: Tables>(
    tables: &T,
    config: &NodeConfig,
    question: Question,
    report: &mut Report,
) -> bool {
    let class = tables.class(question.identity, abi::generation(question.policy));
    let verdict = row(tables, config, &question, class)
        .and_then(|row| verdict(tables, &question, row))
        .unwrap_or(RowVerdict {
            action: action::DEFAULT_DENY,
            rule: 0,
        });
    report.rule = verdict.rule;
    match verdict.action {
        action::ALLOW => return true,
        action::DENY => {
            let _ = report.drop(DropReason::PolicyDeniedByDenyList);
        }
        _ if class.is_none() => {
            let _ = report.drop_for(DropReason::PolicyDenied, ExtError::IdentityNotYetKnown);
        }
        _ => {
            let _ = report.drop(DropReason::PolicyDenied);
        }
    }
    false
}

#[inline(always)]
fn row<T: Tables>(
    tables: &T,
    config: &NodeConfig,
    question: &Question,
    class: Option<u32>,
) -> Option<u32> {
    if let Some(class) = class
        && let Some(row) = tables.row(&PolicyKey {
            policy: question.policy,
            class,
        })
    {
        return Some(row);
    }
    let class = kind_of(question.identity, config);
    tables.row(&PolicyKey {
        policy: question.policy,
        class,
    })
}

#[inline(always)]
fn verdict<T: Tables>(tables: &T, question: &Question, row: u32) -> Option<RowVerdict> {
    tables.verdict(&RowKey {
        prefixlen: ROW_BITS_PORT,
        row: row.to_be_bytes(),
        direction: question.direction as u8,
        proto: question.proto,
        port: question.port,
    })
}
