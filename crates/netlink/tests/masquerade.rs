// SPDX-License-Identifier: Apache-2.0
//! The table really translates: a pod, a router with the table, and a world that sees the source (needs
//! root).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use common::namespace;
use netlink::nft::{DevicePattern, Mark, Masquerade, Nft, TableSpec, TunnelSpec};
use netlink::{Dad, NetNs, Route, Scope, Socket, VethEnd, VethSpec, sysctl};

const TABLE: &str = "own";

struct Lab {
    pod: NetNs,
    router: NetNs,
    world: NetNs,
}

fn wire(a: &NetNs, b: &NetNs, names: [&str; 2], addresses: [[&str; 2]; 2]) {
    let near = VethEnd::new(names[0]);
    let far = VethEnd::new(names[1]).in_netns(b);
    Socket::open_in(a)
        .unwrap()
        .add_veth(&VethSpec {
            near,
            far,
            mtu: None,
        })
        .unwrap();
    for (ns, name, addresses) in [(a, names[0], addresses[0]), (b, names[1], addresses[1])] {
        let socket = Socket::open_in(ns).unwrap();
        let link = socket.index_of(name).unwrap();
        for address in addresses {
            let net = address.parse().unwrap();
            socket
                .ensure_address(link, net, Scope::Global, Dad::Skip)
                .unwrap();
        }
        socket.set_up(link).unwrap();
    }
}

fn lab() -> Lab {
    let lab = Lab {
        pod: namespace(),
        router: namespace(),
        world: namespace(),
    };
    let switches = [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
    ];
    sysctl::write_in(&lab.router, &switches).unwrap();
    let (pods, outside) = (
        ["10.1.1.1/24", "fd01::1/64"],
        ["192.0.2.1/24", "fd02::1/64"],
    );
    wire(
        &lab.pod,
        &lab.router,
        ["eth0", "pod0"],
        [["10.1.1.7/24", "fd01::7/64"], pods],
    );
    wire(
        &lab.world,
        &lab.router,
        ["eth0", "out0"],
        [["192.0.2.9/24", "fd02::9/64"], outside],
    );
    for (ns, gateways) in [
        (&lab.pod, ["10.1.1.1", "fd01::1"]),
        (&lab.world, ["192.0.2.1", "fd02::1"]),
    ] {
        let socket = Socket::open_in(ns).unwrap();
        for gateway in gateways {
            socket
                .ensure_route(&Route::default_via(gateway.parse().unwrap()))
                .unwrap();
        }
    }
    lab
}

impl Lab {
    /// The source that the world sees of a datagram from the pod; the answer must come back.
    fn seen(&self, family: &str) -> IpAddr {
        let (local, remote) = match family {
            "v4" => ("10.1.1.7", "192.0.2.9"),
            _ => ("fd01::7", "fd02::9"),
        };
        let bind = |ns: &NetNs, ip: &str| {
            let address = SocketAddr::new(ip.parse().unwrap(), 0);
            let socket = ns.run(|| UdpSocket::bind(address).unwrap()).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            socket
        };
        let (pod, world) = (bind(&self.pod, local), bind(&self.world, remote));
        let mut buffer = [0; 16];
        pod.send_to(b"ping", world.local_addr().unwrap()).unwrap();
        let (_, source) = world.recv_from(&mut buffer).unwrap();
        world.send_to(b"pong", source).unwrap();
        let (_, from) = pod.recv_from(&mut buffer).unwrap();
        assert_eq!(from, world.local_addr().unwrap());
        source.ip()
    }
}

#[test]
fn table_masquerades_with_exceptions() {
    let lab = lab();
    let nft = Nft::open_in(&lab.router).unwrap();
    let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
    let both = || [lab.seen("v4"), lab.seen("v6")];
    let plain = [ip("10.1.1.7"), ip("fd01::7")];
    let translated = [ip("192.0.2.1"), ip("fd02::1")];
    assert_eq!(both(), plain);
    assert_eq!(nft.read_table(TABLE).unwrap(), None);

    let mut spec = TableSpec {
        name: TABLE.into(),
        masquerade: Masquerade {
            sources: vec!["10.1.1.0/24".parse().unwrap(), "fd01::/64".parse().unwrap()],
            inputs: Vec::new(),
            except_destinations: vec!["10.0.0.0/8".parse().unwrap(), "fd03::/16".parse().unwrap()],
            except_outputs: vec![DevicePattern::Prefix("pod".into())],
            except_marks: vec![Mark {
                value: 0x200,
                mask: 0xf00,
            }],
        },
    };
    nft.ensure_table(&spec).unwrap();
    nft.ensure_table(&spec).unwrap();
    assert_eq!(both(), translated);
    let state = nft.read_table(TABLE).unwrap().unwrap();
    assert_eq!(state.chains.len(), 1);
    let chain = &state.chains[0];
    assert_eq!(
        (chain.name.as_str(), chain.rules, chain.packets),
        ("postrouting", 6, 2)
    );

    let world = vec![
        "192.0.2.0/24".parse().unwrap(),
        "fd02::9/128".parse().unwrap(),
    ];
    spec.masquerade.except_destinations = world;
    nft.ensure_table(&spec).unwrap();
    assert_eq!(both(), plain);

    spec.masquerade.except_destinations.clear();
    for pattern in [
        DevicePattern::Prefix("ou".into()),
        DevicePattern::Exact("out0".into()),
    ] {
        spec.masquerade.except_outputs = vec![pattern];
        nft.ensure_table(&spec).unwrap();
        assert_eq!(both(), plain);
    }
    spec.masquerade.except_outputs = vec![DevicePattern::Exact("ou".into())];
    spec.masquerade.except_marks.clear();
    nft.ensure_table(&spec).unwrap();
    assert_eq!(both(), translated);

    spec.masquerade.except_marks = vec![Mark {
        value: 0,
        mask: 0xf00,
    }];
    nft.ensure_table(&spec).unwrap();
    assert_eq!(both(), plain);

    // By the device that they come by, whatever their addresses, and one family only.
    spec.masquerade = Masquerade {
        inputs: vec![(DevicePattern::Prefix("pod".into()), "::/0".parse().unwrap())],
        ..Masquerade::default()
    };
    nft.ensure_table(&spec).unwrap();
    assert_eq!(both(), [plain[0], translated[1]]);
    spec.masquerade.inputs[0].0 = DevicePattern::Exact("out0".into());
    nft.ensure_table(&spec).unwrap();
    assert_eq!(both(), plain);

    nft.delete_table(TABLE).unwrap();
    nft.delete_table(TABLE).unwrap();
    assert_eq!(nft.read_table(TABLE).unwrap(), None);
    assert_eq!(both(), plain);
}

