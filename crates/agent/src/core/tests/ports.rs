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
    let labels = core.labels_of(&key).expect("known");
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
