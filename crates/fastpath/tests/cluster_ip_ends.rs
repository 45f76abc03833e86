// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Services that the programs translate: how flows begin and end, and what is refused.

mod common;

use abi::{Addr, DropReason, ExtError, flow_flags, member_flags};
use common::frames::{Ip, is_sound, seal};
use common::services::*;
use common::*;
use fastpath::{FlowRef, Step};

const SYN: u8 = 2;
const SYN_ACK: u8 = 18;
const ACK: u8 = 16;
const FIN_ACK: u8 = 17;
const RST: u8 = 4;

#[test]
fn a_backend_that_takes_no_new_flows_keeps_what_it_has() {
    let mut world = with(&[POD_REMOTE]);
    let send =
        |world: &World, port, flags| world.send(IF_A, tcp(Ip::v4(POD_A, VIP), port, 80, flags));
    assert_eq!(send(&world, 4000, SYN).step, Step::Tunnel);
    for flags in world.members.values_mut() {
        *flags = member_flags::MEMBER;
    }
    for service in world.services.values_mut() {
        service.count = 0;
    }
    world.bump_addr(POD_REMOTE);
    assert_eq!(send(&world, 4000, ACK).step, Step::Tunnel);
    assert_eq!(
        send(&world, 4001, SYN).work.report.reason,
        DropReason::NoBackend as u8
    );
}

#[test]
fn a_service_without_backends_says_so_at_once() {
    for way in WAYS {
        let world = with(&[]);
        let packet = udp(way(POD_A, VIP), 4000, 80);
        let out = world.send(IF_A, packet.clone());
        assert_eq!((out.step, out.work.report.ifindex), (Step::Deliver, IF_A));
        assert_eq!(out.work.report.reason, DropReason::NoBackend as u8);
        let frame = &out.frame.bytes;
        let (code, quote) = if frame[12] == 8 {
            assert_eq!((&frame[26..30], &frame[30..34]), (&VIP[..], &POD_A[..]));
            ([3, 3], 42)
        } else {
            let ends = (&frame[22..38], &frame[38..54]);
            assert_eq!(ends, (&six(VIP)[..], &six(POD_A)[..]));
            ([1, 4], 62)
        };
        assert_eq!(frame[quote - 8..quote - 6], code);
        assert_eq!(frame[quote..], packet[14..14 + frame.len() - quote]);
        assert!(is_sound(frame));

        let out = world.send(IF_A, tcp(way(POD_A, VIP), 4000, 80, SYN));
        assert_eq!((out.step, out.work.report.ifindex), (Step::Deliver, IF_A));
        assert_eq!(out.work.report.reason, DropReason::NoBackend as u8);
        // The frames of these tests begin with 1.
        assert_packet(&out.frame.bytes, &reset(way(VIP, POD_A), 0, 2, RST | ACK));
        assert!(world.flows.borrow().is_empty());
    }
}

/// A segment from port 80 to 4000 with these numbers and nothing else.
fn reset(ip: Ip, seq: u8, ack: u8, flags: u8) -> Vec<u8> {
    let mut frame = ip.tcp(80, 4000, flags);
    let l4 = frame.len() - 20;
    frame[l4 + 4..l4 + 12].copy_from_slice(&[0, 0, 0, seq, 0, 0, 0, ack]);
    frame[l4 + 14..l4 + 16].fill(0);
    if frame[12] == 8 {
        frame[18..20].fill(0);
    }
    seal(frame)
}

#[test]
fn a_connection_ends_with_its_backend_and_a_datagram_finds_another() {
    for way in WAYS {
        let mut world = with(&[POD_REMOTE]);
        for packet in [
            tcp(way(POD_A, VIP), 4000, 80, SYN),
            udp(way(POD_A, VIP), 4000, 80),
        ] {
            assert_eq!(world.send(IF_A, packet).step, Step::Tunnel);
        }
        remove(&mut world, POD_REMOTE);
        let out = world.send(IF_A, tcp(way(POD_A, VIP), 4000, 80, ACK));
        assert_eq!((out.step, out.work.report.ifindex), (Step::Deliver, IF_A));
        // The frames of these tests acknowledge 1.
        assert_packet(&out.frame.bytes, &reset(way(VIP, POD_A), 1, 0, RST));
        let late = world.send(IF_A, tcp(way(POD_A, VIP), 4000, 80, RST));
        assert_eq!(late.step, Step::Drop, "a reset has no answer");

        service(&mut world, &[POD_NEAR], 0);
        let out = world.send(IF_A, udp(way(POD_A, VIP), 4000, 80));
        assert_eq!(out.work.report.tunnel.remote, Addr::v4(NODE_NEAR));
        let out = world.send(IF_A, tcp(way(POD_A, VIP), 4000, 80, SYN));
        assert_eq!(
            out.work.report.tunnel.remote,
            Addr::v4(NODE_NEAR),
            "the port is free again"
        );
    }
}

