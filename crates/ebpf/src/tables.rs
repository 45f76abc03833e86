// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! The kernel's maps as `fastpath::Tables`.

use core::intrinsics::{AtomicOrdering, atomic_xadd};
use core::ptr::{read_volatile, write_volatile};

use abi::{
    Addr, Affinity, AffinityKey, Backend, BackendKey, Endpoint, Flow, FlowKey, FragKey, FragPorts,
    IpInfo, MemberKey, NodeConfig, NodeKey, PolicyKey, RowKey, RowVerdict, Service, ServiceKey,
};
use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_coarse_ns},
    maps::lpm_trie::Key,
};
use fastpath::{FlowRef, Insert, Tables};

use crate::maps::{
    AFFINITY, BACKENDS, CONFIG, DEVICES, ENDPOINTS, EPOCHS, FLOWS, FRAGMENTS, IDENTITIES, IPCACHE,
    LOCALS, MEMBERS, NODES, POLICIES, PREFIXES, ROWS, SCRATCH, SERVICES, SHARES,
};

const EEXIST: i32 = 17;
/// Bits of a whole [`Addr`].
const ADDR_BITS: u32 = 128;

/// All maps.
pub(crate) struct Kernel;

/// A value of `ist_flows`. It may be freed and used again for another flow while this program looks at it (the
/// map is preallocated): the worst that follows is one packet by an entry that died a moment ago.
#[derive(Clone, Copy)]
pub(crate) struct Entry(*mut Flow);

impl FlowRef for Entry {
    #[inline(always)]
    fn get(&self) -> Flow {
        // SAFETY: the map returned this pointer and it stays readable until the program ends; any bytes are a
        // `Flow`.
        unsafe { *self.0 }
    }

    #[inline(always)]
    fn copy_to(&self, out: &mut Flow) {
        // SAFETY: as in `get`; `out` lies in another map, so the two cannot overlap.
        unsafe { core::ptr::copy_nonoverlapping(self.0.cast_const(), out, 1) }
    }

    #[inline(always)]
    fn refresh(&self, expires: u32) {
        // SAFETY: as in `get`; one aligned word.
        unsafe { write_volatile((&raw mut (*self.0).expires), expires) }
    }

    #[inline(always)]
    fn transition(&self, flags: u16, tx_flags: u8, rx_flags: u8) {
        // SAFETY: as in `get`; every field is written whole.
        unsafe {
            write_volatile((&raw mut (*self.0).flags), flags);
            write_volatile((&raw mut (*self.0).tx_flags), tx_flags);
            write_volatile((&raw mut (*self.0).rx_flags), rx_flags);
        }
    }
}

impl Tables for Kernel {
    type Flow = Entry;

    #[inline(always)]
    fn config(&self) -> Option<&NodeConfig> {
        CONFIG.get(0)
    }

    #[inline(always)]
    fn endpoint(&self, id: u32) -> Option<&Endpoint> {
        ENDPOINTS.get(id)
    }

    #[inline(always)]
    fn policy_word(&self, endpoint: &Endpoint) -> (u32, u32) {
        // SAFETY: `policy` and `epoch` are the first, 8-byte aligned word of a live map value; one load, so
        // that both are of the same moment.
        let word = unsafe { read_volatile((endpoint as *const Endpoint).cast::<u64>()) };
        (word as u32, (word >> 32) as u32)
    }

    #[inline(always)]
    fn device(&self, ifindex: u32) -> Option<u32> {
        // SAFETY: the memory of a value stays one of this map's until the program ends. A row that is changed at this moment may
        // hold another one's by then, as rows of any hash in the kernel; the epochs of what is remembered show it.
        unsafe { DEVICES.get(ifindex) }.copied()
    }

    #[inline(always)]
    fn local(&self, addr: &Addr) -> Option<u32> {
        // SAFETY: as in `device`.
        unsafe { LOCALS.get(addr) }.map(|local| local.endpoint)
    }

    #[inline(always)]
    fn address(&self, addr: &Addr) -> Option<&IpInfo> {
        // SAFETY: as in `device`.
        unsafe { IPCACHE.get(addr) }
    }

    #[inline(always)]
    fn prefix(&self, addr: &Addr) -> Option<&IpInfo> {
        PREFIXES.get(Key::new(ADDR_BITS, *addr))
    }

    #[inline(always)]
    fn node(&self, key: &NodeKey) -> bool {
        // SAFETY: as in `device`.
        unsafe { NODES.get(key) }.is_some()
    }

    #[inline(always)]
    fn class(&self, identity: u32, generation: u32) -> Option<u32> {
        // SAFETY: as in `device`.
        let classes = unsafe { IDENTITIES.get(identity) }?;
        let [first, second, third, fourth] = classes.slot;
        // A choice instead of an index: the verifier wants no bounds here.
        let class = match generation {
            0 => first,
            1 => second,
            2 => third,
            _ => fourth,
        };
        if class == 0 { None } else { Some(class) }
    }

