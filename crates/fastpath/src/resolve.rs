// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Whose an address is: identity and way to it.

use abi::{Addr, Endpoint, Flow, IpInfo, NodeConfig, flow_flags, ip_flags, next_hop};

use zerocopy::transmute;

use crate::Tables;
use crate::policy::HOST;

/// Looks an address up among those outside this node: exact first, longest prefix next.
#[inline(always)]
pub(crate) fn outside<'a, T: Tables>(tables: &'a T, addr: &Addr) -> Option<&'a IpInfo> {
    match tables.address(addr) {
        Some(info) => Some(info),
        None => tables.prefix(addr),
    }
}

/// The one address of a family from which a pod may send; no packet has [`Addr::NONE`] when it is disabled,
/// because that would be the unspecified address.
#[inline(always)]
pub(crate) fn address_of(endpoint: &Endpoint, v4: bool) -> Addr {
    let own = if v4 { endpoint.ipv4 } else { endpoint.ipv6 };
    if own == Addr::NONE {
        Addr([0xff; 16])
    } else {
        own
    }
}

/// Identity of an address that no table knows.
#[inline(always)]
pub(crate) fn world(config: &NodeConfig, v4: bool) -> u32 {
    if v4 { config.world4 } else { config.world6 }
}

/// Loopback and the unspecified address: whoever uses them means itself, so no packet carries them between
/// machines. A node that routes its loopback (`route_localnet`) would take such a packet.
#[inline(always)]
pub(crate) fn is_this_host(addr: &Addr) -> bool {
    // Whole words, which need no stack.
    let [first, second, third, last]: [u32; 4] = transmute!(*addr);
    if first | second != 0 {
        return false;
    }
    match u32::from_be(third) {
        0 => u32::from_be(last) <= 1,
        0xffff => last == 0 || u32::from_be(last) >> 24 == 127,
        _ => false,
    }
}

/// Fills the remote side of `flow`: identity, next hop and what belongs to it.
#[inline(always)]
pub(crate) fn resolve<T: Tables>(tables: &T, config: &NodeConfig, addr: &Addr, flow: &mut Flow) {
    flow.peer_endpoint = 0;
    flow.node = [0; 4];
    flow.next_hop = next_hop::STACK;
    flow.flags &= !(flow_flags::HOST | flow_flags::FROM_TUNNEL);
    match tables.local(addr) {
        Some(0) => {
            flow.remote_identity = HOST;
            flow.flags |= flow_flags::HOST;
        }
        Some(id) => {
            flow.remote_identity = tables.endpoint(id).map_or(0, |e| e.identity);
            flow.next_hop = next_hop::LOCAL;
            flow.peer_endpoint = id as u16;
        }
        None => match outside(tables, addr) {
            Some(info) => {
                flow.remote_identity = info.identity;
                if info.flags & ip_flags::TUNNEL != 0 {
                    flow.next_hop = next_hop::TUNNEL;
                    flow.node = info.node.octets4();
                }
            }
            None => flow.remote_identity = world(config, addr.is_v4()),
        },
    }
}
