// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Services that the programs translate: pod → ClusterIP → backend, and back.

mod common;

use std::collections::BTreeSet;

use abi::{Addr, Direction, DropReason, FEW, FlowKey, RowVerdict, action, member_flags};
use common::frames::{Ip, icmp, is_sound, seal};
use common::services::*;
use common::*;
use fastpath::{FlowRef, Step};

const SYN: u8 = 2;
const SYN_ACK: u8 = 18;
const ACK: u8 = 16;
const LOOPBACK: [u8; 4] = [169, 254, 42, 1];

#[test]
fn a_connection_goes_to_a_backend_elsewhere_and_back() {
    for way in WAYS {
        let mut world = with(&[POD_REMOTE]);
        world.default_deny(1, Direction::Ingress);
        for make in [tcp as fn(Ip, u16, u16, u8) -> Vec<u8>, |ip, s, d, _| {
            udp(ip, s, d)
        }] {
            for flags in [SYN, ACK, ACK] {
                let out = world.send(IF_A, make(way(POD_A, VIP), 4000, 80, flags));
                assert_eq!(out.step, Step::Tunnel);
                assert_eq!(out.work.report.tunnel.remote, Addr::v4(NODE_REMOTE));
                assert_eq!(out.work.report.dst_identity, ID_REMOTE);
                assert_packet(
                    &out.frame.bytes,
                    &make(way(POD_A, POD_REMOTE), 4000, 8080, flags),
                );
                let answer = make(way(POD_REMOTE, POD_A), 8080, 4000, flags | ACK);
                let out = world.overlay(ID_REMOTE, NODE_REMOTE, answer);
                assert_eq!(out.step, Step::Deliver);
                assert_packet(
                    &out.frame.bytes,
                    &make(way(VIP, POD_A), 80, 4000, flags | ACK),
                );
            }
        }
        assert_eq!(world.shares.borrow()[&1], 4, "two halves of two flows");
    }
}

#[test]
fn a_connection_goes_to_a_backend_of_this_node() {
    for way in WAYS {
        let world = with(&[POD_B]);
        for flags in [SYN, ACK] {
            let out = world.send(IF_A, tcp(way(POD_A, VIP), 4000, 80, flags));
            assert_eq!(out.step, Step::Deliver);
            assert_eq!(out.work.report.ifindex, IF_B);
            assert_packet(&out.frame.bytes, &tcp(way(POD_A, POD_B), 4000, 8080, flags));
            let out = world.send(IF_B, tcp(way(POD_B, POD_A), 8080, 4000, flags | ACK));
            assert_eq!(out.step, Step::Deliver);
            assert_packet(
                &out.frame.bytes,
                &tcp(way(VIP, POD_A), 80, 4000, flags | ACK),
            );
        }
    }
}

#[test]
fn a_connection_goes_to_a_backend_beyond_the_mesh() {
    for way in WAYS {
        for (backend, ingress) in [(OUTSIDE, UPLINK), (NODE, 0)] {
            let world = with(&[backend]);
            let out = world.send(IF_A, tcp(way(POD_A, VIP), 4000, 80, SYN));
            assert_eq!(out.step, Step::Pass);
            assert_packet(&out.frame.bytes, &tcp(way(POD_A, backend), 4000, 8080, SYN));
            for _ in 0..2 {
                let answer = tcp(way(backend, POD_A), 8080, 4000, SYN_ACK);
                let out = world.stack_to_pod(IF_A, ingress, answer);
                assert_eq!(out.step, Step::Pass);
                assert_packet(&out.frame.bytes, &tcp(way(VIP, POD_A), 80, 4000, SYN_ACK));
            }
        }
    }
}

#[test]
fn a_pod_reaches_itself_whatever_policy_says() {
    for (way, own) in [(WAYS[0], LOOPBACK), (WAYS[1], ROUTER)] {
        let mut world = with(&[POD_A]);
        world.default_deny(1, Direction::Ingress);
        world.default_deny(1, Direction::Egress);
        for flags in [SYN, ACK] {
            let out = world.send(IF_A, tcp(way(POD_A, VIP), 4000, 80, flags));
            assert_eq!((out.step, out.work.report.ifindex), (Step::Deliver, IF_A));
            assert_packet(&out.frame.bytes, &tcp(way(own, POD_A), 4000, 8080, flags));
            let out = world.send(IF_A, tcp(way(POD_A, own), 8080, 4000, flags | ACK));
            assert_eq!((out.step, out.work.report.ifindex), (Step::Deliver, IF_A));
            assert_packet(
                &out.frame.bytes,
                &tcp(way(VIP, POD_A), 80, 4000, flags | ACK),
            );
        }
        // What was decided long ago is decided the same way again.
        world.bump(1);
        for _ in 0..2 {
            let out = world.send(IF_A, tcp(way(POD_A, own), 8080, 4000, ACK));
            assert_eq!(out.step, Step::Deliver);
            assert_packet(&out.frame.bytes, &tcp(way(VIP, POD_A), 80, 4000, ACK));
            let out = world.send(IF_A, tcp(way(POD_A, VIP), 4000, 80, ACK));
            assert_eq!(out.step, Step::Deliver);
            assert_packet(&out.frame.bytes, &tcp(way(own, POD_A), 4000, 8080, ACK));
        }
    }
}

