// SPDX-License-Identifier: Apache-2.0
//! Nodes on the underlay: two interfaces, an address that changes, a node that nobody knows yet, and what the modes of
//! `outer-source-check` make of strangers.

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use support::raw::Packet;
use support::{
    SILENCE, SPREAD, address, dropped, echoes, node, place, reach, request, socket, start,
};
use testbed::fault::Intruder;
use testbed::{Family, Lab, Place, eventually};

/// What the VXLAN device listens to.
const VXLAN: u16 = 8472;
/// Where a pod listens.
const PORT: u16 = 7777;
/// How long a node whose address changed may be silent: its connections to the etcds died with the address, and a dead
/// connection is known for dead after 10 s.
const MOVE: Duration = Duration::from_secs(20);

#[test]
fn nodes_have_two_interfaces_and_move() {
    let lab = start("underlay", 1, &[]);
    the_published_address_is_the_source_whatever_the_way(&lab);
    a_node_with_another_address_is_followed(&lab);
    packets_before_the_nodes_key_are_dropped_and_named(&lab);
}

#[test]
fn audit_delivers_and_reports() {
    let lab = start("audit", 1, &["--outer-source-check=audit"]);
    let event = stranger(&lab, |own, provoke| {
        let monitor = own.monitor().expect("a monitor");
        dropped(&monitor, "Unknown sender", STRANGER_POD, provoke)
    });
    assert_eq!(event["isthmus"]["audit"], true, "{event}");
    reach(
        &place(&lab, "cluster5/a"),
        address(&lab, "cluster7/c", Family::V4),
    );
}

#[test]
fn off_trusts() {
    let lab = start("trusting", 1, &["--outer-source-check=off"]);
    stranger(&lab, |own, provoke| {
        let monitor = own.monitor().expect("a monitor");
        provoke();
        std::thread::sleep(SILENCE);
        assert_eq!(monitor.events(), Vec::<serde_json::Value>::new());
    });
}

const STRANGER_POD: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77));

/// A host of no cluster sends as a pod of cluster7; the packet arrives. `look` gets the receiving node and what makes the
/// stranger send.
fn stranger<T>(lab: &Lab, look: impl FnOnce(&testbed::Node, &mut dyn FnMut()) -> T) -> T {
    let own = node(lab, "cluster5", 1);
    let stranger = Intruder::create(&lab.underlay, 1).expect("an intruder");
    let catcher = socket(&place(lab, "cluster5/a"), Family::V4, PORT);
    let to = SocketAddr::new(address(lab, "cluster5/a", Family::V4), PORT);
    let target = (own.ipv4, VXLAN);
    let mut port = 1000;
    let mut send = || {
        // A flow is judged once, so only its first packet is reported: each try is a new flow.
        port += 1;
        let from = SocketAddr::new(STRANGER_POD, port);
        let frame = Packet::udp(from, to, b"stranger").in_vxlan(7 * 65_536 + 900);
        let sent = stranger
            .place()
            .within(|| UdpSocket::bind("0.0.0.0:0")?.send_to(&frame, target));
        sent.expect("a namespace").expect("sent");
    };
    let seen = look(own, &mut send);
    let mut buffer = [0; 100];
    let (length, from) = catcher.recv_from(&mut buffer).expect("the packet");
    assert_eq!(
        (&buffer[..length], from.ip()),
        (&b"stranger"[..], STRANGER_POD)
    );
    seen
}

fn everything_works(lab: &Lab) {
    for family in Family::BOTH {
        for (from, to) in [("cluster5/a", "cluster7/c"), ("cluster7/c", "cluster5/a")] {
            reach(&place(lab, from), address(lab, to, family));
        }
    }
}

fn received(place: &Place, device: &str) -> u64 {
    let text = place.run("cat", &["/proc/net/dev"]).expect("counters");
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with(&format!("{device}:")));
    let fields = line
        .and_then(|line| line.split_once(':'))
        .expect("the device")
        .1;
    fields
        .split_whitespace()
        .nth(1)
        .expect("packets")
        .parse()
        .expect("a number")
}

