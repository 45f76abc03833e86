// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! One address format for both families, so that every table has one key shape.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An IPv6 address, or an IPv4 address as `::ffff:a.b.c.d`. Network byte order.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C, align(4))]
pub struct Addr(pub [u8; 16]);

impl Addr {
    /// No address.
    pub const NONE: Addr = Addr([0; 16]);

    /// The IPv4-mapped form of `octets`.
    #[inline(always)]
    pub const fn v4(octets: [u8; 4]) -> Addr {
        let [a, b, c, d] = octets;
        Addr([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }

    /// An IPv6 address.
    #[inline(always)]
    pub const fn v6(octets: [u8; 16]) -> Addr {
        Addr(octets)
    }

    /// Whether this is an IPv4-mapped address.
    #[inline(always)]
    pub fn is_v4(&self) -> bool {
        self.0[..12] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
    }

    /// The IPv4 octets; meaningful only if [`Addr::is_v4`].
    #[inline(always)]
    pub const fn octets4(&self) -> [u8; 4] {
        [self.0[12], self.0[13], self.0[14], self.0[15]]
    }
}
