// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! By which device a packet came to the stack, which passes it on.

use crate::{Packet, Tables};

/// Some device that is no pod's.
const ELSEWHERE: u32 = u32::MAX;

/// Device by which the stack got the packet that it sends; 0: this node made it.
///
/// The stack joins fragments of IPv6 and cuts them anew, and the pieces do not know the device any more. So one that no socket
/// sent (`piece`: it may be one) came from the pod that noted itself, else from elsewhere.
#[inline(always)]
pub(crate) fn ingress<P: Packet, T: Tables>(pkt: &P, tables: &T, piece: bool) -> u32 {
    let known = pkt.ingress_ifindex();
    if known != 0 || !piece || pkt.has_socket() {
        return known;
    }
    match pkt.sender() {
        0 => ELSEWHERE,
        id => tables.endpoint(id).map_or(ELSEWHERE, |e| e.ifindex),
    }
}
