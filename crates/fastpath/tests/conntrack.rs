// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Conntrack: lifetimes, closing, reopening, echo, fragments.

mod common;

use abi::{Addr, Direction, DropReason, RowVerdict, action, flow_flags};
use common::frames::{self, Ip};
use common::*;
use fastpath::Step;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
const CLOSING: u16 = flow_flags::TX_CLOSING | flow_flags::RX_CLOSING;

/// Sends a packet of the flow pod A:5 ↔ outside:80, `out` from the pod.
fn step(world: &World, out: bool, flags: u8) -> Option<u8> {
    let ip = Ip::v4(POD_A, OUTSIDE);
    match out {
        true => world.send(IF_A, ip.tcp(5, 80, flags)).reason(),
        false => world
            .stack_to_pod(IF_A, UPLINK, ip.reply().tcp(80, 5, flags))
            .reason(),
    }
}

fn entry(world: &World) -> abi::Flow {
    world
        .entry(POD_A, OUTSIDE, 5, 80)
        .expect("the flow has an entry")
}

#[test]
fn lifetimes_follow_what_was_seen() {
    type Packet = (bool, u8);
    let table: &[(&str, &[Packet], u32, u16)] = &[
        ("SYN", &[(true, SYN)], 60, 0),
        ("SYN, SYN-ACK", &[(true, SYN), (false, SYN | ACK)], 60, 0),
        (
            "handshake",
            &[(true, SYN), (false, SYN | ACK), (true, ACK)],
            8000,
            0,
        ),
        ("mid-stream begins short", &[(true, ACK)], 60, 0),
        (
            "mid-stream, second packet",
            &[(true, ACK), (true, ACK)],
            8000,
            0,
        ),
        (
            "one side closed",
            &[(true, SYN), (false, SYN | ACK), (true, FIN | ACK)],
            8000,
            flow_flags::TX_CLOSING,
        ),
        (
            "both closed",
            &[
                (true, SYN),
                (false, SYN | ACK),
                (true, FIN | ACK),
                (false, FIN | ACK),
            ],
            10,
            CLOSING,
        ),
        (
            "RST before SYN-ACK",
            &[(true, SYN), (false, RST | ACK)],
            10,
            CLOSING,
        ),
        (
            "RST later closes one side, and is soon over",
            &[(true, SYN), (false, SYN | ACK), (true, ACK), (false, RST)],
            60,
            flow_flags::RX_CLOSING,
        ),
        (
            "RST that nobody minds",
            &[
                (true, SYN),
                (false, SYN | ACK),
                (true, ACK),
                (false, RST),
                (false, ACK),
            ],
            8000,
            flow_flags::RX_CLOSING,
        ),
    ];
    for (what, packets, lifetime, closing) in table {
        let world = World::default();
        for (out, flags) in *packets {
            assert_eq!(step(&world, *out, *flags), None, "{what}");
        }
        let flow = entry(&world);
        assert_eq!(flow.expires - 1000, *lifetime, "{what}");
        assert_eq!(flow.flags & CLOSING, *closing, "{what}");
    }
}

#[test]
fn a_closed_entry_is_not_extended_and_a_syn_begins_anew() {
    let world = World::default();
    for (out, flags) in [
        (true, SYN),
        (false, SYN | ACK),
        (true, FIN | ACK),
        (false, FIN | ACK),
    ] {
        assert_eq!(step(&world, out, flags), None);
    }
    world.now.set(1005);
    assert_eq!(step(&world, true, ACK), None);
    assert_eq!(entry(&world).expires, 1010);
    assert_eq!(step(&world, true, SYN), None);
    let flow = entry(&world);
    assert_eq!(
        (flow.created, flow.expires, flow.flags & CLOSING),
        (1005, 1065, 0)
    );
    assert_eq!(world.shares.borrow()[&1], 1, "the same entry");
}

