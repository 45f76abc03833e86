// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Checksums of what services translate, whoever is to finish them.

mod common;

use common::frames::{Ip, half_seal, is_sound, seal};
use common::services::*;
use common::*;
use fastpath::Step;

const SYN: u8 = 2;

/// How much of the checksum there is.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    /// All.
    Finished,
    /// All, and a device supplied the sum of the whole packet. No pod's does.
    Supplied,
    /// The pseudo header.
    Partial,
    /// The pseudo header, and segments are yet to be made.
    Segments,
}

impl Kind {
    fn frame(self, bytes: Vec<u8>) -> Frame {
        let partial = matches!(self, Kind::Partial | Kind::Segments);
        let bytes = if partial {
            half_seal(bytes)
        } else {
            seal(bytes)
        };
        let mut frame = Frame {
            bytes,
            partial,
            gso: if self == Kind::Segments { 4 } else { 0 },
            ifindex: IF_A,
            ..Frame::default()
        };
        frame.whole = (self == Kind::Supplied).then(|| frame.sum_of_all());
        frame
    }

    #[track_caller]
    fn check(self, frame: &Frame) {
        if frame.partial {
            assert_eq!(frame.bytes, half_seal(frame.bytes.clone()), "{self:?}");
        } else {
            assert!(is_sound(&frame.bytes), "{self:?} {:02x?}", frame.bytes);
        }
        if let Some(whole) = frame.whole {
            // Two zeros are one sum.
            assert_eq!(whole % 0xffff, frame.sum_of_all() % 0xffff, "{self:?}");
        }
    }
}

fn message(ip: &Ip, tcp: bool, ports: (u16, u16), payload: [u8; 2]) -> Vec<u8> {
    let mut frame = match tcp {
        true => ip.frame(6, &frames::tcp(ports.0, ports.1, SYN, 2)),
        false => ip.udp(ports.0, ports.1, 2),
    };
    let at = frame.len() - 2;
    frame[at..].copy_from_slice(&payload);
    frame
}

#[test]
fn every_kind_follows_there_and_back() {
    for (way, tcp) in WAYS.into_iter().flat_map(|way| [(way, true), (way, false)]) {
        let world = with(&[POD_REMOTE]);
        for kind in [
            Kind::Finished,
            Kind::Supplied,
            Kind::Partial,
            Kind::Segments,
        ] {
            for payload in (0..=u16::MAX).step_by(251) {
                let payload = payload.to_be_bytes();
                let there = message(&way(POD_A, VIP), tcp, (4000, 80), payload);
                let sent = match kind {
                    Kind::Supplied => Kind::Finished,
                    other => other,
                };
                let out = world.run_from_pod(sent.frame(there));
                assert_eq!(out.step, Step::Tunnel);
                sent.check(&out.frame);
                let back = message(&way(POD_REMOTE, POD_A), tcp, (8080, 4000), payload);
                let out = world.run_overlay(ID_REMOTE, NODE_REMOTE, kind.frame(back));
                assert_eq!(out.step, Step::Deliver);
                kind.check(&out.frame);
            }
        }
    }
}

/// What cannot be told from a checksum that somebody else finishes is finished all the same.
#[test]
fn a_finished_checksum_may_look_like_one_that_is_not() {
    for (way, tcp) in WAYS.into_iter().flat_map(|way| [(way, true), (way, false)]) {
        let world = with(&[POD_REMOTE]);
        let alike = (0..=u16::MAX).map(u16::to_be_bytes).find(|payload| {
            let frame = message(&way(POD_A, VIP), tcp, (4000, 80), *payload);
            seal(frame.clone()) == half_seal(frame)
        });
        let payload = alike.expect("one payload in 65,536");
        for kind in [Kind::Finished, Kind::Partial] {
            let there = message(&way(POD_A, VIP), tcp, (4000, 80), payload);
            let out = world.run_from_pod(kind.frame(there));
            assert_eq!(out.step, Step::Tunnel);
            kind.check(&out.frame);
        }
    }
}

/// A checksum of UDP that comes out as zero is written as the other zero, because zero says that there is none.
#[test]
fn no_datagram_loses_its_checksum() {
    let world = with(&[POD_REMOTE]);
    for payload in 0..=u16::MAX {
        let there = message(
            &Ip::v4(POD_A, VIP),
            false,
            (4000, 80),
            payload.to_be_bytes(),
        );
        let sealed = Kind::Finished.frame(there);
        if sealed.bytes[40..42] == [0, 0] {
            continue;
        }
        let out = world.run_from_pod(sealed);
        assert_ne!(out.frame.bytes[40..42], [0, 0], "payload {payload:04x}");
    }
}
