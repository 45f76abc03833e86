// SPDX-License-Identifier: Apache-2.0
//! Verdicts of `from_pod` and `to_pod`: ways, policy, sources, limits.

use abi::{DropReason, RowVerdict, action, kind};

use crate::frames::Ip;
use crate::node::{
    ACK, DROP, ID_A, ID_B, NODE, Node, OUTSIDE, PASS, POD_A, POD_B, POD_REMOTE, REDIRECT, ROUTER,
    SYN, in_namespace, six,
};

fn both(src: [u8; 4], dst: [u8; 4]) -> [Ip; 2] {
    [Ip::v4(src, dst), Ip::v6(six(src), six(dst))]
}

#[test]
fn each_destination_has_its_way_at_first_and_after() {
    in_namespace(|| {
        let mut node = Node::new();
        for (dst, action) in [
            (POD_REMOTE, REDIRECT),
            (POD_B, REDIRECT),
            (ROUTER, PASS),
            (OUTSIDE, PASS),
        ] {
            for ip in both(POD_A, dst) {
                for flags in [SYN, ACK] {
                    let run = node.send(0, &ip.tcp(4000, 80, flags));
                    assert_eq!(run.action, action, "{ip:?}");
                }
            }
        }
        assert_eq!(node.share(1), 8);
        assert_eq!(node.share(2), 2);
        assert_eq!(node.counted(0), 16);
        assert!(node.events().is_empty());
    });
}

#[test]
fn local_delivery_rewrites_ttl_and_macs() {
    in_namespace(|| {
        let mut node = Node::new();
        for ip in both(POD_A, POD_B) {
            for flags in [SYN, ACK] {
                let run = node.send(0, &ip.tcp(4000, 80, flags));
                let mut want = ip.clone().ttl(63).tcp(4000, 80, flags);
                want[..6].copy_from_slice(&node.pods[1].mac);
                want[6..12].copy_from_slice(&node.pods[1].host_mac);
                assert_eq!(run.bytes, want);
            }
            assert_eq!(node.reason_of(0, &ip.clone().udp(1, 2, 0)), 0);
        }
        let expired = Ip::v4(POD_A, POD_B).ttl(1).tcp(1, 2, SYN);
        assert_eq!(node.reason_of(0, &expired), DropReason::TtlExceeded as u8);
    });
}

#[test]
fn policy_is_enforced_and_events_say_who_and_why() {
    in_namespace(|| {
        let mut node = Node::new();
        // Policy 20 of pod B: default deny (rule 900), A may reach TCP 80, never TCP 81.
        let verdict = |action, rule| RowVerdict { action, rule };
        for class in kind::BASE..=kind::OTHER {
            node.policy(20, class, 21);
        }
        node.policy(20, 100 + (ID_A & 0xff), 22);
        for row in [21, 22] {
            node.row(row, 1, (0, 0), verdict(action::DEFAULT_DENY, 900));
            node.row(row, 2, (0, 0), verdict(action::ALLOW, 0));
        }
        node.row(22, 1, (6, 80), verdict(action::ALLOW, 7));
        node.row(22, 1, (6, 81), verdict(action::DENY, 8));
        let ip = Ip::v4(POD_A, POD_B);
        assert_eq!(
            node.send(0, &ip.tcp(4000, 82, SYN)).action,
            REDIRECT,
            "open before"
        );
        let mut pod = node.pods[1];
        (pod.policy, pod.epoch) = (20, 2);
        node.set_pod(&pod);
        for (port, reason, rule) in [(80, 0, 0), (81, 181, 8), (82, 133, 900)] {
            assert_eq!(
                node.reason_of(0, &ip.tcp(4000, port, SYN)),
                reason,
                "port {port}"
            );
            for event in node.events() {
                assert_eq!((event.reason, event.rule), (reason, rule));
                assert_eq!((event.src_identity, event.dst_identity), (ID_A, ID_B));
                assert_eq!((event.endpoint, event.direction, event.audit), (2, 1, 0));
                assert_eq!((event.kind, event.proto, event.len), (1, 6, 54));
                assert_eq!(event.capture[..54], ip.tcp(4000, port, SYN)[..]);
                assert_eq!((event.captured, &event.capture[54..]), (54, &[0; 42][..]));
            }
        }
        let reply = ip.reply().tcp(80, 4000, SYN | ACK);
        assert_eq!(
            node.send(1, &reply).action,
            REDIRECT,
            "replies need no rule"
        );
        let revoked = ip.reply().tcp(82, 4000, ACK);
        assert_eq!(
            node.reason_of(1, &revoked),
            133,
            "a revoked flow stops both ways"
        );
    });
}

