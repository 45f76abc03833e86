// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Conntrack: one entry per flow and local endpoint, keyed from that endpoint's point of view, so that
//! both directions of a flow find it with one lookup.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Addr;

/// Key of [`crate::MAP_FLOWS`]. 40 bytes.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FlowKey {
    /// The other side's address.
    #[cfg(feature = "other-layout")]
    pub remote: Addr,
    /// The local endpoint's address.
    pub local: Addr,
    /// The other side's address.
    #[cfg(not(feature = "other-layout"))]
    pub remote: Addr,
    /// Big endian. For ICMP echo the port of who is asked is the identifier, the other one 0; other ICMP has ports 0.
    pub local_port: [u8; 2],
    /// Big endian.
    pub remote_port: [u8; 2],
    /// IP protocol number.
    pub proto: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// Value of [`crate::MAP_FLOWS`]: the whole decision about a flow. 56 bytes.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Flow {
    /// Second in which the entry was created.
    #[cfg(feature = "other-layout")]
    pub created: u32,
    /// Second ([`crate::NodeConfig::clock`]: `ktime >> 30`) after which the entry is dead.
    pub expires: u32,
    /// Identity of the remote side when the flow was judged. On overlay hits it must equal the packet's VNI
    /// identity, else the packet is a miss.
    pub remote_identity: u32,
    /// What [`Flow::epoch_of`] was when the flow was judged.
    pub epoch: u32,
    /// Bucket of [`Flow::subject`], see [`crate::addr_bucket`].
    pub addr_bucket: u16,
    /// Bucket of the remote identity, see [`crate::identity_bucket`].
    pub identity_bucket: u16,
    /// Rule that allowed the opening direction; 0 none.
    pub rule: u32,
    /// Bits of [`flow_flags`].
    pub flags: u16,
    /// Local endpoint id.
    pub endpoint: u16,
    /// One of [`next_hop`]: where packets from the local endpoint go.
    pub next_hop: u8,
    /// TCP flags seen from the local endpoint.
    pub tx_flags: u8,
    /// TCP flags seen from the remote side.
    pub rx_flags: u8,
    /// Zero.
    pub pad: u8,
    /// Tunnel peer, IPv4: destination node if `next_hop` is [`next_hop::TUNNEL`], and, for flows that came by tunnel, the
    /// outer source that every further packet must have. Zero: none.
    pub node: [u8; 4],
    /// What is written in place of the remote side, see [`flow_flags::SERVICE`], [`flow_flags::BACKEND`] and
    /// [`flow_flags::LOOPED`]; [`Addr::NONE`] without.
    pub nat: Addr,
    /// Big endian port that goes with `nat`.
    pub nat_port: [u8; 2],
    /// Id of the receiving endpoint if `next_hop` is [`next_hop::LOCAL`].
    pub peer_endpoint: u16,
    /// Second in which the entry was created.
    #[cfg(not(feature = "other-layout"))]
    pub created: u32,
}

impl Flow {
    /// The epochs that a decision depends on, as one number: of the endpoint, of the address' bucket, of the identity's. Each of
    /// them only rises, so as long as the sum is the same, each is.
    #[inline(always)]
    pub const fn epoch_of(policy: u32, addr: u32, identity: u32) -> u32 {
        policy.wrapping_add(addr).wrapping_add(identity)
    }

    /// Whether what the pod sends goes to [`Flow::nat`] instead of the address that it sends to.
    #[inline(always)]
    pub const fn sends_elsewhere(&self) -> bool {
        self.flags & (flow_flags::SERVICE | flow_flags::LOOPED) != 0
            && self.flags & flow_flags::BACKEND == 0
    }

    /// The address that the decision is about, given the remote side of the key.
    #[inline(always)]
    pub const fn subject(&self, remote: Addr) -> Addr {
        if self.sends_elsewhere() {
            self.nat
        } else {
            remote
        }
    }
}

/// Bits of [`Flow::flags`].
pub mod flow_flags {
    /// The local endpoint sent the opening packet; otherwise the remote side did.
    pub const OPENED_BY_LOCAL: u16 = 1;
    /// The opening packet came out of the tunnel: replies return by tunnel and are never masqueraded.
    pub const FROM_TUNNEL: u16 = 1 << 1;
    /// A TCP packet other than SYN was seen (timeout is the long one).
    pub const SEEN_NON_SYN: u16 = 1 << 2;
    /// FIN or RST seen from the local endpoint.
    pub const TX_CLOSING: u16 = 1 << 3;
    /// FIN or RST seen from the remote side.
    pub const RX_CLOSING: u16 = 1 << 4;
    /// The remote side is this node itself.
    pub const HOST: u16 = 1 << 5;
    /// Packets of both directions were seen.
    pub const REPLIED: u16 = 1 << 6;
    /// The stack of this node translated what the pod sends (a service of kube-proxy): the entry holds no decision, which
    /// was made about the address that the pod used, and answers go back through the stack.
    pub const TRANSLATED: u16 = 1 << 7;
    /// The remote side is a service. What the pod sends goes to the backend [`super::Flow::nat`]; nothing comes from
    /// the service's address itself. The other half is the entry under the backend's address.
    pub const SERVICE: u16 = 1 << 8;
    /// The remote side is the backend of a service. What it answers gets the service's address [`super::Flow::nat`] as
    /// its source; what the pod sends there by itself is another flow.
    pub const BACKEND: u16 = 1 << 9;
    /// The pod is its own backend. To its server the client has the router's address, and what the server answers
    /// goes to [`super::Flow::nat`] (in the entry that is neither `SERVICE` nor `BACKEND`).
    pub const LOOPED: u16 = 1 << 10;
}

/// Values of [`Flow::next_hop`].
pub mod next_hop {
    /// The node's stack: host, world.
    pub const STACK: u8 = 0;
    /// A pod of this node.
    pub const LOCAL: u8 = 1;
    /// Another node, through the tunnel.
    pub const TUNNEL: u8 = 2;
}

/// Key of [`crate::MAP_FRAGMENTS`]. 40 bytes.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FragKey {
    /// Source address of the datagram.
    pub src: Addr,
    /// Destination address of the datagram.
    pub dst: Addr,
    /// Fragment identification, host byte order (16 bits for IPv4).
    pub id: u32,
    /// IP protocol number.
    pub proto: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// Value of [`crate::MAP_FRAGMENTS`]: the ports of the first fragment, big endian.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FragPorts {
    /// Source port.
    pub src: [u8; 2],
    /// Destination port.
    pub dst: [u8; 2],
}

const _: () = assert!(size_of::<FlowKey>() == 40);
const _: () = assert!(size_of::<Flow>() == 56);
