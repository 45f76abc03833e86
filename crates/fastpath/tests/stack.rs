// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Packets that the node's stack sends to pods: whose they are, and what of theirs returns.

mod common;

use abi::{Direction, DropReason, ExtError, Flow, flow_flags};
use common::frames::{self, Ip};
use common::*;
use fastpath::Step;

const SYN: u8 = 2;
const SYN_ACK: u8 = 18;
const ACK: u8 = 16;

fn a_to(dst: [u8; 4]) -> Ip {
    Ip::v4(POD_A, dst)
}

#[test]
fn the_stack_speaks_for_whom_it_should() {
    let mut world = World::default();
    world.default_deny(1, Direction::Ingress);
    let deny = |src: [u8; 4], ingress| {
        world
            .stack_to_pod(IF_A, ingress, Ip::v4(src, POD_A).tcp(9, 80, SYN))
            .work
            .report
    };
    for (src, ingress, identity) in [
        (NODE, 0, 1),
        (OUTSIDE, 0, 1),
        (NODE, UPLINK, 6),
        (OUTSIDE, UPLINK, 9),
        (POD_B, IF_B, ID_B),
        (ROUTER_REMOTE, UPLINK, 6),
    ] {
        let report = deny(src, ingress);
        assert_eq!(report.src_identity, identity, "{src:?} from {ingress}");
        assert_eq!(report.reason, DropReason::PolicyDenied as u8);
        assert_eq!(report.dst_identity, ID_A);
    }
    assert_eq!(
        deny(POD_B, UPLINK).reason,
        DropReason::InvalidSourceIp as u8
    );
    let report = deny(POD_REMOTE, UPLINK);
    assert_eq!(report.reason, DropReason::InvalidSourceIp as u8);
    assert_eq!(report.ext, ExtError::PodAddressOutsideTunnel as i8 as u8);
    let arp = world.stack_to_pod(IF_A, 0, frames::arp(NODE, POD_A));
    assert_eq!(arp.step, Step::Pass);
}

#[test]
fn replies_of_host_and_world_return_without_a_rule() {
    let mut world = World::default();
    world.default_deny(1, Direction::Ingress);
    for (peer, ingress) in [(NODE, 0), (OUTSIDE, UPLINK)] {
        assert_eq!(
            world.send(IF_A, a_to(peer).tcp(5, 80, SYN)).step,
            Step::Pass
        );
        let back = world.stack_to_pod(IF_A, ingress, Ip::v4(peer, POD_A).tcp(80, 5, SYN_ACK));
        assert_eq!(back.step, Step::Pass, "{peer:?}");
        let flags = world.entry(POD_A, peer, 5, 80).map(|f: Flow| f.flags);
        assert!(flags.is_some_and(|f| f & flow_flags::REPLIED != 0));
    }
}

#[test]
fn a_forwarded_packet_does_not_continue_a_flow_of_the_host() {
    let world = World::default();
    let syn = Ip::v4(NODE, POD_A).tcp(9, 80, SYN);
    assert_eq!(world.stack_to_pod(IF_A, 0, syn).step, Step::Pass);
    assert_eq!(
        world.entry(POD_A, NODE, 80, 9).map(|f| f.remote_identity),
        Some(1)
    );
    let forged = Ip::v4(NODE, POD_A).tcp(9, 80, ACK);
    let _ = world.stack_to_pod(IF_A, UPLINK, forged);
    assert_eq!(
        world.entry(POD_A, NODE, 80, 9).map(|f| f.remote_identity),
        Some(6)
    );
}

#[test]
fn a_flow_that_the_stack_brought_in_is_answered_through_the_stack() {
    let world = World::default();
    let syn = Ip::v4(POD_B, POD_A).tcp(9, 80, SYN);
    assert_eq!(world.stack_to_pod(IF_A, IF_B, syn).step, Step::Pass);
    let mut world = world;
    for _ in 0..2 {
        let out = world.send(IF_A, a_to(POD_B).tcp(80, 9, SYN_ACK));
        assert_eq!(out.step, Step::Pass);
        world.bump(1);
    }
}

