// SPDX-License-Identifier: Apache-2.0
//! Maps that another version of the agent left are taken over. Needs root. That fields are found where the other layout has
//! them is tested in `src/layout.rs`, and with an agent of another layout in testbed.

#[path = "support/lab.rs"]
mod lab;
mod support;

use std::path::PathBuf;

use datapath::{Datapath, Kernel, Linux, Map, Settings, Typed, table};
use lab::{Lab, POD_IP, eventually};
use support::{flow, ip_row, net};

fn version(lab: &Lab, version: u32) -> PathBuf {
    lab.bpf().join(format!("isthmus/v{version}"))
}

/// What this version's agent left becomes that of version `to`.
fn rename(lab: &Lab, to: u32) {
    std::fs::rename(version(lab, abi::VERSION), version(lab, to)).expect("bpffs renames");
}

#[test]
fn everything_is_taken_over_once() {
    let lab = Lab::new();
    let mut datapath = lab.open();
    datapath
        .put_ip(net("10.7.0.1/32"), ip_row(7, None))
        .expect("room");
    datapath
        .put_ip(net("10.9.0.0/16"), ip_row(8, Some("172.18.0.9")))
        .expect("room");
    for port in 0..3000 {
        let (key, value) = flow(9, POD_IP, "10.8.0.1", port, u32::MAX);
        datapath
            .kernel_mut()
            .put_row::<table::Flows>(&key, &value)
            .expect("room");
    }
    datapath
        .kernel_mut()
        .add(Map::Epochs, 77, 5)
        .expect("an index");
    let (rows, mut flows) = (
        datapath.ips().expect("readable"),
        datapath.flows().expect("readable"),
    );
    flows.sort_by_key(|(key, _)| key.local_port);
    drop(datapath);
    rename(&lab, 7);
    // What an agent of this version left that died on the way.
    std::fs::create_dir_all(version(&lab, abi::VERSION).join("maps")).expect("made");
    let settings = Settings {
        flows_max: 8192,
        ..lab.settings()
    };
    let linux = Linux::open(&settings).expect("takes over");
    assert_eq!(linux.limit(Map::Flows), 8192);
    assert!(!version(&lab, 7).join("layout").exists());
    let datapath = Datapath::new(linux).expect("adopts");
    assert_eq!(datapath.ips().expect("readable"), rows);
    let mut now = datapath.flows().expect("readable");
    now.sort_by_key(|(key, _)| key.local_port);
    assert_eq!(now, flows);
    let epoch = datapath.kernel().get_row::<table::Epochs>(&77);
    assert_eq!(epoch.expect("readable"), Some(5));
    // What is left there is nobody's: the maps of this version are whole.
    let removed = datapath.kernel().remove_old_versions().expect("removed");
    assert_eq!(removed, ["v7"]);
    drop(datapath);
    let datapath = Datapath::new(Linux::open(&settings).expect("opens")).expect("adopts");
    assert_eq!(datapath.flows().expect("readable").len(), 3000);
}

#[test]
fn versions_change_under_traffic_without_loss() {
    let lab = Lab::new();
    lab.change_under_traffic(10, 5, |round, datapath, pings, _| {
        let flows = datapath.flows().expect("readable");
        drop(datapath);
        rename(&lab, 100 + round);
        // Without an attach: the programs already use the new maps.
        let datapath = lab.open();
        let removed = datapath.kernel().remove_old_versions().expect("removed");
        assert_eq!(removed, [format!("v{}", 100 + round)]);
        let before = pings.answered();
        eventually("answers", || (pings.answered() > before + 3).then_some(()));
        let now = datapath.flows().expect("readable");
        let has = |old: &abi::FlowKey| now.iter().any(|(key, _)| key == old);
        assert!(flows.iter().all(|(old, _)| has(old)));
        datapath
    });
}
