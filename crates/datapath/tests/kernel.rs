// SPDX-License-Identifier: Apache-2.0
//! The real kernel: pins, adoption, links under traffic, full maps, events. Needs root.

#[path = "support/lab.rs"]
mod lab;
mod support;

use std::net::UdpSocket;

use abi::{Addr, Endpoint};
use datapath::{Attached, Error, Kernel, Linux, Map, Program, Settings, Typed, devices, table};
use lab::{Lab, POD_IP, POD_MAC, ROUTER, SERVED, eventually};
use model::EndpointId;
use support::{flow, ip, ip_row, map_addr, net};

#[test]
fn maps_survive_and_are_adopted_with_what_they_hold() {
    let lab = Lab::new();
    let mut datapath = lab.open();
    datapath
        .put_ip(net("10.7.0.9/32"), ip_row(7, Some("192.168.0.2")))
        .expect("room");
    datapath
        .put_ip(net("10.8.0.0/16"), ip_row(8, None))
        .expect("room");
    let (key, value) = flow(9, POD_IP, "10.8.0.1", 1, u32::MAX);
    datapath
        .kernel_mut()
        .put_row::<table::Flows>(&key, &value)
        .expect("room");
    datapath.settle().expect("raises");
    let rows = datapath.ips().expect("readable");
    drop(datapath);

    let mut datapath = lab.open();
    assert_eq!(datapath.ips().expect("readable"), rows);
    assert_eq!(datapath.flows().expect("readable").len(), 1);
    assert!(
        !datapath
            .put_ip(net("10.8.0.0/16"), ip_row(8, None))
            .expect("equal")
    );
    let bucket = u32::from(abi::addr_bucket(&map_addr("10.8.0.1")));
    assert_eq!(
        datapath
            .kernel()
            .get_row::<table::Epochs>(&bucket)
            .expect("readable"),
        Some(1)
    );
    assert!(
        datapath.map_pressure().contains(&("ist_ipcache", 1, 64)),
        "{:?}",
        datapath.map_pressure()
    );
}

#[test]
fn a_directory_that_is_no_bpf_filesystem_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = Settings {
        bpf_root: dir.path().into(),
        ..Settings::default()
    };
    let text = Linux::open(&settings).expect_err("no pins").to_string();
    let path = dir.path().display().to_string();
    assert!(
        text.contains(&path) && text.contains("mount -t bpf bpf"),
        "{text}"
    );
    let mut made = std::fs::read_dir(dir.path()).expect("readable");
    assert!(made.next().is_none(), "nothing is left there");
}

#[test]
fn a_pin_of_another_layout_is_named() {
    let lab = Lab::new();
    drop(lab.open());
    let maps = lab.bpf().join(format!("isthmus/v{}/maps", abi::VERSION));
    std::fs::rename(maps.join("ist_devices"), maps.join("ist_nodes")).expect("bpffs renames");
    let error = Linux::open(&lab.settings()).expect_err("key sizes differ");
    let text = error.to_string();
    assert!(
        matches!(
            error,
            Error::PinnedMapDiffers {
                map: Map::Nodes,
                ..
            }
        ),
        "{text}"
    );
    assert!(
        text.contains("ist_nodes") && text.contains("key size 4"),
        "{text}"
    );
}

#[test]
fn full_maps_say_so() {
    let lab = Lab::new();
    let mut datapath = lab.open();
    for (family, map) in [("/32", Map::Ipcache), ("/31", Map::Prefixes)] {
        let mut put = |i: u32| {
            let address = std::net::Ipv4Addr::from(0x0a07_0000 + 2 * i);
            datapath.put_ip(net(&format!("{address}{family}")), ip_row(7, None))
        };
        for i in 0..64 {
            put(i).expect("room");
        }
        let error = put(64).expect_err("full");
        assert!(
            matches!(error, Error::MapFull { map: full, max: 64 } if full == map),
            "{error}"
        );
    }
    assert_eq!(datapath.full_maps(), ["ist_ipcache", "ist_prefixes"]);
    assert_eq!(datapath.ips().expect("readable").len(), 128);
    datapath.prune_ips(&|_| false).expect("removable");
    assert!(datapath.ips().expect("readable").is_empty());
}

