// SPDX-License-Identifier: Apache-2.0
//! Maps in use that get another limit. Needs root.

#[path = "support/lab.rs"]
mod lab;
mod support;

use datapath::{Datapath, Kernel, Linux, Map, Settings, Typed, table};
use lab::{Lab, POD_IP, eventually};
use support::{flow, ip_row, net};

#[test]
fn another_limit_takes_effect_and_no_entry_is_lost() {
    let lab = Lab::new();
    let mut datapath = lab.open();
    for i in 0..60u32 {
        let address = std::net::Ipv4Addr::from(0x0a07_0000 + i);
        datapath
            .put_ip(net(&format!("{address}/32")), ip_row(7, None))
            .expect("room");
    }
    for port in 0..3000 {
        let (key, value) = flow(9, POD_IP, "10.8.0.1", port, u32::MAX);
        datapath
            .kernel_mut()
            .put_row::<table::Flows>(&key, &value)
            .expect("room");
    }
    let rows = datapath.ips().expect("readable");
    let with = |flows_max, ipcache_max| Settings {
        flows_max,
        ipcache_max,
        ..lab.settings()
    };
    let next = lab.bpf().join(format!("isthmus/v{}/next", abi::VERSION));
    for (settings, limits, kept) in [
        (with(8192, 1000), (8192, 1000), vec![]),
        (with(3000, 60), (3000, 60), vec![]),
        (with(2999, 100), (3000, 100), vec!["ist_flows"]),
        (with(4096, 59), (4096, 100), vec!["ist_ipcache"]),
    ] {
        let linux = Linux::open(&settings).expect("another limit is no obstacle");
        let named: Vec<&str> = linux
            .kept_limits()
            .iter()
            .map(|kept| kept.map.name())
            .collect();
        assert_eq!(named, kept);
        for kept in linux.kept_limits() {
            assert!(kept.to_string().contains("entries are in use"), "{kept}");
        }
        datapath = Datapath::new(linux).expect("adopts");
        let kernel = datapath.kernel();
        assert_eq!(
            (kernel.limit(Map::Flows), kernel.limit(Map::Ipcache)),
            limits
        );
        let now = datapath.ips().expect("readable");
        assert!(now.len() == rows.len() && rows.iter().all(|row| now.contains(row)));
        assert_eq!(datapath.flows().expect("readable").len(), 3000);
        let left = std::fs::read_dir(&next).expect("a directory").count();
        assert_eq!(left, 0, "every pin has its place");
    }
}

#[test]
fn a_resize_that_died_is_gone_on_with() {
    let lab = Lab::new();
    let mut datapath = lab.open();
    let put = |datapath: &mut Datapath<Linux>, port, expires| {
        let (key, value) = flow(9, POD_IP, "10.8.0.1", port, expires);
        datapath
            .kernel_mut()
            .put_row::<table::Flows>(&key, &value)
            .expect("room");
    };
    put(&mut datapath, 1, u32::MAX);
    put(&mut datapath, 3, u32::MAX);
    put(&mut datapath, 4, u32::MAX - 1);
    drop(datapath);
    // The second map as a process leaves it that dies before it took the pin: with a flow that its programs made.
    let root = lab.bpf().join(format!("isthmus/v{}", abi::VERSION));
    std::fs::rename(root.join("maps/ist_flows"), root.join("old")).expect("bpffs renames");
    let other = Settings {
        flows_max: 1024,
        ..lab.settings()
    };
    let mut datapath = Datapath::new(Linux::open(&other).expect("a map")).expect("adopts");
    put(&mut datapath, 2, u32::MAX);
    put(&mut datapath, 3, u32::MAX - 1);
    put(&mut datapath, 4, u32::MAX);
    drop(datapath);
    std::fs::create_dir_all(root.join("next")).expect("bpffs has directories");
    std::fs::rename(root.join("maps/ist_flows"), root.join("next/ist_flows")).expect("renames");
    std::fs::rename(root.join("old"), root.join("maps/ist_flows")).expect("renames");

    let datapath = lab.open();
    assert_eq!(datapath.kernel().limit(Map::Flows), 4096);
    let flows = datapath.flows().expect("readable");
    assert_eq!(flows.len(), 4);
    // Of a flow that both maps hold, the entry that a program refreshed last counts.
    assert!(flows.iter().all(|(_, flow)| flow.expires == u32::MAX));
    assert!(!root.join("next/ist_flows").exists());
}

#[test]
fn limits_change_under_traffic_without_loss() {
    let lab = Lab::new();
    lab.change_under_traffic(50, 10, |round, datapath, pings, _| {
        let flows = datapath.flows().expect("readable");
        drop(datapath);
        let settings = Settings {
            flows_max: 2048 << (round % 3),
            ipcache_max: 100 + round,
            ..lab.settings()
        };
        let linux = Linux::open(&settings).expect("opens");
        assert_eq!(linux.limit(Map::Flows), settings.flows_max);
        // Without an attach: the programs already use the new maps.
        let mut datapath = Datapath::new(linux).expect("adopts");
        let before = pings.answered();
        eventually("answers", || (pings.answered() > before + 3).then_some(()));
        let now = datapath.flows().expect("readable");
        let has = |old: &abi::FlowKey| now.iter().any(|(key, _)| key == old);
        assert!(flows.iter().all(|(old, _)| has(old)));
        let kernel = datapath.kernel_mut();
        for (key, _) in &now {
            kernel.delete_row::<table::Flows>(key).expect("removable");
        }
        eventually("programs that write to the map in force", || {
            let flows = datapath.flows().expect("readable");
            (!flows.is_empty()).then_some(())
        });
        datapath
    });
}
