// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Services that the node's stack translates (kube-proxy): pod → service address → stack → pod elsewhere, and back.

mod common;

use abi::{Direction, flow_flags};
use common::frames::Ip;
use common::*;
use fastpath::{FlowRef, Step};

const SYN: u8 = 2;
const SYN_ACK: u8 = 18;
const ACK: u8 = 16;
const RST: u8 = 4;
/// An address that only the stack knows.
const SERVICE: [u8; 4] = [10, 96, 0, 10];

/// Every shape of a packet between two addresses that a service may have: a connection's or a datagram.
fn both(tcp_flags: u8, from: Ip, ports: (u16, u16)) -> [Vec<u8>; 2] {
    [
        from.tcp(ports.0, ports.1, tcp_flags),
        from.udp(ports.0, ports.1, 4),
    ]
}

fn closed() -> World {
    let mut world = World::default();
    world.default_deny(1, Direction::Ingress);
    world
}

#[test]
fn answers_to_a_translated_flow_return_through_the_stack() {
    let v6 = |src, dst| Ip::v6(six(src), six(dst));
    for way in [Ip::v4, v6 as fn(_, _) -> _] {
        let world = closed();
        for (n, packet) in both(SYN, way(POD_A, SERVICE), (5, 53))
            .into_iter()
            .enumerate()
        {
            assert_eq!(world.send(IF_A, packet).step, Step::Pass);
            let translated = both(SYN, way(POD_A, POD_REMOTE), (5, 53))[n].clone();
            let out = world.stack_to_overlay(IF_A, translated);
            assert_eq!(out.step, Step::Encapsulate);
            assert_eq!(out.work.report.tunnel.identity, ID_A);
            for _ in 0..2 {
                let answer = both(SYN_ACK, way(POD_REMOTE, POD_A), (53, 5))[n].clone();
                let out = world.overlay(ID_REMOTE, NODE_REMOTE, answer);
                assert_eq!(out.step, Step::PassToNode);
                let answer = both(SYN_ACK, way(SERVICE, POD_A), (53, 5))[n].clone();
                assert_eq!(world.stack_to_pod(IF_A, VXLAN, answer).step, Step::Pass);
            }
        }
        assert_eq!(world.shares.borrow()[&1], 4);
    }
}

#[test]
fn nobody_else_gets_in_by_a_translated_flow() {
    let world = closed();
    let to_service = Ip::v4(POD_A, SERVICE).tcp(5, 80, SYN);
    assert_eq!(world.send(IF_A, to_service).step, Step::Pass);
    let _ = world.stack_to_overlay(IF_A, Ip::v4(POD_A, POD_REMOTE).tcp(5, 80, SYN));
    let answer = |src, sport| Ip::v4(src, POD_A).tcp(sport, 5, SYN_ACK);
    for (vni, node, packet) in [
        // Another node, another cluster's pod, another port, another pod.
        (ID_REMOTE, NODE_NEAR, answer(POD_REMOTE, 80)),
        (ID_NEAR, NODE_NEAR, answer(POD_REMOTE, 80)),
        (ID_REMOTE, NODE_REMOTE, answer(POD_REMOTE, 81)),
        (ID_NEAR, NODE_NEAR, answer(POD_NEAR, 80)),
        // Another identity of the same cluster under that address.
        (ID_REMOTE + 1, NODE_REMOTE, answer(POD_REMOTE, 80)),
    ] {
        let out = world.overlay(vni, node, packet);
        assert_eq!(out.step, Step::Drop, "{vni} {node:?}");
    }
    let out = world.overlay(ID_REMOTE, NODE_REMOTE, answer(POD_REMOTE, 80));
    assert_eq!(out.step, Step::PassToNode, "the flow is as it was");
    // What the stack does not translate back is no answer to what the pod asked.
    let out = world.stack_to_pod(IF_A, VXLAN, answer(POD_REMOTE, 80));
    assert_eq!(out.step, Step::Drop);
}

