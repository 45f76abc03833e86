// SPDX-License-Identifier: Apache-2.0
//! Ours: dropped packets as they happen, one JSON object per line of `GET /isthmus/events`.

use super::*;
use crate::Timestamp;

model! {
    /// A dropped packet, with all that is known about why.
    "kebab-case" DropNotice {
        /// `cluster/node` where it was dropped.
        node: String,
        cpu: u32,
        /// Number of the reason.
        code: u8,
        /// Its text.
        reason: String,
        ext_code: i8,
        /// Finer cause, empty if none.
        ext_error: String,
        /// Reported only; the packet went on.
        audit: bool,
        /// `ingress` or `egress`, as seen by `endpoint`.
        direction: String,
        /// The endpoint that was judged; 0 none.
        endpoint: u16,
        /// The endpoint that would have received it; 0 not on this node.
        dst_endpoint: u16,
        source: Party,
        destination: Party,
        /// `tcp`, `udp`, `icmp`, …
        protocol: String,
        rule: Option<RuleNote>,
        ifindex: u32,
        interface: String,
        /// Flow hash.
        hash: u32,
        /// Length of the packet, bytes.
        bytes: u32,
        /// Outer source if it came by tunnel.
        tunnel: String,
        /// `10.2.1.40:41000 -> 10.1.1.73:80 tcp SYN`.
        summary: String,
        /// Drops that were not reported before this one: too many at once.
        lost: u64,
    } always {
        time: Timestamp,
    }
}
model! {
    /// One side of a packet.
    "kebab-case" Party {
        identity: u32,
        labels: Vec<String>,
        address: String,
        port: u16,
        /// `cluster/namespace/pod` or a node, as far as known.
        name: String,
    }
}
model! {
    /// What decided.
    "kebab-case" RuleNote {
        /// Number of the rule in the kernel.
        id: u32,
        /// `deny`, `default-deny`, …
        kind: String,
        /// In words, with the place in its policy.
        text: String,
        /// `CiliumNetworkPolicy namespace/name`, …: the deciding policy, or those that began the default deny.
        policies: Vec<String>,
    }
}

/// Which drops `GET /isthmus/events` sends. Empty: all.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct EventQuery {
    /// Endpoint that sent the packet.
    pub from: Option<u16>,
    /// Endpoint that would have received it.
    pub to: Option<u16>,
    /// Either.
    pub related_to: Option<u16>,
}

impl EventQuery {
    /// Whether `notice` is asked for.
    pub fn accepts(&self, notice: &DropNotice) -> bool {
        let sender = if notice.direction == "egress" {
            notice.endpoint
        } else {
            0
        };
        let receiver = match notice.dst_endpoint {
            0 if notice.direction == "ingress" => notice.endpoint,
            id => id,
        };
        let is = |wanted: Option<u16>, id: u16| wanted.is_none_or(|w| w == id);
        is(self.from, sender)
            && is(self.to, receiver)
            && self.related_to.is_none_or(|w| w == sender || w == receiver)
    }
}
