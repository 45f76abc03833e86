// SPDX-License-Identifier: Apache-2.0
//! Packets that are not plain TCP or UDP: neighbours, fragments, extension headers, errors, malformed ones.

use abi::DropReason;

use crate::frames::{self, Ip};
use crate::node::{
    ACK, DROP, Node, OUTSIDE, PASS, POD_A, POD_B, POD_REMOTE, REDIRECT, ROUTER, SYN, in_namespace,
    six,
};

#[test]
fn arp_is_answered() {
    in_namespace(|| {
        let mut node = Node::new();
        let own = node.pods[0];
        for target in [ROUTER, POD_B, OUTSIDE] {
            let run = node.send(0, &frames::arp(POD_A, target));
            assert_eq!(run.action, REDIRECT);
            let mut want = frames::ethernet(0x0806, &[0, 1, 8, 0, 6, 4, 0, 2]);
            want[..6].copy_from_slice(&own.mac);
            want[6..12].copy_from_slice(&own.host_mac);
            want.extend(own.host_mac);
            want.extend(target);
            want.extend(own.mac);
            want.extend(POD_A);
            assert_eq!(run.bytes, want);
        }
        assert_eq!(node.send(0, &frames::arp(POD_A, POD_A)).action, PASS);
        assert_eq!(node.reason_of(0, &frames::arp(POD_B, ROUTER)), 132);
    });
}

#[test]
fn solicitations_are_answered() {
    in_namespace(|| {
        let mut node = Node::new();
        let own = node.pods[0];
        let link_local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        for (source, target, flags) in [
            (six(POD_A), ROUTER, 0xe0),
            (six(POD_A), POD_B, 0x60),
            (link_local, ROUTER, 0xe0),
        ] {
            for options in [&[][..], &[1, 1, 2, 0, 0, 0, 0, 0xbb]] {
                let body = [&six(target)[..], options].concat();
                let ns = Ip::v6(source, six(target))
                    .ttl(255)
                    .icmp(135, 0, [0; 4], &body);
                let run = node.send(0, &ns);
                assert_eq!((run.action, run.bytes.len()), (REDIRECT, 86));
                assert_eq!(run.bytes[..12], [own.mac, own.host_mac].concat());
                assert_eq!((run.bytes[54], run.bytes[58]), (136, flags));
                assert_eq!(run.bytes[22..38], six(target));
                assert_eq!(run.bytes[38..54], source);
                assert_eq!(run.bytes[62..78], six(target));
                assert_eq!(run.bytes[80..], own.host_mac);
                assert!(frames::icmp6_is_sound(&run.bytes));
            }
        }
        let unknown = six([10, 5, 1, 77]);
        let unknown = Ip::v6(six(POD_A), unknown)
            .ttl(255)
            .icmp(135, 0, [0; 4], &unknown);
        assert_eq!(node.reason_of(0, &unknown), 150);
        assert_eq!(node.events().len(), 1);
        let dad = Ip::v6([0; 16], six(POD_A))
            .ttl(255)
            .icmp(135, 0, [0; 4], &six(POD_A));
        assert_eq!(node.reason_of(0, &dad), 132);
        assert!(node.events().is_empty(), "counted quietly");
    });
}

#[test]
fn fragments_follow_their_first() {
    in_namespace(|| {
        let mut node = Node::new();
        let ip = |fragment| Ip::v4(POD_A, POD_B).fragment(fragment);
        let later = ip(185).frame(17, &[0; 40]);
        assert_eq!(node.reason_of(0, &later), 175);
        assert_eq!(node.reason_of(0, &ip(0x2000).udp(5, 53, 1472)), 0);
        assert_eq!(node.reason_of(0, &later), 0);
        assert_eq!(node.reason_of(0, &ip(0x2000).echo(true, 5)), 134);
        assert_eq!(node.reason_of(0, &ip(185).frame(1, &[0; 40])), 134);
        let ip = Ip::v6(six(POD_A), six(POD_B));
        let first = [&[17, 0, 0, 1, 0, 0, 0, 9][..], &frames::udp(5, 53, 8)].concat();
        let later = [&[17, 0, 1, 0, 0, 0, 0, 9][..], &[0; 32]].concat();
        assert_eq!(node.reason_of(0, &ip.frame(44, &later)), 175);
        assert_eq!(node.reason_of(0, &ip.frame(44, &first)), 0);
        assert_eq!(node.reason_of(0, &ip.frame(44, &later)), 0);
    });
}

#[test]
fn extension_headers_and_options_are_followed() {
    in_namespace(|| {
        let mut node = Node::new();
        let ip = Ip::v6(six(POD_A), six(POD_B));
        for count in 1..=5u8 {
            let mut body = Vec::new();
            for left in (0..count).rev() {
                body.extend([if left == 0 { 6 } else { 60 }, 0, 1, 4, 0, 0, 0, 0]);
            }
            body.extend(frames::tcp(u16::from(count), 80, SYN, 0));
            let want = if count == 5 { 156 } else { 0 };
            assert_eq!(
                node.reason_of(0, &ip.frame(60, &body)),
                want,
                "{count} headers"
            );
        }
        assert_eq!(node.reason_of(0, &ip.frame(59, &[0; 8])), 156);
        let mut options = Ip::v4(POD_A, POD_B).udp(7, 53, 4);
        options[14] = 0x46;
        options[17] += 4;
        options.splice(34..34, [1, 1, 1, 0]);
        assert_eq!(node.reason_of(0, &options), 0);
    });
}

