// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Outer headers, byte by byte.

mod common;

use abi::Addr;
use common::frames::{Ip, checksum};
use common::*;
use fastpath::{Inner, OUTER_LEN, Outer, Tunnel, outer, source_port};
use zerocopy::IntoBytes;

const ETH_LEN: usize = 14;

fn tunnel() -> Tunnel {
    Tunnel {
        identity: 0x05_03e9,
        local: Addr::v4(NODE),
        remote: Addr::v4(NODE_REMOTE),
    }
}

/// What is before the inner network header, for a frame whose length is said to be `len`.
fn headers(frame: &[u8], len: usize) -> Option<Vec<u8>> {
    let frame = Frame {
        bytes: frame.to_vec(),
        ..Frame::default()
    };
    let inner = Inner::read(&frame).expect("a whole header");
    let outer = outer(
        &inner,
        Outer {
            tunnel: &tunnel(),
            port: 8472,
            len: len as u32,
            hash: 0x1234_5678,
            id: 0xbeef,
        },
    );
    outer.map(|words| words.as_bytes().to_vec())
}

#[test]
fn every_field_is_where_a_receiver_looks_for_it() {
    for ip in [
        Ip::v4(POD_A, POD_REMOTE),
        Ip::v6(six(POD_A), six(POD_REMOTE)),
    ] {
        let frame = ip.tcp(9, 80, 2);
        let out = headers(&frame, frame.len()).expect("short enough");
        assert_eq!(out.len(), ETH_LEN + OUTER_LEN as usize);
        let number = |at: usize| usize::from(u16::from_be_bytes([out[at], out[at + 1]]));
        assert_eq!(out[..12], [0; 12], "the outer MACs");
        assert_eq!(number(12), 0x0800);
        assert_eq!(out[14..16], [0x45, 0]);
        assert_eq!(number(16), frame.len() + 36, "IPv4 length");
        assert_eq!(number(18), 0xbeef, "identification");
        assert_eq!(number(20), 0, "neither a fragment nor forbidden to be one");
        assert_eq!(out[22..24], [64, 17]);
        assert_eq!(checksum(0, &out[14..34]), 0, "IPv4 checksum");
        assert_eq!(out[26..30], NODE);
        assert_eq!(out[30..34], NODE_REMOTE);
        assert_eq!(number(34), usize::from(source_port(0x1234_5678)));
        assert_eq!(number(36), 8472);
        assert_eq!(number(38), frame.len() + 16, "UDP length");
        assert_eq!(number(40), 0, "no UDP checksum");
        assert_eq!(out[42..46], [8, 0, 0, 0], "VXLAN flags");
        assert_eq!(out[46..50], [0x05, 0x03, 0xe9, 0], "VNI");
        assert_eq!(out[50..], frame[..ETH_LEN], "the inner Ethernet header");
    }
}

#[test]
fn congestion_is_told_as_the_kernel_tells_it() {
    for (inside, outside) in [(0, 0), (1, 1), (2, 2), (3, 2)] {
        let mut v4 = Ip::v4(POD_A, POD_REMOTE).tcp(9, 80, 2);
        v4[15] = 0xb8 | inside;
        let mut v6 = Ip::v6(six(POD_A), six(POD_REMOTE)).tcp(9, 80, 2);
        v6[14] = 0x6b;
        v6[15] = 0x80 | inside << 4;
        for frame in [v4, v6] {
            let out = headers(&frame, frame.len()).expect("short enough");
            assert_eq!(out[15], outside);
            assert_eq!(checksum(0, &out[14..34]), 0);
        }
    }
}

#[test]
fn what_is_longer_than_an_ipv4_packet_has_no_headers() {
    let frame = Ip::v4(POD_A, POD_REMOTE).tcp(9, 80, 2);
    let longest = 0xffff - 36;
    let out = headers(&frame, longest).expect("fits");
    assert_eq!(out[16..18], [0xff, 0xff]);
    assert_eq!(headers(&frame, longest + 1), None);
}

#[test]
fn ports_spread_over_the_range() {
    assert_eq!(source_port(0), 32768);
    let ports = (0..=u32::MAX)
        .step_by(0x000f_4243)
        .map(source_port)
        .collect::<Vec<_>>();
    assert!(ports.iter().all(|port| (32768..60999).contains(port)));
    let distinct = ports.iter().collect::<std::collections::HashSet<_>>();
    assert!(
        distinct.len() > 3500,
        "{} of {}",
        distinct.len(),
        ports.len()
    );
}
