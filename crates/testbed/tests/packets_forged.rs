// SPDX-License-Identifier: Apache-2.0
//! Packets that lie about who sent them: from pods, from hosts on the wire, and from nodes of other clusters.

mod support;

use std::net::{IpAddr, SocketAddr, SocketAddrV4, UdpSocket};

use support::raw::Packet;
use support::{SILENCE, SPREAD, address, dropped, node, place, run, socket, start};
use testbed::fault::{Forged, Intruder};
use testbed::{Family, Lab, Place, eventually};

/// Where a pod under attack listens.
const PORT: u16 = 7777;
/// What the VXLAN device listens to.
const VXLAN: u16 = 8472;
/// An identity of cluster5 that nobody has.
const CLAIMED: u32 = 5 * 65_536 + 900;

#[test]
fn forgeries_are_dropped_and_named() {
    let mut lab = start("forged", 1, &[]);
    run(&mut lab, "cluster5", "d", "node1");
    for family in Family::BOTH {
        pods_send_only_with_their_own_address(&lab, family);
        pod_addresses_do_not_come_by_the_wire(&lab, family);
        a_node_speaks_for_its_own_cluster_only(&lab, family);
        pods_do_not_speak_in_the_tunnel(&lab, family);
    }
    strangers_speak_for_nobody(&lab);
    an_established_flow_cannot_be_joined(&lab);
}

fn catcher(lab: &Lab, pod: &str, family: Family) -> UdpSocket {
    let socket = socket(&place(lab, pod), family, PORT);
    socket.set_read_timeout(Some(SILENCE)).expect("set");
    socket
}

fn nothing_came(catcher: &UdpSocket, what: &str) {
    let mut buffer = [0; 100];
    assert!(catcher.recv(&mut buffer).is_err(), "{what} arrived");
}

fn pods_send_only_with_their_own_address(lab: &Lab, family: Family) {
    let attacker = place(lab, "cluster5/a");
    let stranger: IpAddr = match family {
        Family::V4 => [192, 0, 2, 66].into(),
        Family::V6 => "2001:db8:66::66".parse().expect("literal"),
    };
    let neighbour = address(lab, "cluster5/d", family);
    let monitor = node(lab, "cluster5", 1).monitor().expect("a monitor");
    for victim in ["cluster5/d", "cluster7/c"] {
        let to = SocketAddr::new(address(lab, victim, family), PORT);
        let catcher = catcher(lab, victim, family);
        for from in [stranger, neighbour, address(lab, "cluster7/c", family)] {
            let packet = Packet::udp(SocketAddr::new(from, 1234), to, b"forged");
            dropped(&monitor, "Invalid source ip", from, || {
                packet.send(&attacker)
            });
        }
        nothing_came(&catcher, "a pod's forgery");
    }
}

fn pod_addresses_do_not_come_by_the_wire(lab: &Lab, family: Family) {
    let (own, other) = (node(lab, "cluster5", 1), node(lab, "cluster7", 1));
    let from = address(lab, "cluster7/c", family);
    let to = address(lab, "cluster5/a", family);
    let via = support::node_address(own, family);
    // A host route around the tunnel, more specific than the product's.
    let bare = Intruder::create(&lab.underlay, if family == Family::V4 { 2 } else { 3 })
        .expect("an intruder");
    let width = if family == Family::V4 { 32 } else { 128 };
    bare.place()
        .ip(&format!("route add {to}/{width} via {via}"))
        .expect("a route");
    let catcher = catcher(lab, "cluster5/a", family);
    let monitor = own.monitor().expect("a monitor");
    let packet = Packet::udp(
        SocketAddr::new(from, 1234),
        SocketAddr::new(to, PORT),
        b"bare",
    );
    let event = dropped(&monitor, "Invalid source ip", from, || {
        packet.send(bare.place())
    });
    assert_eq!(event["ExtError"], 3, "pod address from outside the tunnel");
    nothing_came(&catcher, "a bare packet");
    other.health().expect("nobody else is hurt");
}

/// Sends a VXLAN packet with a place's own outer source.
fn send_vxlan(from: &Place, to: IpAddr, packet: &Packet, vni: u32) {
    let frame = packet.in_vxlan(vni);
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let sent = from.within(|| UdpSocket::bind(any)?.send_to(&frame, (to, VXLAN)));
    sent.expect("a namespace").expect("sent");
}

/// What a pod sends to another node leaves with the address of its own node, which may speak for all its cluster.
fn pods_do_not_speak_in_the_tunnel(lab: &Lab, family: Family) {
    let (own, other) = (node(lab, "cluster5", 1), node(lab, "cluster7", 1));
    let attacker = place(lab, "cluster5/a");
    let to = SocketAddr::new(address(lab, "cluster7/c", Family::V4), PORT);
    let catcher = catcher(lab, "cluster7/c", Family::V4);
    let from = SocketAddr::new(address(lab, "cluster5/d", Family::V4), 1234);
    let packet = Packet::udp(from, to, b"tunnelled");
    let monitor = own.monitor().expect("a monitor");
    let reason = "Encapsulation traffic is prohibited";
    let source = address(lab, "cluster5/a", family);
    for node in [own, other] {
        let node = support::node_address(node, family);
        dropped(&monitor, reason, source, || {
            send_vxlan(&attacker, node, &packet, CLAIMED);
        });
    }
    nothing_came(&catcher, "a pod's tunnel packet");
}

