// SPDX-License-Identifier: Apache-2.0
//! Packets of unusual shapes: too large, in pieces, with extension headers, at the end of their life, of
//! protocols that nobody tracks; and the neighbours that a pod asks for.

mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use support::raw::{GRE, Packet};
use support::{address, dropped, echoes, node, pings, place, socket, start};
use testbed::{Family, Lab, eventually};

#[test]
fn packets_of_all_shapes() {
    let lab = start("shapes", 1, &[]);
    for family in Family::BOTH {
        datagrams_in_pieces(&lab, family);
        unknown_protocols(&lab, family);
        closed_ports_say_so(&lab, family);
        a_pod_with_a_larger_mtu_learns(&lab, family);
        the_end_of_life(&lab, family);
        a_stream_stays_in_large_pieces(&lab, family);
    }
    extension_headers(&lab);
    neighbours_are_answered(&lab);
}

fn datagrams_in_pieces(lab: &Lab, family: Family) {
    for (from, to) in [("cluster5/a", "cluster7/c"), ("cluster7/c", "cluster5/a")] {
        let (from, to) = (place(lab, from), address(lab, to, family));
        for size in [64, 4000, 20_000] {
            eventually(
                format!("{size} bytes to {to}"),
                Duration::from_secs(3),
                || echoes(&from, to, size),
            )
            .expect("they come back");
        }
    }
}

fn unknown_protocols(lab: &Lab, family: Family) {
    let monitor = node(lab, "cluster5", 1).monitor().expect("a monitor");
    let (from, to) = (
        address(lab, "cluster5/a", family),
        address(lab, "cluster7/c", family),
    );
    let packet = Packet {
        from,
        to,
        protocol: GRE,
        ttl: 64,
        transport: vec![0; 32],
    };
    dropped(&monitor, "CT: Unknown L4 protocol", from, || {
        packet.send(&place(lab, "cluster5/a"));
    });
}

fn closed_ports_say_so(lab: &Lab, family: Family) {
    for to in ["cluster5/b", "cluster7/c"] {
        let socket = socket(&place(lab, "cluster5/a"), family, 0);
        socket
            .connect((address(lab, to, family), 5))
            .expect("connected");
        socket.send(b"anyone?").expect("sent");
        let error = socket.recv(&mut [0; 10]).expect_err("nobody listens");
        assert_eq!(
            error.kind(),
            std::io::ErrorKind::ConnectionRefused,
            "{to} over {family}"
        );
    }
}

fn a_pod_with_a_larger_mtu_learns(lab: &Lab, family: Family) {
    let (pod, to) = (place(lab, "cluster5/a"), address(lab, "cluster7/c", family));
    let word = if family == Family::V4 { "-4" } else { "-6" };
    let routes = pod
        .run("ip", &[word, "route", "show", "default"])
        .expect("listed");
    let raised = routes
        .split(" mtu ")
        .next()
        .expect("split has a first part")
        .trim()
        .to_owned();
    let device = pod.run("ip", &["link", "show", "eth0"]).expect("listed");
    assert!(
        device.contains("mtu 1500") && routes.contains("mtu 1450"),
        "{device}{routes}"
    );
    pod.run(
        "ip",
        &[
            &[word, "route", "replace"],
            &*raised.split_whitespace().collect::<Vec<_>>(),
        ]
        .concat(),
    )
    .expect("replaced");
    let size = if family == Family::V4 { "1472" } else { "1452" };
    // The first is answered with an error, from which the kernel learns.
    let refused = pings(&pod, to, &["-s", size, "-M", "do"]).expect_err("too large");
    let learned = pod
        .run("ip", &["route", "get", &to.to_string()])
        .expect("listed");
    assert!(learned.contains("mtu 1450"), "{refused}\n{learned}");
    stream(&pod, to, 200_000);
}

