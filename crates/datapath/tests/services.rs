// SPDX-License-Identifier: Apache-2.0
//! Services over the fake kernel: what is written, in which order, and what a full map or a restart leaves.

mod support;

use std::net::IpAddr;

use abi::{BackendKey, addr_bucket, member_flags};
use datapath::{Call, Datapath, Fake, Map, Typed, table};
use model::{Backend, Backends, Frontend, Protocol};
use support::{ip, map_addr};

fn frontend(addr: &str) -> Frontend {
    Frontend {
        addr: ip(addr),
        port: 80,
        proto: Protocol::Tcp,
    }
}

fn backend(addr: &str, selectable: bool) -> Backend {
    Backend {
        addr: ip(addr),
        port: 8080,
        selectable,
    }
}

fn all(addrs: &[&str]) -> Backends {
    Backends {
        affinity: 0,
        list: addrs.iter().map(|addr| backend(addr, true)).collect(),
    }
}

/// Backends that new flows may choose, by index.
fn slots(datapath: &Datapath<Fake>) -> Vec<Vec<IpAddr>> {
    let mut rows = datapath
        .kernel()
        .dump::<table::Backends>()
        .expect("readable");
    rows.sort_by_key(|(key, _)| (key.service, key.index));
    let mut out: Vec<Vec<IpAddr>> = Vec::new();
    for (key, row) in rows {
        if key.index == 0 {
            out.push(Vec::new());
        }
        let list = out.last_mut().expect("indices begin with 0");
        assert_eq!(list.len(), key.index as usize, "no gaps");
        list.push(datapath::ip_addr(&row.addr).expect("an address"));
    }
    out
}

/// What the programs need holds: counts are right and who can be chosen is a member.
fn assert_sound(datapath: &Datapath<Fake>) {
    let kernel = datapath.kernel();
    let services = kernel.dump::<table::Services>().expect("readable");
    let backends = kernel.dump::<table::Backends>().expect("readable");
    let members = kernel.dump::<table::Members>().expect("readable");
    for (_, row) in &services {
        let own = backends.iter().filter(|(key, _)| key.service == row.id);
        assert_eq!(own.count(), row.count as usize);
        for (index, few) in (0..).zip(&row.few) {
            let key = BackendKey {
                service: row.id,
                index,
            };
            let slot = backends.iter().find(|(other, _)| *other == key);
            let expected = slot.map_or_else(abi::Backend::default, |(_, slot)| *slot);
            assert_eq!(*few, expected, "the first few are in the row too");
        }
    }
    for (key, row) in &backends {
        let member = members.iter().find(|(member, _)| {
            (member.service, member.addr, member.port) == (key.service, row.addr, row.port)
        });
        let flags = member.expect("a member").1;
        assert_eq!(flags, member_flags::MEMBER | member_flags::SELECTABLE);
    }
    for (member, _) in &members {
        assert!(services.iter().any(|(_, row)| row.id == member.service));
    }
}

fn fresh() -> Datapath<Fake> {
    Datapath::new(Fake::new()).expect("empty maps")
}

#[test]
fn a_backend_is_a_member_before_it_is_chosen_and_raised_after_it_is_gone() {
    let mut datapath = fresh();
    let service = frontend("10.96.0.1");
    assert!(
        datapath
            .put_service(&service, &all(&["10.5.0.1"]))
            .expect("room")
    );
    let maps: Vec<Map> = datapath
        .kernel()
        .calls
        .iter()
        .filter_map(|call| match call {
            Call::Put(map, ..) => Some(*map),
            _ => None,
        })
        .collect();
    assert_eq!(maps, [Map::Members, Map::Backends, Map::Services]);
    assert_sound(&datapath);
    assert!(
        !datapath
            .put_service(&service, &all(&["10.5.0.1"]))
            .expect("room")
    );

    datapath.kernel_mut().calls.clear();
    assert!(datapath.put_service(&service, &all(&[])).expect("room"));
    let text: Vec<String> = datapath
        .kernel()
        .calls
        .iter()
        .map(|call| format!("{call:?}"))
        .collect();
    let at = |what: &str| text.iter().position(|call| call.contains(what));
    assert!(at("Services") < at("Backends"), "{text:?}");
    assert!(at("Backends") < at("Members"), "{text:?}");
    assert!(at("Members") < at("Epochs"), "{text:?}");
    let calls = datapath.kernel().calls.iter();
    let raised = calls.filter_map(|call| match call {
        Call::Add(Map::Epochs, bucket, _) => Some(*bucket),
        _ => None,
    });
    let bucket = |addr| u32::from(addr_bucket(&map_addr(addr)));
    let order = ["10.96.0.1", "10.5.0.1"].map(bucket);
    assert_eq!(raised.collect::<Vec<_>>(), order, "the service's first");
    assert_sound(&datapath);
}