fn a_node_speaks_for_its_own_cluster_only(lab: &Lab, family: Family) {
    let (own, liar) = (node(lab, "cluster5", 1), node(lab, "cluster7", 1));
    let from = address(lab, "cluster5/d", family);
    let to = SocketAddr::new(address(lab, "cluster5/a", family), PORT);
    let catcher = catcher(lab, "cluster5/a", family);
    let monitor = own.monitor().expect("a monitor");
    let packet = Packet::udp(SocketAddr::new(from, 1234), to, b"claimed");
    dropped(&monitor, "Unknown sender", from, || {
        send_vxlan(&liar.place, own.ipv4.into(), &packet, CLAIMED);
    });
    nothing_came(&catcher, "another cluster's identity");
    // With an identity of its own cluster, but an address of a pod here.
    dropped(&monitor, "Invalid source ip", from, || {
        send_vxlan(&liar.place, own.ipv4.into(), &packet, 7 * 65_536 + 900);
    });
    nothing_came(&catcher, "a local pod's address");
}

fn strangers_speak_for_nobody(lab: &Lab) {
    let own = node(lab, "cluster5", 1);
    let stranger = Intruder::create(&lab.underlay, 1).expect("an intruder");
    let catcher = catcher(lab, "cluster5/a", Family::V4);
    let to = SocketAddr::new(address(lab, "cluster5/a", Family::V4), PORT);
    for (number, vni, reason) in [
        (1, 7 * 65_536 + 900, "Unknown sender"),
        (2, 1, "Invalid identity"),
        (3, 2, "Unknown sender"),
        (4, 6, "Unknown sender"),
    ] {
        let from = IpAddr::from([192, 0, 2, number]);
        let packet = Packet::udp(SocketAddr::new(from, 1234), to, b"stranger");
        let monitor = own.monitor().expect("a monitor");
        dropped(&monitor, reason, from, || {
            send_vxlan(stranger.place(), own.ipv4.into(), &packet, vni);
        });
        nothing_came(&catcher, reason);
    }
}

/// The right inner addresses and ports do not help when VNI or outer source are wrong.
fn an_established_flow_cannot_be_joined(lab: &Lab) {
    let own = node(lab, "cluster5", 1);
    let (a, c) = (place(lab, "cluster5/a"), place(lab, "cluster7/c"));
    let (server, client) = (
        catcher(lab, "cluster5/a", Family::V4),
        socket(&c, Family::V4, 4321),
    );
    let target = SocketAddr::new(address(lab, "cluster5/a", Family::V4), PORT);
    let source = SocketAddr::new(address(lab, "cluster7/c", Family::V4), 4321);
    let exchange = |word: &[u8]| {
        client.send_to(word, target).expect("sent");
        let mut buffer = [0; 100];
        let (length, from) = server.recv_from(&mut buffer).expect("received");
        assert_eq!((&buffer[..length], from), (word, source));
        server.send_to(word, from).expect("answered");
        assert_eq!(client.recv(&mut buffer).expect("an answer"), word.len());
    };
    exchange(b"before");
    let (SocketAddr::V4(from), SocketAddr::V4(to)) = (source, target) else {
        panic!("IPv4")
    };
    let stranger = Intruder::create(&lab.underlay, 4).expect("an intruder");
    let row = own.cli(&["bpf", "ipcache", "list"]).expect("a table");
    let identity: u32 = row
        .lines()
        .find(|line| line.starts_with(&format!("{}/32", from.ip())))
        .and_then(|line| {
            line.split("identity=")
                .nth(1)?
                .split(' ')
                .next()?
                .parse()
                .ok()
        })
        .expect("the client's identity");
    let outer = "172.31.250.4".parse().expect("literal");
    forge(&stranger, own.ipv4, outer, identity, from, to);
    let liar = Packet::udp(source, target, b"forged");
    send_vxlan(
        &node(lab, "cluster7", 1).place,
        own.ipv4.into(),
        &liar,
        CLAIMED,
    );
    nothing_came(&server, "a forged packet of the flow");
    exchange(b"after");
    eventually("and others too", SPREAD, || {
        support::request(&a, address(lab, "cluster7/c", Family::V4))
    })
    .expect("an answer");
}

fn forge(
    stranger: &Intruder,
    to_node: std::net::Ipv4Addr,
    from_node: std::net::Ipv4Addr,
    identity: u32,
    from: SocketAddrV4,
    to: SocketAddrV4,
) {
    let forged = Forged {
        from_node,
        to_node,
        identity,
        from,
        to,
    };
    stranger.send(&forged, b"forged").expect("sent");
}