    #[inline(always)]
    fn row(&self, key: &PolicyKey) -> Option<u32> {
        // SAFETY: as in `device`.
        unsafe { POLICIES.get(key) }.copied()
    }

    #[inline(always)]
    fn verdict(&self, key: &RowKey) -> Option<RowVerdict> {
        let [a, b, c, d] = key.row;
        let [high, low] = key.port;
        let data = [a, b, c, d, key.direction, key.proto, high, low];
        ROWS.get(Key::new(key.prefixlen, data)).copied()
    }

    #[inline(always)]
    fn epoch(&self, bucket: u16) -> u32 {
        match EPOCHS.get_ptr(u32::from(bucket)) {
            // SAFETY: a live array value; volatile, so that it is read now and not after what it stands for.
            Some(epoch) => unsafe { read_volatile(epoch) },
            None => 0,
        }
    }

    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Option<Entry> {
        FLOWS.get_ptr_mut(key).map(Entry)
    }

    #[inline(always)]
    fn create_flow(&self, key: &FlowKey, flow: &Flow) -> Insert {
        match FLOWS.insert(key, flow, u64::from(BPF_NOEXIST)) {
            Ok(()) => Insert::Created,
            Err(error) if error == -EEXIST => Insert::Exists,
            Err(_) => Insert::Full,
        }
    }

    #[inline(always)]
    fn overwrite_flow(&self, key: &FlowKey, flow: &Flow) -> bool {
        FLOWS.insert(key, flow, u64::from(BPF_ANY)).is_ok()
    }

    #[inline(always)]
    fn share(&self, endpoint: u32) -> u32 {
        match SHARES.get_ptr(endpoint) {
            // SAFETY: a live array value.
            Some(share) => unsafe { read_volatile(share) },
            None => 0,
        }
    }

    #[inline(always)]
    fn add_share(&self, endpoint: u32, delta: i32) {
        if let Some(share) = SHARES.get_ptr_mut(endpoint) {
            // SAFETY: a live, aligned array value that is only changed atomically. The target has the
            // instruction, but `core` offers no `AtomicU32` for it.
            unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(share, delta as u32) };
        }
    }

    #[inline(always)]
    fn fragment(&self, key: &FragKey) -> Option<FragPorts> {
        // SAFETY: a value that is reused meanwhile gives wrong ports to one fragment, which is then judged by
        // these.
        unsafe { FRAGMENTS.get(key) }.copied()
    }

    #[inline(always)]
    fn remember_fragment(&self, key: &FragKey, ports: FragPorts) {
        // A failure costs the later fragments, which are then dropped with their own reason.
        let _ = FRAGMENTS.insert(key, ports, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn service(&self, key: &ServiceKey) -> Option<&Service> {
        // SAFETY: as in `device`; what was read of two services leads to a backend of one, which is judged as what it is.
        unsafe { SERVICES.get(key) }
    }

    #[inline(always)]
    fn backend(&self, key: &BackendKey) -> Option<&Backend> {
        // SAFETY: as in `device`.
        unsafe { BACKENDS.get(key) }
    }

    #[inline(always)]
    fn member(&self, key: &MemberKey) -> u32 {
        // SAFETY: as in `device`.
        unsafe { MEMBERS.get(key) }.copied().unwrap_or(0)
    }

    #[inline(always)]
    fn affinity(&self, key: &AffinityKey) -> Option<Affinity> {
        // SAFETY: a value that is reused meanwhile names a backend of another service, which is no member of this one.
        unsafe { AFFINITY.get(key) }.copied()
    }

    #[inline(always)]
    fn remember_affinity(&self, key: &AffinityKey, chosen: &Affinity) {
        // A failure costs the client its backend with the next flow.
        let _ = AFFINITY.insert(key, chosen, u64::from(BPF_ANY));
    }

    /// Marsaglia's xorshift, once seeded: it spreads flows, and costs a tenth of the helper.
    #[inline(always)]
    fn random(&self) -> u32 {
        let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
            return 0;
        };
        // SAFETY: this processor's own value, of which nobody holds a reference to this field; a helper without arguments.
        unsafe {
            let last = &raw mut (*scratch).random;
            let mut n = *last;
            if n == 0 {
                n = bpf_get_prandom_u32() | 1;
            }
            n ^= n << 13;
            n ^= n >> 17;
            n ^= n << 5;
            *last = n;
            n
        }
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        // The clock of `bpf_ktime_get_ns` as of the last tick: seconds need no more, and it costs no register read.
        // SAFETY: a helper without arguments.
        (unsafe { bpf_ktime_get_coarse_ns() } >> 30) as u32
    }
}
