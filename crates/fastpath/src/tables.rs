// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! The node's state as the programs see it: one method per lookup.

use abi::{
    Addr, Affinity, AffinityKey, Backend, BackendKey, Endpoint, Flow, FlowKey, FragKey, FragPorts,
    IpInfo, MemberKey, NodeConfig, NodeKey, PolicyKey, RowKey, RowVerdict, Service, ServiceKey,
};

/// An entry of conntrack, in place. Other processors may change it at any time; a lost change of flags or
/// expiry costs a later refresh and nothing else.
pub trait FlowRef: Copy {
    /// The entry as it is now.
    fn get(&self) -> Flow;
    /// Copies the entry; cheaper than [`FlowRef::get`] where all of it is wanted in place.
    fn copy_to(&self, out: &mut Flow) {
        *out = self.get();
    }
    /// Sets [`Flow::expires`].
    fn refresh(&self, expires: u32);
    /// Sets [`Flow::flags`], [`Flow::tx_flags`] and [`Flow::rx_flags`].
    fn transition(&self, flags: u16, tx_flags: u8, rx_flags: u8);
}

/// What became of an insertion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Insert {
    /// A new entry.
    Created,
    /// Somebody else made the entry in the meantime; it was left alone.
    Exists,
    /// No room.
    Full,
}

/// Maps of the node. See [`abi`] for each map's key and value.
pub trait Tables {
    /// Entry of [`abi::MAP_FLOWS`].
    type Flow: FlowRef;

    /// [`abi::MAP_CONFIG`].
    fn config(&self) -> Option<&NodeConfig>;
    /// [`abi::MAP_ENDPOINTS`].
    fn endpoint(&self, id: u32) -> Option<&Endpoint>;
    /// Policy and epoch of an endpoint as they were at one moment.
    fn policy_word(&self, endpoint: &Endpoint) -> (u32, u32);
    /// [`abi::MAP_DEVICES`].
    fn device(&self, ifindex: u32) -> Option<u32>;
    /// [`abi::MAP_LOCALS`].
    fn local(&self, addr: &Addr) -> Option<u32>;
    /// [`abi::MAP_IPCACHE`].
    fn address(&self, addr: &Addr) -> Option<&IpInfo>;
    /// [`abi::MAP_PREFIXES`], longest match.
    fn prefix(&self, addr: &Addr) -> Option<&IpInfo>;
    /// [`abi::MAP_NODES`].
    fn node(&self, key: &NodeKey) -> bool;
    /// [`abi::MAP_IDENTITIES`]: the class in a generation; `None` also for slots that hold 0.
    fn class(&self, identity: u32, generation: u32) -> Option<u32>;
    /// [`abi::MAP_POLICIES`].
    fn row(&self, key: &PolicyKey) -> Option<u32>;
    /// [`abi::MAP_ROWS`], longest match.
    fn verdict(&self, key: &RowKey) -> Option<RowVerdict>;
    /// [`abi::MAP_EPOCHS`].
    fn epoch(&self, bucket: u16) -> u32;
    /// [`abi::MAP_FLOWS`].
    fn flow(&self, key: &FlowKey) -> Option<Self::Flow>;
    /// Makes an entry that does not exist.
    fn create_flow(&self, key: &FlowKey, flow: &Flow) -> Insert;
    /// Overwrites an entry, or makes it; false if there is no room.
    fn overwrite_flow(&self, key: &FlowKey, flow: &Flow) -> bool;
    /// [`abi::MAP_SHARES`]; 0 for an unknown endpoint.
    fn share(&self, endpoint: u32) -> u32;
    /// Adds `delta` (also −1) to [`abi::MAP_SHARES`].
    fn add_share(&self, endpoint: u32, delta: i32);
    /// [`abi::MAP_FRAGMENTS`].
    fn fragment(&self, key: &FragKey) -> Option<FragPorts>;
    /// Sets an entry of [`abi::MAP_FRAGMENTS`].
    fn remember_fragment(&self, key: &FragKey, ports: FragPorts);
    /// [`abi::MAP_SERVICES`].
    fn service(&self, key: &ServiceKey) -> Option<&Service>;
    /// [`abi::MAP_BACKENDS`].
    fn backend(&self, key: &BackendKey) -> Option<&Backend>;
    /// [`abi::MAP_MEMBERS`]; 0 for no backend.
    fn member(&self, key: &MemberKey) -> u32;
    /// [`abi::MAP_AFFINITY`].
    fn affinity(&self, key: &AffinityKey) -> Option<Affinity>;
    /// Sets an entry of [`abi::MAP_AFFINITY`].
    fn remember_affinity(&self, key: &AffinityKey, chosen: &Affinity);
    /// Any number.
    fn random(&self) -> u32;
    /// Now, in the unit of [`abi::Flow::expires`].
    fn now(&self) -> u32;
}