#[test]
fn a_local_pods_address_comes_by_its_device_also_on_a_live_flow() {
    let world = World::default();
    let packet = |flags| Ip::v4(POD_B, POD_A).tcp(9, 80, flags);
    assert_eq!(world.stack_to_pod(IF_A, IF_B, packet(SYN)).step, Step::Pass);
    assert_eq!(world.stack_to_pod(IF_A, IF_B, packet(ACK)).step, Step::Pass);
    for ingress in [UPLINK, IF_A] {
        let forged = world.stack_to_pod(IF_A, ingress, packet(ACK));
        assert_eq!(forged.reason(), Some(DropReason::InvalidSourceIp as u8));
    }
    let _ = world.send(IF_A, a_to(POD_B).tcp(7, 80, SYN));
    let reply = || Ip::v4(POD_B, POD_A).tcp(80, 7, SYN_ACK);
    let forged = world.stack_to_pod(IF_A, UPLINK, reply());
    assert_eq!(
        forged.reason(),
        Some(DropReason::InvalidSourceIp as u8),
        "nor as a reply"
    );
    assert_eq!(world.stack_to_pod(IF_A, IF_B, reply()).step, Step::Pass);
}

/// A first fragment of a datagram over IPv6 that the stack sends to pod A.
fn piece(src: [u8; 4], socket: bool, sender: u32) -> Frame {
    let body = [&[17, 0, 0, 1, 0, 0, 0, 9][..], &frames::udp(9, 53, 8)].concat();
    Frame {
        bytes: Ip::v6(six(src), six(POD_A)).frame(44, &body),
        ifindex: IF_A,
        socket,
        sender,
        ..Frame::default()
    }
}

#[test]
fn pieces_that_the_stack_cut_anew_are_not_the_hosts() {
    let mut world = World::default();
    world.default_deny(1, Direction::Ingress);
    for (src, socket, sender, identity) in [
        (OUTSIDE, false, 0, 10),
        (NODE, false, 0, 6),
        (NODE, true, 0, 1),
        (POD_B, false, 2, ID_B),
    ] {
        let out = world.run_to_pod(piece(src, socket, sender));
        assert_eq!(out.reason(), Some(DropReason::PolicyDenied as u8));
        assert_eq!(out.work.report.src_identity, identity, "{src:?}");
    }
    for sender in [0, 1] {
        let out = world.run_to_pod(piece(POD_B, false, sender));
        assert_eq!(out.reason(), Some(DropReason::InvalidSourceIp as u8));
    }
}

#[test]
fn pieces_of_a_pod_go_into_the_tunnel_as_its_own() {
    let world = World::default();
    let datagram = Ip::v6(six(POD_A), six(OUTSIDE)).udp(9, 53, 8);
    assert_eq!(world.send(IF_A, datagram).frame.sender, 1);
    for (src, socket, sender, identity) in [
        (POD_A, false, 1, ID_A),
        (NODE, false, 0, 6),
        (NODE, true, 0, 6),
        (OUTSIDE, false, 0, 2),
    ] {
        let piece = Frame {
            bytes: Ip::v6(six(src), six(POD_REMOTE)).frame(44, &[17, 0, 1, 0, 0, 0, 0, 9]),
            ifindex: VXLAN,
            socket,
            sender,
            ..Frame::default()
        };
        let out = world.run_to_overlay(piece);
        assert_eq!(out.step, Step::Encapsulate);
        assert_eq!(out.work.report.tunnel.identity, identity, "{src:?}");
    }
}

#[test]
fn a_prefix_serves_addresses_without_a_row() {
    let mut world = World::default();
    let info = abi::IpInfo {
        identity: 2,
        flags: abi::ip_flags::TUNNEL,
        node: abi::Addr::v4(NODE_REMOTE),
    };
    world
        .prefixes
        .push((abi::Addr::v4([10, 7, 0, 0]), 120, info));
    let out = world.send(IF_A, Ip::v4(POD_A, [10, 7, 0, 77]).udp(1, 53, 4));
    assert_eq!((out.step, out.work.report.dst_identity), (Step::Tunnel, 2));
}
