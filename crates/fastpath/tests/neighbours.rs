// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Frames that are not yet a matter of addresses and ports: neighbours, tags.

mod common;

use abi::{Addr, DropReason};
use common::frames::{self, Ip};
use common::*;
use fastpath::Step;

const SYN: u8 = 2;

fn a_to(dst: [u8; 4]) -> Ip {
    Ip::v4(POD_A, dst)
}

fn reason(r: DropReason) -> Option<u8> {
    Some(r as u8)
}

#[test]
fn arp_and_solicitations_are_answered_with_the_host_side() {
    let world = World::default();
    let out = world.send(IF_A, frames::arp(POD_A, ROUTER));
    assert_eq!((out.step, out.work.report.ifindex), (Step::Deliver, IF_A));
    let own = &world.endpoints[&1];
    assert_eq!(out.frame.bytes[20..22], [0, 2]);
    assert_eq!(out.frame.bytes[22..28], own.host_mac);
    assert_eq!(out.frame.bytes[28..32], ROUTER);
    assert_eq!(out.frame.bytes[32..38], own.mac);
    assert_eq!(world.send(IF_A, frames::arp(POD_A, POD_A)).step, Step::Pass);
    let spoof = world.send(IF_A, frames::arp(POD_B, ROUTER));
    assert_eq!(spoof.reason(), reason(DropReason::InvalidSourceIp));

    for (target, flags) in [(ROUTER, 0xe0), (POD_B, 0x60)] {
        for options in [&[][..], &[1, 1, 2, 0, 0, 0, 0, 0xbb]] {
            let body = [&six(target)[..], options].concat();
            let ns = Ip::v6(six(POD_A), six(target))
                .ttl(255)
                .icmp(135, 0, [0; 4], &body);
            let out = world.send(IF_A, ns);
            assert_eq!(out.step, Step::Deliver);
            let na = &out.frame.bytes;
            assert_eq!((na.len(), na[54], na[58]), (86, 136, flags));
            assert_eq!(na[62..78], six(target));
            assert_eq!(na[80..86], own.host_mac);
            assert!(frames::icmp6_is_sound(na));
        }
    }
}

#[test]
fn nobody_answers_for_who_is_not_here() {
    let world = World::default();
    let ask = |target: [u8; 16]| {
        let ns = Ip::v6(six(POD_A), target)
            .ttl(255)
            .icmp(135, 0, [0; 4], &target);
        world.send(IF_A, ns)
    };
    let unknown = ask(six([10, 0, 0, 99]));
    assert_eq!(unknown.reason(), reason(DropReason::UnknownL3Target));
    assert_eq!(unknown.work.report.endpoint, 1);
    for known in [ROUTER, POD_B, NODE] {
        assert_eq!(ask(six(known)).step, Step::Deliver, "{known:?}");
    }
}

/// A pod from before its node got another network keeps the route that it has.
#[test]
fn a_router_of_before_is_answered_for() {
    let mut world = World::default();
    let own = world.endpoints.get_mut(&1).expect("pod a");
    own.flags |= abi::endpoint_flags::OTHER_ROUTER;
    for (target, flags) in [([10, 9, 9, 1], 0xe0), (ROUTER, 0xe0), (POD_B, 0x60)] {
        let ns = Ip::v6(six(POD_A), six(target))
            .ttl(255)
            .icmp(135, 0, [0; 4], &six(target));
        let out = world.send(IF_A, ns);
        assert_eq!(out.step, Step::Deliver);
        let na = &out.frame.bytes;
        assert_eq!((na[54], na[58]), (136, flags), "{target:?}");
        assert_eq!(na[62..78], six(target));
    }
}

#[test]
fn other_discovery_is_dropped_quietly() {
    let world = World::default();
    // A router solicitation is shorter than what names a target.
    for (kind, src, body) in [
        (133, [0; 16], 0),
        (133, six(POD_A), 8),
        (143, [0; 16], 16),
        (135, [0; 16], 16),
        (134, six(POD_A), 16),
    ] {
        let out = world.send(
            IF_A,
            Ip::v6(src, six(ROUTER))
                .ttl(255)
                .icmp(kind, 0, [0; 4], &[0; 16][..body]),
        );
        assert_eq!(
            out.reason(),
            reason(DropReason::InvalidSourceIp),
            "type {kind}"
        );
        assert_eq!(out.work.report.quiet, 1);
    }
    let na = Ip::v6(six(POD_A), six(ROUTER))
        .ttl(255)
        .icmp(136, 0, [0; 4], &six(POD_A));
    assert_eq!(
        world.send(IF_A, na).step,
        Step::Pass,
        "the host's own solicitation is answered"
    );
}

#[test]
fn frames_with_a_tag_belong_to_no_pod() {
    let world = World::default();
    let tagged = |bytes| Frame {
        bytes,
        tagged: true,
        ifindex: IF_A,
        ..Frame::default()
    };
    for bytes in [a_to(POD_B).tcp(5, 80, SYN), frames::arp(POD_A, ROUTER)] {
        let out = world.run_from_pod(tagged(bytes));
        assert_eq!(out.reason(), reason(DropReason::VlanFiltered));
        assert_eq!(out.work.report.endpoint, 1);
    }
    let mut frame = tagged(Ip::v4(POD_REMOTE, POD_A).tcp(5, 80, SYN));
    let mut work = fastpath::Work::default();
    let key = Some((ID_REMOTE, Addr::v4(NODE_REMOTE)));
    let step = fastpath::from_overlay(&mut frame, &world, &mut work, key);
    assert_eq!(step, Step::Drop);
    assert_eq!(work.report.reason, DropReason::VlanFiltered as u8);
}