#[test]
fn a_dead_entry_is_judged_anew() {
    let mut world = World::default();
    assert_eq!(step(&world, true, SYN), None);
    world.default_deny(1, Direction::Ingress);
    assert_eq!(step(&world, false, SYN | ACK), None);
    world.now.set(1061);
    assert_eq!(
        step(&world, false, ACK),
        Some(DropReason::PolicyDenied as u8)
    );
    assert_eq!(step(&world, true, ACK), None, "the pod may open it again");
}

#[test]
fn expiry_is_written_once_per_second() {
    let world = World::default();
    let udp = || world.send(IF_A, Ip::v4(POD_A, OUTSIDE).udp(5, 53, 4)).step;
    assert_eq!(udp(), Step::Pass);
    world.now.set(1030);
    assert_eq!(udp(), Step::Pass);
    let flows = world.flows.borrow();
    let flow = flows
        .values()
        .next()
        .map(fastpath::FlowRef::get)
        .expect("entry");
    assert_eq!(flow.expires, 1090);
}

#[test]
fn echo_replies_need_their_request() {
    let mut world = World::default();
    world.default_deny(1, Direction::Ingress);
    for ip in [Ip::v4(POD_A, OUTSIDE), Ip::v6(six(POD_A), six(OUTSIDE))] {
        let back = |request, id| {
            world
                .stack_to_pod(IF_A, UPLINK, ip.reply().echo(request, id))
                .reason()
        };
        assert_eq!(
            back(false, 3),
            Some(DropReason::PolicyDenied as u8),
            "unsolicited"
        );
        assert_eq!(world.send(IF_A, ip.echo(true, 3)).step, Step::Pass);
        assert_eq!(back(false, 3), None);
        assert_eq!(back(false, 4), Some(DropReason::PolicyDenied as u8));
        assert_eq!(
            back(true, 3),
            Some(DropReason::PolicyDenied as u8),
            "no request in disguise"
        );
        let other =
            world.stack_to_pod(IF_A, UPLINK, ip.reply().icmp(13, 0, [0, 3, 0, 0], &[0; 12]));
        assert_eq!(
            other.reason(),
            Some(DropReason::PolicyDenied as u8),
            "timestamp"
        );
    }
    assert_eq!(world.flows.borrow().len(), 2, "other ICMP makes no entries");
}

#[test]
fn both_sides_may_ask_with_one_identifier() {
    let mut world = World::default();
    world.default_deny(1, Direction::Ingress);
    world.classes.insert(9, 50);
    let allow = RowVerdict {
        action: action::ALLOW,
        rule: 3,
    };
    for direction in [Direction::Ingress, Direction::Egress] {
        world.rule(1, 9, (direction, 1, 8), allow);
    }
    let ip = Ip::v4(POD_A, OUTSIDE);
    let come = |request| {
        let packet = ip.reply().echo(request, 3);
        world.stack_to_pod(IF_A, UPLINK, packet).reason()
    };
    let go = |request| world.send(IF_A, ip.echo(request, 3)).reason();
    for _ in 0..2 {
        assert_eq!(
            [come(true), go(true), come(false), go(false)],
            [None; 4],
            "a reply is that of its request"
        );
    }
}

#[test]
fn policy_sees_the_type_of_icmp_as_port() {
    let mut world = World::default();
    world.default_deny(1, Direction::Ingress);
    world.classes.insert(9, 50);
    let allow = RowVerdict {
        action: action::ALLOW,
        rule: 3,
    };
    world.rule(1, 9, (Direction::Ingress, 1, 8), allow);
    let ping = Ip::v4(OUTSIDE, POD_A);
    assert_eq!(
        world.stack_to_pod(IF_A, UPLINK, ping.echo(true, 1)).step,
        Step::Pass
    );
    assert_eq!(
        world.send(IF_A, ping.reply().echo(false, 1)).step,
        Step::Pass
    );
    world.bump(1);
    assert_eq!(
        world.send(IF_A, ping.reply().echo(false, 1)).step,
        Step::Pass,
        "judged as the request"
    );
}