#[test]
fn sources_are_checked() {
    in_namespace(|| {
        let mut node = Node::new();
        for ip in both(POD_B, OUTSIDE) {
            assert_eq!(node.reason_of(0, &ip.tcp(1, 2, SYN)), 132);
        }
        let [a, b] = node.pods.map(|p| p.ifindex);
        for (src, ingress, action) in [
            (NODE, 0, PASS),
            (OUTSIDE, b, PASS),
            (POD_B, b, PASS),
            (POD_B, a, DROP),
            (POD_REMOTE, b, DROP),
        ] {
            let frame = Ip::v4(src, POD_A).tcp(9, 80, SYN);
            let run = node.run(abi::PROG_TO_POD, a, ingress, &frame);
            assert_eq!(run.action, action, "{src:?} from {ingress}");
            assert_eq!(run.bytes, frame, "left alone");
        }
        let ext: Vec<i8> = node.events().iter().map(|e| e.ext).collect();
        assert_eq!(ext, [0, 0, 0, abi::ExtError::PodAddressOutsideTunnel as i8]);
    });
}

#[test]
fn shares_hold() {
    in_namespace(|| {
        let mut node = Node::new();
        node.config.flow_share = 4;
        node.set_config();
        for port in 0..9 {
            let packet = Ip::v4(POD_A, OUTSIDE).udp(port, 53, 4);
            assert_eq!(node.reason_of(0, &packet), 0);
        }
        assert_eq!(node.reason_of(1, &Ip::v4(POD_B, OUTSIDE).udp(9, 53, 4)), 0);
        assert_eq!((node.share(1), node.share(2)), (3, 1));
        for port in 0..9 {
            let packet = Ip::v4(POD_A, OUTSIDE).tcp(port, 53, 2);
            assert_eq!(node.reason_of(0, &packet), 0);
        }
        assert_eq!((node.share(1), node.share(2)), (4, 1));
        assert_eq!(node.share(abi::SHARE_OF_ALL), 5);
    });
}

#[test]
fn events_are_limited_and_switched_off() {
    in_namespace(|| {
        let mut node = Node::new();
        node.config.event_rate = 5;
        node.set_config();
        let spoofed = Ip::v4(POD_B, OUTSIDE).tcp(1, 2, SYN);
        for _ in 0..100 {
            let _ = node.send(0, &spoofed);
        }
        // Two processors, and a second may end in between.
        assert!((5..=20).contains(&node.events().len()));
        assert_eq!(node.counted(132), 100);
        node.config.flags &= !abi::config_flags::EVENTS;
        node.set_config();
        let _ = node.send(0, &spoofed);
        assert!(node.events().is_empty());
    });
}

#[test]
fn an_endpoint_that_is_not_ready_gets_nothing() {
    in_namespace(|| {
        let mut node = Node::new();
        let ip = Ip::v4(POD_A, POD_B);
        assert_eq!(node.reason_of(0, &ip.tcp(1, 80, SYN)), 0);
        let mut pod = node.pods[1];
        pod.flags = 0;
        node.set_pod(&pod);
        assert_eq!(node.reason_of(0, &ip.tcp(1, 80, ACK)), 203);
        assert_eq!(node.reason_of(1, &ip.reply().tcp(80, 1, ACK)), 203);
    });
}
