// SPDX-License-Identifier: Apache-2.0
//! Links, addresses, routes and neighbours against the running kernel (needs root).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::namespace;
use ipnet::IpNet;
use netlink::{
    Dad, Error, Mac, Monitor, NetNs, Notice, Route, RouteKind, Scope, Socket, VethEnd, VethSpec,
    VxlanSpec, sysctl,
};

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn veth_between_two_namespaces() {
    let (a, b) = (namespace(), namespace());
    let (in_a, in_b) = (Socket::open_in(&a).unwrap(), Socket::open_in(&b).unwrap());
    let near = Mac([2, 0, 0, 0, 0, 1]);
    let far = Mac([2, 0, 0, 0, 0, 2]);
    let spec = VethSpec {
        near: VethEnd::new("left").with_mac(near),
        far: VethEnd::new("right").with_mac(far).in_netns(&b),
        mtu: Some(1450),
    };
    in_a.add_veth(&spec).unwrap();
    let again = in_a.add_veth(&spec).unwrap_err();
    assert!(again.is_present(), "{again}");

    let left = in_a.link("left").unwrap().unwrap();
    assert_eq!(
        (left.mac, left.mtu, left.kind.as_str(), left.up),
        (Some(near), 1450, "veth", false)
    );
    let right = in_b.link("right").unwrap().unwrap();
    assert_eq!(
        (right.mac, right.mtu, left.parent),
        (Some(far), 1450, Some(right.index))
    );
    assert_eq!(in_a.link("right").unwrap(), None);

    in_b.rename("right", "eth0").unwrap();
    in_b.add_altname("eth0", "some-longer-name:eth0").unwrap();
    in_b.add_altname("eth0", "some-longer-name:eth0").unwrap();
    in_a.set_up("left").unwrap();
    in_b.set_up("eth0").unwrap();
    in_b.set_mtu("eth0", 1400).unwrap();
    let eth0 = in_b.link("eth0").unwrap().unwrap();
    assert!(eth0.up && eth0.carrier && eth0.mtu == 1400);
    assert_eq!(eth0.altnames, ["some-longer-name:eth0"]);

    in_a.delete_link("left").unwrap();
    in_a.delete_link("left").unwrap();
    assert_eq!(in_b.link("eth0").unwrap(), None);
}

#[test]
fn addresses_routes_and_neighbours_round_trip() {
    let ns = namespace();
    let socket = Socket::open_in(&ns).unwrap();
    socket
        .add_veth(&VethSpec {
            near: VethEnd::new("e0"),
            far: VethEnd::new("e1"),
            mtu: None,
        })
        .unwrap();
    socket.set_up("e0").unwrap();
    socket.set_up("e1").unwrap();
    let link = socket.index_of("e0").unwrap();

    for address in ["10.1.1.7/32", "fd00::7/128"] {
        for _ in 0..2 {
            socket
                .ensure_address(link, net(address), Scope::Global, Dad::Skip)
                .unwrap();
        }
        let addresses = socket.addresses_of(link).unwrap();
        let found = addresses.iter().find(|a| a.net == net(address)).unwrap();
        assert!(!found.tentative);
    }
    for router in ["10.1.1.1", "fd00::1"] {
        let router: std::net::IpAddr = router.parse().unwrap();
        let mut host = Route::new(IpNet::from(router));
        host.link = Some(link);
        host.scope = Scope::Link;
        host.protocol = 99;
        let mut default = Route::default_via(router);
        default.link = Some(link);
        default.protocol = 99;
        default.mtu = Some(1400);
        for route in [&host, &default, &host, &default] {
            socket.ensure_route(route).unwrap();
        }
        let routes = socket.routes().unwrap();
        let found = routes
            .iter()
            .find(|r| r.destination == default.destination && r.gateway == Some(router))
            .unwrap();
        assert_eq!(
            (found.mtu, found.link, found.protocol),
            (Some(1400), Some(link), 99)
        );
        assert_eq!(
            routes
                .iter()
                .filter(|r| r.destination == host.destination)
                .count(),
            1
        );
    }
    let mut blocked = Route::new(net("10.9.0.0/16"));
    blocked.kind = RouteKind::Unreachable;
    blocked.table = 1234;
    blocked.protocol = 99;
    socket.ensure_route(&blocked).unwrap();
    assert!(socket.routes().unwrap().contains(&blocked));

    let mut foreign = Route::new(net("10.8.0.0/16"));
    foreign.kind = RouteKind::Blackhole;
    socket.ensure_route(&foreign).unwrap();
    socket
        .prune_routes(99, std::slice::from_ref(&blocked))
        .unwrap();
    let left = socket.routes().unwrap();
    assert!(left.contains(&blocked) && left.contains(&foreign));
    assert_eq!(left.iter().filter(|r| r.protocol == 99).count(), 1);
    socket.delete_route(&blocked).unwrap();
    socket.delete_route(&blocked).unwrap();

    let mac = Mac([2, 0, 0, 0, 0, 9]);
    for ip in ["10.1.1.1", "fd00::1"] {
        let ip = ip.parse().unwrap();
        socket.ensure_neighbour(link, ip, mac).unwrap();
        socket.ensure_neighbour(link, ip, mac).unwrap();
        socket.delete_neighbour(link, ip).unwrap();
        socket.delete_neighbour(link, ip).unwrap();
    }
    socket.delete_address(link, net("10.1.1.7/32")).unwrap();
    socket.delete_address(link, net("10.1.1.7/32")).unwrap();
}

