// SPDX-License-Identifier: Apache-2.0
//! Packets through the four entry points, on a node whose tables the input chooses as well.
//!
//! The first three bytes choose tables. Then packets follow: one byte for the entry point, one for circumstances, a
//! length (two bytes, little endian), and so many bytes of frame.

#[path = "../../fastpath/tests/common/mod.rs"]
mod common;

use abi::{Addr, DropReason, IpInfo, action, config_flags, ip_flags};
use common::{Frame, IF_A, IF_B, NODE_NEAR, NODE_REMOTE, POD_A, UPLINK, VXLAN, World, six};
use fastpath::{Step, Work};

/// Packets of one run.
const PACKETS: usize = 16;

pub(crate) fn run(data: &[u8]) {
    let Some((choice, mut rest)) = data.split_first_chunk::<3>() else {
        return;
    };
    let mut world = world(*choice);
    for _ in 0..PACKETS {
        let Some(([entry, how, low, high], frame)) = rest.split_first_chunk::<4>() else {
            return;
        };
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(frame.len());
        let (bytes, next) = frame.split_at(length);
        rest = next;
        change(&mut world, *how);
        packet(&world, *entry, *how, bytes);
    }
}

/// Tables: policies of the pods, what else the node knows, and how strict it is.
fn world([policies, node, sizes]: [u8; 3]) -> World {
    let mut world = World::default();
    for (bit, pod) in [(0, 1), (2, 2)] {
        if policies >> bit & 1 != 0 {
            world.default_deny(pod, abi::Direction::Ingress);
        }
        if policies >> bit & 2 != 0 {
            world.default_deny(pod, abi::Direction::Egress);
        }
    }
    if policies & 16 != 0 {
        let allow = abi::RowVerdict {
            action: action::ALLOW,
            rule: 3,
        };
        world.rule(
            1,
            common::ID_REMOTE,
            (abi::Direction::Ingress, 6, 80u16.to_be()),
            allow,
        );
    }
    if policies & 32 != 0 {
        world.rows.clear();
    }
    if policies & 64 != 0 {
        world.classes.clear();
    }
    if node & 1 != 0 {
        world.config.flags &= !config_flags::IPV4;
    }
    if node & 2 != 0 {
        world.config.flags &= !config_flags::IPV6;
    }
    if node & 4 != 0 {
        world.config.flags &= !config_flags::OUTER_STRICT;
    }
    if node & 8 != 0 {
        world.nodes.clear();
    }
    if node & 16 != 0 {
        world.endpoints.clear();
    }
    if node & 32 != 0 {
        let info = IpInfo {
            identity: 16_777_217,
            flags: ip_flags::TUNNEL,
            node: Addr::v4(NODE_REMOTE),
        };
        world.prefixes.push((Addr::v4([10, 0, 0, 0]), 104, info));
        world.prefixes.push((Addr::v6(six([0; 4])), 8, info));
    }
    world.flow_room = usize::from(sizes & 3).max(usize::from(sizes & 4) * 1000);
    world.config.flow_share = u32::from(sizes >> 3 & 3);
    world.config.tunnel_mtu = [0, 576, 1280, 1450, 65_535][usize::from(sizes >> 5) % 5];
    world
}

/// What happens on the node before the packet.
fn change(world: &mut World, how: u8) {
    if how & 64 != 0 {
        world.bump_addr(POD_A);
        world.now.set(world.now.get().wrapping_add(7));
    }
    if how & 128 != 0 {
        world.now.set(world.now.get().wrapping_add(100_000));
        world.lookups.set(0);
    }
}

fn packet(world: &World, entry: u8, how: u8, bytes: &[u8]) {
    let mut frame = Frame {
        bytes: bytes.to_vec(),
        paged: [0, 0, bytes.len() / 2, bytes.len()][usize::from(how & 3)],
        gso: [0, 0, 64, 1400][usize::from(how >> 2 & 3)],
        ifindex: VXLAN,
        tagged: entry & 128 != 0,
        ingress: [0, IF_B, UPLINK, VXLAN][usize::from(how >> 4 & 3)],
        socket: entry & 8 != 0,
        sender: u32::from(entry >> 4 & 3),
        ..Frame::default()
    };
    let mut work = Work::default();
    let step = match entry % 4 {
        0 => {
            frame.ifindex = if entry & 4 == 0 { IF_A } else { IF_B };
            let step = fastpath::from_pod(&mut frame, world, &mut work);
            own_source(bytes, frame.ifindex, step);
            step
        }
        1 => {
            frame.ifindex = if entry & 4 == 0 { IF_A } else { IF_B };
            let step = fastpath::to_pod(&mut frame, world, &mut work);
            assert!(
                !matches!(step, Step::Tunnel | Step::Encapsulate),
                "to_pod: {step:?}"
            );
            step
        }
        2 => {
            let vni = [
                common::ID_REMOTE,
                common::ID_NEAR,
                6,
                common::ID_A,
                2,
                0,
                u32::MAX,
            ][usize::from(entry >> 2 & 7) % 7];
            let outer = if entry & 32 == 0 {
                NODE_REMOTE
            } else {
                NODE_NEAR
            };
            let key = (entry & 64 == 0).then_some((vni, Addr::v4(outer)));
            let step = fastpath::from_overlay(&mut frame, world, &mut work, key);
            assert!(
                key.is_some() || step == Step::Drop,
                "no tunnel key: {step:?}"
            );
            step
        }
        _ => fastpath::to_overlay(&mut frame, world, &mut work),
    };
    outcome(step, &work);
}

/// A step comes with what its caller needs.
fn outcome(step: Step, work: &Work) {
    let report = &work.report;
    match step {
        Step::Drop => assert!(
            DropReason::from_number(report.reason).is_some(),
            "dropped for {}",
            report.reason
        ),
        Step::Tunnel | Step::Encapsulate => {
            assert_ne!(report.tunnel.identity, 0, "a tunnel without an identity");
            assert_ne!(report.tunnel.remote, Addr::default(), "a tunnel to nowhere");
        }
        Step::Deliver => assert_ne!(report.ifindex, 0, "delivered to no device"),
        Step::Pass | Step::PassToNode => {}
    }
}

/// Nothing leaves a pod with a source that is not the pod's.
fn own_source(bytes: &[u8], ifindex: u32, step: Step) {
    if !matches!(step, Step::Tunnel | Step::Pass | Step::PassToNode) {
        return;
    }
    let own = if ifindex == IF_A {
        POD_A
    } else {
        common::POD_B
    };
    match bytes.get(12..14) {
        Some([8, 6]) => {
            let sender = bytes
                .get(28..32)
                .expect("an ARP packet that passed is whole");
            assert!(sender == own || sender == [0; 4], "{step:?} of {sender:?}");
        }
        Some([8, 0]) => assert_eq!(bytes.get(26..30), Some(&own[..]), "{step:?}"),
        Some([0x86, 0xdd]) => {
            let source = bytes
                .get(22..38)
                .expect("a packet that passed has a header");
            assert!(
                source == six(own) || source[0] == 0xfe,
                "{step:?} with {source:x?}"
            );
        }
        other => panic!("{step:?} of a frame of type {other:x?}"),
    }
}
