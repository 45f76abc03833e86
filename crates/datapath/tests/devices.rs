// SPDX-License-Identifier: Apache-2.0
//! Devices, routes, switches and source translation in a namespace of their own. Needs root.

mod support;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use datapath::Error;
use datapath::devices::{
    self, Families, MasqueradeSpec, NFT_TABLE, NFT_TUNNEL, OVERLAY_DEVICE, OverlaySpec, PodDevice,
    ROUTE_PROTOCOL, RoutePlan,
};
use netlink::nft::Nft;
use netlink::{NetNs, Route, RouteKind, Scope, Socket, VethEnd, VethSpec};
use support::{ip, net};

/// Runs `test` inside a new namespace, which is gone afterwards, also after a failure.
fn inside(test: impl FnOnce(&Socket) + Send) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ns");
    let node = NetNs::create(&path).expect("root makes namespaces");
    let result = node.run(|| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            test(&Socket::open().expect("a socket"));
        }))
    });
    NetNs::delete(&path).expect("deletable");
    result
        .expect("the namespace")
        .expect("the test inside holds");
}

fn spec(port: u16, mtu: u32, routers: &[&str]) -> OverlaySpec<'static> {
    let routers = routers.iter().map(|text| ip(text)).collect();
    OverlaySpec {
        device: OVERLAY_DEVICE,
        port,
        mtu,
        routers,
    }
}

fn addresses(socket: &Socket, ifindex: u32) -> BTreeSet<IpAddr> {
    let found = socket.addresses_of(ifindex).expect("readable").into_iter();
    found
        .filter(|a| a.scope == Scope::Global)
        .map(|a| a.net.addr())
        .collect()
}

#[test]
fn the_overlay_is_kept_while_it_fits() {
    inside(|socket| {
        let first = devices::ensure_overlay(socket, &spec(8472, 1450, &["10.5.1.1", "fd05::1"]));
        let first = first.expect("made");
        assert!(first.created);
        let link = socket
            .link(OVERLAY_DEVICE)
            .expect("readable")
            .expect("there");
        assert!(
            link.up && link.noarp && link.mtu == 1450 && link.kind == "vxlan",
            "{link:?}"
        );
        let again = devices::ensure_overlay(socket, &spec(8472, 1430, &["10.5.1.2", "fd05::1"]));
        let again = again.expect("kept");
        assert_eq!((again.ifindex, again.created), (first.ifindex, false));
        let link = socket
            .link(OVERLAY_DEVICE)
            .expect("readable")
            .expect("there");
        assert_eq!(link.mtu, 1430);
        assert_eq!(
            addresses(socket, link.index),
            [ip("10.5.1.2"), ip("fd05::1")].into()
        );
        let other =
            devices::ensure_overlay(socket, &spec(8473, 1430, &["10.5.1.2"])).expect("made");
        assert!(other.created && other.ifindex != first.ifindex);
        devices::remove_overlay(socket, OVERLAY_DEVICE).expect("deletable");
        devices::remove_overlay(socket, OVERLAY_DEVICE).expect("absent is fine");
    });
}

/// The devices `lxc9` and `far`.
fn add_pair(socket: &Socket) {
    let pair = VethSpec {
        near: VethEnd::new("lxc9"),
        far: VethEnd::new("far"),
        mtu: None,
    };
    socket.add_veth(&pair).expect("a pair");
}

#[test]
fn only_one_end_of_a_pair_can_be_a_pods_device() {
    inside(|socket| {
        add_pair(socket);
        socket.add_bridge("br0").expect("a bridge");
        let index = |name: &str| socket.index_of(name).expect("there");
        let unfit = |device: &str, ifindex| {
            let why = devices::unfit(socket, device, ifindex).expect("readable");
            why.unwrap_or_default()
        };
        assert_eq!(unfit("lxc9", index("lxc9")), "");
        for device in ["lo", "br0"] {
            let why = unfit(device, index(device));
            assert!(why.contains("not one end of a pair"), "{why}");
        }
        let other = unfit("lxc9", index("br0"));
        assert!(other.contains("is that of br0, not of lxc9"), "{other}");
        let absent = unfit("lxc9", 4000);
        assert!(absent.contains("no device with the index 4000"), "{absent}");
    });
}

