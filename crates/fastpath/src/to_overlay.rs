// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Packets that this node's stack sends to pods and routers of other nodes: they get their tunnel key here.

use abi::{Direction, DropReason, ExtError, IpInfo, ip_flags};

use crate::flow::write_key;
use crate::headers::{ETH_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, Ipv6, mapped};
use crate::ingress::ingress;
use crate::judge::note_translated;
use crate::policy::{REMOTE_NODE, WORLD, is_node, is_pod};
use crate::resolve::outside;
use crate::{Packet, Step, Tables, Tunnel, Work, parse};

/// Decides a packet on the egress of the VXLAN device that has no tunnel key yet.
#[inline(always)]
pub fn to_overlay<P: Packet, T: Tables>(pkt: &mut P, tables: &T, work: &mut Work) -> Step {
    work.report.begin(Direction::Egress);
    let Some(config) = tables.config() else {
        return work.report.drop(DropReason::EndpointNotReady);
    };
    let (src, dst) = match pkt.read::<u16>(ETH_LEN - 2).map(u16::from_be) {
        Some(ETHERTYPE_IPV4) => match pkt.load::<Ipv4>(ETH_LEN) {
            Some(ip) => (mapped(ip.src), mapped(ip.dst)),
            None => return work.report.drop(DropReason::InvalidPacket),
        },
        Some(ETHERTYPE_IPV6) => match pkt.load::<Ipv6>(ETH_LEN) {
            Some(ip) => (ip.src, ip.dst),
            None => return work.report.drop(DropReason::InvalidPacket),
        },
        _ => return work.report.drop_quietly(DropReason::UnsupportedL3),
    };
    work.packet.src = src;
    work.packet.dst = dst;
    let Some(to) = outside(tables, &work.packet.dst).filter(|i| i.flags & ip_flags::TUNNEL != 0)
    else {
        return nowhere(work);
    };
    work.report.dst_identity = to.identity;
    match identity(tables, work, ingress(pkt, tables, true)) {
        0 => Step::Drop,
        identity => {
            work.report.src_identity = identity;
            if work.report.endpoint != 0 && !translated(pkt, tables, work) {
                return Step::Drop;
            }
            work.report.tunnel = Tunnel {
                identity,
                local: config.node,
                remote: to.node,
            };
            Step::Encapsulate
        }
    }
}

/// Takes note of a pod's packet that the stack brings here. False: drop, as the report says.
#[inline(never)]
fn translated<P: Packet, T: Tables>(pkt: &mut P, tables: &T, work: &mut Work) -> bool {
    let Some(config) = tables.config() else {
        return false;
    };
    let ethertype = match work.packet.dst.is_v4() {
        true => ETHERTYPE_IPV4,
        false => ETHERTYPE_IPV6,
    };
    // Without ports there is no flow to take note of: a later fragment follows its first.
    if parse(pkt, tables, ethertype, &mut work.packet).is_some() {
        return true;
    }
    write_key(&mut work.key, &work.packet, true);
    let endpoint = u32::from(work.report.endpoint);
    note_translated(tables, config, work, endpoint)
}

/// The device's own multicast is no news; everything else is.
#[inline(always)]
fn nowhere(work: &mut Work) -> Step {
    let multicast = work.packet.dst.0[0] == 0xff
        || (work.packet.dst.is_v4() && work.packet.dst.0[12] >> 4 == 14);
    work.report.quiet = u8::from(multicast);
    work.report.drop(DropReason::StaleIp)
}

/// As whom the packet travels; 0: it does not, as the report says.
#[inline(always)]
fn identity<T: Tables>(tables: &T, work: &mut Work, ingress: u32) -> u32 {
    if ingress == 0 {
        return REMOTE_NODE;
    }
    match tables.local(&work.packet.src) {
        Some(0) => REMOTE_NODE,
        Some(id) => match tables.endpoint(id).filter(|e| e.ifindex == ingress) {
            Some(sender) => {
                work.report.endpoint = id as u16;
                sender.identity
            }
            None => {
                let _ = work.report.drop(DropReason::InvalidSourceIp);
                0
            }
        },
        None => match outside(tables, &work.packet.src) {
            Some(IpInfo { identity, .. }) if is_pod(*identity) => {
                work.report.src_identity = *identity;
                let ext = ExtError::PodAddressOutsideTunnel;
                let _ = work.report.drop_for(DropReason::InvalidSourceIp, ext);
                0
            }
            Some(IpInfo { identity, .. }) if is_node(*identity) => REMOTE_NODE,
            _ => WORLD,
        },
    }
}
