// SPDX-License-Identifier: Apache-2.0
//! Ports by name follow the objects of their pods.

use model::{NamedPort, Protocol};
use policy::{NamedPortRule, PortProtocol};

use super::*;

fn pod(key: &PodKey, port: u16) -> ObjectEvent {
    let http = NamedPort {
        name: "http".into(),
        port,
        protocol: Protocol::Tcp,
    };
    ObjectEvent::Pod(model::Pod {
        key: key.clone(),
        uid: "".into(),
        mirrored: "".into(),
        node: "n1".into(),
        service_account: "default".into(),
        host_network: false,
        labels: [("app".to_owned(), "named".to_owned())].into(),
        named_ports: [http].into(),
    })
}

#[test]
fn a_pod_that_names_another_port_is_reached_there() {
    let mut core = core();
    core.endpoint_dir = "/dev/null/endpoints".into();
    let id = EndpointId(10);
    let key = PodKey {
        namespace: "demo".into(),
        name: "named".into(),
    };
    core.restore_endpoint(endpoint(id, key.clone()))
        .expect("room");
    let mut named = policy(Peers {
        entities: Some(vec![Entity::All]),
        ..Peers::default()
    });
    let entry = &mut named.rules[0].ingress.as_mut().expect("ingress")[0];
    entry.ports = Some(Vec::new());
    entry.named_ports = vec![NamedPortRule {
        name: "http".into(),
        protocol: PortProtocol::Tcp,
    }];
    objects(&mut core, vec![pod(&key, 8080), ObjectEvent::Policy(named)]);
    let labels = core.labels_of(&core.endpoints[&id].attachment);
    let labels = labels.expect("known");
    core.relabel(id, labels, NumericIdentity(WEB.0 + 1));
    let allowed = |core: &Core<Fake>| {
        let may = |port: &u16| {
            let why = core.engine.explain(id, Direction::Ingress, PEER, 6, *port);
            why.expect("committed").verdict == Action::Allow
        };
        [80, 8080, 9090].into_iter().filter(may).collect::<Vec<_>>()
    };
    assert_eq!(allowed(&core), [8080]);
    objects(&mut core, vec![pod(&key, 9090)]);
    assert_eq!(allowed(&core), [9090]);
}

/// Egress to everybody at the port that they name http.
fn to_named() -> PolicyObject {
    let mut named = policy(Peers::default());
    let mut rule = named.rules.remove(0);
    rule.ingress = None;
    rule.egress = Some(vec![Entry {
        peers: Peers {
            entities: Some(vec![Entity::All]),
            ..Peers::default()
        },
        ports: Some(Vec::new()),
        named_ports: vec![NamedPortRule {
            name: "http".into(),
            protocol: PortProtocol::Tcp,
        }],
    }]);
    named.rules.push(rule);
    named
}

#[test]
fn names_of_this_clusters_pods_count_for_those_who_ask_them() {
    let mut core = core();
    let peer = NumericIdentity(WEB.0 + 1);
    core.set_identity(peer, labels("cluster5", "peer"));
    objects(&mut core, vec![ObjectEvent::Policy(to_named())]);
    let row = |address: &str, port: u16| model::IpEntry {
        namespace: "demo".into(),
        pod: address.into(),
        named_ports: [NamedPort {
            name: "http".into(),
            port,
            protocol: Protocol::Tcp,
        }]
        .into(),
        ..model::IpEntry::new(
            format!("{address}/32").parse().expect("valid"),
            peer,
            "172.30.5.2".parse().ok(),
        )
    };
    let allowed = |core: &mut Core<Fake>| {
        core.settle();
        let may = |port: &u16| {
            let way = Direction::Egress;
            let why = core.engine.explain(ENDPOINT, way, peer, 6, *port);
            why.expect("committed").verdict == Action::Allow
        };
        [80, 8080, 9090].into_iter().filter(may).collect::<Vec<_>>()
    };
    assert!(allowed(&mut core).is_empty());
    let (a, b) = (row("10.5.2.7", 8080), row("10.5.2.8", 8080));
    core.set_own_cluster_ip(&a);
    core.set_own_cluster_ip(&b);
    assert_eq!(allowed(&mut core), [8080]);
    // Pods of one identity that differ have no port in common.
    core.set_own_cluster_ip(&row("10.5.2.9", 9090));
    assert!(allowed(&mut core).is_empty());
    core.drop_own_cluster_ip(&a.prefix);
    core.drop_own_cluster_ip(&b.prefix);
    assert_eq!(allowed(&mut core), [9090]);
    core.drop_own_cluster_ip(&"10.5.2.9/32".parse().expect("valid"));
    assert!(allowed(&mut core).is_empty());
}

#[test]
fn a_name_in_egress_is_what_pods_of_other_clusters_say() {
    let mut core = core();
    core.set_identity(PEER, labels("cluster7", "peer"));
    let all = Peers {
        entities: Some(vec![Entity::All]),
        ..Peers::default()
    };
    let mut entry = Entry::new(all, Some(Vec::new()));
    entry.named_ports = vec![NamedPortRule {
        name: "http".into(),
        protocol: PortProtocol::Tcp,
    }];
    let mut named = policy(Peers::default());
    named.rules[0].ingress = None;
    named.rules[0].egress = Some(vec![entry]);
    objects(&mut core, vec![ObjectEvent::Policy(named)]);
    let http = |port| NamedPort {
        name: "http".into(),
        port,
        protocol: Protocol::Tcp,
    };
    let mut allowed = |ports: Vec<NamedPort>| {
        core.put_remote_ports(PEER, ports.into());
        core.settle();
        let may = |port: &u16| {
            let why = core
                .engine
                .explain(ENDPOINT, Direction::Egress, PEER, 6, *port);
            why.expect("committed").verdict == Action::Allow
        };
        [80, 8080, 9090].into_iter().filter(may).collect::<Vec<_>>()
    };
    assert_eq!(allowed(vec![http(8080)]), [8080]);
    assert_eq!(allowed(vec![http(9090)]), [9090]);
    assert!(allowed(vec![]).is_empty());
}
