// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Packets of and to pods: verdicts, ways, answers.

mod common;

use abi::{Direction, DropReason, ExtError, RowVerdict, action, endpoint_flags};
use common::frames::{self, Ip};
use common::*;
use fastpath::Step;

const SYN: u8 = 2;
const SYN_ACK: u8 = 18;
const ACK: u8 = 16;
/// The other node's own address of its pods' network.
const ROUTER_NEAR: [u8; 4] = [10, 5, 2, 1];

fn a_to(dst: [u8; 4]) -> Ip {
    Ip::v4(POD_A, dst)
}

fn reason(r: DropReason) -> Option<u8> {
    Some(r as u8)
}

#[test]
fn each_destination_has_its_way() {
    for v4 in [true, false] {
        let ip = |src, dst| {
            if v4 {
                Ip::v4(src, dst)
            } else {
                Ip::v6(six(src), six(dst))
            }
        };
        let world = World::default();
        for (dst, step) in [
            (POD_REMOTE, Step::Tunnel),
            (POD_NEAR, Step::Tunnel),
            (ROUTER_REMOTE, Step::Tunnel),
            (POD_B, Step::Deliver),
            (NODE, Step::Pass),
            (ROUTER, Step::Pass),
            (OUTSIDE, Step::Pass),
        ] {
            for round in 0..2 {
                let out = world.send(IF_A, ip(POD_A, dst).tcp(4000, 80, SYN));
                assert_eq!(
                    out.step, step,
                    "{dst:?} round {round}: {:?}",
                    out.work.report
                );
            }
        }
        let out = world.send(IF_A, ip(POD_A, POD_REMOTE).udp(1, 53, 10));
        assert_eq!(out.work.report.tunnel.identity, ID_A);
        assert_eq!(out.work.report.tunnel.remote, abi::Addr::v4(NODE_REMOTE));
        assert_eq!(out.work.report.tunnel.local, abi::Addr::v4(NODE));
        assert_eq!(
            out.frame.bytes,
            ip(POD_A, POD_REMOTE).udp(1, 53, 10),
            "left alone"
        );
    }
}

#[test]
fn a_local_delivery_lowers_the_ttl_and_addresses_the_frame() {
    for ip in [a_to(POD_B), Ip::v6(six(POD_A), six(POD_B))] {
        let world = World::default();
        let out = world.send(IF_A, ip.tcp(4000, 80, SYN));
        assert_eq!(out.step, Step::Deliver);
        assert_eq!(out.work.report.ifindex, IF_B);
        let mut want = ip.ttl(63).tcp(4000, 80, SYN);
        want[..6].copy_from_slice(&world.endpoints[&2].mac);
        want[6..12].copy_from_slice(&world.endpoints[&2].host_mac);
        assert_eq!(out.frame.bytes, want);
    }
}

#[test]
fn established_packets_look_up_neither_policy_nor_addresses() {
    let world = World::default();
    for dst in [POD_REMOTE, POD_B, OUTSIDE] {
        let _ = world.send(IF_A, a_to(dst).tcp(4000, 80, SYN));
        let before = world.lookups.get();
        let _ = world.send(IF_A, a_to(dst).tcp(4000, 80, ACK));
        assert_eq!(world.lookups.get(), before, "{dst:?}");
    }
}

#[test]
fn conntrack_is_asked_once_per_endpoint_for_a_new_flow() {
    let world = World::default();
    for (dst, lookups) in [(POD_REMOTE, 1), (OUTSIDE, 1), (POD_B, 2)] {
        let before = world.flow_lookups.get();
        assert_eq!(world.send(IF_A, a_to(dst).tcp(5, 80, SYN)).reason(), None);
        assert_eq!(world.flow_lookups.get() - before, lookups, "{dst:?}");
    }
    let before = world.flow_lookups.get();
    let frame = Ip::v4(POD_REMOTE, POD_A).tcp(9, 80, SYN);
    assert_eq!(world.overlay(ID_REMOTE, NODE_REMOTE, frame).reason(), None);
    assert_eq!(world.flow_lookups.get() - before, 1, "by tunnel");
}

#[test]
fn spoofed_sources_are_refused() {
    let world = World::default();
    let _ = world.send(IF_B, Ip::v4(POD_B, OUTSIDE).tcp(1, 2, SYN));
    for ip in [
        Ip::v4(POD_B, OUTSIDE),
        Ip::v4([0; 4], [255; 4]),
        Ip::v4(NODE, OUTSIDE),
        Ip::v6(six(POD_B), six(OUTSIDE)),
        Ip::v6([0; 16], six(OUTSIDE)),
    ] {
        let out = world.send(IF_A, ip.tcp(1, 2, SYN));
        assert_eq!(out.reason(), reason(DropReason::InvalidSourceIp), "{ip:?}");
        assert_eq!(out.work.report.endpoint, 1);
    }
}

