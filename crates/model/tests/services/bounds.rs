// SPDX-License-Identifier: Apache-2.0
//! What is not followed, and that it is told: bad addresses, contested frontends, too many of anything.

use super::*;

#[test]
fn addresses_of_nowhere_are_ignored_and_named() {
    for (addr, why) in [
        ("127.0.0.1", "a loopback address"),
        ("0.0.0.0", "the unspecified address"),
        ("224.0.0.1", "a multicast address"),
        ("169.254.169.254", "a link-local address"),
        ("255.255.255.255", "the broadcast address"),
    ] {
        let mut join = join();
        join.put_service(service());
        join.put_slice(slice("a", vec![ready(addr, "n1"), ready("10.0.0.1", "n1")]));
        assert_eq!(
            changes(&mut join),
            ["10.96.0.1:80/TCP → 10.0.0.1:8080"],
            "{addr}"
        );
        assert_eq!(
            join.problems(),
            [format!(
                "shop/web: EndpointSlice a: {addr} is {why}: it is ignored"
            )]
        );
        // Put right.
        join.put_slice(slice("a", vec![ready("10.0.0.1", "n1")]));
        assert!(changes(&mut join).is_empty() && join.problems().is_empty());
    }
    for addr in ["::1", "::", "ff02::1", "fe80::1", "::ffff:10.0.0.1"] {
        let bad = Service {
            cluster_ips: vec![ip(addr)],
            ..service()
        };
        let mut join = join();
        join.put_service(bad);
        assert!(changes(&mut join).is_empty(), "{addr}");
        assert!(join.problems()[0].starts_with("shop/web: ClusterIP "));
    }
}

#[test]
fn a_frontend_belongs_to_who_came_first() {
    let mut join = join();
    join.put_service(service());
    assert_eq!(changes(&mut join), ["10.96.0.1:80/TCP →"]);
    join.put_service(Service {
        key: name("a"),
        ..service()
    });
    join.put_slice(EndpointSlice {
        service: "a".into(),
        ..slice("a", vec![ready("10.0.0.1", "n1")])
    });
    assert!(changes(&mut join).is_empty());
    assert_eq!(
        join.problems(),
        [
            "shop/a: 10.96.0.1:80/TCP is a frontend of shop/web already; give one of them another ClusterIP"
        ]
    );
    join.remove_service(&name("web"));
    assert_eq!(changes(&mut join), ["10.96.0.1:80/TCP → 10.0.0.1:8080"]);
    assert!(join.problems().is_empty());
}

#[test]
fn there_are_bounds() {
    let mut join = join_of(2);
    for (i, service_name) in ["a", "b", "c"].iter().enumerate() {
        join.put_service(Service {
            key: name(service_name),
            cluster_ips: vec![ip(&format!("10.96.0.{i}"))],
            ..service()
        });
    }
    assert_eq!(changes(&mut join).len(), 2);
    assert_eq!(
        join.problems(),
        ["shop/c: not translated, for there are 2 frontends already: raise the limit of services"]
    );
    join.remove_service(&name("a"));
    assert_eq!(
        changes(&mut join),
        ["10.96.0.0:80/TCP gone", "10.96.0.2:80/TCP →"],
        "there is room again"
    );
    assert!(join.problems().is_empty());

    let mut join = join_of(100);
    join.put_service(service());
    for part in 0..6_u8 {
        let of = |i: u16| format!("10.{part}.{}.{}", i / 200, i % 200 + 1);
        let mut endpoints: Vec<_> = (0..999).map(|i| ready(&of(i), "n2")).collect();
        endpoints.push(unready(&of(999)));
        join.put_slice(slice(&format!("s{part}"), endpoints));
    }
    let made = join.changes();
    let [ServiceChange::Put(_, backends)] = &made[..] else {
        panic!("{made:?}");
    };
    assert_eq!(backends.list.len(), MAX_ENDPOINTS);
    assert!(backends.list.is_sorted() && backends.list.iter().all(|b| b.selectable));
    assert_eq!(
        join.problems(),
        ["10.96.0.1:80/TCP has 6000 endpoints, 5000 of them are used"]
    );
    join.remove_service(&name("web"));
    assert_eq!(changes(&mut join), ["10.96.0.1:80/TCP gone"]);
    assert!(join.problems().is_empty());
}

#[test]
fn rows_say_whose_a_frontend_is_and_how_its_endpoints_fare() {
    let mut join = join();
    join.put_service(Service {
        local_only: true,
        ..service()
    });
    join.put_slice(slice(
        "a",
        vec![
            ready("10.0.0.1", "n1"),
            unready("10.0.0.2"),
            ending("10.0.0.3", true),
            ending("10.0.0.4", false),
            ready("10.0.0.5", "n2"),
        ],
    ));
    assert_eq!(join.changes().len(), 1);
    let rows: Vec<_> = join.rows().collect();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].service.key, name("web"));
    assert_eq!(
        rows[0].frontend,
        Frontend {
            addr: ip("10.96.0.1"),
            port: 80,
            proto: Protocol::Tcp
        }
    );
    let states: Vec<_> = rows[0].endpoints.iter().map(|(_, state)| *state).collect();
    assert_eq!(
        states,
        [
            EndpointState::Ready,
            EndpointState::NotReady,
            EndpointState::Terminating,
            EndpointState::TerminatingNotServing
        ]
    );
    assert_eq!(
        rows[0].endpoints[0].0,
        Backend {
            addr: ip("10.0.0.1"),
            port: 8080,
            selectable: true
        }
    );
}