#[test]
fn policy_is_about_the_backend_and_its_port() {
    let allow = RowVerdict {
        action: action::ALLOW,
        rule: 7,
    };
    let mut world = with(&[POD_REMOTE]);
    world.default_deny(1, Direction::Egress);
    let out = world.send(IF_A, tcp(Ip::v4(POD_A, VIP), 4000, 80, SYN));
    assert_eq!(out.reason(), Some(DropReason::PolicyDenied as u8));
    assert_eq!(out.work.report.dst_identity, ID_REMOTE);
    assert_packet(
        &out.frame.bytes,
        &tcp(Ip::v4(POD_A, POD_REMOTE), 4000, 8080, SYN),
    );
    assert!(world.flows.borrow().is_empty());

    world.rule(1, ID_REMOTE, (Direction::Egress, TCP, 80), allow);
    let out = world.send(IF_A, tcp(Ip::v4(POD_A, VIP), 4000, 80, SYN));
    assert_eq!(out.step, Step::Drop, "the service's port is not the pod's");
    world.rule(1, ID_REMOTE, (Direction::Egress, TCP, 8080), allow);
    let out = world.send(IF_A, tcp(Ip::v4(POD_A, VIP), 4000, 80, SYN));
    assert_eq!((out.step, out.work.report.rule), (Step::Tunnel, 7));

    // Revoked: both halves stop.
    world.verdicts.retain(|key, _| key.3 != 8080);
    world.bump(1);
    let out = world.send(IF_A, tcp(Ip::v4(POD_A, VIP), 4000, 80, ACK));
    assert_eq!(out.step, Step::Drop);
    let answer = tcp(Ip::v4(POD_REMOTE, POD_A), 8080, 4000, ACK);
    let out = world.overlay(ID_REMOTE, NODE_REMOTE, answer);
    assert_eq!(out.step, Step::Drop);
}

#[test]
fn a_flow_keeps_its_backend_and_others_get_another() {
    let world = with(&[POD_REMOTE, POD_NEAR]);
    let mut seen = [0; 2];
    for port in 4000..4020 {
        let first = world.send(IF_A, tcp(Ip::v4(POD_A, VIP), port, 80, SYN));
        let node = first.work.report.tunnel.remote;
        seen[usize::from(node == Addr::v4(NODE_NEAR))] += 1;
        for _ in 0..3 {
            let next = world.send(IF_A, tcp(Ip::v4(POD_A, VIP), port, 80, ACK));
            assert_eq!(next.work.report.tunnel.remote, node);
        }
    }
    assert_eq!(seen, [10, 10]);
}

/// The rows that a choice was made from may be another service's by then.
#[test]
fn a_choice_is_made_again_if_the_service_changed_meanwhile() {
    let world = with(&[POD_REMOTE, POD_NEAR]);
    let nodes = [Addr::v4(NODE_REMOTE), Addr::v4(NODE_NEAR)];
    for overtaken in 0..4 {
        world.dice.set(0);
        world.overtaken.set(overtaken);
        let packet = tcp(Ip::v4(POD_A, VIP), 4000 + overtaken as u16, 80, SYN);
        let out = world.send(IF_A, packet);
        assert_eq!(out.step, Step::Tunnel);
        let chosen = out.work.report.tunnel.remote;
        assert_eq!(chosen, nodes[overtaken as usize % 2], "the last choice");
    }
    world.overtaken.set(4);
    let out = world.send(IF_A, tcp(Ip::v4(POD_A, VIP), 4009, 80, SYN));
    assert_eq!(out.step, Step::Deliver, "reset");
}

#[test]
fn a_client_stays_with_its_backend_while_the_service_changes() {
    let mut world = World::default();
    service(&mut world, &[POD_REMOTE, POD_NEAR], 100);
    let open = |port| {
        let out = world.send(IF_A, tcp(Ip::v4(POD_A, VIP), port, 80, SYN));
        out.work.report.tunnel.remote
    };
    world.overtaken.set(1);
    let first = open(4000);
    for port in 4001..4010 {
        assert_eq!(open(port), first);
    }
}