#[test]
fn loopback_is_not_reached_from_a_pod() {
    let world = World::default();
    let stale = reason(DropReason::StaleIp);
    for dst in [[127, 0, 0, 1], [127, 255, 0, 9], [0; 4]] {
        assert_eq!(world.send(IF_A, a_to(dst).tcp(5, 80, SYN)).reason(), stale);
    }
    for last in [0, 1] {
        let mut dst = [0; 16];
        dst[15] = last;
        let frame = Ip::v6(six(POD_A), dst).tcp(5, 80, SYN);
        assert_eq!(world.send(IF_A, frame).reason(), stale);
    }
}

#[test]
fn policy_decides_the_opening_direction_and_says_which_rule() {
    let mut world = World::default();
    world.default_deny(2, Direction::Ingress);
    let allow = RowVerdict {
        action: action::ALLOW,
        rule: 7,
    };
    world.rule(2, ID_A, (Direction::Ingress, 6, 80), allow);
    let deny = RowVerdict {
        action: action::DENY,
        rule: 8,
    };
    world.rule(2, ID_A, (Direction::Ingress, 6, 81), deny);
    for (port, want, rule) in [
        (80, None, 7),
        (81, reason(DropReason::PolicyDeniedByDenyList), 8),
        (82, reason(DropReason::PolicyDenied), 900),
    ] {
        let out = world.send(IF_A, a_to(POD_B).tcp(4000, port, SYN));
        assert_eq!(
            (out.reason(), out.work.report.rule),
            (want, rule),
            "port {port}"
        );
        if want.is_some() {
            let report = out.work.report;
            assert_eq!((report.src_identity, report.dst_identity), (ID_A, ID_B));
            assert_eq!(
                (report.direction, report.endpoint),
                (Direction::Ingress as u8, 2)
            );
        }
    }
    let reply = a_to(POD_B).reply().tcp(80, 4000, SYN_ACK);
    assert_eq!(
        world.send(IF_B, reply.clone()).step,
        Step::Deliver,
        "replies need no rule"
    );
    let deny = RowVerdict {
        action: action::DENY,
        rule: 9,
    };
    world.rule(2, ID_A, (Direction::Ingress, 6, 80), deny);
    world.bump(2);
    let denied = reason(DropReason::PolicyDeniedByDenyList);
    assert_eq!(
        world.send(IF_A, a_to(POD_B).tcp(4000, 80, ACK)).reason(),
        denied
    );
    assert_eq!(
        world.send(IF_B, reply).reason(),
        denied,
        "a revoked flow stops both ways"
    );
}

#[test]
fn no_row_is_a_denial_and_unknown_identities_say_so() {
    let mut world = World::default();
    world.rows.clear();
    let out = world.send(IF_A, a_to(POD_REMOTE).tcp(1, 80, SYN));
    assert_eq!(out.reason(), reason(DropReason::PolicyDenied));
    assert_eq!(out.work.report.ext, ExtError::None as i8 as u8);
    world.classes.remove(&ID_REMOTE);
    let out = world.send(IF_A, a_to(POD_REMOTE).tcp(1, 80, SYN));
    assert_eq!(
        out.work.report.ext,
        ExtError::IdentityNotYetKnown as i8 as u8
    );
}

#[test]
fn an_epoch_makes_the_next_packet_judge_again() {
    let mut world = World::default();
    let _ = world.send(IF_A, a_to(POD_REMOTE).tcp(1, 80, SYN));
    world
        .addresses
        .get_mut(&abi::Addr::v4(POD_REMOTE))
        .expect("row")
        .node = abi::Addr::v4(NODE_NEAR);
    let out = world.send(IF_A, a_to(POD_REMOTE).tcp(1, 80, ACK));
    assert_eq!(
        out.work.report.tunnel.remote,
        abi::Addr::v4(NODE_REMOTE),
        "cached"
    );
    world.bump_addr(POD_REMOTE);
    let out = world.send(IF_A, a_to(POD_REMOTE).tcp(1, 80, ACK));
    assert_eq!(out.work.report.tunnel.remote, abi::Addr::v4(NODE_NEAR));
    let created = world.entry(POD_A, POD_REMOTE, 1, 80).map(|f| f.created);
    assert_eq!(created, Some(1000), "the flow is the same");
}

