// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! The last hop into a pod: TTL, MACs, device.

use abi::{DropReason, Endpoint};
use zerocopy::transmute;

use crate::headers::ETH_LEN;
use crate::{Packet, Parsed, Report, Step};

const TTL_AT: usize = ETH_LEN + 8;
const CHECKSUM_AT: usize = ETH_LEN + 10;
const HOPS_AT: usize = ETH_LEN + 7;

/// Lowers the TTL (it is above 1), addresses the frame to the pod and delivers it.
#[inline(always)]
pub(crate) fn deliver<P: Packet>(
    pkt: &mut P,
    packet: &Parsed,
    to: &Endpoint,
    report: &mut Report,
) -> Step {
    let ttl = packet.ttl.wrapping_sub(1);
    let written = if packet.v4 == 1 {
        pkt.write(TTL_AT, ttl) && pkt.write(CHECKSUM_AT, lowered(packet.checksum))
    } else {
        pkt.write(HOPS_AT, ttl)
    };
    if !written || !address(pkt, to) {
        return report.drop(DropReason::WriteFailed);
    }
    report.ifindex = to.ifindex;
    Step::Deliver
}

/// Writes the MACs of a frame from the host side to the pod.
#[inline(always)]
pub(crate) fn address<P: Packet>(pkt: &mut P, to: &Endpoint) -> bool {
    let macs: [u32; 3] = transmute!([to.mac, to.host_mac]);
    pkt.write(0, macs)
}

/// IPv4 header checksum after the TTL was lowered by one (RFC 1141).
#[inline(always)]
fn lowered(checksum: [u8; 2]) -> u16 {
    let sum = u32::from(u16::from_be_bytes(checksum)) + 0x100;
    let sum = sum + u32::from(sum >= 0xffff);
    (sum as u16).to_be()
}