#[test]
fn a_foreign_device_of_that_name_is_an_error() {
    inside(|socket| {
        socket.add_bridge(OVERLAY_DEVICE).expect("a bridge");
        let error = devices::ensure_overlay(socket, &spec(8472, 1450, &[])).expect_err("foreign");
        assert!(matches!(error, Error::ForeignDevice { .. }), "{error}");
        assert!(devices::remove_overlay(socket, OVERLAY_DEVICE).is_err());
        assert!(socket.link(OVERLAY_DEVICE).expect("readable").is_some());
    });
}

fn own_routes(socket: &Socket) -> BTreeSet<String> {
    let routes = socket.routes().expect("readable").into_iter();
    let own = routes.filter(|route| route.protocol == ROUTE_PROTOCOL);
    own.map(|route| {
        let kind = if route.kind == RouteKind::Unreachable {
            " unreachable"
        } else {
            ""
        };
        let mtu = route
            .mtu
            .map(|mtu| format!(" mtu {mtu}"))
            .unwrap_or_default();
        let source = route
            .source
            .map(|ip| format!(" src {ip}"))
            .unwrap_or_default();
        format!("{}{kind}{mtu}{source}", route.destination)
    })
    .collect()
}

fn texts(lines: &[&str]) -> BTreeSet<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn routes_follow_the_plan_and_spare_foreign_ones() {
    inside(|socket| {
        let routers = ["10.5.1.1", "fd05:1::1"];
        let overlay = devices::ensure_overlay(socket, &spec(8472, 1450, &routers)).expect("made");
        add_pair(socket);
        let lxc = socket.index_of("lxc9").expect("made");
        socket.set_up(lxc).expect("up");
        let mut foreign = Route::new(net("10.9.0.0/16"));
        foreign.link = Some(lxc);
        foreign.scope = Scope::Link;
        socket.ensure_route(&foreign).expect("a route");
        let mut plan = RoutePlan {
            overlay: overlay.ifindex,
            mtu: 1450,
            router4: Some(Ipv4Addr::new(10, 5, 1, 1)),
            router6: Some(Ipv6Addr::new(0xfd05, 1, 0, 0, 0, 0, 0, 1)),
            remote: ["10.5.2.0/24", "10.9.0.0/16", "fd05:2::/64"]
                .map(net)
                .into(),
            own: ["10.5.1.0/24", "fd05:1::/64"].map(net).into(),
            pods: [(ip("10.5.1.9"), lxc), (ip("fd05:1::9"), lxc)].into(),
        };
        assert_eq!(
            devices::ensure_routes(socket, &plan).expect("set"),
            [net("10.9.0.0/16")]
        );
        let mut lines = vec![
            "10.5.1.0/24 unreachable",
            "10.5.1.9/32 src 10.5.1.1",
            "10.5.2.0/24 mtu 1450 src 10.5.1.1",
            "fd05:1::/64 unreachable",
            "fd05:1::9/128 src fd05:1::1",
            "fd05:2::/64 mtu 1450 src fd05:1::1",
        ];
        assert_eq!(own_routes(socket), texts(&lines));
        devices::ensure_routes(socket, &plan).expect("nothing to do");
        plan.remote.remove(&net("fd05:2::/64"));
        plan.mtu = 1400;
        devices::ensure_routes(socket, &plan).expect("set");
        lines.truncate(5);
        lines[2] = "10.5.2.0/24 mtu 1400 src 10.5.1.1";
        assert_eq!(own_routes(socket), texts(&lines));
        // A pod ended, and its endpoint is still there.
        plan.pods.insert(ip("10.5.1.10"), 4000);
        devices::ensure_routes(socket, &plan).expect("no matter");
        assert_eq!(own_routes(socket), texts(&lines));
        devices::remove_routes(socket).expect("deletable");
        assert!(own_routes(socket).is_empty());
        let routes = socket.routes().expect("readable");
        assert!(
            routes
                .iter()
                .any(|route| route.destination == net("10.9.0.0/16"))
        );
    });
}

