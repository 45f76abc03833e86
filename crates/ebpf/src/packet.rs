// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! A socket buffer as a `fastpath::Packet`.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    helpers::{
        bpf_csum_diff, bpf_csum_update, bpf_l4_csum_replace, bpf_skb_change_tail,
        bpf_skb_load_bytes, bpf_skb_pull_data, bpf_skb_store_bytes,
    },
};
use fastpath::{Packet, Sum};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::outcome::KEYED;

/// The packet of the running program.
pub(crate) struct Skb {
    pub(crate) skb: *mut __sk_buff,
}

macro_rules! field {
    ($skb:expr, $name:ident) => {
        // SAFETY: the kernel passes a valid context. Volatile, because every access has to be one load at a
        // constant offset, and helpers change what `data` and `data_end` say.
        unsafe { core::ptr::read_volatile(&raw const (*$skb).$name) }
    };
}
pub(crate) use field;

/// `BPF_F_IPV6` of Linux 6.16: IPv6 has no header checksum that takes the change of an address out of the sum of the
/// whole packet again. Older kernels refuse it.
const BPF_F_IPV6: u64 = 1 << 7;

/// `skb.tc_index` of a packet that a pod gave to the stack: this and the pod's endpoint. The stack copies it to every piece.
const SENDER: u32 = 0x2000;
const SENDER_MASK: u32 = !(abi::MAX_ENDPOINTS - 1);
// No endpoint reaches into the mark, and a packet with its tunnel key is not one of these.
const _: () = assert!(SENDER & SENDER_MASK == SENDER && KEYED as u32 & SENDER_MASK != SENDER);

impl Skb {
    /// Where `len` bytes at `offset` of the linear part are.
    #[inline(always)]
    fn window(&self, offset: usize, len: usize) -> Option<usize> {
        let start = field!(self.skb, data) as usize + offset;
        if start + len > field!(self.skb, data_end) as usize {
            None
        } else {
            Some(start)
        }
    }
}

impl Packet for Skb {
    #[inline(always)]
    fn len(&self) -> u32 {
        field!(self.skb, len)
    }

    #[inline(always)]
    fn linear(&self) -> u32 {
        field!(self.skb, data_end).wrapping_sub(field!(self.skb, data))
    }

    #[inline(always)]
    fn read<T: FromBytes + Immutable + Copy>(&self, offset: usize) -> Option<T> {
        let start = self.window(offset, size_of::<T>())?;
        // SAFETY: the window is inside the packet and the verifier checks the same; any bytes are a `T`. The
        // packet may be less aligned than `T`: kernel and target allow it on this architecture.
        Some(unsafe { (start as *const T).read() })
    }

    #[inline(always)]
    fn load<T: FromBytes + IntoBytes + Immutable + Copy>(&self, offset: usize) -> Option<T> {
        let mut out = core::mem::MaybeUninit::<T>::uninit();
        // SAFETY: `out` is as long as the helper is told; on success all of it is written, and any bytes are
        // a `T`.
        unsafe {
            let result = bpf_skb_load_bytes(
                self.skb.cast(),
                offset as u32,
                out.as_mut_ptr().cast(),
                size_of::<T>() as u32,
            );
            if result == 0 {
                Some(out.assume_init())
            } else {
                None
            }
        }
    }

    #[inline(always)]
    fn write<T: IntoBytes + Immutable>(&mut self, offset: usize, value: T) -> bool {
        let Some(start) = self.window(offset, size_of::<T>()) else {
            return false;
        };
        // SAFETY: as in `read`; nothing else refers to the packet's bytes.
        unsafe { (start as *mut T).write(value) };
        true
    }

    #[inline(always)]
    fn pull(&mut self, len: u32) -> bool {
        let len = len.min(self.len());
        // SAFETY: a helper call on the context; no reference into the packet is alive.
        unsafe { bpf_skb_pull_data(self.skb, len) == 0 }
    }

    #[inline(always)]
    fn copy<const N: usize>(&self, offset: usize, out: &mut [u8; N]) -> bool {
        // SAFETY: `out` has `N` bytes.
        unsafe {
            bpf_skb_load_bytes(
                self.skb.cast(),
                offset as u32,
                out.as_mut_ptr().cast(),
                N as u32,
            ) == 0
        }
    }