#[test]
fn vxlan_and_bridge() {
    let ns = namespace();
    let socket = Socket::open_in(&ns).unwrap();
    let mac = Mac([2, 0, 0, 0, 0, 3]);
    let spec = VxlanSpec {
        name: "tunnel0",
        port: 8472,
        mtu: Some(1450),
        mac: Some(mac),
        noarp: true,
    };
    socket.add_vxlan_external(&spec).unwrap();
    let tunnel = socket.link("tunnel0").unwrap().unwrap();
    assert_eq!(
        (tunnel.kind.as_str(), tunnel.mtu, tunnel.mac),
        ("vxlan", 1450, Some(mac))
    );
    assert!(tunnel.noarp);
    socket.set_up("tunnel0").unwrap();

    socket.add_bridge("br0").unwrap();
    let bridge = socket.index_of("br0").unwrap();
    socket
        .add_veth(&VethSpec {
            near: VethEnd::new("e0"),
            far: VethEnd::new("e1"),
            mtu: None,
        })
        .unwrap();
    socket.set_master("e0", Some(bridge)).unwrap();
    assert_eq!(socket.link("e0").unwrap().unwrap().master, Some(bridge));
    socket.set_master("e0", None).unwrap();
    assert_eq!(socket.link("e0").unwrap().unwrap().master, None);
    socket.set_noarp("e0").unwrap();
    assert!(socket.link("e0").unwrap().unwrap().noarp);
}

#[test]
fn monitor_tells_of_devices_and_addresses() {
    let ns = namespace();
    let socket = Socket::open_in(&ns).unwrap();
    let monitor = Monitor::open_in(&ns).unwrap();
    socket.add_bridge("br0").unwrap();
    let index = socket.index_of("br0").unwrap();
    socket
        .ensure_address(index, net("10.0.0.1/24"), Scope::Global, Dad::Run)
        .unwrap();
    socket.delete_link("br0").unwrap();
    let mut seen = Vec::new();
    while let Some(batch) = monitor.read().unwrap() {
        seen.extend(batch);
    }
    assert!(
        seen.iter()
            .any(|n| matches!(n, Notice::Link(l) if l.name == "br0"))
    );
    assert!(
        seen.iter()
            .any(|n| matches!(n, Notice::Address(a) if a.link == index))
    );
    assert!(
        seen.iter()
            .any(|n| matches!(n, Notice::LinkGone(l) if l.index == index))
    );
}

#[test]
fn namespaces_have_identities_and_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/ns");
    let ns = NetNs::create(&path).unwrap();
    assert!(NetNs::create(&path).is_err());
    let again = NetNs::open(&path).unwrap();
    assert_eq!(ns.inode().unwrap(), again.inode().unwrap());
    assert_eq!(ns.cookie().unwrap(), again.cookie().unwrap());
    let own = NetNs::current().unwrap();
    assert_ne!(ns.inode().unwrap(), own.inode().unwrap());
    assert_ne!(ns.cookie().unwrap(), own.cookie().unwrap());
    assert_eq!(
        ns.run(|| NetNs::current().unwrap().inode().unwrap())
            .unwrap(),
        ns.inode().unwrap()
    );
    sysctl::write_in(&ns, &[("net/ipv4/ip_forward", "1")]).unwrap();
    assert_eq!(sysctl::read_in(&ns, "net/ipv4/ip_forward").unwrap(), "1");
    NetNs::delete(&path).unwrap();
    NetNs::delete(&path).unwrap();
    assert!(!path.exists());
}

#[test]
fn errors_are_in_words() {
    let ns = namespace();
    let socket = Socket::open_in(&ns).unwrap();
    let texts = [
        socket.set_up("nothing").unwrap_err().to_string(),
        socket.index_of("nothing").unwrap_err().to_string(),
        socket
            .add_bridge("a name that is too long")
            .unwrap_err()
            .to_string(),
        socket.set_mtu("lo", 4_000_000_000).unwrap_err().to_string(),
        NetNs::open("/dev/null").unwrap_err().to_string(),
        NetNs::open("/nonexistent/ns").unwrap_err().to_string(),
        socket
            .ensure_route(&Route::default_via("10.0.0.1".parse().unwrap()))
            .unwrap_err()
            .to_string(),
    ];
    assert_eq!(
        texts,
        [
            "cannot set up device nothing: No such device (os error 19)",
            "cannot find nothing: there is no such device",
            "`a name that is too long` is not a device name: 1 to 15 bytes without blanks, `/` and \
             `:`, and not `.` or `..`",
            "cannot set the MTU of device lo: Invalid argument (os error 22) (mtu less than device \
             minimum)",
            "/dev/null is not a network namespace",
            "cannot open network namespace /nonexistent/ns: No such file or directory (os error 2)",
            "cannot set route 0.0.0.0/0 via 10.0.0.1: Network is unreachable (os error 101) \
             (Nexthop has invalid gateway)",
        ]
    );
    assert!(matches!(
        socket.index_of("nothing"),
        Err(Error::Missing { .. })
    ));
}