#[test]
fn later_fragments_have_the_ports_of_the_first() {
    let world = World::default();
    let ip = |fragment| Ip::v4(POD_A, OUTSIDE).fragment(fragment);
    let later = ip(185).frame(17, &[0; 40]);
    let missing = Some(DropReason::FirstFragmentNotFound as u8);
    assert_eq!(world.send(IF_A, later.clone()).reason(), missing);
    assert_eq!(
        world.send(IF_A, ip(0x2000).udp(5, 53, 1472)).step,
        Step::Pass
    );
    assert_eq!(world.send(IF_A, later).step, Step::Pass);
    assert_eq!(world.flows.borrow().len(), 1);

    let ip6 = Ip::v6(six(POD_A), six(OUTSIDE));
    let first = [&[17, 0, 0, 1, 0, 0, 0, 9][..], &frames::udp(5, 53, 8)].concat();
    let later = [&[17, 0, 1, 0, 0, 0, 0, 9][..], &[0; 32]].concat();
    assert_eq!(world.send(IF_A, ip6.frame(44, &later)).reason(), missing);
    assert_eq!(world.send(IF_A, ip6.frame(44, &first)).step, Step::Pass);
    assert_eq!(world.send(IF_A, ip6.frame(44, &later)).step, Step::Pass);
}

#[test]
fn fragments_without_ports_are_refused_each() {
    let world = World::default();
    let ip = |fragment| Ip::v4(POD_A, OUTSIDE).fragment(fragment);
    let ip6 = Ip::v6(six(POD_A), six(OUTSIDE));
    let piece6 = |next: u8, at: [u8; 2], body: &[u8]| {
        let header = [next, 0, at[0], at[1], 0, 0, 0, 9];
        ip6.frame(44, &[&header[..], body].concat())
    };
    let echo6 = frames::icmp(128, 0, [0, 9, 0, 1], &[0; 16]);
    for (what, frame, want) in [
        ("first of an echo", ip(0x2000).echo(true, 9), 134),
        ("later of an echo", ip(185).frame(1, &[0; 40]), 134),
        ("first, half a header", ip(0x2000).frame(1, &[8, 0]), 134),
        ("first of SCTP", ip(0x2000).frame(132, &[0; 40]), 137),
        ("later of GRE", ip(185).frame(47, &[0; 40]), 137),
        ("first of an echo, IPv6", piece6(58, [0, 1], &echo6), 134),
        ("later of an echo, IPv6", piece6(58, [1, 0], &[0; 32]), 134),
        ("later of SCTP, IPv6", piece6(132, [1, 0], &[0; 32]), 137),
    ] {
        assert_eq!(world.send(IF_A, frame).reason(), Some(want), "{what}");
    }
    assert!(world.fragments.borrow().is_empty());
    // A fragment header without fragments (RFC 6946) changes nothing.
    assert_eq!(
        world.send(IF_A, piece6(58, [0, 0], &echo6)).step,
        Step::Pass
    );
}

#[test]
fn an_address_that_changes_hands_starts_over() {
    let mut world = World::default();
    assert_eq!(step(&world, true, SYN), None);
    // Pod 1 goes, its address comes back with pod 3 on another device.
    let mut third = world.endpoints[&1];
    third.id = 3;
    third.ifindex = 103;
    third.policy = 3;
    world.endpoints.insert(3, third);
    world.endpoints.get_mut(&1).expect("pod").flags = 0;
    world.devices.insert(103, 3);
    world.locals.insert(Addr::v4(POD_A), 3);
    world.allow_all(3);
    let out = world.send(103, Ip::v4(POD_A, OUTSIDE).tcp(5, 80, ACK));
    assert_eq!(out.step, Step::Pass);
    assert_eq!(entry(&world).endpoint, 3);
    assert_eq!(
        (world.shares.borrow()[&1], world.shares.borrow()[&3]),
        (0, 1)
    );
}
