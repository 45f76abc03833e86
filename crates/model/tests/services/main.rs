// SPDX-License-Identifier: Apache-2.0
//! Services and slices in, frontends and backends out.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod bounds;

use std::net::IpAddr;

use model::{
    Backend, EndpointSlice, EndpointState, Family, Frontend, MAX_ENDPOINTS, NamespacedName,
    Protocol, Service, ServiceChange, ServicePort, ServiceSettings, Services, SliceEndpoint,
    SlicePort,
};

fn join_of(max_frontends: usize) -> Services {
    Services::new(ServiceSettings {
        node: "n1".into(),
        ipv4: true,
        ipv6: true,
        max_frontends,
    })
}

fn join() -> Services {
    join_of(100)
}

fn name(name: &str) -> NamespacedName {
    NamespacedName {
        namespace: "shop".into(),
        name: name.into(),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn port(name: &str, port: u16, proto: Protocol) -> ServicePort {
    ServicePort {
        name: name.into(),
        port,
        proto,
    }
}

/// `web`: 10.96.0.1, port 80 named http.
fn service() -> Service {
    Service {
        key: name("web"),
        cluster_ips: vec![ip("10.96.0.1")],
        ports: vec![port("http", 80, Protocol::Tcp)],
        affinity: 0,
        local_only: false,
    }
}

fn ready(addr: &str, node: &str) -> SliceEndpoint {
    SliceEndpoint {
        addr: ip(addr),
        node: node.into(),
        ready: true,
        serving: true,
        terminating: false,
    }
}

fn unready(addr: &str) -> SliceEndpoint {
    SliceEndpoint {
        ready: false,
        serving: false,
        ..ready(addr, "n1")
    }
}

fn ending(addr: &str, serving: bool) -> SliceEndpoint {
    SliceEndpoint {
        ready: false,
        serving,
        terminating: true,
        ..ready(addr, "n1")
    }
}

/// A slice of `web` with port 8080 named http.
fn slice(slice: &str, endpoints: Vec<SliceEndpoint>) -> EndpointSlice {
    EndpointSlice {
        key: name(slice),
        service: "web".into(),
        family: Family::Ipv4,
        ports: vec![SlicePort {
            name: "http".into(),
            port: Some(8080),
            proto: Protocol::Tcp,
        }],
        endpoints,
    }
}

/// `10.96.0.1:80/TCP → 10.0.0.1:8080 (10.0.0.2:8080)`; in brackets: no new flows.
fn text(change: &ServiceChange) -> String {
    match change {
        ServiceChange::Remove(frontend) => format!("{frontend} gone"),
        ServiceChange::Put(frontend, backends) => {
            let list = backends.list.iter().map(|backend| {
                let at = std::net::SocketAddr::new(backend.addr, backend.port);
                match backend.selectable {
                    true => format!(" {at}"),
                    false => format!(" ({at})"),
                }
            });
            format!("{frontend} →{}", list.collect::<String>())
        }
    }
}

fn changes(join: &mut Services) -> Vec<String> {
    join.changes().iter().map(text).collect()
}

/// What becomes of `web` with these endpoints.
fn of(service: Service, endpoints: Vec<SliceEndpoint>) -> Vec<String> {
    let mut join = join();
    join.put_slice(slice("a", endpoints));
    join.put_service(service);
    changes(&mut join)
}

#[test]
fn conditions_say_who_takes_new_flows() {
    let with = |endpoints| of(service(), endpoints).concat();
    let (a, b, c) = ("10.0.0.1", "10.0.0.2", "10.0.0.3");
    assert_eq!(with(vec![]), "10.96.0.1:80/TCP →");
    assert_eq!(
        with(vec![ready(b, "n2"), ready(a, "n1")]),
        "10.96.0.1:80/TCP → 10.0.0.1:8080 10.0.0.2:8080"
    );
    assert_eq!(
        with(vec![ready(a, "n2"), unready(b), ending(c, true)]),
        "10.96.0.1:80/TCP → 10.0.0.1:8080 (10.0.0.2:8080) (10.0.0.3:8080)"
    );
    assert_eq!(
        with(vec![unready(a), ending(b, false), ending(c, true)]),
        "10.96.0.1:80/TCP → (10.0.0.1:8080) (10.0.0.2:8080) 10.0.0.3:8080",
        "the last that answers take new flows"
    );
    assert_eq!(
        with(vec![unready(a), ending(b, false)]),
        "10.96.0.1:80/TCP → (10.0.0.1:8080) (10.0.0.2:8080)"
    );
}

#[test]
fn a_local_service_has_the_endpoints_of_its_node() {
    let local = Service {
        local_only: true,
        ..service()
    };
    let far = ready("10.0.0.9", "n2");
    assert_eq!(
        of(local.clone(), vec![ready("10.0.0.1", "n1"), far.clone()]).concat(),
        "10.96.0.1:80/TCP → 10.0.0.1:8080 (10.0.0.9:8080)"
    );
    assert_eq!(
        of(
            local.clone(),
            vec![ending("10.0.0.1", true), far.clone(), ready("10.0.0.8", "")]
        )
        .concat(),
        "10.96.0.1:80/TCP → 10.0.0.1:8080 (10.0.0.8:8080) (10.0.0.9:8080)",
        "ready ones elsewhere do not count"
    );
    assert_eq!(
        of(local, vec![far]).concat(),
        "10.96.0.1:80/TCP → (10.0.0.9:8080)"
    );
}

#[test]
fn ports_are_matched_by_name_and_protocol() {
    let many = Service {
        ports: vec![
            port("http", 80, Protocol::Tcp),
            port("dns", 53, Protocol::Udp),
            port("dns-tcp", 53, Protocol::Tcp),
            port("sctp", 99, Protocol::Sctp),
            port("other", 7, Protocol::Tcp),
        ],
        ..service()
    };
    let mut all = slice("a", vec![ready("10.0.0.1", "n1")]);
    for (name, number, proto) in [
        ("dns", Some(5353), Protocol::Udp),
        ("dns-tcp", None, Protocol::Tcp),
        ("sctp", Some(99), Protocol::Sctp),
        ("other", Some(7), Protocol::Udp),
    ] {
        all.ports.push(SlicePort {
            name: name.into(),
            port: number,
            proto,
        });
    }
    let mut join = join();
    join.put_service(many);
    join.put_slice(all);
    assert_eq!(
        changes(&mut join),
        [
            "10.96.0.1:7/TCP →",
            "10.96.0.1:53/TCP → 10.0.0.1:53",
            "10.96.0.1:53/UDP → 10.0.0.1:5353",
            "10.96.0.1:80/TCP → 10.0.0.1:8080",
        ]
    );
    let mut unnamed = slice("a", vec![ready("10.0.0.1", "n1")]);
    unnamed.ports[0].name = "".into();
    let mut join = join_of(100);
    join.put_service(Service {
        ports: vec![port("", 80, Protocol::Tcp)],
        ..service()
    });
    join.put_slice(unnamed);
    assert_eq!(changes(&mut join), ["10.96.0.1:80/TCP → 10.0.0.1:8080"]);
}

#[test]
fn each_family_has_its_slices() {
    let dual = Service {
        cluster_ips: vec![ip("10.96.0.1"), ip("fd00::1")],
        affinity: 10800,
        ..service()
    };
    let six = EndpointSlice {
        family: Family::Ipv6,
        ..slice(
            "six",
            vec![ready("fd00:5::7", "n1"), ready("10.0.0.2", "n1")],
        )
    };
    let mut join = join();
    join.put_service(dual.clone());
    join.put_slice(six.clone());
    join.put_slice(slice(
        "four",
        vec![ready("10.0.0.1", "n1"), ready("fd00:5::8", "n1")],
    ));
    let made = join.changes();
    assert_eq!(
        made.iter().map(text).collect::<Vec<_>>(),
        [
            "10.96.0.1:80/TCP → 10.0.0.1:8080",
            "[fd00::1]:80/TCP → [fd00:5::7]:8080"
        ]
    );
    assert!(made.iter().all(
        |change| matches!(change, ServiceChange::Put(_, backends) if backends.affinity == 10800)
    ));
    assert_eq!(
        join.problems(),
        [
            "shop/web: EndpointSlice four: fd00:5::8 is not of the slice's addressType: it is ignored, and so are 1 more addresses"
        ]
    );
    let mut only_four = Services::new(ServiceSettings {
        node: "n1".into(),
        ipv4: true,
        ipv6: false,
        max_frontends: 100,
    });
    only_four.put_service(dual);
    only_four.put_slice(six);
    assert_eq!(changes(&mut only_four), ["10.96.0.1:80/TCP →"]);
}

#[test]
fn an_endpoint_of_several_slices_is_there_once() {
    let mut join = join();
    join.put_service(service());
    join.put_slice(slice(
        "a",
        vec![unready("10.0.0.1"), ready("10.0.0.2", "n2")],
    ));
    join.put_slice(slice("b", vec![ready("10.0.0.1", "n1")]));
    assert_eq!(
        changes(&mut join),
        ["10.96.0.1:80/TCP → 10.0.0.1:8080 10.0.0.2:8080"]
    );
    join.remove_slice(&name("b"));
    assert_eq!(
        changes(&mut join),
        ["10.96.0.1:80/TCP → (10.0.0.1:8080) 10.0.0.2:8080"]
    );
}

#[test]
fn a_change_is_about_its_service_only() {
    let mut join = join();
    join.put_service(service());
    join.put_service(Service {
        key: name("db"),
        cluster_ips: vec![ip("10.96.0.2")],
        ..service()
    });
    join.put_slice(slice("a", vec![ready("10.0.0.1", "n1")]));
    assert_eq!(changes(&mut join).len(), 2);
    join.put_slice(slice("a", vec![ready("10.0.0.3", "n1")]));
    assert_eq!(changes(&mut join), ["10.96.0.1:80/TCP → 10.0.0.3:8080"]);
    join.put_slice(slice("a", vec![ready("10.0.0.3", "n2")]));
    join.put_service(service());
    assert!(changes(&mut join).is_empty(), "nothing that matters");
    // A slice that goes to another service.
    join.put_slice(EndpointSlice {
        service: "db".into(),
        ..slice("a", vec![ready("10.0.0.3", "n1")])
    });
    assert_eq!(
        changes(&mut join),
        ["10.96.0.1:80/TCP →", "10.96.0.2:80/TCP → 10.0.0.3:8080"]
    );
    join.remove_service(&name("db"));
    assert_eq!(changes(&mut join), ["10.96.0.2:80/TCP gone"]);
    join.remove_service(&name("db"));
    join.put_slice(EndpointSlice {
        service: "".into(),
        ..slice("a", vec![])
    });
    assert!(changes(&mut join).is_empty());
    // The port moves, and then the service becomes headless.
    join.put_service(Service {
        ports: vec![port("http", 81, Protocol::Tcp)],
        ..service()
    });
    assert_eq!(
        changes(&mut join),
        ["10.96.0.1:80/TCP gone", "10.96.0.1:81/TCP →"]
    );
    join.put_service(Service {
        cluster_ips: vec![],
        ..service()
    });
    assert_eq!(changes(&mut join), ["10.96.0.1:81/TCP gone"]);
}
