// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Names, keys and values of all maps but conntrack's and those of services.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Addr;

/// Array of one [`NodeConfig`].
pub const MAP_CONFIG: &str = "ist_config";
/// Array of [`Endpoint`], indexed by endpoint id; [`MAX_ENDPOINTS`] entries.
pub const MAP_ENDPOINTS: &str = "ist_endpoints";
/// Hash: host-side ifindex (u32) → endpoint id (u32).
pub const MAP_DEVICES: &str = "ist_devices";
/// Hash: [`Addr`] → [`Local`]: addresses of this node's pods and of the node itself.
pub const MAP_LOCALS: &str = "ist_locals";
/// Hash: [`Addr`] → [`IpInfo`]: single addresses (prefix length 32 / 128) outside this node.
pub const MAP_IPCACHE: &str = "ist_ipcache";
/// LPM trie: [`PrefixKey`] → [`IpInfo`]: prefixes shorter than an address.
pub const MAP_PREFIXES: &str = "ist_prefixes";
/// Hash: [`NodeKey`] → u32 (1): which clusters' nodes publish an address.
pub const MAP_NODES: &str = "ist_nodes";
/// Hash: identity (u32) → [`Classes`].
pub const MAP_IDENTITIES: &str = "ist_identities";
/// Hash: [`PolicyKey`] → row (u32).
pub const MAP_POLICIES: &str = "ist_policies";
/// LPM trie: [`RowKey`] → [`RowVerdict`].
pub const MAP_ROWS: &str = "ist_rows";
/// Hash: [`crate::FlowKey`] → [`crate::Flow`]. Preallocated; insertion fails when full.
pub const MAP_FLOWS: &str = "ist_flows";
/// LRU hash: [`crate::FragKey`] → [`crate::FragPorts`].
pub const MAP_FRAGMENTS: &str = "ist_fragments";
/// Array of [`BUCKETS`] u32: epochs of buckets, raised by the agent.
pub const MAP_EPOCHS: &str = "ist_epochs";
/// Array of [`MAX_ENDPOINTS`] u32: conntrack entries per endpoint (raised by the programs, lowered by garbage collection), and at
/// [`SHARE_OF_ALL`] those of all of them.
pub const MAP_SHARES: &str = "ist_shares";
/// No endpoint's index of [`MAP_SHARES`]: entries of the whole table.
pub const SHARE_OF_ALL: u32 = 0;
/// Per-CPU array of [`Counter`], index = `reason * 4 + direction` (reason 0 = forwarded).
pub const MAP_METRICS: &str = "ist_metrics";
/// Ring buffer of [`crate::DropEvent`].
pub const MAP_EVENTS: &str = "ist_events";

/// Program on the host side of a pod's veth, ingress: packets that the pod sends.
pub const PROG_FROM_POD: &str = "from_pod";
/// Program on the host side of a pod's veth, egress: packets that the stack sends to the pod.
pub const PROG_TO_POD: &str = "to_pod";
/// Program on the VXLAN device, ingress: packets of other nodes.
pub const PROG_FROM_OVERLAY: &str = "from_overlay";
/// Program on the VXLAN device, egress: packets of this node's stack to pods and routers of other nodes.
pub const PROG_TO_OVERLAY: &str = "to_overlay";

/// Endpoint ids are `1..MAX_ENDPOINTS`; 0 means none.
pub const MAX_ENDPOINTS: u32 = 4096;
/// Entries of [`MAP_EPOCHS`].
pub const BUCKETS: u32 = 65536;

/// Bits of [`NodeConfig::flags`].
pub mod config_flags {
    /// IPv4 pods are enabled.
    pub const IPV4: u32 = 1;
    /// IPv6 pods are enabled.
    pub const IPV6: u32 = 1 << 1;
    /// Outer source check: drop (`strict`).
    pub const OUTER_STRICT: u32 = 1 << 2;
    /// Outer source check: count and report, do not drop (`audit`).
    pub const OUTER_AUDIT: u32 = 1 << 3;
    /// Somebody listens to drop events.
    pub const EVENTS: u32 = 1 << 4;
    /// Packets of pods to other nodes go straight to the underlay's device, past the VXLAN device and the stack.
    pub const BYPASS_STACK: u32 = 1 << 5;
}

