// SPDX-License-Identifier: Apache-2.0
//! The maps: names, shapes, and how the agent reaches each. The agent creates and pins them; the object only
//! refers to them by name. So sizes are settings, and arrays can be mapped into the agent's memory.

use std::fmt;

use abi::{Addr, NodeConfig, NodeKey, PolicyKey, PrefixKey, RowKey, RowVerdict};
use abi::{Counter, DropEvent, Endpoint, Flow, FlowKey, FragKey, FragPorts, IpInfo, Local};
use abi::{Field, Record};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Settings;

/// What a map is to the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// Array in shared memory: the agent reads and writes it without system calls, word by word.
    Array,
    /// One value per index and CPU.
    PerCpuArray,
    /// Hash that allocates as it fills.
    Hash,
    /// Hash whose entries are all allocated at start, so that a packet never waits for memory.
    PreallocatedHash,
    /// Hash that drops the least recently used entry when full.
    LruHash,
    /// Longest prefix match.
    Trie,
    /// Ring buffer.
    Ring,
}

macro_rules! maps {
    ($($(#[$doc:meta])* $name:ident: $abi:ident, $shape:ident, $key:ty => $value:ty;)*) => {
        /// A map of the datapath.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum Map { $($(#[$doc])* $name,)* }

        impl Map {
            /// All of them.
            pub const ALL: &'static [Map] = &[$(Map::$name,)*];

            /// Its name in the object and its pin's file name.
            pub const fn name(self) -> &'static str {
                match self { $(Map::$name => abi::$abi,)* }
            }

            /// What it is to the kernel.
            pub const fn shape(self) -> Shape {
                match self { $(Map::$name => Shape::$shape,)* }
            }

            /// Bytes of a key; 0 for the ring.
            pub const fn key_size(self) -> usize {
                match self { $(Map::$name => size_of::<$key>(),)* }
            }

            /// The fields of a key.
            pub const fn key_fields(self) -> &'static [Field] {
                match self { $(Map::$name => <$key as Record>::FIELDS,)* }
            }

            /// The fields of a value.
            pub const fn value_fields(self) -> &'static [Field] {
                match self { $(Map::$name => <$value as Record>::FIELDS,)* }
            }

            /// Bytes of a value.
            pub const fn value_size(self) -> usize {
                match self { $(Map::$name => size_of::<$value>(),)* }
            }
        }

        /// One type per map, that ties key and value to it.
        pub mod table {
            use super::*;
            $($(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $name;

            impl Table for $name {
                const MAP: Map = Map::$name;
                type Key = $key;
                type Value = $value;
            })*
        }
    };
}

maps! {
    /// The one configuration.
    Config: MAP_CONFIG, Array, u32 => NodeConfig;
    /// Endpoints by id.
    Endpoints: MAP_ENDPOINTS, Array, u32 => Endpoint;
    /// Host-side device to endpoint id.
    Devices: MAP_DEVICES, Hash, u32 => u32;
    /// Addresses of this node.
    Locals: MAP_LOCALS, Hash, Addr => Local;
    /// Single addresses elsewhere.
    Ipcache: MAP_IPCACHE, Hash, Addr => IpInfo;
    /// Prefixes elsewhere.
    Prefixes: MAP_PREFIXES, Trie, PrefixKey => IpInfo;
    /// Node addresses by cluster.
    Nodes: MAP_NODES, Hash, NodeKey => u32;
    /// Identity to its class per generation of policy numbers (see abi::Classes).
    Identities: MAP_IDENTITIES, Hash, u32 => abi::Classes;
    /// Policy and class to row.
    Policies: MAP_POLICIES, Hash, PolicyKey => u32;
    /// Verdicts.
    Rows: MAP_ROWS, Trie, RowKey => RowVerdict;
    /// Conntrack.
    Flows: MAP_FLOWS, PreallocatedHash, FlowKey => Flow;
    /// Services that are translated.
    Services: MAP_SERVICES, Hash, abi::ServiceKey => abi::Service;
    /// Backends that new flows may choose.
    Backends: MAP_BACKENDS, Hash, abi::BackendKey => abi::Backend;
    /// All backends.
    Members: MAP_MEMBERS, Hash, abi::MemberKey => u32;
    /// Backends that clients chose.
    Affinity: MAP_AFFINITY, LruHash, abi::AffinityKey => abi::Affinity;
    /// Ports of fragmented datagrams.
    Fragments: MAP_FRAGMENTS, LruHash, FragKey => FragPorts;
    /// Epochs of buckets.
    Epochs: MAP_EPOCHS, Array, u32 => u32;
    /// Conntrack entries per endpoint.
    Shares: MAP_SHARES, Array, u32 => u32;
    /// Packets and bytes by reason and direction.
    Metrics: MAP_METRICS, PerCpuArray, u32 => Counter;
    /// Drop events. The value is what a record holds; the map itself has no value size.
    Events: MAP_EVENTS, Ring, () => DropEvent;
}

