// SPDX-License-Identifier: Apache-2.0
//! Endpoints, addresses of the node, and conntrack over the fake kernel.

mod support;

use std::collections::BTreeSet;

use abi::{Flow, FlowKey, NodeConfig, addr_bucket, endpoint_flags::READY};
use datapath::{Call, Datapath, Error, Fake, Kernel, Map, Typed, table};
use model::EndpointId;
use support::{allow_all, endpoint, flow, ip, map_addr};

fn epoch(datapath: &Datapath<Fake>, address: &str) -> u32 {
    epoch_at(datapath, addr_bucket(&map_addr(address)))
}

fn epoch_at(datapath: &Datapath<Fake>, bucket: u16) -> u32 {
    datapath
        .kernel()
        .get_row::<table::Epochs>(&u32::from(bucket))
        .expect("readable")
        .expect("array")
}

fn slot(datapath: &Datapath<Fake>, id: u32) -> abi::Endpoint {
    datapath
        .kernel()
        .get_row::<table::Endpoints>(&id)
        .expect("readable")
        .expect("array")
}

fn fresh() -> Datapath<Fake> {
    Datapath::new(Fake::new()).expect("empty maps")
}

#[test]
fn an_endpoint_is_ready_once_it_has_a_policy_whatever_comes_first() {
    for policy_first in [false, true] {
        let mut datapath = fresh();
        let row = endpoint(9, 12, "10.5.1.9");
        if policy_first {
            datapath.apply(&allow_all(3, 9)).expect("room");
        }
        datapath.put_endpoint(&row).expect("room");
        if !policy_first {
            assert_eq!(slot(&datapath, 9).flags, 0);
            datapath.apply(&allow_all(3, 9)).expect("room");
        }
        let slot = slot(&datapath, 9);
        assert_eq!((slot.flags, slot.policy, slot.ifindex), (READY, 3, 12));
        assert!(slot.epoch > 1);
        let owner = datapath
            .kernel()
            .get_row::<table::Locals>(&map_addr("10.5.1.9"));
        assert_eq!(
            owner.expect("readable").map(|local| local.endpoint),
            Some(9)
        );
        let device = datapath
            .kernel()
            .get_row::<table::Devices>(&12)
            .expect("readable");
        assert_eq!(device, Some(9));
    }
}

#[test]
fn an_equal_row_writes_nothing_also_after_a_restart() {
    let mut datapath = fresh();
    let row = endpoint(9, 12, "10.5.1.9");
    datapath.put_endpoint(&row).expect("room");
    datapath.apply(&allow_all(3, 9)).expect("room");
    let before = slot(&datapath, 9);
    let mut kernel = datapath.into_kernel();
    kernel.calls.clear();
    let mut datapath = Datapath::new(kernel).expect("adopts");
    datapath.put_endpoint(&row).expect("nothing to do");
    assert_eq!(datapath.kernel().calls, []);
    assert_eq!(slot(&datapath, 9), before);
}

#[test]
fn a_changed_endpoint_raises_its_epoch_after_the_data() {
    let mut datapath = fresh();
    datapath
        .put_endpoint(&endpoint(9, 12, "10.5.1.9"))
        .expect("room");
    let before = (slot(&datapath, 9).epoch, epoch(&datapath, "10.5.1.10"));
    datapath.kernel_mut().calls.clear();
    datapath
        .put_endpoint(&endpoint(9, 13, "10.5.1.10"))
        .expect("room");
    assert!(slot(&datapath, 9).epoch > before.0);
    assert!(epoch(&datapath, "10.5.1.10") > before.1);
    let calls = &datapath.kernel().calls;
    let first = |found: &dyn Fn(&Call) -> bool| calls.iter().position(found).expect("happened");
    let bucket = u32::from(addr_bucket(&map_addr("10.5.1.10")));
    let written = first(&|call| matches!(call, Call::Put(Map::Locals, ..)));
    let raised = first(&|call| *call == Call::Add(Map::Epochs, bucket, 1));
    assert!(written < raised, "{calls:?}");
    assert_eq!(
        datapath
            .kernel()
            .get_row::<table::Devices>(&12)
            .expect("readable"),
        None
    );
    assert_eq!(datapath.kernel().len(Map::Locals), 1);
}