#[test]
fn errors_about_flows_pass() {
    in_namespace(|| {
        let mut node = Node::new();
        let a = node.pods[0].ifindex;
        let mut pod = node.pods[0];
        // No policy at all: nothing but replies and what belongs to flows may come in.
        let flow = Ip::v4(POD_A, OUTSIDE);
        let flow6 = Ip::v6(six(POD_A), six(OUTSIDE));
        for ip in [&flow, &flow6] {
            assert_eq!(node.reason_of(0, &ip.tcp(5, 80, SYN)), 0);
        }
        pod.policy = 99;
        node.set_pod(&pod);
        for (ip, from, kind, code) in [
            (&flow, Ip::v4([198, 51, 100, 1], POD_A), 3, 4),
            (&flow6, Ip::v6(six([198, 51, 100, 1]), six(POD_A)), 2, 0),
        ] {
            for (port, action) in [(80, PASS), (81, DROP)] {
                let embedded = ip.packet(6, &frames::tcp(5, port, ACK, 0));
                let error = from.icmp(kind, code, [0, 0, 5, 0xaa], &embedded);
                assert_eq!(
                    node.run(abi::PROG_TO_POD, a, a, &error).action,
                    action,
                    "{port}"
                );
            }
        }
    });
}

#[test]
fn what_does_not_fit_the_tunnel_is_answered() {
    in_namespace(|| {
        let mut node = Node::new();
        let fits = Ip::v4(POD_A, POD_REMOTE).frame(6, &frames::tcp(1, 2, ACK, 1410));
        assert_eq!(node.send(0, &fits).bytes, fits);
        let big = Ip::v4(POD_A, POD_REMOTE).frame(6, &frames::tcp(1, 2, ACK, 1411));
        let run = node.send(0, &big);
        assert_eq!((run.action, run.bytes.len()), (REDIRECT, 110));
        assert_eq!(run.bytes[34..36], [3, 4]);
        assert_eq!(run.bytes[40..42], 1450u16.to_be_bytes());
        assert_eq!(frames::checksum(0, &run.bytes[14..34]), 0);
        assert_eq!(frames::checksum(0, &run.bytes[34..]), 0);
        assert_eq!(run.bytes[42..], big[14..82]);
        let big = Ip::v6(six(POD_A), six(POD_REMOTE)).frame(6, &frames::tcp(1, 2, ACK, 1391));
        let run = node.send(0, &big);
        assert_eq!((run.action, run.bytes[54]), (REDIRECT, 2));
        assert_eq!(run.bytes[58..62], 1450u32.to_be_bytes());
        assert!(frames::icmp6_is_sound(&run.bytes));
        for to in [POD_B, POD_REMOTE] {
            let expired = Ip::v6(six(POD_A), six(to)).ttl(1).udp(1, 2, 0);
            let run = node.send(0, &expired);
            assert_eq!((run.action, run.bytes[54]), (REDIRECT, 3));
            assert!(frames::icmp6_is_sound(&run.bytes));
            assert_eq!(run.bytes[62..], expired[14..]);
        }
    });
}

#[test]
fn malformed_packets_are_dropped_for_a_reason() {
    in_namespace(|| {
        let mut node = Node::new();
        let ip = Ip::v4(POD_A, POD_B);
        let edit = |at: usize, value: u8| {
            let mut frame = ip.tcp(1, 2, SYN);
            frame[at] = value;
            frame
        };
        for (what, frame, want) in [
            (
                "unknown protocol",
                ip.frame(47, &[0; 20]),
                DropReason::UnknownL4,
            ),
            ("SCTP", ip.frame(132, &[0; 20]), DropReason::UnknownL4),
            ("version 5", edit(14, 0x55), DropReason::InvalidPacket),
            (
                "longer than the frame",
                edit(17, 200),
                DropReason::InvalidPacket,
            ),
            (
                "TCP data offset of 4",
                edit(46, 0x10),
                DropReason::TruncatedHeader,
            ),
            (
                "half a UDP header",
                ip.frame(17, &[0; 4]),
                DropReason::TruncatedHeader,
            ),
            (
                "loopback",
                Ip::v4(POD_A, [127, 0, 0, 1]).tcp(1, 2, SYN),
                DropReason::StaleIp,
            ),
            (
                "MPLS",
                frames::ethernet(0x8847, &[0; 60]),
                DropReason::UnsupportedL3,
            ),
            (
                "802.3 length",
                frames::ethernet(100, &[0; 60]),
                DropReason::UnsupportedL2,
            ),
        ] {
            assert_eq!(node.reason_of(0, &frame), want as u8, "{what}");
        }
        let key = node.run(abi::PROG_FROM_OVERLAY, 1, 1, &ip.tcp(1, 2, SYN));
        assert_eq!(
            (key.action, node.counted(147)),
            (DROP, 1),
            "no tunnel key under test-run"
        );
    });
}