#[test]
fn arrays_are_shared_memory() {
    let lab = Lab::new();
    let mut datapath = lab.open();
    let slot = Endpoint {
        policy: 3,
        epoch: 4,
        ifindex: 5,
        identity: 6,
        id: 4095,
        ..Endpoint::default()
    };
    datapath
        .kernel_mut()
        .put_row::<table::Endpoints>(&4095, &slot)
        .expect("inside");
    assert!(
        datapath
            .kernel_mut()
            .put_row::<table::Endpoints>(&4096, &slot)
            .is_err()
    );
    let kernel = datapath.kernel_mut();
    assert_eq!(kernel.add(Map::Shares, 9, 5).expect("inside"), 5);
    assert_eq!(kernel.add(Map::Shares, 9, -2).expect("inside"), 3);
    assert_eq!(kernel.add(Map::Shares, 9, -20).expect("inside"), 0);
    assert_eq!(kernel.add(Map::Epochs, 65535, 1).expect("inside"), 1);
    drop(datapath);
    let datapath = lab.open();
    let found = datapath
        .kernel()
        .get_row::<table::Endpoints>(&4095)
        .expect("readable");
    assert_eq!(found, Some(slot));
    assert_eq!(
        datapath
            .kernel()
            .get_row::<table::Epochs>(&65535)
            .expect("readable"),
        Some(1)
    );
    assert!(datapath.metrics().is_ok());
}

#[test]
fn collection_on_the_real_table() {
    let lab = Lab::new();
    let mut datapath = lab.open();
    for port in 0..4000 {
        let (key, value) = flow(
            9,
            POD_IP,
            "10.8.0.1",
            port,
            if port % 4 == 0 { 1 } else { 1000 },
        );
        datapath
            .kernel_mut()
            .put_row::<table::Flows>(&key, &value)
            .expect("room");
    }
    let mut removed = 0;
    let live = loop {
        let stats = datapath.collect_flows(100).expect("readable");
        removed += stats.removed;
        if stats.finished {
            break stats.live;
        }
    };
    assert_eq!((removed, live), (1000, 3000));
    datapath
        .put_endpoint(&support::endpoint(9, 12, POD_IP))
        .expect("room");
    datapath.remove_endpoint(EndpointId(9)).expect("removable");
    assert!(datapath.flows().expect("readable").is_empty());
}

#[test]
fn old_versions_are_removed_and_nothing_else() {
    let lab = Lab::new();
    let datapath = lab.open();
    let root = lab.bpf().join("isthmus");
    for name in ["v0/maps", "v999/maps", "other"] {
        std::fs::create_dir_all(root.join(name)).expect("bpffs has directories");
    }
    let mut removed = datapath.kernel().remove_old_versions().expect("removable");
    removed.sort();
    assert_eq!(removed, ["v0", "v999"]);
    assert!(root.join("other").exists() && root.join(format!("v{}", abi::VERSION)).exists());
}

#[test]
fn links_are_replaced_under_traffic_without_loss() {
    let lab = Lab::new();
    let mut datapath = lab.change_under_traffic(50, 10, |_, datapath, _, ifindex| {
        drop(datapath);
        std::thread::sleep(std::time::Duration::from_millis(20));
        let mut datapath = lab.open();
        let overlay = lab.overlay();
        let replaced = datapath
            .attach_overlay("cilium_vxlan", overlay)
            .expect("attaches");
        assert_eq!(replaced, Attached::Replaced);
        assert_eq!(
            datapath.attach_pod(SERVED, ifindex).expect("attaches"),
            Attached::Replaced
        );
        datapath.apply(&support::allow_all(1, 9)).expect("room");
        datapath.prune_policy().expect("readable");
        datapath
    });
    let remove = || {
        let links = datapath.kernel().links().expect("readable");
        let pinned = [Program::FromOverlay, Program::ToOverlay];
        assert_eq!(
            links,
            pinned.map(|program| ("cilium_vxlan".into(), program))
        );
        datapath
            .prune_links(&|name| name == "cilium_vxlan")
            .expect("nothing to do");
        assert_eq!(datapath.kernel().links().expect("readable").len(), 2);
        datapath.prune_links(&|_| false).expect("removable");
        assert!(datapath.kernel().links().expect("readable").is_empty());
    };
    lab.node.run(remove).expect("the node");
}