/// One way by the second interface, then both: peers see the published address, and nothing else is accepted.
fn the_published_address_is_the_source_whatever_the_way(lab: &Lab) {
    let (five, seven) = (node(lab, "cluster5", 1), node(lab, "cluster7", 1));
    let plug = |node: &testbed::Node, name: &str, host| {
        let end = lab.underlay.second_interface(&node.place, name, 1, host);
        end.expect("an interface")
    };
    let (second5, second7) = (plug(five, "five", 5), plug(seven, "seven", 7));
    five.place
        .ip(&format!(
            "route add {}/32 via {second7} dev eth1",
            seven.ipv4
        ))
        .expect("a route");
    everything_works(lab);
    assert!(
        received(&seven.place, "eth1") > 0,
        "the second interface carried it"
    );
    seven
        .place
        .ip(&format!(
            "route add {}/32 via {second5} dev eth1",
            five.ipv4
        ))
        .expect("a route");
    everything_works(lab);
    assert!(
        received(&five.place, "eth1") > 0,
        "the second interface carried it"
    );
    // The other addresses of the node are not published, and so no source of the tunnel.
    let from = address(lab, "cluster7/c", Family::V4);
    let to = SocketAddr::new(address(lab, "cluster5/a", Family::V4), PORT);
    let frame = Packet::udp(SocketAddr::new(from, 99), to, b"elsewhere").in_vxlan(7 * 65_536 + 900);
    let monitor = five.monitor().expect("a monitor");
    dropped(&monitor, "Unknown sender", from, || {
        let sent = seven
            .place
            .within(|| UdpSocket::bind((second7, 0))?.send_to(&frame, (second5, VXLAN)));
        sent.expect("a namespace").expect("sent");
    });
    for (node, peer) in [(five, seven), (seven, five)] {
        node.place
            .ip(&format!("route del {}/32 dev eth1", peer.ipv4))
            .expect("removed");
    }
    everything_works(lab);
}

fn change_address(node: &testbed::Node, from: Ipv4Addr, to: Ipv4Addr) {
    node.place
        .ip(&format!("addr del {from}/16 dev eth0\naddr add {to}/16 dev eth0\nroute replace default via 172.31.0.1"))
        .expect("changed");
}

/// The agent publishes the new address, peers follow, and the old one is worth nothing.
fn a_node_with_another_address_is_followed(lab: &Lab) {
    let (five, seven) = (node(lab, "cluster5", 1), node(lab, "cluster7", 1));
    let (a, c) = (place(lab, "cluster5/a"), place(lab, "cluster7/c"));
    let moved = Ipv4Addr::new(172, 31, 7, 77);
    let begun = Instant::now();
    change_address(seven, seven.ipv4, moved);
    for (from, to) in [(&a, "cluster7/c"), (&c, "cluster5/a")] {
        for family in Family::BOTH {
            let to = address(lab, to, family);
            eventually(format!("{to} after the move"), MOVE, || {
                echoes(from, to, 100)
            })
            .expect("an answer");
        }
    }
    println!(
        "a node with another address is reached after {:?}",
        begun.elapsed()
    );
    let listed = five.cli_text(&["node", "list"]);
    let line = listed
        .lines()
        .find(|line| line.starts_with(&seven.full_name()));
    assert!(
        line.is_some_and(|line| line.contains("172.31.7.77")),
        "{listed}"
    );
    let from = address(lab, "cluster7/c", Family::V4);
    let to = SocketAddr::new(address(lab, "cluster5/a", Family::V4), PORT);
    let impostor = Intruder::create(&lab.underlay, 2).expect("an intruder");
    let old = seven.ipv4;
    impostor
        .place()
        .ip(&format!("addr add {old}/16 dev eth0"))
        .expect("the old address");
    let frame = Packet::udp(SocketAddr::new(from, 99), to, b"old").in_vxlan(7 * 65_536 + 900);
    let monitor = five.monitor().expect("a monitor");
    dropped(&monitor, "Unknown sender", from, || {
        let sent = impostor
            .place()
            .within(|| UdpSocket::bind((old, 0))?.send_to(&frame, (five.ipv4, VXLAN)));
        sent.expect("a namespace").expect("sent");
    });
    impostor
        .place()
        .ip(&format!("addr del {old}/16 dev eth0"))
        .expect("removed");
    change_address(seven, moved, old);
    eventually("and back", MOVE, || {
        request(&a, address(lab, "cluster7/c", Family::V4))
    })
    .expect("an answer");
}

/// While its cluster's etcd stands still nobody hears of a node's new address: its packets are dropped by name, and pass
/// once its key is known.
fn packets_before_the_nodes_key_are_dropped_and_named(lab: &Lab) {
    let (five, seven) = (node(lab, "cluster5", 1), node(lab, "cluster7", 1));
    let etcd = &lab.cluster("cluster7").etcd;
    etcd.freeze(true).expect("frozen");
    let moved = Ipv4Addr::new(172, 31, 7, 78);
    change_address(seven, seven.ipv4, moved);
    let c = place(lab, "cluster7/c");
    let from = address(lab, "cluster7/c", Family::V4);
    let to = address(lab, "cluster5/a", Family::V4);
    let monitor = five.monitor().expect("a monitor");
    dropped(&monitor, "Unknown sender", from, || {
        let silent = echoes(&c, to, 10).is_err();
        assert!(silent, "an unknown node was let in");
    });
    etcd.freeze(false).expect("thawed");
    eventually("its key is known", MOVE + SPREAD, || echoes(&c, to, 10)).expect("an answer");
    change_address(seven, moved, seven.ipv4);
    eventually("and back", MOVE, || echoes(&c, to, 10)).expect("an answer");
}
