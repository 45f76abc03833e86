// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Packets of other nodes, some of them hostile, and packets to them.

mod common;

use abi::{Addr, Direction, DropReason, ExtError, IpInfo, config_flags, flow_flags};
use common::frames::{self, Ip};
use common::*;
use fastpath::Step;

const SYN: u8 = 2;
const ACK: u8 = 16;
const STRANGER: [u8; 4] = [172, 16, 99, 9];

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
fn who_may_send_what() {
    let strict = World::default();
    type Row = (
        &'static str,
        u32,
        [u8; 4],
        [u8; 4],
        Option<(DropReason, i8)>,
    );
    let table: &[Row] = &[
        ("own cluster's node", ID_NEAR, NODE_NEAR, POD_NEAR, None),
        (
            "other cluster's node",
            ID_REMOTE,
            NODE_REMOTE,
            POD_REMOTE,
            None,
        ),
        (
            "node of the wrong cluster",
            ID_REMOTE,
            NODE_NEAR,
            POD_REMOTE,
            Some((DropReason::UnknownSender, 0)),
        ),
        (
            "stranger",
            ID_REMOTE,
            STRANGER,
            POD_REMOTE,
            Some((DropReason::UnknownSender, 0)),
        ),
        (
            "remote-node from a node",
            6,
            NODE_REMOTE,
            ROUTER_REMOTE,
            None,
        ),
        ("health from a node", 4, NODE_REMOTE, [10, 7, 0, 2], None),
        (
            "remote-node from a stranger",
            6,
            STRANGER,
            ROUTER_REMOTE,
            Some((DropReason::UnknownSender, 4)),
        ),
        ("world from a node", 2, NODE_REMOTE, OUTSIDE, None),
        (
            "a pod's address as remote-node",
            6,
            NODE_REMOTE,
            POD_REMOTE,
            Some((DropReason::InvalidSourceIp, 0)),
        ),
        (
            "a pod's address as world",
            2,
            NODE_REMOTE,
            POD_REMOTE,
            Some((DropReason::InvalidSourceIp, 0)),
        ),
        (
            "our pod's address",
            ID_REMOTE,
            NODE_REMOTE,
            POD_B,
            Some((DropReason::InvalidSourceIp, 0)),
        ),
        (
            "our own address",
            6,
            NODE_REMOTE,
            NODE,
            Some((DropReason::InvalidSourceIp, 0)),
        ),
        (
            "host",
            1,
            NODE_REMOTE,
            POD_REMOTE,
            Some((DropReason::InvalidIdentity, 0)),
        ),
        (
            "nothing",
            0,
            NODE_REMOTE,
            POD_REMOTE,
            Some((DropReason::InvalidIdentity, 0)),
        ),
        (
            "world-ipv4",
            9,
            NODE_REMOTE,
            OUTSIDE,
            Some((DropReason::InvalidIdentity, 0)),
        ),
        (
            "reserved 14",
            14,
            NODE_REMOTE,
            OUTSIDE,
            Some((DropReason::InvalidIdentity, 0)),
        ),
    ];
    for (what, vni, outer, inner, want) in table {
        let out = strict.overlay(*vni, *outer, Ip::v4(*inner, POD_A).udp(9, 53, 4));
        let got = out.reason().map(|r| (r, out.work.report.ext as i8));
        assert_eq!(got, want.map(|(r, e)| (r as u8, e)), "{what}");
        if want.is_some() {
            assert_eq!(out.work.report.node, Addr::v4(*outer), "{what}");
        }
    }
}

#[test]
fn audit_reports_and_forwards_and_off_does_neither() {
    let mut world = World::default();
    let send =
        |world: &World| world.overlay(6, STRANGER, Ip::v4(ROUTER_REMOTE, POD_A).udp(9, 53, 4));
    world.config.flags &= !config_flags::OUTER_STRICT;
    let off = send(&world);
    assert_eq!((off.step, off.work.report.reason), (Step::Deliver, 0));
    world.flows.borrow_mut().clear();
    world.config.flags |= config_flags::OUTER_AUDIT;
    let audit = send(&world);
    let report = audit.work.report;
    assert_eq!((audit.step, report.audit), (Step::Deliver, 1));
    assert_eq!(report.reason, DropReason::UnknownSender as u8);
    assert_eq!(report.ext, ExtError::ReservedFromUnknownNode as i8 as u8);
    world.default_deny(1, Direction::Ingress);
    world.bump(1);
    let denied = send(&world);
    assert_eq!((denied.reason(), denied.work.report.audit), (Some(133), 0));
}

#[test]
fn spoofing_onto_an_established_flow_is_judged_for_itself() {
    let mut world = World::default();
    world.default_deny(1, Direction::Ingress);
    let ip = Ip::v4(POD_A, POD_REMOTE);
    assert_eq!(world.send(IF_A, ip.tcp(9, 80, SYN)).step, Step::Tunnel);
    let reply = || ip.reply().tcp(80, 9, SYN | ACK);
    assert_eq!(
        world.overlay(ID_REMOTE, NODE_REMOTE, reply()).step,
        Step::Deliver
    );
    let before = world.entry(POD_A, POD_REMOTE, 9, 80);
    let other = world.overlay(ID_NEAR, NODE_NEAR, reply());
    assert_eq!(
        other.reason(),
        Some(DropReason::PolicyDenied as u8),
        "another identity"
    );
    assert_eq!(other.work.report.direction, Direction::Ingress as u8);
    let forged = world.overlay(ID_REMOTE, STRANGER, reply());
    assert_eq!(forged.reason(), Some(DropReason::UnknownSender as u8));
    assert_eq!(
        world.entry(POD_A, POD_REMOTE, 9, 80),
        before,
        "the flow is untouched"
    );
    world.nodes.push(abi::NodeKey {
        cluster: 7,
        addr: Addr::v4(STRANGER),
    });
    let second = world.overlay(ID_REMOTE, STRANGER, reply());
    assert_eq!(
        second.step,
        Step::Deliver,
        "a second address of the right cluster"
    );
    let node = world.entry(POD_A, POD_REMOTE, 9, 80).map(|f| f.node);
    assert_eq!(
        node,
        Some(Addr::v4(NODE_REMOTE)),
        "and we still send to the published one"
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

#[test]
fn errors_from_the_path_come_through_the_tunnel_too() {
    let mut world = World::default();
    world.default_deny(1, Direction::Ingress);
    let ip = Ip::v4(POD_A, POD_REMOTE);
    assert_eq!(world.send(IF_A, ip.udp(9, 53, 4)).step, Step::Tunnel);
    let embedded = ip.packet(17, &frames::udp(9, 53, 4));
    let error = Ip::v4(POD_REMOTE, POD_A).icmp(3, 3, [0; 4], &embedded);
    assert_eq!(
        world.overlay(ID_REMOTE, NODE_REMOTE, error.clone()).step,
        Step::Deliver
    );
    let forged = world.overlay(ID_REMOTE, STRANGER, error);
    assert_eq!(forged.reason(), Some(DropReason::UnknownSender as u8));
    let flows = world.flows.borrow();
    assert!(
        flows
            .values()
            .all(|f| fastpath::FlowRef::get(f).flags & flow_flags::REPLIED == 0)
    );
}
