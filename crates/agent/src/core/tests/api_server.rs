// SPDX-License-Identifier: Apache-2.0
//! The entity of the API server: this node, another one, and addresses outside.

use model::{EndpointSlice, Family, NamespacedName, SliceEndpoint};

use super::*;

/// The API server is at these addresses.
fn at(addresses: &[[u8; 4]]) -> ObjectEvent {
    let key = |name: &str| NamespacedName {
        namespace: "default".into(),
        name: name.into(),
    };
    let endpoint = |addr: &[u8; 4]| SliceEndpoint {
        addr: (*addr).into(),
        node: "".into(),
        ready: true,
        serving: true,
        terminating: false,
    };
    ObjectEvent::EndpointSlice(EndpointSlice {
        key: key("kubernetes"),
        service: "kubernetes".into(),
        family: Family::Ipv4,
        ports: Vec::new(),
        endpoints: addresses.iter().map(endpoint).collect(),
    })
}

fn may(core: &Core<Fake>, ip: &str) -> bool {
    let prefix = format!("{ip}/32").parse().expect("valid");
    let claimed = core.addresses.get(&prefix).map(|(_, claim)| claim.identity);
    let peer = claimed.unwrap_or(reserved::WORLD);
    let why = core
        .engine
        .explain(ENDPOINT, Direction::Ingress, peer, 6, 80);
    why.expect("committed").verdict == Action::Allow
}

#[test]
fn the_api_server_is_wherever_its_endpoints_are() {
    let mut core = core();
    let entities = |entity| {
        ObjectEvent::Policy(policy(Peers {
            entities: Some(vec![entity]),
            ..Peers::default()
        }))
    };
    let of_cluster = |cluster, n, id| {
        let mut other = (*node(n)).clone();
        other.name = name(cluster, &format!("n{n}"));
        other.cluster_id = ClusterId(id);
        Arc::new(other)
    };
    core.set_node(Source::Kvstore, of_cluster("cluster5", 2, 5));
    core.set_node(Source::Kvstore, of_cluster("cluster5", 3, 5));
    core.set_node(mesh(), of_cluster("cluster7", 4, 7));
    objects(&mut core, vec![entities(Entity::KubeApiserver)]);
    let hosts = ["172.30.0.2", "172.30.0.3", "172.30.0.4", "198.51.100.9"];
    let allowed = |core: &Core<Fake>| hosts.map(|ip| may(core, ip));
    assert_eq!(allowed(&core), [false; 4]);
    let servers = [[172, 30, 0, 2], [172, 30, 0, 4], [198, 51, 100, 9]];
    objects(&mut core, vec![at(&servers)]);
    assert_eq!(
        allowed(&core),
        [true, false, false, true],
        "a node of another cluster is none of ours"
    );
    // One that comes later, and one that has the address no more.
    core.set_node(Source::Kvstore, of_cluster("cluster5", 2, 5));
    objects(&mut core, vec![at(&[[172, 30, 0, 3]])]);
    assert_eq!(allowed(&core), [false, true, false, false]);
    objects(&mut core, vec![entities(Entity::RemoteNode)]);
    assert_eq!(allowed(&core), [true, true, true, false]);
    // This node.
    objects(&mut core, vec![entities(Entity::KubeApiserver)]);
    let own = |core: &Core<Fake>| {
        let labels = &core.identities[&reserved::HOST];
        labels.get("reserved", "kube-apiserver").is_some()
    };
    assert!(!own(&core));
    objects(&mut core, vec![at(&[[172, 30, 5, 1]])]);
    assert!(own(&core));
    objects(&mut core, vec![at(&[])]);
    assert!(!own(&core));
    assert_eq!(allowed(&core), [false; 4]);
    assert!(core.notes.is_empty(), "{:?}", core.notes);
}
