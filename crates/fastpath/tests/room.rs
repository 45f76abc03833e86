// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Flows for which conntrack has no room: what goes on without an entry, what is refused, and what the pod keeps for itself.

mod common;

use abi::{Addr, Direction, DropReason, ExtError, SHARE_OF_ALL};
use common::frames::Ip;
use common::services::{VIP, service};
use common::*;
use fastpath::Step;

const SYN: u8 = 2;
const SYN_ACK: u8 = 18;
const PORTS: std::ops::Range<u16> = 1000..1020;

/// A node whose pods may have eight entries each, six of them begun by others.
fn small() -> World {
    let mut world = World::default();
    world.config.flow_share = 8;
    world
}

/// Datagrams of the remote pod to pod A, a port each.
fn flood(world: &World) {
    for port in PORTS {
        let packet = Ip::v4(POD_REMOTE, POD_A).udp(port, 53, 4);
        let out = world.overlay(ID_REMOTE, NODE_REMOTE, packet);
        assert_eq!(out.step, Step::Deliver, "{port}");
    }
}

fn entries(world: &World, pod: u32) -> u32 {
    world.shares.borrow().get(&pod).copied().unwrap_or(0)
}

fn share_exceeded(out: &Outcome) -> bool {
    out.reason() == Some(DropReason::FlowTableFull as u8)
        && out.work.report.ext == ExtError::ShareExceeded as i8 as u8
}

#[test]
fn a_flood_passes_and_leaves_the_pod_its_part() {
    let mut world = small();
    service(&mut world, &[POD_NEAR], 0);
    flood(&world);
    assert_eq!(entries(&world, 1), 6);
    for port in PORTS {
        let answer = Ip::v4(POD_A, POD_REMOTE).udp(53, port, 4);
        assert_eq!(world.send(IF_A, answer).step, Step::Tunnel);
    }
    assert_eq!(
        entries(&world, 1),
        6,
        "answers are nothing that the pod began"
    );
    let ask = Ip::v4(POD_A, VIP).udp(4000, 80, 4);
    assert_eq!(world.send(IF_A, ask).step, Step::Tunnel);
    assert_eq!(entries(&world, 1), 8, "two halves");
}

#[test]
fn what_the_pod_opens_has_an_entry_beside_a_flood() {
    let mut world = small();
    flood(&world);
    world.default_deny(1, Direction::Ingress);
    for port in [1, 2] {
        let syn = Ip::v4(POD_A, POD_REMOTE).tcp(port, 80, SYN);
        assert_eq!(world.send(IF_A, syn).step, Step::Tunnel);
        let answer = Ip::v4(POD_REMOTE, POD_A).tcp(80, port, SYN_ACK);
        let out = world.overlay(ID_REMOTE, NODE_REMOTE, answer);
        assert_eq!(out.step, Step::Deliver, "it is the answer to {port}");
    }
    let syn = Ip::v4(POD_A, POD_REMOTE).tcp(3, 80, SYN);
    assert_eq!(world.send(IF_A, syn).step, Step::Tunnel);
    assert_eq!(entries(&world, 1), 8);
    let answer = Ip::v4(POD_REMOTE, POD_A).tcp(80, 3, SYN_ACK);
    let out = world.overlay(ID_REMOTE, NODE_REMOTE, answer);
    assert_eq!(out.reason(), Some(DropReason::PolicyDenied as u8));
}

#[test]
fn without_an_entry_each_packet_is_judged() {
    let mut world = small();
    flood(&world);
    let packet = || Ip::v4(POD_REMOTE, POD_A).tcp(5000, 80, SYN);
    let out = world.overlay(ID_REMOTE, NODE_REMOTE, packet());
    assert_eq!(out.step, Step::Deliver);
    let answer = Ip::v4(POD_A, POD_REMOTE).tcp(80, 5000, SYN_ACK);
    assert_eq!(world.send(IF_A, answer).step, Step::Tunnel);
    world.default_deny(1, Direction::Ingress);
    let out = world.overlay(ID_REMOTE, NODE_REMOTE, packet());
    assert_eq!(out.reason(), Some(DropReason::PolicyDenied as u8));
    let forged = world.overlay(ID_NEAR, NODE_REMOTE, packet());
    assert_eq!(forged.reason(), Some(DropReason::UnknownSender as u8));
}

