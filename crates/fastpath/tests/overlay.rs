// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Packets of other nodes and to them: ways, replies, refined identities.

mod common;

use abi::{Addr, Direction, DropReason, IpInfo, RowVerdict, action};
use common::frames::Ip;
use common::*;
use fastpath::Step;

const SYN: u8 = 2;
const ACK: u8 = 16;

fn in_from_remote() -> Ip {
    Ip::v4(POD_REMOTE, POD_A)
}

#[test]
fn a_pod_of_another_cluster_reaches_a_pod_here_and_is_answered_by_tunnel() {
    for ip in [in_from_remote(), Ip::v6(six(POD_REMOTE), six(POD_A))] {
        let world = World::default();
        for round in 0..2 {
            let out = world.overlay(ID_REMOTE, NODE_REMOTE, ip.tcp(9, 80, SYN));
            assert_eq!(out.step, Step::Deliver, "{round}");
            assert_eq!(out.work.report.ifindex, IF_A);
            let ttl = if ip.v4 {
                out.frame.bytes[22]
            } else {
                out.frame.bytes[21]
            };
            assert_eq!(ttl, 63);
        }
        let out = world.send(IF_A, ip.reply().tcp(80, 9, SYN | ACK));
        assert_eq!(
            (out.step, out.work.report.tunnel.identity),
            (Step::Tunnel, ID_A)
        );
        assert_eq!(out.work.report.tunnel.remote, Addr::v4(NODE_REMOTE));
    }
}

#[test]
fn who_answers_may_have_become_another_identity() {
    let rule = |action| RowVerdict { action, rule: 7 };
    for egress in [None, Some(action::ALLOW), Some(action::DENY)] {
        let mut world = World::default();
        world.default_deny(1, Direction::Ingress);
        if let Some(action) = egress {
            world.default_deny(1, Direction::Egress);
            world.classes.insert(ID_REMOTE + 1, 300);
            let key = (Direction::Egress, 6, 80);
            world.rule(1, ID_REMOTE, key, rule(action::ALLOW));
            world.rule(1, ID_REMOTE + 1, key, rule(action));
        }
        let ip = Ip::v4(POD_A, POD_REMOTE);
        assert_eq!(world.send(IF_A, ip.tcp(9, 80, SYN)).step, Step::Tunnel);
        // Its labels changed; what its address says now is not here yet.
        for _ in 0..2 {
            let answer = ip.reply().tcp(80, 9, SYN | ACK);
            let out = world.overlay(ID_REMOTE + 1, NODE_REMOTE, answer);
            if egress == Some(action::DENY) {
                assert_eq!(out.reason(), Some(DropReason::PolicyDeniedByDenyList as u8));
            } else {
                assert_eq!(out.step, Step::Deliver, "{egress:?}");
            }
            assert_eq!(world.send(IF_A, ip.tcp(9, 80, ACK)).step, Step::Tunnel);
        }
        // What was not opened here has no part in it.
        let opens = Ip::v4(POD_REMOTE, POD_A).tcp(80, 10, SYN);
        let out = world.overlay(ID_REMOTE + 1, NODE_REMOTE, opens);
        assert_eq!(out.reason(), Some(DropReason::PolicyDenied as u8));
    }
}

#[test]
fn replies_go_back_where_the_flow_came_from_whatever_the_address_says() {
    let mut world = World::default();
    // A remote node's own address: reached by the stack, but this flow came by tunnel.
    let node = Addr::v4(NODE_REMOTE);
    world.addresses.insert(
        node,
        IpInfo {
            identity: 6,
            flags: 0,
            node: Addr::NONE,
        },
    );
    let ip = Ip::v4(NODE_REMOTE, POD_A);
    assert_eq!(
        world.overlay(6, NODE_REMOTE, ip.tcp(9, 80, SYN)).step,
        Step::Deliver
    );
    for _ in 0..2 {
        let out = world.send(IF_A, ip.reply().tcp(80, 9, ACK));
        assert_eq!(
            (out.step, out.work.report.tunnel.remote),
            (Step::Tunnel, node)
        );
        world.bump(1);
    }
    let stranger = world.send(IF_A, ip.reply().tcp(81, 9, SYN));
    assert_eq!(
        stranger.step,
        Step::Pass,
        "a flow of the pod's own takes the stack"
    );
}

