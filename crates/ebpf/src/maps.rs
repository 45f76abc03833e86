// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! The maps. Names are abi's; sizes are defaults that the loader overrides; the loader also gives the pins.

use abi::{
    Addr, Affinity, AffinityKey, BUCKETS, Backend, BackendKey, Counter, Endpoint, Flow, FlowKey,
    FragKey, FragPorts, IpInfo, Local, MAX_ENDPOINTS, MemberKey, NodeConfig, NodeKey, PolicyKey,
    RowVerdict, Service, ServiceKey,
};
use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
};

use crate::underlay::Hop;

/// Entries of [`METRICS`]: `reason * 4 + direction`.
pub(crate) const METRIC_ENTRIES: u32 = 1024;
const EVENT_BYTES: u32 = 256 * 1024;

#[map(name = "ist_config")]
pub(crate) static CONFIG: Array<NodeConfig> = Array::with_max_entries(1, 0);
#[map(name = "ist_endpoints")]
pub(crate) static ENDPOINTS: Array<Endpoint> = Array::with_max_entries(MAX_ENDPOINTS, 0);
#[map(name = "ist_devices")]
pub(crate) static DEVICES: HashMap<u32, u32> =
    HashMap::with_max_entries(MAX_ENDPOINTS, BPF_F_NO_PREALLOC);
#[map(name = "ist_locals")]
pub(crate) static LOCALS: HashMap<Addr, Local> =
    HashMap::with_max_entries(4 * MAX_ENDPOINTS, BPF_F_NO_PREALLOC);
#[map(name = "ist_ipcache")]
pub(crate) static IPCACHE: HashMap<Addr, IpInfo> =
    HashMap::with_max_entries(1 << 20, BPF_F_NO_PREALLOC);
/// The key of [`PREFIXES`] without its length word, which [`aya_ebpf::maps::lpm_trie::Key`] adds.
#[map(name = "ist_prefixes")]
pub(crate) static PREFIXES: LpmTrie<Addr, IpInfo> =
    LpmTrie::with_max_entries(1 << 18, BPF_F_NO_PREALLOC);
#[map(name = "ist_nodes")]
pub(crate) static NODES: HashMap<NodeKey, u32> =
    HashMap::with_max_entries(1 << 16, BPF_F_NO_PREALLOC);
#[map(name = "ist_identities")]
/// Identity to its class per generation of policy numbers: the class is `slot[abi::generation(policy)]`, 0 = none.
pub(crate) static IDENTITIES: HashMap<u32, abi::Classes> =
    HashMap::with_max_entries(1 << 20, BPF_F_NO_PREALLOC);
#[map(name = "ist_policies")]
pub(crate) static POLICIES: HashMap<PolicyKey, u32> =
    HashMap::with_max_entries(1 << 20, BPF_F_NO_PREALLOC);
/// The key of [`ROWS`] without its length word.
#[map(name = "ist_rows")]
pub(crate) static ROWS: LpmTrie<[u8; 8], RowVerdict> =
    LpmTrie::with_max_entries(1 << 20, BPF_F_NO_PREALLOC);
#[map(name = "ist_flows")]
pub(crate) static FLOWS: HashMap<FlowKey, Flow> = HashMap::with_max_entries(1 << 18, 0);
#[map(name = "ist_fragments")]
pub(crate) static FRAGMENTS: LruHashMap<FragKey, FragPorts> = LruHashMap::with_max_entries(8192, 0);
#[map(name = "ist_services")]
pub(crate) static SERVICES: HashMap<ServiceKey, Service> =
    HashMap::with_max_entries(1 << 16, BPF_F_NO_PREALLOC);
#[map(name = "ist_backends")]
pub(crate) static BACKENDS: HashMap<BackendKey, Backend> =
    HashMap::with_max_entries(1 << 18, BPF_F_NO_PREALLOC);
#[map(name = "ist_members")]
pub(crate) static MEMBERS: HashMap<MemberKey, u32> =
    HashMap::with_max_entries(1 << 18, BPF_F_NO_PREALLOC);
#[map(name = "ist_affinity")]
pub(crate) static AFFINITY: LruHashMap<AffinityKey, Affinity> =
    LruHashMap::with_max_entries(1 << 16, 0);
#[map(name = "ist_epochs")]
pub(crate) static EPOCHS: Array<u32> = Array::with_max_entries(BUCKETS, 0);
#[map(name = "ist_shares")]
pub(crate) static SHARES: Array<u32> = Array::with_max_entries(MAX_ENDPOINTS, 0);
#[map(name = "ist_metrics")]
pub(crate) static METRICS: PerCpuArray<Counter> = PerCpuArray::with_max_entries(METRIC_ENTRIES, 0);
#[map(name = "ist_events")]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(EVENT_BYTES, 0);

/// What one processor needs while a program runs, and its budget of events.
#[repr(C)]
pub(crate) struct Scratch {
    pub(crate) work: fastpath::Work,
    /// Second to which `events` belongs.
    pub(crate) second: u32,
    /// Events sent in that second.
    pub(crate) events: u32,
    /// The last random number of this processor; 0 before the first.
    pub(crate) random: u32,
}

/// Entries of [`HOPS`].
pub(crate) const HOP_ENTRIES: u32 = 1024;

/// The programs' own, as [`SCRATCH`].
#[map(name = "ist_hops")]
pub(crate) static HOPS: PerCpuArray<Hop> = PerCpuArray::with_max_entries(HOP_ENTRIES, 0);

/// The programs' own; neither pinned nor read by the agent.
#[map(name = "ist_scratch")]
pub(crate) static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);