/// The one value of [`MAP_CONFIG`].
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NodeConfig {
    /// Bits of [`config_flags`].
    pub flags: u32,
    /// The VXLAN device.
    pub vxlan_ifindex: u32,
    /// Largest inner IP packet that fits the tunnel, bytes.
    pub tunnel_mtu: u32,
    /// Id of this cluster; 0 outside a mesh.
    pub cluster_id: u32,
    /// `identity >> cluster_shift` is the cluster id: 16, or 15 with 511 clusters.
    pub cluster_shift: u32,
    /// Most conntrack entries that one endpoint may hold.
    pub flow_share: u32,
    /// Entries of the whole table up to which flows that others begin get one.
    pub flow_room: u32,
    /// Published address of this node on the underlay: outer source of what we send.
    pub node: Addr,
    /// Router address in the pods' network, IPv4; [`Addr::NONE`] if disabled.
    pub router4: Addr,
    /// Router address in the pods' network, IPv6; [`Addr::NONE`] if disabled.
    pub router6: Addr,
    /// Timeouts in seconds: TCP established, TCP SYN only, TCP closing, other protocols.
    pub timeout_tcp: u32,
    /// See `timeout_tcp`.
    pub timeout_syn: u32,
    /// See `timeout_tcp`.
    pub timeout_fin: u32,
    /// See `timeout_tcp`.
    pub timeout_any: u32,
    /// Identity of addresses outside every known prefix, IPv4 (9 in dual stack, else 2).
    pub world4: u32,
    /// The same for IPv6 (10 in dual stack, else 2).
    pub world6: u32,
    /// Unit of [`crate::Flow::expires`]: `bpf_ktime_get_ns() >> 30`. Always 30; here so that readers need no constant.
    pub clock: u32,
    /// Most drop events per second and CPU.
    pub event_rate: u32,
    /// UDP port of the tunnel, host byte order.
    pub tunnel_port: u32,
}

impl NodeConfig {
    /// Conntrack entries of an endpoint up to which flows that others begin get one; the rest of
    /// [`NodeConfig::flow_share`] is for what the endpoint begins.
    #[inline(always)]
    pub const fn share_for_others(&self) -> u32 {
        self.flow_share - self.flow_share / 4
    }
}

/// Bits of [`Endpoint::flags`].
pub mod endpoint_flags {
    /// The endpoint exists and its policy is in place; without it every packet is dropped (reason 203).
    pub const READY: u32 = 1;
    /// The pod's way out is by an address of which nothing is known here: the router of a network that its node had before.
    pub const OTHER_ROUTER: u32 = 2;
}

/// A pod's attachment. 72 bytes. `policy` and `epoch` share an aligned 8-byte word, so that a policy flip
/// reaches the programs in one write.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C, align(8))]
pub struct Endpoint {
    /// Policy id, see [`PolicyKey`].
    pub policy: u32,
    /// Raised with every change of policy or identity; never lowered while the map lives, also across reuse of the id.
    pub epoch: u32,
    /// Host-side interface; 0 = free slot.
    pub ifindex: u32,
    /// Security identity, the VNI of what the pod sends.
    pub identity: u32,
    /// The pod's IPv4 address or [`Addr::NONE`].
    pub ipv4: Addr,
    /// The pod's IPv6 address or [`Addr::NONE`].
    pub ipv6: Addr,
    /// MAC of the pod's interface.
    pub mac: [u8; 6],
    /// MAC of the host side.
    pub host_mac: [u8; 6],
    /// Bits of [`endpoint_flags`].
    pub flags: u32,
    /// Endpoint id, equal to the index.
    pub id: u32,
    /// Zero.
    pub reserved: u32,
}

/// Value of [`MAP_LOCALS`].
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Local {
    /// Endpoint id, or 0 for an address of the node itself.
    pub endpoint: u32,
}

/// Bits of [`IpInfo::flags`].
pub mod ip_flags {
    /// The address is reached through the tunnel at [`super::IpInfo::node`].
    pub const TUNNEL: u32 = 1;
    /// The address is a node (InternalIP, ExternalIP) of another cluster.
    pub const REMOTE_CLUSTER: u32 = 1 << 1;
}

/// Value of [`MAP_IPCACHE`] and [`MAP_PREFIXES`]. 24 bytes.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct IpInfo {
    /// Security identity.
    pub identity: u32,
    /// Bits of [`ip_flags`].
    pub flags: u32,
    /// Underlay address of the node that has the address; [`Addr::NONE`] without `TUNNEL`.
    pub node: Addr,
}

/// Key of [`MAP_PREFIXES`]. IPv4 prefixes count from 96.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PrefixKey {
    /// Significant bits of `addr`.
    pub prefixlen: u32,
    /// The prefix, remaining bits zero.
    pub addr: Addr,
}

/// Key of [`MAP_NODES`].
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NodeKey {
    /// Cluster id whose node publishes `addr`, or [`ANY_CLUSTER`]: every node address has an entry under both.
    pub cluster: u32,
    /// Underlay address.
    pub addr: Addr,
}

/// Cluster of a [`NodeKey`] that stands for all clusters.
pub const ANY_CLUSTER: u32 = u32::MAX;