#[test]
fn what_runs_out_of_hops_is_dropped_or_answered() {
    let mut world = World::default();
    world.remote(ROUTER_NEAR, 6, NODE_NEAR);
    let out = world.send(IF_A, a_to(POD_B).ttl(1).tcp(1, 2, SYN));
    assert_eq!(out.reason(), reason(DropReason::TtlExceeded));
    let out = world.send(IF_A, a_to(POD_REMOTE).ttl(1).tcp(1, 2, SYN));
    assert_eq!(out.reason(), reason(DropReason::TtlExceeded));
    for to in [POD_B, POD_REMOTE] {
        // The first packet of a flow, and one of a flow that is there.
        for _ in 0..2 {
            let out = world.send(IF_A, Ip::v6(six(POD_A), six(to)).ttl(1).udp(1, 2, 0));
            assert_eq!((out.step, out.work.report.ifindex), (Step::Deliver, IF_A));
            let error = &out.frame.bytes;
            assert_eq!((error[54], error[55]), (3, 0));
            assert_eq!(
                (&error[22..38], &error[38..54]),
                (&six(ROUTER)[..], &six(POD_A)[..])
            );
            assert!(frames::icmp6_is_sound(error));
        }
    }
    let out = world.send(IF_A, a_to(POD_REMOTE).ttl(2).tcp(1, 2, SYN));
    assert_eq!(out.step, Step::Tunnel, "the receiving node counts the hop");
    for _ in 0..2 {
        let out = world.send(IF_A, a_to(ROUTER_NEAR).ttl(1).udp(1, 2, 0));
        assert_eq!(out.step, Step::Tunnel, "a node takes what is its own");
    }
}

#[test]
fn what_is_too_big_for_the_tunnel_is_answered() {
    let world = World::default();
    let big = |gso, fragment, len| {
        let bytes = a_to(POD_REMOTE)
            .fragment(fragment)
            .frame(6, &frames::tcp(1, 2, ACK, len));
        world.run_from_pod(Frame {
            bytes,
            gso,
            ifindex: IF_A,
            ..Frame::default()
        })
    };
    assert_eq!(big(0, 0x4000, 1410).step, Step::Tunnel, "fits exactly");
    assert_eq!(big(1410, 0x4000, 20_000).step, Step::Tunnel, "segments fit");
    assert_eq!(
        big(0, 0, 1411).step,
        Step::Pass,
        "the stack may fragment it"
    );
    for out in [big(0, 0x4000, 1411), big(1411, 0x4000, 20_000)] {
        assert_eq!((out.step, out.work.report.ifindex), (Step::Deliver, IF_A));
        let error = &out.frame.bytes;
        assert_eq!(error[34..36], [3, 4]);
        assert_eq!(u16::from_be_bytes([error[40], error[41]]), MTU as u16);
        assert_eq!((&error[26..30], &error[30..34]), (&ROUTER[..], &POD_A[..]));
        assert_eq!(frames::checksum(0, &error[14..34]), 0);
        assert_eq!(frames::checksum(0, &error[34..]), 0);
    }
    let bytes = Ip::v6(six(POD_A), six(POD_REMOTE)).frame(6, &frames::tcp(1, 2, ACK, 1400));
    let out = world.send(IF_A, bytes);
    let error = &out.frame.bytes;
    assert_eq!((out.step, error[54]), (Step::Deliver, 2));
    assert_eq!(error[58..62], MTU.to_be_bytes());
    assert!(frames::icmp6_is_sound(error));
}

#[test]
fn an_endpoint_that_is_not_ready_gets_nothing() {
    let mut world = World::default();
    let _ = world.send(IF_A, a_to(POD_B).tcp(1, 80, SYN));
    world.endpoints.get_mut(&2).expect("pod").flags &= !endpoint_flags::READY;
    let not_ready = reason(DropReason::EndpointNotReady);
    assert_eq!(
        world.send(IF_A, a_to(POD_B).tcp(1, 80, ACK)).reason(),
        not_ready
    );
    assert_eq!(
        world
            .send(IF_B, Ip::v4(POD_B, OUTSIDE).tcp(1, 80, SYN))
            .reason(),
        not_ready
    );
    let probe = Ip::v4(NODE, POD_B).tcp(1, 80, SYN);
    assert_eq!(world.stack_to_pod(IF_B, 0, probe).reason(), not_ready);
    assert_eq!(
        world.send(999, frames::arp(POD_A, ROUTER)).reason(),
        not_ready
    );
}