#[test]
fn a_removed_endpoint_leaves_nothing_but_its_epoch() {
    let mut datapath = fresh();
    datapath
        .put_endpoint(&endpoint(9, 12, "10.5.1.9"))
        .expect("room");
    datapath
        .put_endpoint(&endpoint(8, 11, "10.5.1.8"))
        .expect("room");
    let before = slot(&datapath, 9).epoch;
    for (id, local) in [(9, "10.5.1.9"), (8, "10.5.1.8")] {
        let (key, value) = flow(id, local, "10.5.2.2", 1000, 50);
        datapath
            .kernel_mut()
            .put_row::<table::Flows>(&key, &value)
            .expect("room");
        datapath
            .kernel_mut()
            .add(Map::Shares, u32::from(id), 1)
            .expect("array");
    }
    let all_of_them = datapath.kernel_mut().add(Map::Shares, abi::SHARE_OF_ALL, 2);
    assert_eq!(all_of_them.expect("array"), 2);
    datapath.remove_endpoint(EndpointId(9)).expect("removable");
    datapath
        .remove_endpoint(EndpointId(9))
        .expect("absent is fine");
    assert_eq!(all(&datapath), 1);
    let left = slot(&datapath, 9);
    assert!(left.epoch > before);
    assert_eq!(abi::Endpoint { epoch: 0, ..left }, abi::Endpoint::default());
    assert_eq!(datapath.kernel().len(Map::Locals), 1);
    assert_eq!(datapath.kernel().len(Map::Devices), 1);
    let endpoints: Vec<u16> = datapath
        .flows()
        .expect("readable")
        .iter()
        .map(|(_, flow)| flow.endpoint)
        .collect();
    assert_eq!(endpoints, [8]);
    assert_eq!(
        datapath
            .kernel()
            .get_row::<table::Shares>(&9)
            .expect("readable"),
        Some(0)
    );
    assert_eq!(
        datapath
            .kernel()
            .get_row::<table::Shares>(&8)
            .expect("readable"),
        Some(1)
    );
}

#[test]
fn a_decision_is_current_until_one_of_its_epochs_rises() {
    let mut datapath = fresh();
    datapath
        .put_endpoint(&endpoint(9, 12, "10.5.1.9"))
        .expect("room");
    let (_, mut flow) = flow(9, "10.5.1.9", "10.5.2.2", 1000, 50);
    flow.identity_bucket = flow.addr_bucket.wrapping_add(1);
    let judge = |datapath: &Datapath<Fake>, flow: &mut Flow| {
        let addr = epoch_at(datapath, flow.addr_bucket);
        let identity = epoch_at(datapath, flow.identity_bucket);
        flow.epoch = Flow::epoch_of(slot(datapath, 9).epoch, addr, identity);
        assert!(datapath.is_current(flow).expect("readable"));
    };
    judge(&datapath, &mut flow);
    for bucket in [flow.addr_bucket, flow.identity_bucket] {
        let raised = datapath.kernel_mut().add(Map::Epochs, u32::from(bucket), 1);
        raised.expect("array");
        assert!(!datapath.is_current(&flow).expect("readable"));
        judge(&datapath, &mut flow);
    }
    datapath.apply(&allow_all(3, 9)).expect("room");
    assert!(!datapath.is_current(&flow).expect("readable"));
    judge(&datapath, &mut flow);
    flow.endpoint = 8;
    assert!(!datapath.is_current(&flow).expect("readable"), "nobody's");
}

#[test]
fn pruning_keeps_what_is_named() {
    let mut datapath = fresh();
    datapath
        .put_endpoint(&endpoint(9, 12, "10.5.1.9"))
        .expect("room");
    datapath
        .put_endpoint(&endpoint(8, 11, "10.5.1.8"))
        .expect("room");
    datapath
        .set_host_addresses(&[ip("10.5.1.1")].into())
        .expect("room");
    datapath
        .kernel_mut()
        .put_row::<table::Devices>(&77, &4)
        .expect("room");
    let mut datapath = Datapath::new(datapath.into_kernel()).expect("adopts");
    datapath
        .prune_endpoints(&|id| id == EndpointId(8))
        .expect("removable");
    let left: Vec<EndpointId> = datapath.endpoints().map(|(id, _)| id).collect();
    assert_eq!(left, [EndpointId(8)]);
    assert_eq!(datapath.kernel().len(Map::Locals), 2);
    assert_eq!(datapath.kernel().len(Map::Devices), 1);
}

#[test]
fn host_addresses_follow_the_set_and_spare_pods() {
    let mut datapath = fresh();
    datapath
        .put_endpoint(&endpoint(9, 12, "10.5.1.9"))
        .expect("room");
    datapath
        .set_host_addresses(&[ip("10.5.1.1"), ip("192.0.2.1")].into())
        .expect("room");
    let before = epoch(&datapath, "192.0.2.1");
    datapath
        .set_host_addresses(&[ip("10.5.1.1")].into())
        .expect("room");
    assert!(epoch(&datapath, "192.0.2.1") > before);
    assert_eq!(datapath.kernel().len(Map::Locals), 2);
    datapath.set_host_addresses(&BTreeSet::new()).expect("room");
    assert_eq!(datapath.kernel().len(Map::Locals), 1);
}