#[test]
fn more_than_a_few_backends_are_all_chosen() {
    let backends: Vec<[u8; 4]> = (1..=FEW as u8 + 2).map(|n| [10, 7, 1, n]).collect();
    let world = with(&backends);
    for way in WAYS {
        let mut chosen = BTreeSet::new();
        for port in 4000..4100 {
            let out = world.send(IF_A, tcp(way(POD_A, VIP), port, 80, SYN));
            chosen.insert(out.work.flow.nat.0);
        }
        assert_eq!(chosen.len(), backends.len());
    }
}

#[test]
fn a_client_keeps_its_backend_for_as_long_as_the_service_says() {
    let mut world = World::default();
    service(&mut world, &[POD_REMOTE, POD_NEAR], 100);
    let open = |world: &World, port| {
        let out = world.send(IF_A, tcp(Ip::v4(POD_A, VIP), port, 80, SYN));
        assert_eq!(out.step, Step::Tunnel);
        out.work.report.tunnel.remote
    };
    let first = open(&world, 4000);
    for port in 4001..4010 {
        world.now.set(world.now.get() + 90);
        assert_eq!(
            open(&world, port),
            first,
            "every flow keeps it for another while"
        );
    }
    world.now.set(world.now.get() + 101);
    world.dice.set(1 - world.dice.get() % 2 + world.dice.get());
    let nodes: Vec<_> = (5000..5002).map(|port| open(&world, port)).collect();
    assert_eq!(nodes[0], nodes[1], "chosen anew, and kept again");
    // A backend that takes no new flows is left.
    for flags in world.members.values_mut() {
        *flags = member_flags::MEMBER;
    }
    let other = if nodes[0] == Addr::v4(NODE_NEAR) {
        POD_REMOTE
    } else {
        POD_NEAR
    };
    for (key, flags) in &mut world.members {
        if addrs(other).contains(&key.addr) {
            *flags |= member_flags::SELECTABLE;
        }
    }
    assert_ne!(open(&world, 6000), nodes[0]);
}

#[test]
fn nobody_speaks_for_a_service() {
    let mut world = with(&[POD_REMOTE]);
    world.default_deny(1, Direction::Ingress);
    assert_eq!(
        world
            .send(IF_A, tcp(Ip::v4(POD_A, VIP), 4000, 80, SYN))
            .step,
        Step::Tunnel
    );
    // The backend itself, and others, under the service's address.
    for (vni, node) in [(ID_REMOTE, NODE_REMOTE), (ID_NEAR, NODE_NEAR)] {
        let packet = tcp(Ip::v4(VIP, POD_A), 80, 4000, SYN_ACK);
        assert_eq!(world.overlay(vni, node, packet).step, Step::Drop);
    }
    let packet = tcp(Ip::v4(VIP, POD_A), 80, 4000, SYN_ACK);
    assert_eq!(world.stack_to_pod(IF_A, UPLINK, packet).step, Step::Drop);
    // Others under the backend's.
    for (vni, node) in [
        (ID_NEAR, NODE_NEAR),
        (ID_REMOTE, NODE_NEAR),
        (ID_REMOTE + 1, NODE_NEAR),
        (9 << 16 | 2001, NODE_REMOTE),
    ] {
        let packet = tcp(Ip::v4(POD_REMOTE, POD_A), 8080, 4000, SYN_ACK);
        assert_eq!(world.overlay(vni, node, packet).step, Step::Drop, "{vni}");
    }
    let packet = tcp(Ip::v4(POD_REMOTE, POD_A), 8080, 4000, SYN_ACK);
    assert_eq!(
        world.overlay(ID_REMOTE, NODE_REMOTE, packet).step,
        Step::Deliver
    );
}

