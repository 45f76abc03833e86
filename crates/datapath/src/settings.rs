// SPDX-License-Identifier: Apache-2.0
//! Where pins live and how large maps may become.

use std::path::PathBuf;

/// Settings of [`crate::Linux::open`]. Entries of maps that the agent writes cost memory only as they fill (no
/// preallocation). Their hashes cost 16 bytes per entry of the limit from the start, and every lookup in a hash
/// that is far too large is a miss in all caches: limits are not to be generous. `flows_max` is allocated at
/// start, 168 bytes per entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Mount point of the BPF filesystem.
    pub bpf_root: PathBuf,
    /// Most conntrack entries of the node.
    pub flows_max: u32,
    /// Most single addresses in the ipcache.
    pub ipcache_max: u32,
    /// Most prefixes in the ipcache.
    pub prefixes_max: u32,
    /// Most identities with a class.
    pub identities_max: u32,
    /// Most (policy, class) pairs.
    pub policies_max: u32,
    /// Most entries of rows.
    pub rows_max: u32,
    /// Most (cluster, node address) pairs.
    pub nodes_max: u32,
    /// Most services, and likewise most backends of all services together; clients whose backend is remembered: a quarter.
    pub services_max: u32,
    /// Most datagrams whose fragments are followed at one time.
    pub fragments_max: u32,
    /// Size of the event ring, bytes; a power of two and a multiple of the page size.
    pub events_bytes: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bpf_root: PathBuf::from("/sys/fs/bpf"),
            flows_max: 262_144,
            ipcache_max: 1_048_576,
            prefixes_max: 1_048_576,
            identities_max: 262_144,
            policies_max: 1_048_576,
            rows_max: 4_194_304,
            nodes_max: 262_144,
            services_max: 65_536,
            fragments_max: 8192,
            events_bytes: 1 << 20,
        }
    }
}