#[test]
fn ids_outside_the_array_are_refused() {
    let mut datapath = fresh();
    for id in [0, 4096, u16::MAX] {
        let result = datapath.put_endpoint(&endpoint(id, 12, "10.5.1.9"));
        assert!(
            matches!(result, Err(Error::EndpointId { .. })),
            "{result:?}"
        );
    }
}

#[test]
fn collection_takes_the_dead_and_corrects_shares() {
    let mut datapath = fresh();
    for port in 0..10 {
        let expires = if port < 4 { 100 } else { 1000 };
        let (key, value) = flow(9, "10.5.1.9", "10.5.2.2", port, expires);
        datapath
            .kernel_mut()
            .put_row::<table::Flows>(&key, &value)
            .expect("room");
    }
    // Drifted: 10 would be right.
    datapath
        .kernel_mut()
        .add(Map::Shares, 9, 15)
        .expect("array");
    let stats = datapath.collect_flows(102).expect("readable");
    assert_eq!(
        (stats.live, stats.removed),
        (10, 0),
        "a grace of two seconds"
    );
    let stats = datapath.collect_flows(103).expect("readable");
    assert!(stats.finished);
    assert_eq!((stats.live, stats.removed), (6, 4));
    let share = |datapath: &Datapath<Fake>| {
        datapath
            .kernel()
            .get_row::<table::Shares>(&9)
            .expect("readable")
            .expect("array")
    };
    assert_eq!(share(&datapath), 6, "a surplus of two passes is taken back");
    datapath
        .kernel_mut()
        .add(Map::Shares, 9, -6)
        .expect("array");
    datapath.collect_flows(103).expect("readable");
    assert_eq!(share(&datapath), 6, "too low is corrected at once");
    assert_eq!(all(&datapath), 6);
}

/// Entries of the whole table, as the programs see it.
fn all(datapath: &Datapath<Fake>) -> u32 {
    let row = datapath
        .kernel()
        .get_row::<table::Shares>(&abi::SHARE_OF_ALL);
    row.expect("readable").expect("array")
}

/// A name server gets each question from another port: its flows make room for each other before its share is full.
#[test]
fn a_crowded_endpoint_gives_up_datagrams_that_rest() {
    let mut datapath = fresh();
    let config = NodeConfig {
        flow_share: 40,
        timeout_any: 60,
        ..*datapath.config()
    };
    datapath.set_config(config).expect("written");
    let fill = |datapath: &mut Datapath<Fake>,
                endpoint,
                ip,
                proto,
                ports: std::ops::Range<u16>,
                expires| {
        for port in ports {
            let (key, value) = flow(endpoint, ip, "10.5.2.2", port, expires);
            let key = FlowKey { proto, ..key };
            let put = datapath.kernel_mut().put_row::<table::Flows>(&key, &value);
            put.expect("room");
        }
    };
    // At 1000: the last packet came now, or 13 seconds ago.
    fill(&mut datapath, 9, "10.5.1.9", 17, 0..10, 1060);
    fill(&mut datapath, 9, "10.5.1.9", 17, 10..20, 1047);
    fill(&mut datapath, 9, "10.5.1.9", 6, 20..30, 1047);
    fill(&mut datapath, 8, "10.5.1.8", 17, 0..19, 1047);
    let passes = [0, 10].map(|expected| {
        let stats = datapath.collect_flows(1000).expect("readable");
        assert!(stats.finished);
        (expected, stats.removed)
    });
    assert_eq!(passes, [(0, 0), (10, 10)], "only where it is crowded");
    let stats = datapath.collect_flows(1000).expect("readable");
    assert_eq!((stats.live, stats.removed), (39, 0));
    assert!(datapath.full_endpoints().is_empty());
    fill(&mut datapath, 8, "10.5.1.8", 6, 20..31, 1060);
    let stats = datapath.collect_flows(1000).expect("readable");
    assert_eq!((stats.live, stats.removed), (50, 0));
    assert!(datapath.full_endpoints().iter().eq([&8]), "30 of 40");
}

#[test]
fn a_large_table_is_collected_in_steps() {
    let mut datapath = fresh();
    for port in 0..20_000 {
        let (key, value) = flow(9, "10.5.1.9", "10.5.2.2", port, u32::from(port % 2) * 1000);
        datapath
            .kernel_mut()
            .put_row::<table::Flows>(&key, &value)
            .expect("room");
    }
    let (mut removed, mut steps) = (0, 0);
    loop {
        let stats = datapath.collect_flows(500).expect("readable");
        (removed, steps) = (removed + stats.removed, steps + 1);
        if stats.finished {
            assert_eq!(stats.live, 10_000);
            break;
        }
    }
    assert_eq!((removed, steps), (10_000, 10));
}