#[test]
fn both_halves_end_with_the_backend() {
    for way in WAYS {
        let mut world = with(&[POD_REMOTE]);
        let send = |world: &World, to, dport, flags| {
            world.send(IF_A, tcp(way(POD_A, to), 4000, dport, flags))
        };
        let answer = |world: &World, flags| {
            let packet = tcp(way(POD_REMOTE, POD_A), 8080, 4000, flags);
            world.overlay(ID_REMOTE, NODE_REMOTE, packet)
        };
        for flags in [SYN, ACK] {
            assert_eq!(send(&world, VIP, 80, flags).step, Step::Tunnel);
            assert_eq!(answer(&world, flags | ACK).step, Step::Deliver);
        }
        remove(&mut world, POD_REMOTE);
        assert_eq!(send(&world, VIP, 80, ACK).step, Step::Deliver);
        let closed = flow_flags::TX_CLOSING | flow_flags::RX_CLOSING;
        let short = world.now.get() + 10;
        for flow in world.flows.borrow().values().map(FlowRef::get) {
            assert_eq!((flow.flags & closed, flow.expires), (closed, short));
        }
        // The pod's port is free for a connection to the same pod without the service.
        assert_eq!(send(&world, POD_REMOTE, 8080, SYN).step, Step::Tunnel);
        let out = answer(&world, SYN_ACK);
        let want = tcp(way(POD_REMOTE, POD_A), 8080, 4000, SYN_ACK);
        assert_packet(&out.frame.bytes, &want);
    }
}

#[test]
fn a_service_that_is_gone_ends_its_connections() {
    let mut world = with(&[POD_REMOTE]);
    assert_eq!(
        world
            .send(IF_A, tcp(Ip::v4(POD_A, VIP), 4000, 80, SYN))
            .step,
        Step::Tunnel
    );
    assert_eq!(
        world.send(IF_A, udp(Ip::v4(POD_A, VIP), 4000, 80)).step,
        Step::Tunnel
    );
    remove(&mut world, POD_REMOTE);
    world.services.clear();
    let out = world.send(IF_A, tcp(Ip::v4(POD_A, VIP), 4000, 80, ACK));
    assert_eq!((out.step, out.frame.bytes[47]), (Step::Deliver, 4));
    let out = world.send(IF_A, udp(Ip::v4(POD_A, VIP), 4000, 80));
    assert_eq!(out.step, Step::Pass, "an address as any other");
    assert_packet(&out.frame.bytes, &udp(Ip::v4(POD_A, VIP), 4000, 80));
}

#[test]
fn what_is_no_service_or_was_opened_otherwise_is_left_to_the_stack() {
    let world = with(&[POD_REMOTE]);
    for packet in [
        tcp(Ip::v4(POD_A, VIP), 4000, 81, SYN),
        tcp(Ip::v4(POD_A, VIP), 4001, 80, ACK),
        seal(Ip::v4(POD_A, VIP).echo(true, 80)),
    ] {
        let out = world.send(IF_A, packet.clone());
        assert_eq!(out.step, Step::Pass);
        assert_packet(&out.frame.bytes, &packet);
    }
}

#[test]
fn a_flow_finds_the_service_that_comes_to_its_address() {
    let mut world = World::default();
    let packets = |flags| {
        [
            udp(Ip::v4(POD_A, VIP), 4000, 80),
            tcp(Ip::v4(POD_A, VIP), 4001, 80, flags),
        ]
    };
    for packet in packets(SYN) {
        assert_eq!(world.send(IF_A, packet).step, Step::Pass);
    }
    service(&mut world, &[POD_REMOTE], 0);
    world.bump_addr(VIP);
    for packet in packets(SYN) {
        assert_eq!(world.send(IF_A, packet).step, Step::Tunnel);
    }
}