#[test]
fn a_translated_flow_is_no_decision_about_the_pod_behind_it() {
    let mut world = World::default();
    let to_remote = |flags| Ip::v4(POD_A, POD_REMOTE).tcp(5, 80, flags);
    let _ = world.stack_to_overlay(IF_A, to_remote(SYN));
    world.default_deny(1, Direction::Egress);
    assert_eq!(world.send(IF_A, to_remote(ACK)).step, Step::Drop);
}

#[test]
fn a_pods_own_flow_keeps_its_way() {
    let world = closed();
    let to_remote = Ip::v4(POD_A, POD_REMOTE).udp(5, 53, 4);
    assert_eq!(world.send(IF_A, to_remote.clone()).step, Step::Tunnel);
    // A piece of a datagram that is too long for the tunnel goes through the stack as it is.
    assert_eq!(
        world.stack_to_overlay(IF_A, to_remote).step,
        Step::Encapsulate
    );
    let answer = Ip::v4(POD_REMOTE, POD_A).udp(53, 5, 4);
    let out = world.overlay(ID_REMOTE, NODE_REMOTE, answer);
    assert_eq!(out.step, Step::Deliver);
}

#[test]
fn a_translated_flow_lives_and_ends_as_others_do() {
    let world = closed();
    let to_remote = |flags| Ip::v4(POD_A, POD_REMOTE).tcp(5, 80, flags);
    let answer = |flags| Ip::v4(POD_REMOTE, POD_A).tcp(80, 5, flags);
    let _ = world.stack_to_overlay(IF_A, to_remote(SYN));
    let _ = world.overlay(ID_REMOTE, NODE_REMOTE, answer(SYN_ACK));
    let _ = world.stack_to_overlay(IF_A, to_remote(ACK));
    world.now.set(world.now.get() + 7000);
    let out = world.overlay(ID_REMOTE, NODE_REMOTE, answer(ACK));
    assert_eq!(out.step, Step::PassToNode);
    let _ = world.stack_to_overlay(IF_A, to_remote(RST));
    let _ = world.overlay(ID_REMOTE, NODE_REMOTE, answer(RST));
    {
        let flows = world.flows.borrow();
        let flow = flows.values().next().expect("an entry").get();
        let closed = flow_flags::TX_CLOSING | flow_flags::RX_CLOSING;
        assert_eq!(flow.flags & closed, closed);
    }
    world.now.set(world.now.get() + 11);
    let out = world.overlay(ID_REMOTE, NODE_REMOTE, answer(ACK));
    assert_eq!(out.step, Step::Drop);
}

#[test]
fn a_full_table_refuses_what_could_not_be_answered() {
    let mut world = closed();
    world.flow_room = 0;
    let out = world.stack_to_overlay(IF_A, Ip::v4(POD_A, POD_REMOTE).tcp(5, 80, SYN));
    assert_eq!(out.step, Step::Drop);
}

#[test]
fn the_pod_behind_a_service_may_change_its_identity() {
    let mut world = closed();
    let to_remote = |flags| Ip::v4(POD_A, POD_REMOTE).tcp(5, 80, flags);
    let _ = world.stack_to_overlay(IF_A, to_remote(SYN));
    world.remote(POD_REMOTE, ID_REMOTE + 1, NODE_REMOTE);
    let _ = world.stack_to_overlay(IF_A, to_remote(ACK));
    let answer = Ip::v4(POD_REMOTE, POD_A).tcp(80, 5, ACK);
    let out = world.overlay(ID_REMOTE + 1, NODE_REMOTE, answer);
    assert_eq!(out.step, Step::PassToNode);
}

/// Where the pod may be reached, a packet that is no answer stands for itself and takes nothing from the flow.
#[test]
fn a_stranger_with_the_same_ports_takes_no_flow_away() {
    let world = World::default();
    let _ = world.stack_to_overlay(IF_A, Ip::v4(POD_A, POD_REMOTE).tcp(5, 80, SYN));
    let packet = || Ip::v4(POD_REMOTE, POD_A).tcp(80, 5, SYN_ACK);
    let out = world.overlay(ID_REMOTE + 1, NODE_REMOTE, packet());
    assert_eq!(out.step, Step::Deliver);
    let out = world.overlay(ID_REMOTE, NODE_REMOTE, packet());
    assert_eq!(out.step, Step::PassToNode);
}