#[test]
fn every_change_of_a_services_rows_raises_its_epoch() {
    let mut datapath = fresh();
    let service = frontend("10.96.0.1");
    let epoch = |datapath: &Datapath<Fake>| {
        let bucket = u32::from(addr_bucket(&map_addr("10.96.0.1")));
        let epoch = datapath.kernel().get_row::<table::Epochs>(&bucket);
        epoch.expect("readable").unwrap_or(0)
    };
    for _ in 0..2 {
        let before = epoch(&datapath);
        datapath
            .put_service(&service, &all(&["10.5.0.1"]))
            .expect("room");
        assert_eq!(epoch(&datapath), before + 1);
        let last = datapath.kernel().calls.last();
        assert!(matches!(last, Some(Call::Add(Map::Epochs, ..))), "{last:?}");
        datapath
            .put_service(&service, &all(&["10.5.0.1", "10.5.0.2"]))
            .expect("room");
        assert_eq!(epoch(&datapath), before + 2);
        datapath
            .put_service(&service, &all(&["10.5.0.1", "10.5.0.2"]))
            .expect("room");
        assert_eq!(epoch(&datapath), before + 2, "nothing changed");
        datapath.remove_service(&service).expect("removable");
        assert!(epoch(&datapath) > before + 2);
    }
}

#[test]
fn a_change_writes_what_changed() {
    let mut datapath = fresh();
    let service = frontend("10.96.0.1");
    let names: Vec<String> = (1..=100).map(|n| format!("10.5.0.{n}")).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    datapath.put_service(&service, &all(&names)).expect("room");
    datapath.kernel_mut().calls.clear();
    names.remove(40);
    datapath.put_service(&service, &all(&names)).expect("room");
    assert!(
        datapath.kernel().calls.len() <= 6,
        "{:?}",
        datapath.kernel().calls
    );
    assert_sound(&datapath);
    datapath.kernel_mut().calls.clear();
    names[3] = "10.5.1.1";
    datapath.put_service(&service, &all(&names)).expect("room");
    assert!(
        datapath.kernel().calls.len() <= 6,
        "{:?}",
        datapath.kernel().calls
    );
    assert_sound(&datapath);
    let mut have = slots(&datapath).remove(0);
    have.sort();
    let mut want: Vec<IpAddr> = names.iter().map(|name| ip(name)).collect();
    want.sort();
    assert_eq!(have, want);
}

#[test]
fn who_takes_no_new_flows_stays_a_member() {
    let mut datapath = fresh();
    let service = frontend("10.96.0.1");
    datapath
        .put_service(&service, &all(&["10.5.0.1", "10.5.0.2"]))
        .expect("room");
    let epochs = |datapath: &Datapath<Fake>| {
        ["10.5.0.1", "10.5.0.2", "10.96.0.1"].map(|addr| {
            let bucket = u32::from(addr_bucket(&map_addr(addr)));
            let row = datapath.kernel().get_row::<table::Epochs>(&bucket);
            row.expect("readable").expect("there")
        })
    };
    let before = epochs(&datapath);
    let list = vec![backend("10.5.0.1", false), backend("10.5.0.2", true)];
    let backends = Backends { affinity: 60, list };
    datapath.put_service(&service, &backends).expect("room");
    assert_sound(&datapath);
    assert_eq!(slots(&datapath), [[ip("10.5.0.2")]]);
    let [stays, goes, service_epoch] = before;
    let after = [stays, goes, service_epoch + 1];
    assert_eq!(epochs(&datapath), after, "its flows are not disturbed");
    assert_eq!(datapath.services()[0].backends, backends);
    datapath
        .put_service(&service, &all(&["10.5.0.1"]))
        .expect("room");
    assert_eq!(slots(&datapath), [[ip("10.5.0.1")]]);
    assert_sound(&datapath);
    let after = [stays, goes + 1, service_epoch + 2];
    assert_eq!(epochs(&datapath), after);
}

#[test]
fn affinity_is_told_in_the_clock_of_the_programs() {
    let mut datapath = fresh();
    let service = frontend("10.96.0.1");
    for (seconds, ticks) in [(0, 0), (1, 1), (120, 111), (10_800, 10_058)] {
        let backends = Backends {
            affinity: seconds,
            ..all(&["10.5.0.1"])
        };
        datapath.put_service(&service, &backends).expect("room");
        let rows = datapath.kernel().dump::<table::Services>();
        assert_eq!(rows.expect("readable")[0].1.affinity, ticks);
        let told = datapath.services()[0].backends.affinity;
        assert!(told.abs_diff(seconds) <= 1, "{told} of {seconds}");
        let row = &datapath.service_map().expect("readable")[0];
        assert_eq!((row.frontend, row.affinity), (service, told));
        assert_eq!(row.slots, [(ip("10.5.0.1"), 8080).into()]);
        // What is shown is what was said, so saying it again changes nothing.
        assert!(!datapath.put_service(&service, &backends).expect("room"));
    }
}

