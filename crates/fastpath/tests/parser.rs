// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! The parser: what it refuses and why, and that no bytes make it panic.

mod common;

use abi::DropReason;
use common::frames::{self, Ip};
use common::*;
use fastpath::Step;
use proptest::prelude::*;

fn v6(next: u8, body: &[u8]) -> Vec<u8> {
    Ip::v6(six(POD_A), six(OUTSIDE)).frame(next, body)
}

fn reason_of(bytes: Vec<u8>) -> Option<u8> {
    World::default().send(IF_A, bytes).reason()
}

#[test]
fn malformed_packets_have_reasons() {
    let v4 = Ip::v4(POD_A, OUTSIDE);
    let edit = |at: usize, value: u8| {
        let mut frame = v4.tcp(1, 2, 2);
        frame[at] = value;
        frame
    };
    for (what, frame, want) in [
        ("no ethertype", vec![0; 13], DropReason::UnsupportedL2),
        (
            "802.3 length",
            frames::ethernet(100, &[0; 60]),
            DropReason::UnsupportedL2,
        ),
        (
            "MPLS",
            frames::ethernet(0x8847, &[0; 60]),
            DropReason::UnsupportedL3,
        ),
        (
            "half an IPv4 header",
            v4.tcp(1, 2, 2)[..25].to_vec(),
            DropReason::InvalidPacket,
        ),
        ("version 5", edit(14, 0x55), DropReason::InvalidPacket),
        (
            "header of 16 bytes",
            edit(14, 0x44),
            DropReason::InvalidPacket,
        ),
        (
            "longer than the frame",
            edit(17, 200),
            DropReason::InvalidPacket,
        ),
        (
            "shorter than its header",
            edit(17, 10),
            DropReason::InvalidPacket,
        ),
        (
            "TCP header beyond the packet",
            edit(17, 30),
            DropReason::TruncatedHeader,
        ),
        (
            "TCP data offset of 4",
            edit(46, 0x10),
            DropReason::TruncatedHeader,
        ),
        (
            "TCP data offset beyond",
            edit(46, 0xf0),
            DropReason::TruncatedHeader,
        ),
        (
            "half a UDP header",
            v4.frame(17, &[0; 4]),
            DropReason::TruncatedHeader,
        ),
        (
            "half an ICMP header",
            v4.frame(1, &[8, 0, 0, 0]),
            DropReason::TruncatedHeader,
        ),
        ("GRE", v4.frame(47, &[0; 20]), DropReason::UnknownL4),
        (
            "ICMPv6 in IPv4",
            v4.frame(58, &[128; 8]),
            DropReason::UnknownL4,
        ),
        ("ICMP in IPv6", v6(1, &[8; 8]), DropReason::UnknownL4),
        ("IGMP", v4.frame(2, &[0; 20]), DropReason::UnknownL4),
        (
            "no next header",
            v6(59, &[0; 8]),
            DropReason::InvalidExtensionHeader,
        ),
        (
            "half an IPv6 header",
            v6(6, &[])[..40].to_vec(),
            DropReason::InvalidPacket,
        ),
        (
            "extension header that is missing",
            v6(0, &[]),
            DropReason::TruncatedHeader,
        ),
        ("SCTP", v4.frame(132, &[0; 12]), DropReason::UnknownL4),
        ("SCTP in IPv6", v6(132, &[0; 12]), DropReason::UnknownL4),
    ] {
        assert_eq!(reason_of(frame), Some(want as u8), "{what}");
    }
    let mut mapped = [0; 16];
    mapped[10..].copy_from_slice(&[0xff, 0xff, 10, 5, 0, 10]);
    let frame = Ip::v6(mapped, six(OUTSIDE)).udp(1, 2, 4);
    assert_eq!(
        reason_of(frame),
        Some(DropReason::InvalidPacket as u8),
        "IPv4 in disguise"
    );
}

#[test]
fn up_to_four_extension_headers_are_followed() {
    let options = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    for count in 1..=5 {
        let mut body = Vec::new();
        for left in (0..count).rev() {
            body.extend(options(if left == 0 { 17 } else { 60 }));
        }
        body.extend(frames::udp(1, 53, 4));
        let want = (count == 5).then_some(DropReason::InvalidExtensionHeader as u8);
        assert_eq!(reason_of(v6(60, &body)), want, "{count} headers");
    }
    // Hop-by-hop, authentication of 16 bytes, TCP.
    let mut body = [51, 0, 5, 2, 0, 0, 1, 0, 6, 2].to_vec();
    body.resize(24, 0);
    body.extend(frames::tcp(1, 80, 2, 0));
    assert_eq!(reason_of(v6(0, &body)), None);
}

#[test]
fn ip_options_move_the_transport_header() {
    let mut frame = Ip::v4(POD_A, OUTSIDE).udp(7, 53, 4);
    frame[14] = 0x46;
    frame[17] += 4;
    frame.splice(34..34, [1, 1, 1, 0]);
    let world = World::default();
    assert_eq!(world.send(IF_A, frame).step, Step::Pass);
    let flows = world.flows.borrow();
    let key = flows.keys().next().expect("entry");
    assert_eq!((key.local_port, key.remote_port), ([0, 7], [0, 53]));
}

#[test]
fn headers_outside_the_linear_part_are_pulled() {
    let world = World::default();
    for bytes in [
        Ip::v4(POD_A, POD_B).tcp(1, 80, 2),
        Ip::v6(six(POD_A), six(POD_B)).tcp(1, 80, 2),
    ] {
        for paged in [1, 15, 19, 21, 39] {
            let frame = Frame {
                bytes: bytes.clone(),
                paged,
                ifindex: IF_A,
                ..Frame::default()
            };
            let out = world.run_from_pod(frame);
            assert_eq!(
                out.step,
                Step::Deliver,
                "{paged} bytes paged: {:?}",
                out.work.report
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0..3usize) {
        let ethertype = [[8, 0], [0x86, 0xdd], [8, 6]][kind];
        if bytes.len() >= 14 {
            bytes[12..14].copy_from_slice(&ethertype);
        }
        let world = World::default();
        let _ = world.send(IF_A, bytes.clone());
        let _ = world.stack_to_pod(IF_A, UPLINK, bytes.clone());
        let _ = world.overlay(ID_REMOTE, NODE_REMOTE, bytes.clone());
        let _ = world.stack_to_overlay(0, bytes);
    }

    #[test]
    fn no_damage_panics(
        base in 0..5usize,
        edits in prop::collection::vec((0..120usize, any::<u8>()), 0..8),
        cut in 0..140usize,
    ) {
        let v4 = Ip::v4(POD_A, POD_B);
        let v6 = Ip::v6(six(POD_A), six(POD_B));
        let embedded = v4.packet(6, &frames::tcp(1, 2, 2, 0));
        let mut bytes = [
            v4.tcp(1, 2, 2),
            v6.udp(1, 2, 30),
            v4.icmp(3, 4, [0; 4], &embedded),
            v6.frame(44, &[&[17, 0, 0, 1, 0, 0, 0, 9][..], &frames::udp(5, 53, 8)].concat()),
            frames::arp(POD_A, ROUTER),
        ][base].clone();
        for (at, value) in edits {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(cut);
        let world = World::default();
        for _ in 0..2 {
            let out = world.send(IF_A, bytes.clone());
            prop_assert!(out.step != Step::Drop || out.work.report.reason != 0);
        }
        let _ = world.overlay(ID_REMOTE, NODE_REMOTE, bytes);
    }
}