/// Sends bytes to the echo service over TCP and reads them back.
fn stream(pod: &testbed::Place, to: IpAddr, size: usize) {
    let target = SocketAddr::new(to, testbed::serve::ECHO_PORT);
    let limit = Duration::from_secs(5);
    let connection = pod.within(|| TcpStream::connect_timeout(&target, limit));
    let mut connection = connection.expect("a namespace").expect("connected");
    connection.set_read_timeout(Some(limit)).expect("set");
    let mut writer = connection.try_clone().expect("cloned");
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(&vec![7; size]).expect("written"));
        let mut back = vec![0; size];
        connection.read_exact(&mut back).expect("it comes back");
    });
}

fn the_end_of_life(lab: &Lab, family: Family) {
    let pod = place(lab, "cluster5/a");
    for near_and_far in ["cluster5/b", "cluster7/c"] {
        let to = address(lab, near_and_far, family);
        let error = pings(&pod, to, &["-t", "1"])
            .expect_err("no answer")
            .to_string();
        assert_eq!(
            error.contains("Time exceeded") || error.contains("Hop limit"),
            family == Family::V6,
            "silent for IPv4, named for IPv6: {error}"
        );
        pings(&pod, to, &["-t", "2"]).expect("two hops are enough");
    }
}

fn a_stream_stays_in_large_pieces(lab: &Lab, family: Family) {
    let (pod, to) = (place(lab, "cluster5/a"), address(lab, "cluster7/c", family));
    let near = node(lab, "cluster5", 1);
    let sent = || -> u64 {
        let statistics = near
            .place
            .run("ip", &["-s", "-j", "link", "show", "type", "vxlan"])
            .expect("listed");
        let devices: serde_json::Value = serde_json::from_str(&statistics).expect("JSON");
        devices[0]["stats64"]["tx"]["packets"]
            .as_u64()
            .expect("a count")
    };
    const SIZE: usize = 20_000_000;
    let before = sent();
    stream(&pod, to, SIZE);
    let packets = usize::try_from(sent() - before).expect("a small count");
    assert!(
        packets < SIZE / 1400 / 2,
        "{packets} packets for {SIZE} bytes over {family}"
    );
}

fn extension_headers(lab: &Lab) {
    let (from, to) = (
        address(lab, "cluster5/a", Family::V6),
        address(lab, "cluster7/c", Family::V6),
    );
    let server = socket(&place(lab, "cluster7/c"), Family::V6, 7777);
    let padding = |next| [next, 0, 1, 4, 0, 0, 0, 0];
    let chains: [(u8, Vec<u8>); 3] = [
        (0, padding(17).to_vec()),
        (60, padding(17).to_vec()),
        (0, [padding(60), padding(17)].concat()),
    ];
    for (first, headers) in chains {
        let packet = Packet::udp(
            SocketAddr::new(from, 1234),
            SocketAddr::new(to, 7777),
            b"extended",
        );
        packet
            .extended(first, &headers)
            .send(&place(lab, "cluster5/a"));
        let length = server.recv(&mut [0; 100]).expect("it arrives");
        assert_eq!(length, 8, "headers {headers:?}");
    }
}

fn neighbours_are_answered(lab: &Lab) {
    let pod = place(lab, "cluster5/a");
    let router: String = pod
        .run("ip", &["-6", "route", "show", "default"])
        .expect("listed");
    let router = router.split_whitespace().nth(2).expect("a gateway");
    pings(&pod, router.parse().expect("an address"), &[]).expect("the gateway answers");
    pod.ip("route add 203.0.113.77/32 dev eth0 scope link")
        .expect("a route");
    eventually(
        "ARP for any address is answered",
        Duration::from_secs(3),
        || {
            // Nobody has the address: only its link address is asked for.
            let _silent = pings(&pod, [203, 0, 113, 77].into(), &[]);
            let neighbours = pod.run("ip", &["neigh", "show", "203.0.113.77"])?;
            if neighbours.contains("lladdr") {
                Ok(())
            } else {
                Err(testbed::LabError::Unmet(neighbours))
            }
        },
    )
    .expect("answered");
}
