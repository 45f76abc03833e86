// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Who may send what through the tunnel, and speak of what.

mod common;

use abi::{Addr, Direction, DropReason, ExtError, config_flags, flow_flags};
use common::frames::{self, Ip};
use common::services::{VIP, WAYS, udp, with};
use common::*;
use fastpath::Step;

const SYN: u8 = 2;
const ACK: u8 = 16;
const STRANGER: [u8; 4] = [172, 16, 99, 9];
/// Another node of the remote cluster.
const SECOND: [u8; 4] = [172, 16, 7, 2];

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
            "another cluster's pod's address",
            ID_REMOTE,
            NODE_REMOTE,
            POD_NEAR,
            Some((DropReason::InvalidSourceIp, 0)),
        ),
        (
            "a node's address as a pod",
            ID_REMOTE,
            NODE_REMOTE,
            ROUTER_REMOTE,
            Some((DropReason::InvalidSourceIp, 0)),
        ),
        (
            "an address that nobody told of",
            ID_REMOTE,
            NODE_REMOTE,
            [10, 7, 0, 99],
            None,
        ),
        (
            "loopback",
            ID_REMOTE,
            NODE_REMOTE,
            [127, 0, 0, 1],
            Some((DropReason::InvalidSourceIp, 0)),
        ),
        (
            "no address",
            6,
            NODE_REMOTE,
            [0; 4],
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

/// As Cilium's nodes with an API server do. Nobody here has told that it is one.
#[test]
fn a_node_that_calls_itself_api_server_is_a_node() {
    let world = World::default();
    for (port, flags) in [(9, SYN), (9, ACK), (10, ACK)] {
        for inner in [ROUTER_REMOTE, OUTSIDE] {
            let out = world.overlay(7, NODE_REMOTE, Ip::v4(inner, POD_A).tcp(port, 80, flags));
            assert_eq!(out.step, Step::Deliver);
            let entry = world.entry(POD_A, inner, 80, port);
            assert_eq!(entry.map(|flow| flow.remote_identity), Some(6), "{inner:?}");
        }
    }
    let spoofed = world.overlay(7, NODE_REMOTE, Ip::v4(POD_REMOTE, POD_A).udp(9, 53, 4));
    assert_eq!(
        spoofed.reason(),
        Some(DropReason::InvalidSourceIp as u8),
        "a pod's address"
    );
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
    world.nodes.push(abi::NodeKey {
        cluster: 7,
        addr: Addr::v4(SECOND),
    });
    let other = world.overlay(ID_REMOTE + 1, SECOND, reply());
    assert_eq!(
        other.reason(),
        Some(DropReason::PolicyDenied as u8),
        "another identity, from another node than the address is on"
    );
    assert_eq!(other.work.report.direction, Direction::Ingress as u8);
    let other = world.overlay(ID_NEAR, NODE_NEAR, reply());
    assert_eq!(
        other.reason(),
        Some(DropReason::InvalidSourceIp as u8),
        "another cluster"
    );
    let forged = world.overlay(ID_REMOTE, STRANGER, reply());
    assert_eq!(forged.reason(), Some(DropReason::UnknownSender as u8));
    assert_eq!(
        world.entry(POD_A, POD_REMOTE, 9, 80),
        before,
        "the flow is untouched"
    );
    let second = world.overlay(ID_REMOTE, SECOND, reply());
    assert_eq!(
        second.step,
        Step::Deliver,
        "a second address of the right cluster"
    );
    let node = world.entry(POD_A, POD_REMOTE, 9, 80).map(|f| f.node);
    assert_eq!(
        node,
        Some(NODE_REMOTE),
        "and we still send to the published one"
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
    let forged = world.overlay(ID_REMOTE, STRANGER, error.clone());
    assert_eq!(forged.reason(), Some(DropReason::UnknownSender as u8));
    let router = Ip::v4(ROUTER_REMOTE, POD_A).icmp(3, 4, [0, 0, 5, 0xaa], &embedded);
    assert_eq!(world.overlay(6, NODE_REMOTE, router).step, Step::Deliver);
    // No pod speaks of another's flow, known by its address or not.
    for (what, vni, outer, src) in [
        ("its neighbour", ID_REMOTE, NODE_REMOTE, [10, 7, 0, 99]),
        ("another pod of ours", ID_NEAR, NODE_NEAR, POD_NEAR),
        (
            "a new owner of the address",
            ID_REMOTE + 1,
            NODE_REMOTE,
            POD_REMOTE,
        ),
    ] {
        let error = Ip::v4(src, POD_A).icmp(3, 4, [0, 0, 0, 68], &embedded);
        let out = world.overlay(vni, outer, error);
        assert_eq!(out.reason(), Some(DropReason::PolicyDenied as u8), "{what}");
    }
    let flows = world.flows.borrow();
    assert!(
        flows
            .values()
            .all(|f| fastpath::FlowRef::get(f).flags & flow_flags::REPLIED == 0)
    );
}

#[test]
fn only_a_first_fragment_that_is_let_through_lends_its_ports() {
    let mut world = World::default();
    let ip = |fragment| Ip::v4(POD_REMOTE, POD_A).fragment(fragment);
    let first = |world: &World, outer| world.overlay(ID_REMOTE, outer, ip(0x2000).udp(5, 53, 1400));
    let later = |world: &World| {
        let frame = ip(176).frame(17, &[0; 40]);
        world.overlay(ID_REMOTE, NODE_REMOTE, frame).reason()
    };
    let missing = Some(DropReason::FirstFragmentNotFound as u8);
    assert!(first(&world, STRANGER).reason().is_some());
    assert_eq!(later(&world), missing, "forged");
    world.default_deny(1, Direction::Ingress);
    assert!(first(&world, NODE_REMOTE).reason().is_some());
    assert_eq!(later(&world), missing, "denied");
    world.allow_all(1);
    world.bump(1);
    assert_eq!(first(&world, NODE_REMOTE).reason(), None);
    assert_eq!(later(&world), None);
    let spoofed = Ip::v4(POD_B, OUTSIDE).fragment(0x2000).udp(5, 53, 1400);
    assert!(world.send(IF_A, spoofed).reason().is_some());
    assert_eq!(world.fragments.borrow().len(), 1);
}

#[test]
fn fragments_for_the_node_itself_are_whole() {
    let world = World::default();
    let ip = |fragment| Ip::v4(POD_REMOTE, ROUTER).fragment(fragment);
    for frame in [ip(0x2000).udp(53, 5, 1400), ip(176).frame(17, &[0; 40])] {
        let outcome = world.overlay(ID_REMOTE, NODE_REMOTE, frame);
        assert_eq!((outcome.reason(), outcome.step), (None, Step::PassToNode));
    }
}

/// The node's address, put before what a pod sends to another node, would make it a packet of the tunnel.
#[test]
fn pods_do_not_speak_in_the_tunnel() {
    let refused = Some(DropReason::Encapsulation as u8);
    for dst in [NODE_REMOTE, NODE, OUTSIDE, POD_REMOTE, POD_B] {
        for way in WAYS {
            let (world, ip) = (World::default(), way(POD_A, dst));
            let out = world.send(IF_A, ip.udp(4000, 8472, 50));
            assert_eq!(out.reason(), refused, "{ip:?}");
            let out = world.send(IF_A, ip.tcp(4000, 8472, 2));
            assert_eq!(out.reason(), None, "{ip:?}: the tunnel is UDP");
            let out = world.send(IF_A, ip.udp(8472, 4000, 50));
            assert_eq!(out.reason(), None, "{ip:?}: from that port");
        }
    }
    for way in WAYS {
        let mut world = with(&[OUTSIDE]);
        world.config.tunnel_port = 8080;
        let out = world.send(IF_A, udp(way(POD_A, VIP), 4000, 80));
        assert_eq!(out.reason(), refused, "nor by a service");
    }
}

#[test]
fn a_node_with_an_api_server_is_a_node() {
    let mut world = World::default();
    world.remote(ROUTER_REMOTE, 7, NODE_REMOTE);
    let packet = || Ip::v4(ROUTER_REMOTE, POD_A).tcp(9, 80, SYN);
    let forged = world.overlay(ID_REMOTE, NODE_REMOTE, packet());
    assert_eq!(forged.reason(), Some(DropReason::InvalidSourceIp as u8));
    let own = world.overlay(6, NODE_REMOTE, packet());
    assert_eq!((own.step, own.work.report.src_identity), (Step::Deliver, 7));
}