    #[inline(always)]
    fn replace<const N: usize>(&mut self, frame: &[u8; N]) -> bool {
        // SAFETY: helper calls on the context; `frame` has `N` bytes.
        unsafe {
            bpf_skb_change_tail(self.skb, N as u32, 0) == 0
                && bpf_skb_store_bytes(self.skb, 0, frame.as_ptr().cast(), N as u32, 0) == 0
        }
    }

    #[inline(always)]
    fn sum<const N: usize>(&self, bytes: &[u8; N]) -> u32 {
        // SAFETY: the second buffer has `N` bytes, a multiple of 4, and the first none.
        let sum = unsafe {
            bpf_csum_diff(
                core::ptr::null_mut(),
                0,
                bytes.as_ptr().cast_mut().cast(),
                N as u32,
                0,
            )
        } as u32;
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        // The helper adds words as they lie in memory.
        u32::from((sum as u16).swap_bytes())
    }

    #[inline(always)]
    fn put(&mut self, offset: usize, value: [u8; 2]) -> bool {
        // SAFETY: a helper call on the context; `value` has two bytes.
        unsafe { bpf_skb_store_bytes(self.skb, offset as u32, value.as_ptr().cast(), 2, 0) == 0 }
    }

    #[inline(always)]
    fn resum<const N: usize>(
        &mut self,
        offset: usize,
        from: &[u8; N],
        to: &[u8; N],
        sum: Sum,
    ) -> bool {
        let mut flags = 0;
        if sum.pseudo {
            flags |= u64::from(BPF_F_PSEUDO_HDR);
        }
        if sum.udp {
            flags |= u64::from(BPF_F_MARK_MANGLED_0);
        }
        let offset = offset as u32;
        let word = |bytes: &[u8; N]| match bytes.as_slice() {
            [a, b] => u64::from(u16::from_ne_bytes([*a, *b])),
            [a, b, c, d] => u64::from(u32::from_ne_bytes([*a, *b, *c, *d])),
            _ => 0,
        };
        // SAFETY: helper calls on the context; the buffers have `N` bytes, a multiple of 4 where they are read.
        unsafe {
            if N <= 4 {
                return bpf_l4_csum_replace(
                    self.skb,
                    offset,
                    word(from),
                    word(to),
                    flags | N as u64,
                ) == 0;
            }
            let (old, new) = (
                from.as_ptr().cast_mut().cast(),
                to.as_ptr().cast_mut().cast(),
            );
            let change = bpf_csum_diff(old, N as u32, new, N as u32, 0) as u64;
            let with = |flags| bpf_l4_csum_replace(self.skb, offset, 0, change, flags) == 0;
            if sum.pseudo && with(flags | BPF_F_IPV6) {
                return true;
            }
            with(flags)
        }
    }

    #[inline(always)]
    fn supplied(&mut self, from: [u8; 4], to: [u8; 4]) {
        let (sum, carry) = u32::from_ne_bytes(to).overflowing_add(!u32::from_ne_bytes(from));
        // SAFETY: a helper call on the context. It fails if there is no such sum.
        unsafe { bpf_csum_update(self.skb, sum.wrapping_add(u32::from(carry))) };
    }

    #[inline(always)]
    fn gso_size(&self) -> u32 {
        field!(self.skb, gso_size)
    }

    #[inline(always)]
    fn tagged(&self) -> bool {
        field!(self.skb, vlan_present) != 0
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        field!(self.skb, ifindex)
    }

    #[inline(always)]
    fn ingress_ifindex(&self) -> u32 {
        field!(self.skb, ingress_ifindex)
    }

    #[inline(always)]
    fn has_socket(&self) -> bool {
        // SAFETY: the union's only member.
        !unsafe { field!(self.skb, __bindgen_anon_2).sk }.is_null()
    }

    #[inline(always)]
    fn note_sender(&mut self, endpoint: u32) {
        let note = SENDER | (endpoint & !SENDER_MASK);
        // SAFETY: the context is valid and classifiers may write both. A filter of a qdisc has the kernel put the class in
        // place of the index when the program is done.
        unsafe {
            (*self.skb).tc_index = note;
            (*self.skb).tc_classid = note;
        }
    }

    #[inline(always)]
    fn sender(&self) -> u32 {
        let note = field!(self.skb, tc_index);
        if note & SENDER_MASK == SENDER {
            note & !SENDER_MASK
        } else {
            0
        }
    }
}