#[test]
fn services_outlive_the_agent_and_are_pruned() {
    let mut datapath = fresh();
    let (kept, gone) = (frontend("10.96.0.1"), frontend("fd00::60"));
    datapath
        .put_service(&kept, &all(&["10.5.0.1", "10.5.0.2"]))
        .expect("room");
    datapath
        .put_service(&gone, &all(&["fd00::1"]))
        .expect("room");
    let before = datapath.services();
    let mut datapath = Datapath::new(datapath.into_kernel()).expect("adopted");
    assert_eq!(datapath.services(), before);
    assert!(
        !datapath
            .put_service(&kept, &all(&["10.5.0.1", "10.5.0.2"]))
            .expect("room")
    );
    datapath
        .prune_services(&|frontend| *frontend == kept)
        .expect("removable");
    assert_eq!(datapath.services().len(), 1);
    assert_sound(&datapath);
    assert!(datapath.remove_service(&kept).expect("removable"));
    assert!(!datapath.remove_service(&kept).expect("absent is fine"));
    for rows in [Map::Services, Map::Backends, Map::Members] {
        let pressure = datapath.map_pressure();
        let found = pressure.iter().find(|(name, ..)| *name == rows.name());
        assert_eq!(found.expect("counted").1, 0, "{rows}");
    }
}

#[test]
fn a_full_map_refuses_what_does_not_fit_and_nothing_else() {
    for (map, room) in [(Map::Members, 2), (Map::Backends, 2), (Map::Services, 0)] {
        let mut kernel = Fake::new();
        kernel.set_limit(map, room);
        let mut datapath = Datapath::new(kernel).expect("empty maps");
        let service = frontend("10.96.0.1");
        let names = ["10.5.0.1", "10.5.0.2", "10.5.0.3"];
        datapath
            .put_service(&service, &all(&names))
            .expect_err("full");
        if map != Map::Services {
            assert_sound(&datapath);
            assert_eq!(slots(&datapath)[0].len(), 2, "{map}");
        }
        assert_eq!(datapath.full_maps(), [map.name()]);
        datapath.kernel_mut().set_limit(map, 100);
        assert!(datapath.put_service(&service, &all(&names)).expect("room"));
        assert_sound(&datapath);
        assert_eq!(slots(&datapath)[0].len(), 3, "{map}");
        assert!(datapath.full_maps().is_empty());
    }
}

#[test]
fn a_service_in_full_maps_keeps_its_room_while_its_backends_change() {
    for map in [Map::Members, Map::Backends] {
        let mut kernel = Fake::new();
        kernel.set_limit(map, 3);
        let mut datapath = Datapath::new(kernel).expect("empty maps");
        let (small, big) = (frontend("10.96.0.2"), frontend("10.96.0.1"));
        datapath
            .put_service(&small, &all(&["10.5.0.9"]))
            .expect("room");
        let names = ["10.5.0.1", "10.5.0.2", "10.5.0.3"];
        datapath.put_service(&big, &all(&names)).expect_err("full");
        for name in ["10.5.0.8", "10.5.0.9"] {
            datapath.put_service(&small, &all(&[name])).expect("room");
            assert_sound(&datapath);
            assert_eq!(slots(&datapath)[0], [ip(name)], "{map}");
        }
        datapath.put_service(&big, &all(&names)).expect_err("full");
        assert_eq!(slots(&datapath)[1].len(), 2, "{map}");
    }
}

#[test]
fn rows_are_shown_by_their_fields() {
    let mut datapath = fresh();
    let service = frontend("10.96.0.1");
    let backends = all(&["10.5.0.1"]);
    datapath.put_service(&service, &backends).expect("room");
    let rows = |name| datapath.rows(name, 10).expect("readable");
    let services = rows("ist_services").expect("a map");
    let [(key, value)] = &services[..] else {
        panic!("{services:?}");
    };
    assert_eq!(key, "addr=10.96.0.1 port=80 proto=6");
    assert!(value.contains("count=1 affinity=0"), "{value}");
    let backends = rows("ist_backends").expect("a map");
    assert_eq!(backends[0].1, "addr=10.5.0.1 port=8080");
    assert_eq!(rows("ist_ipcache"), Some(Vec::new()));
    // Arrays have no rows of their own.
    assert_eq!(rows("ist_epochs"), None);
    assert_eq!(rows("nothing"), None);
}