#[test]
fn a_pods_device_is_made_ready_and_its_routes_go() {
    inside(|socket| {
        add_pair(socket);
        let ifindex = socket.index_of("lxc9").expect("made");
        let addresses = vec![(ip("10.5.1.9"), None), (ip("fd05::9"), None)];
        let pod = PodDevice {
            device: "lxc9",
            ifindex,
            mac: [2, 0, 0, 0, 0, 9],
            addresses,
        };
        devices::ensure_node_switches(Families { v4: true, v6: true }).expect("settable");
        for _ in 0..2 {
            devices::ensure_pod_device(socket, &pod).expect("set");
            assert_eq!(own_routes(socket), texts(&["10.5.1.9/32", "fd05::9/128"]));
        }
        let read = |key: &str| netlink::sysctl::read(key).expect("readable");
        assert_eq!(read("net/ipv4/conf/lxc9/rp_filter"), "0");
        assert_eq!(read("net/ipv6/conf/lxc9/accept_ra"), "0");
        assert_eq!(read("net/ipv4/ip_forward"), "1");
        let ips = [ip("10.5.1.9"), ip("fd05::9")];
        for _ in 0..2 {
            devices::remove_pod_routes(socket, &ips, ifindex).expect("absent is fine");
        }
        assert!(own_routes(socket).is_empty());
    });
}

#[test]
fn switches_of_the_node_are_set_back() {
    inside(|_| {
        let state = tempfile::tempdir().expect("a directory");
        let both = Families { v4: true, v6: true };
        let names = [
            "net/ipv4/ip_forward",
            "net/ipv4/conf/all/rp_filter",
            "net/ipv6/conf/all/forwarding",
        ];
        let read = || names.map(|name| netlink::sysctl::read(name).expect("readable"));
        netlink::sysctl::write(names[1], "2").expect("set");
        let before = read();
        assert_eq!(before, ["0", "2", "0"]);
        for _ in 0..2 {
            devices::remember_node_switches(state.path()).expect("kept");
            devices::ensure_node_switches(both).expect("set");
            assert_eq!(read(), ["1", "0", "1"]);
        }
        // What somebody else set since is not ours to set back, nor what was there first.
        netlink::sysctl::write(names[1], "1").expect("set");
        netlink::sysctl::write(names[0], "0").expect("set");
        devices::remember_node_switches(state.path()).expect("known");
        netlink::sysctl::write(names[0], "1").expect("set");
        devices::restore_node_switches(state.path()).expect("set back");
        assert_eq!(read(), ["0", "1", "0"]);
        let forwarding = tempfile::tempdir().expect("a directory");
        netlink::sysctl::write(names[0], "1").expect("set");
        devices::remember_node_switches(forwarding.path()).expect("kept");
        netlink::sysctl::write(names[0], "0").expect("set");
        devices::remember_node_switches(forwarding.path()).expect("known");
        devices::ensure_node_switches(both).expect("set");
        devices::restore_node_switches(forwarding.path()).expect("set back");
        assert_eq!(read()[0], "1", "the node forwarded before");
        let empty = tempfile::tempdir().expect("a directory");
        devices::restore_node_switches(empty.path()).expect("nothing to do");
    });
}

#[test]
fn translation_and_the_tunnel_have_tables_of_ours() {
    inside(|_| {
        let nft = Nft::open().expect("a socket");
        let spec = MasqueradeSpec {
            pods: ["10.5.1.0/24", "fd05:1::/64"].map(net).into(),
            native: ["10.5.0.0/16"].map(net).into(),
            overlay: OVERLAY_DEVICE.into(),
        };
        let tunnel = (Ipv4Addr::new(172, 30, 5, 1), 8472).into();
        let chains = |table| {
            let table = nft.read_table(table).expect("readable").expect("there");
            assert!(table.chains.iter().all(|chain| chain.rules > 0));
            table.chains.len()
        };
        for _ in 0..2 {
            devices::ensure_masquerade(&nft, &spec).expect("made");
            devices::ensure_tunnel_rules(&nft, tunnel).expect("made");
            assert_eq!([chains(NFT_TABLE), chains(NFT_TUNNEL)], [1, 4]);
        }
        devices::remove_masquerade(&nft).expect("deletable");
        devices::remove_masquerade(&nft).expect("absent is fine");
        for table in [NFT_TABLE, NFT_TUNNEL] {
            assert!(nft.read_table(table).expect("readable").is_none());
        }
    });
}
