// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! A packet as the programs see it: bounds-checked reads and writes, and a few facts that the device knows.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What a transport checksum covers the bytes for, and how it is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sum {
    /// The bytes belong to the pseudo header, which the checksum of a packet that is not finished yet holds alone.
    pub pseudo: bool,
    /// UDP: zero means that there is no checksum, and stays.
    pub udp: bool,
}

/// A packet that begins with its Ethernet header.
///
/// All offsets count from that header. Nothing here panics: what is out of bounds is `None` or `false`.
pub trait Packet {
    /// Bytes of the whole packet, of all segments if it is a GSO packet.
    fn len(&self) -> u32;

    /// Bytes that [`Packet::read`] and [`Packet::write`] can reach.
    fn linear(&self) -> u32;

    /// Reads where `offset` is a constant after inlining; the cheapest access.
    fn read<T: FromBytes + Immutable + Copy>(&self, offset: usize) -> Option<T>;

    /// Reads at any offset, also beyond the linear part.
    fn load<T: FromBytes + IntoBytes + Immutable + Copy>(&self, offset: usize) -> Option<T>;

    /// Writes where `offset` is a constant after inlining, in the linear part.
    fn write<T: IntoBytes + Immutable>(&mut self, offset: usize, value: T) -> bool;

    /// Makes the first `len` bytes linear (all of them if there are fewer).
    fn pull(&mut self, len: u32) -> bool;

    /// Copies bytes from any offset; false, and `out` undefined, if there are not enough.
    fn copy<const N: usize>(&self, offset: usize, out: &mut [u8; N]) -> bool;

    /// Makes the packet these bytes and nothing else.
    fn replace<const N: usize>(&mut self, frame: &[u8; N]) -> bool;

    /// Writes two bytes at any offset.
    fn put(&mut self, offset: usize, value: [u8; 2]) -> bool;

    /// Has the transport checksum at `offset` follow from a change of `from` to `to`, in network byte order; `N` is 2, 4
    /// or 16.
    fn resum<const N: usize>(
        &mut self,
        offset: usize,
        from: &[u8; N],
        to: &[u8; N],
        sum: Sum,
    ) -> bool;

    /// Has the sum of the whole packet, if its device supplied one (`CHECKSUM_COMPLETE`), be as if four bytes at an even
    /// distance from the network header that were `from` were `to`.
    fn supplied(&mut self, from: [u8; 4], to: [u8; 4]);

    /// Payload bytes per segment of a GSO packet; 0 if it is none.
    fn gso_size(&self) -> u32;

    /// Whether the frame had a VLAN tag, which the kernel took off before the program ran.
    fn tagged(&self) -> bool;

    /// Device that the program is attached to.
    fn ifindex(&self) -> u32;

    /// Device by which the packet came to this node's stack; 0 if this node made it, or forgot.
    fn ingress_ifindex(&self) -> u32;

    /// Whether a socket of this node sent it.
    fn has_socket(&self) -> bool;

    /// Has whoever looks at the packet later on its way through the stack know that pod `endpoint` sent it.
    fn note_sender(&mut self, endpoint: u32);

    /// What [`Packet::note_sender`] noted, also of the packet of which this one is a piece; 0: nothing.
    fn sender(&self) -> u32;

    /// Sum of big-endian 16-bit words, as internet checksums want it (RFC 1071), folded and not inverted. `N` is
    /// a multiple of 4.
    fn sum<const N: usize>(&self, bytes: &[u8; N]) -> u32 {
        let mut sum = 0;
        for pair in bytes.chunks_exact(2) {
            if let [high, low] = pair {
                sum += u32::from(*high) << 8 | u32::from(*low);
            }
        }
        sum = (sum & 0xffff) + (sum >> 16);
        (sum & 0xffff) + (sum >> 16)
    }

    /// Whether the packet is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
