// SPDX-License-Identifier: Apache-2.0
//! Packets that go straight to the underlay: which do, what they look like, and that routes are followed.

use std::time::{Duration, Instant};

use abi::{Addr, config_flags};
use netlink::{Dad, LinkRef, Scope, Socket, VethEnd, VethSpec, sysctl};

use crate::frames::{Ip, checksum};
use crate::node::{
    ID_A, NODE, NODE_REMOTE, Node, POD_A, POD_REMOTE, REDIRECT, SYN, in_namespace, six,
};

/// Bytes that the outer headers add.
const OUTER: usize = 50;
/// Longer than the programs keep a route.
const SOON: Duration = Duration::from_secs(5);

/// An uplink that has the node's address, and reaches the other node directly.
struct Uplink {
    socket: Socket,
    index: u32,
}

impl Uplink {
    const NET: &str = "172.16.5.1/16";

    fn new() -> Uplink {
        sysctl::write("net/ipv4/ip_forward", "1").expect("a switch of this namespace");
        let socket = Socket::open().expect("a socket");
        let (near, far) = (VethEnd::new("uplink"), VethEnd::new("wire"));
        let wire = VethSpec {
            near,
            far,
            mtu: None,
        };
        socket.add_veth(&wire).expect("a pair");
        for name in ["uplink", "wire"] {
            socket.set_up(LinkRef::Name(name)).expect("a device");
        }
        let index = socket.index_of("uplink").expect("made");
        Uplink { socket, index }
    }

    fn connect(&self) {
        let net = Self::NET.parse().expect("an address");
        self.socket
            .ensure_address(self.index, net, Scope::Global, Dad::Skip)
            .expect("added");
    }

    fn disconnect(&self) {
        let net = Self::NET.parse().expect("an address");
        self.socket
            .delete_address(self.index, net)
            .expect("removed");
    }
}

fn node(flags: u32) -> Node {
    let mut node = Node::new();
    node.config.flags |= flags;
    node.set_config();
    node
}

/// Sends until packets leave with (`encapsulated`) or without outer headers.
fn until(node: &mut Node, frame: &[u8], encapsulated: bool) -> Vec<u8> {
    let expected = frame.len() + if encapsulated { OUTER } else { 0 };
    let begin = Instant::now();
    loop {
        let run = node.send(0, frame);
        assert_eq!(run.action, REDIRECT);
        if run.bytes.len() == expected {
            return run.bytes;
        }
        assert!(begin.elapsed() < SOON, "{} bytes", run.bytes.len());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn packets_leave_with_their_outer_headers_while_there_is_a_route() {
    in_namespace(|| {
        let uplink = Uplink::new();
        let mut node = node(config_flags::BYPASS_STACK);
        for ip in [
            Ip::v4(POD_A, POD_REMOTE),
            Ip::v6(six(POD_A), six(POD_REMOTE)),
        ] {
            let frame = ip.tcp(4000, 80, SYN);
            assert_eq!(until(&mut node, &frame, false), frame);
            uplink.connect();
            let out = until(&mut node, &frame, true);
            assert_eq!(out[14..16], [0x45, 0]);
            assert_eq!(checksum(0, &out[14..34]), 0);
            assert_eq!(out[26..30], NODE);
            assert_eq!(out[30..34], NODE_REMOTE);
            assert_eq!(out[36..38], 8472u16.to_be_bytes());
            assert_eq!(out[46..50], (ID_A << 8).to_be_bytes());
            assert_eq!(out[OUTER..], frame);
            uplink.disconnect();
        }
    });
}

#[test]
fn only_ways_that_lead_elsewhere_count() {
    in_namespace(|| {
        let uplink = Uplink::new();
        uplink.connect();
        let mut node = node(config_flags::BYPASS_STACK);
        let frame = Ip::v4(POD_A, POD_REMOTE).tcp(4000, 80, SYN);
        until(&mut node, &frame, true);
        // The other node's address is this host's now: the stack knows what that means.
        let own = Addr::v4(NODE_REMOTE);
        let net = format!("{}/32", std::net::Ipv4Addr::from(own.octets4()));
        let net = net.parse().expect("an address");
        uplink
            .socket
            .ensure_address(uplink.index, net, Scope::Global, Dad::Skip)
            .expect("added");
        assert_eq!(until(&mut node, &frame, false), frame);
    });
}

#[test]
fn a_narrow_way_is_left_to_the_stack() {
    in_namespace(|| {
        let uplink = Uplink::new();
        uplink.connect();
        let mut node = node(config_flags::BYPASS_STACK);
        let frame = Ip::v4(POD_A, POD_REMOTE).tcp(4000, 80, SYN);
        for (mtu, encapsulated) in [(1500, true), (1499, false), (9000, true)] {
            let index = LinkRef::Index(uplink.index);
            uplink.socket.set_mtu(index, mtu).expect("a device");
            until(&mut node, &frame, encapsulated);
        }
    });
}

#[test]
fn the_stack_can_be_asked_for() {
    in_namespace(|| {
        let uplink = Uplink::new();
        uplink.connect();
        let mut node = node(0);
        let frame = Ip::v4(POD_A, POD_REMOTE).tcp(4000, 80, SYN);
        for _ in 0..3 {
            assert_eq!(node.send(0, &frame).bytes, frame);
        }
    });
}
