// SPDX-License-Identifier: Apache-2.0
//! What a commit asks of the kernel's maps.
//!
//! The numbers of [`kind`], [`Action`] and [`Direction`] equal those of `abi::kind`, `abi::action` and
//! `abi::Direction`. They are written down a second time because this crate knows nothing of maps; the `datapath`
//! crate, which knows both, asserts that they agree.

use ipnet::IpNet;
use model::{EndpointId, NumericIdentity};

/// What an identity without a class falls back to, told by its number alone. Equal to `abi::kind`.
pub mod kind {
    /// First number used for kinds; classes are `1..BASE`.
    pub const BASE: u32 = 0xffff_ff00;
    /// Identity in the own cluster's range.
    pub const OWN_CLUSTER: u32 = BASE;
    /// Identity in any other cluster's range.
    pub const OTHER_CLUSTER: u32 = BASE + 1;
    /// world, world-ipv4, world-ipv6 and node-local CIDR identities (scope 0x01).
    pub const WORLD: u32 = BASE + 2;
    /// remote-node and node-local node identities (scope 0x02).
    pub const REMOTE_NODE: u32 = BASE + 3;
    /// Everything else below 256: reserved identities without a class of their own.
    pub const OTHER: u32 = BASE + 4;
    /// All kinds: every live policy has an entry for each.
    pub const ALL: [u32; 5] = [OWN_CLUSTER, OTHER_CLUSTER, WORLD, REMOTE_NODE, OTHER];
}

/// [`RowMatch::port_bits`] of a whole port.
pub const PORT_BITS: u8 = 16;

/// Direction of the opening packet, seen by the endpoint that is judged. Numbers equal `abi::Direction`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Direction {
    /// To the endpoint.
    Ingress = 1,
    /// From the endpoint.
    Egress = 2,
}

/// Which packets an entry of a row is about: the longest match decides.
///
/// Significant bits in the kernel's key: 40 without a protocol, 48 with a protocol and `port_bits` 0,
/// `48 + port_bits` else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RowMatch {
    /// Direction.
    pub direction: Direction,
    /// IP protocol number; `None` is every protocol, then `port` and `port_bits` are 0.
    pub proto: Option<u8>,
    /// Destination port in host byte order (ICMP, ICMPv6: the type), bits below `port_bits` zero.
    pub port: u16,
    /// Leading bits of `port` that count, 0 to [`PORT_BITS`].
    pub port_bits: u8,
}

/// What happens to a packet. Numbers equal `abi::action`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u32)]
pub enum Action {
    /// Forward.
    Allow = 0,
    /// No rule allows it and a policy began default deny.
    DefaultDeny = 1,
    /// A deny rule matches.
    Deny = 2,
}

/// Value of an entry of a row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RowVerdict {
    /// What happens.
    pub action: Action,
    /// Cookie of the rule that decides, see `Engine::rule`; 0 none.
    pub rule: u32,
}

/// One write to one map. A list of them is to be applied in order; after each one every packet has its old or its new
/// verdict.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Adds or replaces an entry of a row.
    PutRow {
        /// Row id.
        row: u32,
        /// Which packets.
        matching: RowMatch,
        /// What happens to them.
        verdict: RowVerdict,
    },
    /// Removes an entry of a row that nothing refers to any more.
    DeleteRow {
        /// Row id.
        row: u32,
        /// Which packets.
        matching: RowMatch,
    },
    /// Says which row judges a class (or one of [`kind`]) under a policy.
    PutPolicy {
        /// Policy id.
        policy: u32,
        /// Class or kind.
        class: u32,
        /// Row id.
        row: u32,
    },
    /// Removes such an entry.
    DeletePolicy {
        /// Policy id.
        policy: u32,
        /// Class or kind.
        class: u32,
    },
    /// Puts an identity into a class.
    PutIdentity {
        /// The identity.
        identity: NumericIdentity,
        /// Its class, never 0 and never one of [`kind`].
        class: u32,
    },
    /// Takes an identity out of its class: its kind decides.
    DeleteIdentity {
        /// The identity.
        identity: NumericIdentity,
    },
    /// Flips an endpoint to a policy. The last step of making a policy, the first of removing one.
    SetEndpointPolicy {
        /// The endpoint.
        endpoint: EndpointId,
        /// Policy id.
        policy: u32,
    },
    /// Gives addresses outside the mesh a node-local identity.
    PutCidr {
        /// The addresses.
        prefix: IpNet,
        /// Their identity, scope 0x01.
        identity: NumericIdentity,
    },
    /// Takes it back.
    DeleteCidr {
        /// The addresses.
        prefix: IpNet,
    },
}
