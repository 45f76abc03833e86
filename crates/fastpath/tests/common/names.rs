// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Who is who in the two clusters of the tests.

pub(crate) const POD_A: [u8; 4] = [10, 5, 0, 10];
pub(crate) const POD_B: [u8; 4] = [10, 5, 0, 11];
pub(crate) const POD_REMOTE: [u8; 4] = [10, 7, 0, 10];
pub(crate) const POD_NEAR: [u8; 4] = [10, 5, 1, 10];
pub(crate) const OUTSIDE: [u8; 4] = [192, 0, 2, 1];
pub(crate) const NODE: [u8; 4] = [172, 16, 5, 1];
pub(crate) const NODE_NEAR: [u8; 4] = [172, 16, 5, 2];
pub(crate) const NODE_REMOTE: [u8; 4] = [172, 16, 7, 1];
pub(crate) const ROUTER: [u8; 4] = [10, 5, 0, 1];
pub(crate) const ROUTER_REMOTE: [u8; 4] = [10, 7, 0, 1];
pub(crate) const IF_A: u32 = 100;
pub(crate) const IF_B: u32 = 101;
pub(crate) const VXLAN: u32 = 50;
pub(crate) const UPLINK: u32 = 2;
pub(crate) const ID_A: u32 = 5 << 16 | 1001;
pub(crate) const ID_B: u32 = 5 << 16 | 1002;
pub(crate) const ID_REMOTE: u32 = 7 << 16 | 2001;
pub(crate) const ID_NEAR: u32 = 5 << 16 | 1003;
pub(crate) const MTU: u32 = 1450;

/// The IPv6 twin of an IPv4 address of these tests.
pub(crate) fn six(v4: [u8; 4]) -> [u8; 16] {
    let mut out = [0; 16];
    out[0] = 0xfd;
    out[12..].copy_from_slice(&v4);
    out
}