#[test]
fn what_cannot_be_answered_without_an_entry_is_refused() {
    let mut world = small();
    service(&mut world, &[POD_REMOTE], 0);
    world.config.flow_share = 0;
    let out = world.send(IF_A, Ip::v4(POD_A, VIP).udp(4000, 80, 4));
    assert!(
        share_exceeded(&out),
        "its answers need the service's address"
    );
    let packet = Ip::v4(POD_B, POD_A).udp(9, 80, 4);
    let out = world.stack_to_pod(IF_A, IF_B, packet.clone());
    assert!(share_exceeded(&out), "the stack may have translated it");
    let out = world.send(IF_B, packet);
    assert_eq!(out.step, Step::Deliver, "straight from pod to pod");
    let node = Ip::v4(ROUTER_REMOTE, POD_A).udp(9, 80, 4);
    let out = world.overlay(6, NODE_REMOTE, node);
    assert!(
        share_exceeded(&out),
        "a node's socket is answered by the tunnel"
    );
    for (peer, ingress) in [(NODE, 0), (OUTSIDE, UPLINK)] {
        let packet = Ip::v4(peer, POD_A).udp(9, 80, 4);
        let out = world.stack_to_pod(IF_A, ingress, packet);
        assert_eq!(out.step, Step::Pass, "{peer:?}");
    }
    assert_eq!(world.flows.borrow().len(), 0);
}

#[test]
fn others_leave_a_quarter_of_the_table() {
    let mut world = World::default();
    world.config.flow_room = 6;
    service(&mut world, &[POD_REMOTE], 0);
    flood(&world);
    assert_eq!((entries(&world, 1), entries(&world, SHARE_OF_ALL)), (6, 6));
    let out = world.send(IF_B, Ip::v4(POD_B, POD_NEAR).udp(9, 53, 4));
    assert_eq!((out.step, entries(&world, 2)), (Step::Tunnel, 0));
    let out = world.send(IF_B, Ip::v4(POD_B, POD_NEAR).tcp(9, 80, SYN));
    assert_eq!((out.step, entries(&world, 2)), (Step::Tunnel, 1));
    let out = world.send(IF_B, Ip::v4(POD_B, VIP).udp(4000, 80, 4));
    assert_eq!((out.step, entries(&world, 2)), (Step::Tunnel, 3));
    assert_eq!(entries(&world, SHARE_OF_ALL), 9);
    let node = Ip::v4(ROUTER_REMOTE, POD_A).udp(9, 80, 4);
    let out = world.overlay(6, NODE_REMOTE, node);
    assert_eq!(out.reason(), Some(DropReason::FlowTableFull as u8));
    assert_eq!(out.work.report.ext, 0, "its share has room");
}

#[test]
fn a_full_table_is_as_a_used_share() {
    let mut world = small();
    service(&mut world, &[POD_REMOTE], 0);
    let known = Ip::v4(POD_A, OUTSIDE).udp(1, 53, 4);
    assert_eq!(world.send(IF_A, known.clone()).step, Step::Pass);
    world.flow_room = 1;
    assert_eq!(world.send(IF_A, known).step, Step::Pass, "as before");
    let out = world.send(IF_B, Ip::v4(POD_B, OUTSIDE).udp(9, 53, 4));
    assert_eq!((out.step, entries(&world, 2)), (Step::Pass, 0));
    let out = world.send(IF_A, Ip::v4(POD_A, VIP).udp(4000, 80, 4));
    assert_eq!(out.reason(), Some(DropReason::FlowTableFull as u8));
    assert_eq!(out.work.report.ext, 0);
    let key = |flow: &abi::FlowKey| flow.remote == Addr::v4(OUTSIDE);
    assert!(world.flows.borrow().keys().all(key));
}