#[test]
fn a_link_of_a_device_that_is_gone_is_made_anew() {
    let lab = Lab::new();
    let first = lab.wire("lxc9");
    lab.node
        .run(|| {
            let mut datapath = lab.open();
            assert_eq!(
                datapath.attach_pod("lxc9", first).expect("attaches"),
                Attached::New
            );
            netlink::Socket::open()
                .expect("a socket")
                .delete_link("lxc9")
                .expect("deletable");
            assert!(
                datapath.attach_pod("lxc9", first).is_err(),
                "no such device"
            );
        })
        .expect("the node");
    let second = lab.wire("lxc9");
    lab.node
        .run(|| {
            let mut datapath = lab.open();
            assert_eq!(
                datapath.attach_pod("lxc9", second).expect("attaches"),
                Attached::New
            );
            assert_eq!(
                datapath.attach_pod("lxc9", second).expect("attaches"),
                Attached::Replaced
            );
        })
        .expect("the node");
}

/// Whoever takes something off a pod's device is found out.
#[test]
fn defects_of_a_pods_device_are_named() {
    let lab = Lab::new();
    let ifindex = lab.wire("lxc9");
    lab.node
        .run(|| {
            let socket = netlink::Socket::open().expect("a socket");
            let pod = devices::PodDevice {
                device: "lxc9",
                ifindex,
                mac: POD_MAC,
                addresses: vec![(ip(POD_IP), None)],
            };
            let defects = || devices::defects(&socket, &pod).expect("readable");
            assert_eq!(defects().len(), 3, "{:?}", defects());
            let mut datapath = lab.open();
            datapath.attach_pod("lxc9", ifindex).expect("attaches");
            devices::ensure_pod_device(&socket, &pod).expect("made");
            assert_eq!(defects(), [""; 0]);
            devices::remove_pod_routes(&socket, &[ip(POD_IP)], ifindex).expect("removable");
            assert_eq!(defects(), ["no route leads to 10.5.1.9 by device lxc9"]);
            socket.delete_link("lxc9").expect("deletable");
            assert_eq!(defects(), ["device lxc9 is gone"]);
        })
        .expect("the node");
}

#[test]
fn a_drop_is_told_by_the_ring_and_counted() {
    let lab = Lab::new();
    let ifindex = lab.wire("lxc9");
    lab.node
        .run(|| {
            let mut datapath = lab.open();
            lab.serve(&mut datapath, "lxc9", ifindex);
            datapath.set_events(true).expect("room");
            let mut events = datapath.kernel().events().expect("a ring");
            assert!(events.next().is_none());
            // Without a policy every packet of the pod is dropped.
            let flip = policy::Op::SetEndpointPolicy {
                endpoint: EndpointId(9),
                policy: 0,
            };
            datapath.apply(&[flip]).expect("room");
            let send = || {
                let socket = UdpSocket::bind((POD_IP, 0)).expect("a socket");
                socket.send_to(b"ping", (ROUTER, 9)).expect("sends");
            };
            let event = eventually("an event", || {
                lab.pod.run(send).expect("the pod");
                events.next()
            });
            assert_eq!(event.reason, abi::DropReason::EndpointNotReady as u8);
            assert_eq!(event.ifindex, ifindex);
            assert_ne!(event.captured, 0);
            assert_eq!(event.node, Addr::NONE);
            let metrics = datapath.metrics().expect("readable");
            assert!(
                metrics.iter().any(|metric| metric.reason == event.reason),
                "{metrics:?}"
            );
        })
        .expect("the node");
}
