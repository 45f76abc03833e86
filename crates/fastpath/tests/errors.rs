// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! ICMP errors: about which flows, and from whom.

mod common;

use abi::{Direction, DropReason};
use common::frames::{self, Ip};
use common::*;
use fastpath::Step;

const SYN: u8 = 2;
const ACK: u8 = 16;

#[test]
fn errors_about_a_flow_pass_whichever_router_sends_them() {
    let router = [198, 51, 100, 1];
    for v4 in [true, false] {
        let ip = |s, d| {
            if v4 {
                Ip::v4(s, d)
            } else {
                Ip::v6(six(s), six(d))
            }
        };
        let mut world = World::default();
        world.default_deny(1, Direction::Ingress);
        assert_eq!(
            world.send(IF_A, ip(POD_A, OUTSIDE).tcp(5, 80, SYN)).step,
            Step::Pass
        );
        let error = |world: &World, dport: u16| {
            let embedded = ip(POD_A, OUTSIDE).packet(6, &frames::tcp(5, dport, ACK, 0));
            let (kind, code) = if v4 { (3, 4) } else { (2, 0) };
            let frame = ip(router, POD_A).icmp(kind, code, [0, 0, 5, 0xaa], &embedded);
            world.stack_to_pod(IF_A, UPLINK, frame).reason()
        };
        assert_eq!(error(&world, 80), None);
        assert_eq!(
            error(&world, 81),
            Some(DropReason::PolicyDenied as u8),
            "no such flow"
        );
        world.bump(1);
        assert_eq!(error(&world, 80), None, "judged again as the flow");
        world.default_deny(1, Direction::Egress);
        world.bump(1);
        assert_eq!(
            error(&world, 80),
            Some(DropReason::PolicyDenied as u8),
            "the flow was revoked"
        );
    }
}

#[test]
fn an_error_about_a_packet_with_extension_headers_is_about_its_flow() {
    let mut world = World::default();
    world.default_deny(1, Direction::Ingress);
    let ip = Ip::v6(six(POD_A), six(OUTSIDE));
    assert_eq!(world.send(IF_A, ip.udp(5, 53, 8)).step, Step::Pass);
    let error = |first: u8, headers: &[u8]| {
        let body = [headers, &frames::udp(5, 53, 8)].concat();
        let router = Ip::v6(six([198, 51, 100, 1]), six(POD_A));
        let frame = router.icmp(2, 0, [0, 0, 5, 0xaa], &ip.packet(first, &body));
        world.stack_to_pod(IF_A, UPLINK, frame).reason()
    };
    let options = |next, len: u8| {
        let mut header = vec![next, len];
        header.resize(8 + 8 * usize::from(len), 0);
        header
    };
    let piece = |offset| [17, 0, 0, offset, 0, 0, 0, 9].to_vec();
    for (first, headers) in [
        (60, options(17, 0)),
        (0, options(17, 3)),
        (44, piece(1)),
        (60, [options(44, 1), piece(1)].concat()),
    ] {
        assert_eq!(error(first, &headers), None, "{first} {headers:?}");
    }
    let later = error(44, &piece(9));
    assert_eq!(later, Some(DropReason::PolicyDenied as u8));
}

#[test]
fn a_pod_does_not_report_errors_about_the_flows_of_others() {
    let mut world = World::default();
    world.default_deny(1, Direction::Ingress);
    let flow = Ip::v4(POD_A, OUTSIDE);
    assert_eq!(world.send(IF_A, flow.udp(5, 53, 8)).step, Step::Pass);
    let embedded = flow.packet(17, &frames::udp(5, 53, 8));
    let error = || Ip::v4(POD_B, POD_A).icmp(3, 4, [0, 0, 0, 68], &embedded);
    let denied = Some(DropReason::PolicyDenied as u8);
    assert_eq!(world.send(IF_B, error()).reason(), denied, "by its device");
    let stack = world.stack_to_pod(IF_A, IF_B, error());
    assert_eq!(stack.reason(), denied, "by the stack");
}

#[test]
fn a_pod_may_report_errors_about_what_it_got() {
    let mut world = World::default();
    world.default_deny(1, Direction::Egress);
    let probe = Ip::v4(OUTSIDE, POD_A);
    assert_eq!(
        world.stack_to_pod(IF_A, UPLINK, probe.udp(7, 53, 8)).step,
        Step::Pass
    );
    let unreachable = |to: [u8; 4]| {
        let embedded = probe.packet(17, &frames::udp(7, 53, 8));
        world
            .send(IF_A, Ip::v4(POD_A, to).icmp(3, 3, [0; 4], &embedded))
            .reason()
    };
    assert_eq!(unreachable(OUTSIDE), None);
    assert_eq!(
        unreachable(POD_REMOTE),
        Some(DropReason::PolicyDenied as u8),
        "to nobody else"
    );
}