#[test]
fn tunnels_that_end_here_are_not_tracked() {
    let lab = lab();
    let nft = Nft::open_in(&lab.router).unwrap();
    let spec = TableSpec {
        name: TABLE.into(),
        masquerade: Masquerade {
            sources: vec!["10.1.1.0/24".parse().unwrap()],
            ..Masquerade::default()
        },
    };
    nft.ensure_table(&spec).unwrap();
    let mut untracked = TunnelSpec {
        name: "own-raw".into(),
        tunnels: vec!["192.0.2.1:8472".parse().unwrap()],
    };
    nft.ensure_tunnels(&untracked).unwrap();
    nft.ensure_tunnels(&untracked).unwrap();
    // What cannot be made leaves both tables as they are.
    untracked.tunnels = vec![untracked.tunnels[0]; 1000];
    assert!(nft.ensure_tunnels(&untracked).is_err());
    assert_eq!(nft.read_table("own-raw").unwrap().unwrap().chains.len(), 4);
    assert_eq!(nft.read_table(TABLE).unwrap().unwrap().chains.len(), 1);
    let bind = |ns: &NetNs, address: &str| {
        let socket = ns.run(|| UdpSocket::bind(address).unwrap()).unwrap();
        let limit = Some(Duration::from_secs(5));
        socket.set_read_timeout(limit).unwrap();
        socket
    };
    let tracked = || -> u32 {
        let path = "/proc/sys/net/netfilter/nf_conntrack_count";
        let text = lab.router.run(|| std::fs::read_to_string(path).unwrap());
        text.unwrap().trim().parse().unwrap()
    };
    let world = bind(&lab.world, "192.0.2.9:8472");
    let mut buffer = [0; 16];
    for (port, entries) in [(8472, 0), (8473, 2)] {
        let before = tracked();
        let own = bind(&lab.router, &format!("192.0.2.1:{port}"));
        let far = bind(&lab.world, &format!("192.0.2.9:{}", port + 100));
        far.send_to(b"in", own.local_addr().unwrap()).unwrap();
        own.recv_from(&mut buffer).unwrap();
        let end = bind(&lab.world, &format!("192.0.2.9:{}", port + 1000));
        let to = if port == 8472 { &world } else { &end };
        own.send_to(b"out", to.local_addr().unwrap()).unwrap();
        to.recv_from(&mut buffer).unwrap();
        assert_eq!(tracked() - before, entries, "port {port}");
    }
    // Others' tunnels are translated as ever.
    let pod = bind(&lab.pod, "10.1.1.7:0");
    pod.send_to(b"through", "192.0.2.9:8472").unwrap();
    let (_, source) = world.recv_from(&mut buffer).unwrap();
    assert_eq!(source.ip().to_string(), "192.0.2.1");
}

#[test]
fn nothing_is_translated_to_a_tunnel() {
    let lab = lab();
    let nft = Nft::open_in(&lab.router).unwrap();
    let tunnels = TunnelSpec {
        name: "own-raw".into(),
        tunnels: vec!["192.0.2.1:8472".parse().unwrap()],
    };
    let rules = "table ip others { chain services { type nat hook prerouting priority dstnat; \
                 udp dport 1 dnat to 192.0.2.9:8472; udp dport 2 dnat to 192.0.2.1:8472; \
                 udp dport 3 dnat to 192.0.2.9:8473; udp dport 4 dnat to 192.0.2.1:8473; }\n}";
    let made = lab
        .router
        .run(|| std::process::Command::new("nft").arg(rules).status());
    assert!(made.unwrap().unwrap().success());
    let bind = |ns: &NetNs, address: &str| ns.run(|| UdpSocket::bind(address).unwrap()).unwrap();
    // Each service's port, and who is behind it.
    let behind = [
        (1, bind(&lab.world, "192.0.2.9:8472")),
        (2, bind(&lab.router, "192.0.2.1:8472")),
        (3, bind(&lab.world, "192.0.2.9:8473")),
        (4, bind(&lab.router, "192.0.2.1:8473")),
    ];
    let reached = || -> Vec<u16> {
        let pod = bind(&lab.pod, "10.1.1.7:0");
        let mut buffer = [0; 16];
        let asked = behind.iter().filter(|(port, socket)| {
            pod.send_to(b"in", ("10.1.1.1", *port)).unwrap();
            let limit = Some(Duration::from_millis(300));
            socket.set_read_timeout(limit).unwrap();
            socket.recv_from(&mut buffer).is_ok()
        });
        asked.map(|(port, _)| *port).collect()
    };
    assert_eq!(reached(), [1, 2, 3, 4]);
    nft.ensure_tunnels(&tunnels).unwrap();
    assert_eq!(reached(), [3, 4]);
}
