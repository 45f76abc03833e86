// SPDX-License-Identifier: Apache-2.0
//! Services from objects into the kernel: when, what a restart adopts and prunes, and full maps.

use model::{
    EndpointSlice, Family, NamespacedName, Protocol, Service, ServicePort, SliceEndpoint, SlicePort,
};

use super::*;

fn key(name: &str) -> NamespacedName {
    NamespacedName {
        namespace: "demo".into(),
        name: name.into(),
    }
}

/// Service `name` at 10.96.0.`n`.
fn service(name: &str, n: u8) -> ObjectEvent {
    ObjectEvent::Service(Service {
        key: key(name),
        cluster_ips: vec![Ipv4Addr::new(10, 96, 0, n).into()],
        ports: vec![ServicePort {
            name: "".into(),
            port: 80,
            proto: Protocol::Tcp,
        }],
        affinity: 0,
        local_only: false,
    })
}

/// The slice of service `name`: endpoints 10.5.1.`n`.
fn slice(name: &str, endpoints: &[u8]) -> ObjectEvent {
    let endpoint = |n: &u8| SliceEndpoint {
        addr: Ipv4Addr::new(10, 5, 1, *n).into(),
        node: "n1".into(),
        ready: true,
        serving: true,
        terminating: false,
    };
    ObjectEvent::EndpointSlice(EndpointSlice {
        key: key(name),
        service: name.into(),
        family: Family::Ipv4,
        ports: vec![SlicePort {
            name: "".into(),
            port: Some(8080),
            proto: Protocol::Tcp,
        }],
        endpoints: endpoints.iter().map(endpoint).collect(),
    })
}

/// `10.96.0.1:80/TCP 2` per service: where it is, and how many answer.
fn in_kernel(core: &Core<Fake>) -> Vec<String> {
    let rows = core.dp.services().into_iter();
    rows.map(|row| format!("{} {}", row.frontend, row.backends.list.len()))
        .collect()
}

fn map_of(call: &Call) -> Map {
    match call {
        Call::Put(map, ..) | Call::Delete(map, _) | Call::Add(map, ..) => *map,
        other => panic!("{other:?}"),
    }
}

#[test]
fn services_follow_their_objects() {
    let mut core = core();
    objects(&mut core, vec![slice("web", &[1, 2]), service("web", 1)]);
    assert_eq!(in_kernel(&core), ["10.96.0.1:80/TCP 2"]);
    objects(&mut core, vec![slice("web", &[2, 3, 4])]);
    assert_eq!(in_kernel(&core), ["10.96.0.1:80/TCP 3"]);
    core.dp.kernel_mut().calls.clear();
    objects(&mut core, vec![slice("web", &[2, 3, 4])]);
    assert!(core.dp.kernel().calls.is_empty(), "nothing new");
    objects(&mut core, vec![ObjectEvent::EndpointSliceGone(key("web"))]);
    assert_eq!(in_kernel(&core), ["10.96.0.1:80/TCP 0"]);
    objects(&mut core, vec![ObjectEvent::ServiceGone(key("web"))]);
    assert!(in_kernel(&core).is_empty());
}

#[test]
fn a_restart_adopts_what_is_still_named_and_prunes_the_rest() {
    let mut core = core();
    let (web, slice) = (service("web", 1), slice("web", &[1, 2]));
    objects(
        &mut core,
        vec![web.clone(), slice.clone(), service("old", 2)],
    );
    let kernel = core.dp.kernel().clone();
    let mut core = core_before_lists(kernel.clone());
    assert_eq!(in_kernel(&core).len(), 2, "nothing goes before the lists");
    core.dp.kernel_mut().calls.clear();
    objects(&mut core, vec![web, slice]);
    assert_eq!(in_kernel(&core), ["10.96.0.1:80/TCP 2"]);
    let calls = &core.dp.kernel().calls;
    let removed = [Map::Services, Map::Epochs];
    let maps: Vec<_> = calls.iter().map(map_of).collect();
    assert_eq!(maps, removed, "{calls:?}");
    // No source: nothing is named by anybody.
    let mut core = core_before_lists(kernel);
    core.become_ready();
    assert!(in_kernel(&core).is_empty());
}

#[test]
fn what_finds_no_room_is_told_and_comes_later() {
    let mut core = core();
    core.dp.kernel_mut().set_limit(Map::Services, 1);
    objects(&mut core, vec![service("a", 1), service("b", 2)]);
    assert_eq!(core.dp.kernel().len(Map::Services), 1);
    assert!(core.notes.contains_key("services"));
    core.retry_services();
    assert!(core.notes.contains_key("services"));
    objects(&mut core, vec![ObjectEvent::ServiceGone(key("a"))]);
    core.retry_services();
    assert!(!core.notes.contains_key("services"));
    assert_eq!(in_kernel(&core), ["10.96.0.2:80/TCP 0"]);
}

#[test]
fn a_service_that_does_not_fit_leaves_room_to_smaller_ones() {
    let mut core = core();
    core.dp.kernel_mut().set_limit(Map::Members, 3);
    let crowd: Vec<u8> = (1..9).collect();
    let both = |name, n, endpoints: &[u8]| vec![service(name, n), slice(name, endpoints)];
    let mut batch = both("big", 1, &crowd);
    batch.extend(both("small", 2, &[1]));
    objects(&mut core, batch);
    assert_eq!(
        in_kernel(&core),
        ["10.96.0.1:80/TCP 2", "10.96.0.2:80/TCP 1"]
    );
    objects(&mut core, both("late", 3, &[1]));
    assert_eq!(in_kernel(&core)[2], "10.96.0.3:80/TCP 0");
    core.dp.kernel_mut().set_limit(Map::Members, 4);
    core.retry_services();
    assert_eq!(in_kernel(&core)[0], "10.96.0.1:80/TCP 2");
    assert_eq!(in_kernel(&core)[2], "10.96.0.3:80/TCP 1");
}

#[test]
fn what_is_ignored_is_told() {
    let mut core = core();
    let bad = |addr: [u8; 4]| match slice("web", &[1]) {
        ObjectEvent::EndpointSlice(mut slice) => {
            slice.endpoints[0].addr = Ipv4Addr::from(addr).into();
            ObjectEvent::EndpointSlice(slice)
        }
        other => other,
    };
    objects(&mut core, vec![service("web", 1), bad([127, 0, 0, 1])]);
    assert_eq!(in_kernel(&core), ["10.96.0.1:80/TCP 0"]);
    assert_eq!(
        core.notes["objects of services"].text,
        "objects of services: demo/web: EndpointSlice web: 127.0.0.1 is a loopback address: it is ignored"
    );
    objects(&mut core, vec![bad([10, 5, 1, 1])]);
    assert!(!core.notes.contains_key("objects of services"));
}