#[test]
fn a_node_that_left_loses_its_flows_at_the_next_judgement() {
    let mut world = World::default();
    let ip = in_from_remote();
    assert_eq!(
        world
            .overlay(ID_REMOTE, NODE_REMOTE, ip.tcp(9, 80, SYN))
            .step,
        Step::Deliver
    );
    world.nodes.clear();
    world.bump_addr(POD_REMOTE);
    let out = world.send(IF_A, ip.reply().tcp(80, 9, ACK));
    assert_eq!(out.reason(), Some(DropReason::UnknownSender as u8));
}

#[test]
fn remote_node_is_refined_by_the_inner_source() {
    let mut world = World::default();
    let finer = 0x0200_0005;
    world
        .addresses
        .get_mut(&Addr::v4(ROUTER_REMOTE))
        .expect("row")
        .identity = finer;
    let ip = Ip::v4(ROUTER_REMOTE, POD_A);
    for flags in [SYN, ACK] {
        let before = world.lookups.get();
        let out = world.overlay(6, NODE_REMOTE, ip.tcp(9, 80, flags));
        assert_eq!(out.step, Step::Deliver);
        assert!(
            flags == SYN || world.lookups.get() == before,
            "the second is a hit"
        );
    }
    assert_eq!(
        world
            .entry(POD_A, ROUTER_REMOTE, 80, 9)
            .map(|f| f.remote_identity),
        Some(finer)
    );
}

#[test]
fn destinations_that_are_not_here() {
    let world = World::default();
    let to = |dst| {
        world.overlay(
            ID_REMOTE,
            NODE_REMOTE,
            Ip::v4(POD_REMOTE, dst).tcp(9, 80, SYN),
        )
    };
    assert_eq!(to(ROUTER).step, Step::PassToNode);
    for dst in [[10, 5, 0, 99], POD_NEAR, OUTSIDE] {
        assert_eq!(to(dst).reason(), Some(DropReason::StaleIp as u8), "{dst:?}");
    }
    let mut frame = Frame {
        bytes: in_from_remote().tcp(1, 2, SYN),
        ..Frame::default()
    };
    let mut work = fastpath::Work::default();
    let step = fastpath::from_overlay(&mut frame, &world, &mut work, None);
    assert_eq!(
        (step, work.report.reason),
        (Step::Drop, DropReason::NoTunnelKey as u8)
    );
    let ttl = world.overlay(
        ID_REMOTE,
        NODE_REMOTE,
        in_from_remote().ttl(1).tcp(9, 80, SYN),
    );
    assert_eq!(ttl.reason(), Some(DropReason::TtlExceeded as u8));
    let ns = Ip::v6(six(POD_REMOTE), six(POD_A))
        .ttl(255)
        .icmp(135, 0, [0; 4], &six(POD_A));
    assert_eq!(
        world.overlay(ID_REMOTE, NODE_REMOTE, ns).reason(),
        Some(132)
    );
}

#[test]
fn the_stack_travels_as_what_it_is() {
    let world = World::default();
    for (src, ingress, want) in [
        (ROUTER, 0, Ok(6)),
        (NODE, UPLINK, Ok(6)),
        (OUTSIDE, UPLINK, Ok(2)),
        (POD_A, IF_A, Ok(ID_A)),
        (POD_A, UPLINK, Err(DropReason::InvalidSourceIp)),
        (POD_NEAR, UPLINK, Err(DropReason::InvalidSourceIp)),
    ] {
        let out = world.stack_to_overlay(ingress, Ip::v4(src, POD_REMOTE).udp(1, 53, 4));
        match want {
            Ok(identity) => {
                assert_eq!(out.step, Step::Encapsulate, "{src:?}");
                assert_eq!(out.work.report.tunnel.identity, identity, "{src:?}");
                assert_eq!(out.work.report.tunnel.remote, Addr::v4(NODE_REMOTE));
            }
            Err(reason) => assert_eq!(out.reason(), Some(reason as u8), "{src:?}"),
        }
    }
    let dead = world.stack_to_overlay(0, Ip::v4(ROUTER, [10, 7, 0, 99]).udp(1, 53, 4));
    assert_eq!(dead.reason(), Some(DropReason::StaleIp as u8));
    let multicast = world.stack_to_overlay(0, Ip::v6(six(ROUTER), [0xff; 16]).udp(1, 53, 4));
    assert_eq!(
        (multicast.reason(), multicast.work.report.quiet),
        (Some(151), 1)
    );
}