#[test]
fn errors_about_a_flow_speak_of_the_service_to_the_pod() {
    for way in WAYS {
        let mut world = with(&[POD_REMOTE]);
        world.default_deny(1, Direction::Ingress);
        assert_eq!(
            world.send(IF_A, udp(way(POD_A, VIP), 4000, 80)).step,
            Step::Tunnel
        );
        let v4 = way(POD_A, VIP).v4;
        let error = |from, to, quoted: &[u8]| {
            let (proto, kind) = if v4 { (1, (3, 3)) } else { (58, (1, 4)) };
            let body = icmp(kind.0, kind.1, [0; 4], &quoted[14..]);
            seal(way(from, to).frame(proto, &body))
        };
        let strip = |mut bytes: Vec<u8>| {
            // The quoted transport checksum is nobody's business.
            let end = bytes.len();
            bytes[end - 8..end - 6].fill(0);
            let (l3, l4) = if v4 { (10, 34) } else { (0, 54) };
            bytes[l4 + 2..l4 + 4].fill(0);
            bytes[14 + l3..16 + l3].fill(0);
            bytes[..12].fill(0);
            bytes[if v4 { 22 } else { 21 }] = 0;
            bytes
        };
        let wire = error(POD_REMOTE, POD_A, &udp(way(POD_A, POD_REMOTE), 4000, 8080));
        let out = world.overlay(ID_REMOTE, NODE_REMOTE, wire);
        assert_eq!(out.step, Step::Deliver);
        assert!(is_sound(&out.frame.bytes), "{:02x?}", out.frame.bytes);
        let want = error(VIP, POD_A, &udp(way(POD_A, VIP), 4000, 80));
        assert_eq!(strip(out.frame.bytes), strip(want));

        // The pod's own error about an answer.
        let own = error(POD_A, VIP, &udp(way(VIP, POD_A), 80, 4000));
        let out = world.send(IF_A, own);
        assert_eq!(out.step, Step::Tunnel);
        assert!(is_sound(&out.frame.bytes), "{:02x?}", out.frame.bytes);
        let want = error(POD_A, POD_REMOTE, &udp(way(POD_REMOTE, POD_A), 8080, 4000));
        assert_eq!(strip(out.frame.bytes), strip(want));
    }
}

#[test]
fn an_error_about_a_piece_speaks_of_the_service_to_the_pod() {
    let world = with(&[POD_REMOTE]);
    let piece = |dst, port| {
        let packet = udp(v6(POD_A, dst), 4000, port);
        let body = [&[UDP, 0, 0, 1, 0, 0, 0, 9][..], &packet[54..]].concat();
        v6(POD_A, dst).frame(44, &body)
    };
    assert_eq!(world.send(IF_A, piece(VIP, 80)).step, Step::Tunnel);
    let error = |from, quoted: &[u8]| {
        let body = icmp(1, 4, [0; 4], &quoted[14..]);
        seal(v6(from, POD_A).frame(58, &body))
    };
    let wire = error(POD_REMOTE, &piece(POD_REMOTE, 8080));
    let out = world.overlay(ID_REMOTE, NODE_REMOTE, wire);
    assert_eq!(out.step, Step::Deliver);
    assert!(is_sound(&out.frame.bytes), "{:02x?}", out.frame.bytes);
    let (got, want) = (out.frame.bytes, error(VIP, &piece(VIP, 80)));
    let sum = want.len() - 8;
    assert_eq!(got[58..sum], want[58..sum], "but for checksums");
    assert_eq!(got[22..38], six(VIP));
}

#[test]
fn fragments_of_a_datagram_follow_the_first() {
    let world = with(&[POD_REMOTE]);
    let mut whole = udp(Ip::v4(POD_A, VIP).fragment(0), 4000, 80);
    whole.truncate(34 + 8);
    let first = Ip::v4(POD_A, VIP).fragment(0x2000);
    let first = first.frame(UDP, &whole[34..]);
    let later = Ip::v4(POD_A, VIP).fragment(1).frame(UDP, &[9; 6]);
    let out = world.send(IF_A, first);
    assert_eq!(out.step, Step::Tunnel);
    assert_eq!(&out.frame.bytes[36..38], &8080u16.to_be_bytes());
    let out = world.send(IF_A, later);
    assert_eq!(out.step, Step::Tunnel);
    assert_eq!(out.frame.bytes[30..34], POD_REMOTE);
    assert_eq!(
        out.frame.bytes[34..],
        [9; 6],
        "no transport header, nothing to write"
    );
    // A datagram without a checksum stays without.
    let mut bare = Ip::v4(POD_A, VIP).udp(4002, 80, 6);
    bare[40..42].fill(0);
    let out = world.send(IF_A, bare);
    assert_eq!(out.frame.bytes[40..42], [0, 0]);
}

#[test]
fn the_flow_goes_where_its_backend_moves() {
    let mut world = with(&[POD_REMOTE]);
    let send = |world: &World| world.send(IF_A, tcp(Ip::v4(POD_A, VIP), 4000, 80, SYN));
    assert_eq!(
        send(&world).work.report.tunnel.remote,
        Addr::v4(NODE_REMOTE)
    );
    world.remote(POD_REMOTE, ID_REMOTE, NODE_NEAR);
    world.bump_addr(POD_REMOTE);
    assert_eq!(send(&world).work.report.tunnel.remote, Addr::v4(NODE_NEAR));
    let key = FlowKey {
        local: Addr::v4(POD_A),
        remote: Addr::v4(VIP),
        local_port: 4000u16.to_be_bytes(),
        remote_port: 80u16.to_be_bytes(),
        proto: TCP,
        pad: [0; 3],
    };
    let flow = world.flows.borrow()[&key].get();
    assert_eq!(flow.addr_bucket, abi::addr_bucket(&Addr::v4(POD_REMOTE)));
}