/// Parents of classes: what an identity without a class falls back to, told by its number alone.
pub mod kind {
    /// First number used for kinds; classes are below it.
    pub const BASE: u32 = 0xffff_ff00;
    /// Identity in the own cluster's range.
    pub const OWN_CLUSTER: u32 = BASE;
    /// Identity in any other cluster's range.
    pub const OTHER_CLUSTER: u32 = BASE + 1;
    /// world, world-ipv4, world-ipv6, node-local CIDR identities (scope 0x01).
    pub const WORLD: u32 = BASE + 2;
    /// remote-node and node-local node identities (scope 0x02).
    pub const REMOTE_NODE: u32 = BASE + 3;
    /// Everything else below 256: reserved identities without a class of their own.
    pub const OTHER: u32 = BASE + 4;
}

/// Generations of policy numbers. An agent that starts computes everything anew in a generation that no live
/// endpoint uses, flips the endpoints one by one, then removes the old: so no packet meets numbers of two runs.
pub const GENERATIONS: usize = 4;

/// Generation of a policy id (or row id): its two top bits.
#[inline(always)]
pub const fn generation(id: u32) -> u32 {
    id >> 30
}

/// Value of [`MAP_IDENTITIES`]: the class of an identity, per generation of the policy that asks; 0 = none.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Classes {
    /// Indexed by [`generation`] of the policy id.
    pub slot: [u32; GENERATIONS],
}

/// Key of [`MAP_POLICIES`].
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PolicyKey {
    /// A class, or one of [`kind`]. Every live policy has an entry for every kind.
    #[cfg(feature = "other-layout")]
    pub class: u32,
    /// [`Endpoint::policy`].
    pub policy: u32,
    /// A class, or one of [`kind`]. Every live policy has an entry for every kind.
    #[cfg(not(feature = "other-layout"))]
    pub class: u32,
}

/// Significant bits of a [`RowKey`] that is a wildcard for protocol and port.
pub const ROW_BITS_ANY: u32 = 40;
/// Significant bits of a [`RowKey`] that names the protocol only.
pub const ROW_BITS_PROTO: u32 = 48;
/// Significant bits of a [`RowKey`] with a whole port.
pub const ROW_BITS_PORT: u32 = 64;

/// Key of [`MAP_ROWS`]; longest match. 12 bytes.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct RowKey {
    /// Significant bits of what follows: [`ROW_BITS_ANY`], [`ROW_BITS_PROTO`], or 48 + bits of the port.
    pub prefixlen: u32,
    /// Row id, big endian.
    pub row: [u8; 4],
    /// [`crate::Direction`] of the packet as seen by the endpoint that is judged.
    pub direction: u8,
    /// IP protocol number.
    pub proto: u8,
    /// Destination port, big endian; the type for ICMP and ICMPv6.
    pub port: [u8; 2],
}

/// Value of [`MAP_ROWS`].
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct RowVerdict {
    /// Rule (cookie) that decided: the allowing or denying rule, or the set of policies that began the default deny. 0 none.
    #[cfg(feature = "other-layout")]
    pub rule: u32,
    /// One of [`action`].
    pub action: u32,
    /// Rule (cookie) that decided: the allowing or denying rule, or the set of policies that began the default deny. 0 none.
    #[cfg(not(feature = "other-layout"))]
    pub rule: u32,
}

/// Values of [`RowVerdict::action`].
pub mod action {
    /// Forward.
    pub const ALLOW: u32 = 0;
    /// No rule allows it and a policy began default deny: reason 133.
    pub const DEFAULT_DENY: u32 = 1;
    /// A deny rule matches: reason 181.
    pub const DENY: u32 = 2;
}

/// Value of [`MAP_METRICS`].
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Counter {
    /// Packets (GSO packets count once).
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Bucket of an address in [`MAP_EPOCHS`]. The same function on both sides of the boundary.
#[inline(always)]
pub fn addr_bucket(addr: &Addr) -> u16 {
    let a = &addr.0;
    let mut h = u32::from_be_bytes([a[0], a[1], a[2], a[3]]).wrapping_mul(0x9e37_79b1);
    h = (h ^ u32::from_be_bytes([a[4], a[5], a[6], a[7]])).wrapping_mul(0x85eb_ca6b);
    h = (h ^ u32::from_be_bytes([a[8], a[9], a[10], a[11]])).wrapping_mul(0xc2b2_ae35);
    h = (h ^ u32::from_be_bytes([a[12], a[13], a[14], a[15]])).wrapping_mul(0x9e37_79b1);
    ((h ^ (h >> 15)).wrapping_mul(0x85eb_ca6b) >> 16) as u16
}

/// Bucket of an identity in [`MAP_EPOCHS`].
#[inline(always)]
pub fn identity_bucket(identity: u32) -> u16 {
    let h = (identity ^ 0x5bd1_e995).wrapping_mul(0x9e37_79b1);
    ((h ^ (h >> 15)).wrapping_mul(0xc2b2_ae35) >> 16) as u16
}

const _: () = assert!(size_of::<Endpoint>() == 72);
const _: () = assert!(size_of::<IpInfo>() == 24);
const _: () = assert!(size_of::<RowKey>() == 12);