/// Ties a map to its key and value types.
pub trait Table {
    /// The map.
    const MAP: Map;
    /// Its key.
    type Key: IntoBytes + FromBytes + Immutable + KnownLayout + Copy;
    /// Its value.
    type Value: IntoBytes + FromBytes + Immutable + KnownLayout + Copy;
}

/// A map that could not get the limit of the settings, and goes on with its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptLimit {
    /// The map.
    pub map: Map,
    /// The limit of the settings, entries.
    pub wanted: u32,
    /// The limit in force, entries.
    pub limit: u32,
    /// Why, in words.
    pub reason: String,
}

/// Entries of [`Map::Metrics`]: `reason * 4 + direction` with reasons of 8 bits.
pub const METRICS_ENTRIES: u32 = 1024;

impl Map {
    /// Most entries (bytes for the ring) under `settings`.
    pub const fn limit(self, settings: &Settings) -> u32 {
        match self {
            Map::Config => 1,
            Map::Endpoints | Map::Shares => abi::MAX_ENDPOINTS,
            Map::Devices => abi::MAX_ENDPOINTS * 2,
            Map::Locals => abi::MAX_ENDPOINTS * 4,
            Map::Ipcache => settings.ipcache_max,
            Map::Prefixes => settings.prefixes_max,
            Map::Nodes => settings.nodes_max,
            Map::Identities => settings.identities_max,
            Map::Policies => settings.policies_max,
            Map::Rows => settings.rows_max,
            Map::Flows => settings.flows_max,
            Map::Services | Map::Backends | Map::Members => settings.services_max,
            Map::Affinity => settings.services_max.div_ceil(4),
            Map::Fragments => settings.fragments_max,
            Map::Epochs => abi::BUCKETS,
            Map::Metrics => METRICS_ENTRIES,
            Map::Events => settings.events_bytes,
        }
    }
}

impl fmt::Display for KeptLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the limit stays {}, not {} as the options say: {}",
            self.limit, self.wanted, self.reason
        )
    }
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A program of the datapath and where it attaches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Program {
    /// What a pod sends: ingress of the veth's host side.
    FromPod,
    /// What the stack sends to a pod: egress of the veth's host side.
    ToPod,
    /// What other nodes send: ingress of the VXLAN device.
    FromOverlay,
    /// What the stack sends to other nodes' pods: egress of the VXLAN device.
    ToOverlay,
}

impl Program {
    /// All of them.
    pub const ALL: &'static [Program] = &[
        Program::FromPod,
        Program::ToPod,
        Program::FromOverlay,
        Program::ToOverlay,
    ];

    /// Its name in the object and its link pin's file name.
    pub const fn name(self) -> &'static str {
        match self {
            Program::FromPod => abi::PROG_FROM_POD,
            Program::ToPod => abi::PROG_TO_POD,
            Program::FromOverlay => abi::PROG_FROM_OVERLAY,
            Program::ToOverlay => abi::PROG_TO_OVERLAY,
        }
    }

    /// Whether it belongs on a pod's device, with which it goes; else on the VXLAN device.
    pub const fn is_of_pod(self) -> bool {
        matches!(self, Program::FromPod | Program::ToPod)
    }

    /// Whether it sees what arrives on the device (else what leaves by it).
    pub const fn is_ingress(self) -> bool {
        matches!(self, Program::FromPod | Program::FromOverlay)
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