#[test]
fn both_halves_live_and_end_together() {
    let world = with(&[POD_REMOTE]);
    let send = |flags| {
        world
            .send(IF_A, tcp(Ip::v4(POD_A, VIP), 4000, 80, flags))
            .step
    };
    let answer = |flags| {
        let packet = tcp(Ip::v4(POD_REMOTE, POD_A), 8080, 4000, flags);
        world.overlay(ID_REMOTE, NODE_REMOTE, packet).step
    };
    let halves = || {
        let service = world.entry(POD_A, VIP, 4000, 80).expect("the pod's half");
        let backend = world
            .entry(POD_A, POD_REMOTE, 4000, 8080)
            .expect("the other half");
        assert_eq!(
            service.flags ^ backend.flags,
            flow_flags::SERVICE | flow_flags::BACKEND
        );
        assert_eq!(service.expires, backend.expires);
        assert_eq!(
            (service.tx_flags, service.rx_flags),
            (backend.tx_flags, backend.rx_flags)
        );
        (service.flags, service.expires)
    };
    assert_eq!(
        (send(SYN), answer(SYN_ACK), send(ACK)),
        (Step::Tunnel, Step::Deliver, Step::Tunnel)
    );
    let (_, open) = halves();
    // One side alone keeps the whole.
    for _ in 0..3 {
        world.now.set(world.now.get() + 7000);
        assert_eq!(answer(ACK), Step::Deliver);
        halves();
    }
    assert!(halves().1 > open);
    assert_eq!(
        (send(FIN_ACK), answer(FIN_ACK), send(ACK)),
        (Step::Tunnel, Step::Deliver, Step::Tunnel)
    );
    let (flags, expires) = halves();
    let closed = flow_flags::TX_CLOSING | flow_flags::RX_CLOSING;
    assert_eq!((flags & closed, expires), (closed, world.now.get() + 10));
}

#[test]
fn flows_whose_answers_could_be_mistaken_are_not_opened() {
    let world = with(&[POD_REMOTE]);
    let direct = || udp(Ip::v4(POD_A, POD_REMOTE), 4000, 8080);
    let through = || udp(Ip::v4(POD_A, VIP), 4000, 80);
    assert_eq!(world.send(IF_A, direct()).step, Step::Tunnel);
    let out = world.send(IF_A, through());
    assert_eq!(out.reason(), Some(DropReason::FlowTableFull as u8));
    assert_eq!(out.work.report.ext as i8, ExtError::PortInUse as i8);
    let answer = || udp(Ip::v4(POD_REMOTE, POD_A), 8080, 4000);
    let out = world.overlay(ID_REMOTE, NODE_REMOTE, answer());
    assert_packet(&out.frame.bytes, &answer());

    // The other way round the service's flow stays, and what the pod sends by itself is judged alone.
    let world = with(&[POD_REMOTE]);
    assert_eq!(world.send(IF_A, through()).step, Step::Tunnel);
    let out = world.send(IF_A, direct());
    assert_eq!(out.step, Step::Tunnel);
    assert_packet(&out.frame.bytes, &direct());
    let out = world.overlay(ID_REMOTE, NODE_REMOTE, answer());
    assert_packet(&out.frame.bytes, &udp(Ip::v4(VIP, POD_A), 80, 4000));

    // With several backends another one is found.
    let world = with(&[POD_REMOTE, POD_NEAR]);
    for backend in [POD_REMOTE, POD_NEAR] {
        let world = &world;
        let _ = world.send(IF_A, udp(Ip::v4(POD_A, backend), 4000, 8080));
        world.dice.set(0);
        let out = world.send(IF_A, through());
        if backend == POD_REMOTE {
            assert_eq!(out.work.report.tunnel.remote, Addr::v4(NODE_NEAR));
        }
    }
}

#[test]
fn a_full_table_opens_no_half_of_a_flow() {
    let mut world = with(&[POD_REMOTE]);
    world.flow_room = 0;
    let packet = || tcp(Ip::v4(POD_A, VIP), 4000, 80, SYN);
    assert_eq!(
        world.send(IF_A, packet()).reason(),
        Some(DropReason::FlowTableFull as u8)
    );
    world.flow_room = 1;
    assert_eq!(
        world.send(IF_A, packet()).reason(),
        Some(DropReason::FlowTableFull as u8)
    );
    world.flow_room = 2;
    assert_eq!(world.send(IF_A, packet()).step, Step::Tunnel);
}

#[test]
fn an_attempt_whose_backend_went_finds_another() {
    for way in WAYS {
        let mut world = with(&[POD_REMOTE]);
        let attempt = |world: &World| world.send(IF_A, tcp(way(POD_A, VIP), 4000, 80, SYN));
        assert_eq!(attempt(&world).step, Step::Tunnel);
        remove(&mut world, POD_REMOTE);
        assert_eq!(
            attempt(&world).work.report.reason,
            DropReason::NoBackend as u8
        );
        service(&mut world, &[POD_NEAR], 0);
        let out = attempt(&world);
        assert_eq!(out.step, Step::Tunnel);
        assert_eq!(out.work.report.tunnel.remote, Addr::v4(NODE_NEAR));
        world.services.clear();
        world.members.clear();
        world.bump(1);
        assert_eq!(attempt(&world).step, Step::Pass, "an address as any other");
    }
}
