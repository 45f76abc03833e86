// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! What one packet leaves behind while it is decided: too much for a BPF stack, so the caller keeps it.

use abi::{Addr, Direction, DropReason, ExtError, Flow, FlowKey};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::Parsed;

/// Room for the longest packet that is made here: an ICMPv6 error.
pub const FRAME_LEN: usize = 160;

/// What to do with the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[must_use]
pub enum Step {
    /// On to the stack (or to the device, for programs on egress).
    Pass,
    /// To the stack as a packet for this node, whatever its destination MAC.
    PassToNode,
    /// Into the pod behind [`Report::ifindex`].
    Deliver,
    /// To the VXLAN device, with [`Report::tunnel`].
    Tunnel,
    /// On with [`Report::tunnel`] as tunnel key: the packet is on the VXLAN device already.
    Encapsulate,
    /// Drop for [`Report::reason`].
    Drop,
}

/// Tunnel key of a packet.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Tunnel {
    /// VNI.
    pub identity: u32,
    /// Outer source.
    pub local: Addr,
    /// Outer destination.
    pub remote: Addr,
}

/// What the caller needs to carry a [`Step`] out, to count it and to tell about it.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Report {
    /// [`DropReason`] of a drop or of an audited packet; 0 none.
    pub reason: u8,
    /// [`ExtError`].
    pub ext: u8,
    /// [`Direction`].
    pub direction: u8,
    /// 1: `reason` is reported, but the packet is not dropped.
    pub audit: u8,
    /// 1: count the drop, send no event (background noise of every pod).
    pub quiet: u8,
    /// Zero.
    pub pad: u8,
    /// Endpoint that was judged; 0 none.
    pub endpoint: u16,
    /// Identity of the packet's source.
    pub src_identity: u32,
    /// Identity of the packet's destination.
    pub dst_identity: u32,
    /// Rule that decided.
    pub rule: u32,
    /// Device for [`Step::Deliver`].
    pub ifindex: u32,
    /// Outer source of a packet that came by tunnel.
    pub node: Addr,
    /// Key for [`Step::Tunnel`] and [`Step::Encapsulate`].
    pub tunnel: Tunnel,
}

impl Report {
    /// Drops for `reason`.
    #[inline(always)]
    pub(crate) fn drop(&mut self, reason: DropReason) -> Step {
        self.reason = reason as u8;
        Step::Drop
    }

    /// Drops for `reason` and says more.
    #[inline(always)]
    pub(crate) fn drop_for(&mut self, reason: DropReason, ext: ExtError) -> Step {
        self.ext = ext as i8 as u8;
        self.drop(reason)
    }

    /// Drops without an event.
    #[inline(always)]
    pub(crate) fn drop_quietly(&mut self, reason: DropReason) -> Step {
        self.quiet = 1;
        self.drop(reason)
    }

    #[inline(always)]
    pub(crate) fn begin(&mut self, direction: Direction) {
        *self = Report::default();
        self.direction = direction as u8;
    }
}

/// State of one packet.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Work {
    /// The packet's headers.
    pub packet: Parsed,
    /// Key of the endpoint that is being judged.
    pub key: FlowKey,
    /// The entry that is being made.
    pub flow: Flow,
    /// Epoch of the bucket in `flow.addr_bucket`, read before what it stands for.
    pub addr_epoch: u32,
    /// The result.
    pub report: Report,
    /// Entry under `key` before this packet: 0 none, else its endpoint + 1 (before judgement begins, any number).
    pub present: u16,
    /// 1: `flow` is a live entry that the packet belongs to, not a fresh one.
    pub live: u8,
    /// 1: an allowed decision becomes an entry.
    pub remember: u8,
    /// A packet that is being made.
    pub frame: [u8; FRAME_LEN],
}

impl Default for Work {
    fn default() -> Work {
        Work::new_zeroed()
    }
}
