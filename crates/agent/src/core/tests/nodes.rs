// SPDX-License-Identifier: Apache-2.0
//! Nodes of remote clusters: what one costs, how long it stays, and addresses that nodes share for a while, or pass on.

use super::*;

/// The node behind whose tunnel an address is, as far as it is known.
fn tunnel(core: &Core<Fake>, prefix: &str) -> Option<Option<IpAddr>> {
    let prefix = prefix.parse().expect("valid");
    core.addresses.get(&prefix).map(|(_, claim)| claim.tunnel)
}

fn at(address: &str) -> Option<Option<IpAddr>> {
    Some(Some(address.parse().expect("valid")))
}

/// Node `n`, with the network of pods of node `pods`.
fn with_pods(n: u32, pods: u8) -> Node {
    let mut node = (*node(n)).clone();
    node.ipv4_alloc = Some(format!("10.7.{pods}.0/24").parse().expect("valid"));
    node
}

#[test]
fn an_address_that_two_nodes_publish_stays_until_both_are_gone() {
    let mut core = core();
    core.sweep();
    let before = addresses_of(&core);
    let first = with_pods(1, 1);
    let mut twin = first.clone();
    twin.name = name("cluster7", "twin");
    for [one, other] in [[&first, &twin], [&twin, &first]] {
        core.set_node(mesh(), Arc::new(one.clone()));
        core.set_node(mesh(), Arc::new(other.clone()));
        core.drop_node(&mesh(), &one.name);
        assert_eq!(core.dp.kernel().len(Map::Nodes), 2);
        assert_eq!(addresses_of(&core), before + 3);
        assert_eq!(tunnel(&core, "172.30.0.1/32"), Some(None));
        assert_eq!(tunnel(&core, "10.7.0.1/32"), at("172.30.0.1"));
        assert_eq!(tunnel(&core, "10.7.1.0/24"), at("172.30.0.1"));
        core.drop_node(&mesh(), &other.name);
        assert_eq!(core.dp.kernel().len(Map::Nodes), 0);
        assert_eq!(addresses_of(&core), before);
    }
    assert!(core.claimants.is_empty());
}

#[test]
fn two_nodes_swap_their_networks() {
    let mut core = core();
    core.sweep();
    for (n, pods) in [(1, 1), (2, 2), (1, 2), (2, 1)] {
        core.set_node(mesh(), Arc::new(with_pods(n, pods)));
    }
    assert_eq!(tunnel(&core, "10.7.2.0/24"), at("172.30.0.1"));
    assert_eq!(tunnel(&core, "10.7.1.0/24"), at("172.30.0.2"));
}

#[test]
fn no_packet_is_sent_to_a_node_without_an_ipv4_address() {
    let mut core = core();
    core.sweep();
    let mut six = with_pods(1, 1);
    six.addresses = vec![NodeAddress {
        kind: AddressType::InternalIp,
        ip: "fd00:30::1".parse().expect("valid"),
    }];
    core.set_node(mesh(), Arc::new(six));
    let pod: IpNet = "10.7.1.5/32".parse().expect("valid");
    let host = "fd00:30::1".parse().ok();
    core.set_remote_ip(mesh(), pod, NumericIdentity(458_753), host);
    let rows = core.dp.ips().expect("readable");
    let row = |net: &str| {
        let net: IpNet = net.parse().expect("valid");
        let found = rows.iter().find(|(prefix, _)| *prefix == net);
        found.map(|(_, row)| row.tunnel)
    };
    assert_eq!([row("10.7.1.0/24"), row("10.7.1.5/32")], [Some(None); 2]);
}

#[test]
fn a_node_of_this_cluster_with_the_same_networks_is_told() {
    let mut core = core();
    core.sweep();
    let own = core.node.pod_cidrs()[0];
    let mut twin = (*node(9)).clone();
    twin.name = name("cluster5", "twin");
    twin.ipv4_alloc = Some(own);
    core.set_node(Source::Kvstore, Arc::new(twin.clone()));
    let text = |core: &Core<Fake>| -> Vec<String> {
        core.notes.values().map(|note| note.text.clone()).collect()
    };
    assert_eq!(
        text(&core),
        [format!(
            "addresses of this node: {own}, and node cluster5/twin has {own}: no two nodes may have the same, give one of them others"
        )]
    );
    twin.ipv4_alloc = None;
    core.set_node(Source::Kvstore, Arc::new(twin.clone()));
    assert_eq!(text(&core), [""; 0]);
    twin.addresses[0].ip = core.node.ipv4.into();
    core.set_node(Source::Kvstore, Arc::new(twin.clone()));
    assert_eq!(text(&core).len(), 1);
    // It is this node, that had another name.
    Arc::make_mut(&mut core.node).boot_id = "b".into();
    twin.boot_id = "b".into();
    core.set_node(Source::Kvstore, Arc::new(twin.clone()));
    assert_eq!(text(&core), [""; 0]);
    twin.boot_id = String::new();
    core.set_node(Source::Kvstore, Arc::new(twin.clone()));
    assert_eq!(text(&core).len(), 1);
    core.drop_node(&Source::Kvstore, &twin.name);
    assert_eq!(text(&core), [""; 0]);
}

/// Cilium writes rows for the addresses of its nodes too.
#[test]
fn a_row_that_goes_uncovers_what_the_node_says() {
    let mut core = core();
    core.set_node(mesh(), node(1));
    let router: IpNet = "10.7.0.1/32".parse().expect("valid");
    core.set_remote_ip(mesh(), router, reserved::HOST, None);
    core.withdraw(&router, &mesh());
    assert_eq!(tunnel(&core, "10.7.0.1/32"), at("172.30.0.1"));
}

#[test]
fn after_a_change_of_the_id_nodes_are_waited_for_and_believed_for_a_while() {
    let mut core = core_before_lists(Fake::new());
    let former = (ClusterId(3), IpAddr::from([172, 30, 0, 2]));
    core.dp.set_nodes(&[former].into()).expect("room");
    assert_eq!(core.stragglers(), [].into(), "the id is the same");
    let row = EndpointRow {
        other_router: false,
        id: EndpointId(10),
        ifindex: 13,
        device: "lxc10".into(),
        ipv4: Some(Ipv4Addr::new(10, 5, 1, 10)),
        ipv6: None,
        mac: [2; 6],
        host_mac: [4; 6],
        identity: NumericIdentity((3 << 16) + 1),
    };
    core.dp.put_endpoint(&row).expect("room");
    core.become_ready();
    assert_eq!(core.stragglers(), [former.1].into());
    core.sweep();
    assert!(!core.is_swept() && core.dp.nodes().contains(&former));

    let mut other = (*node(2)).clone();
    (other.name, other.cluster_id) = (name("cluster5", "n2"), ClusterId(5));
    core.set_node(Source::Kvstore, Arc::new(other));
    assert_eq!(core.stragglers(), [].into());
    assert!(
        core.dp.nodes().contains(&former),
        "it may send on as before"
    );
    core.sweep_after = Instant::now();
    core.sweep();
    assert_eq!(core.dp.nodes(), [(ClusterId(5), former.1)].into());
}

#[test]
fn one_node_of_many_costs_its_own_rows() {
    let mut core = core();
    core.sweep();
    for n in 0..2000 {
        core.set_node(mesh(), node(n));
    }
    assert_eq!(core.dp.kernel().len(Map::Nodes), 4000);
    let calls = |core: &mut Core<Fake>| std::mem::take(&mut core.dp.kernel_mut().calls).len();
    calls(&mut core);
    core.set_node(mesh(), node(7));
    assert_eq!(calls(&mut core), 0, "nothing changed");
    let mut moved = (*node(7)).clone();
    moved.addresses[0].ip = "172.31.0.7".parse().expect("valid");
    core.set_node(mesh(), Arc::new(moved.clone()));
    let few = calls(&mut core);
    assert!((1..=12).contains(&few), "{few}");
    assert_eq!(core.dp.kernel().len(Map::Nodes), 4000);
    core.drop_node(&mesh(), &moved.name);
    let few = calls(&mut core);
    assert!((1..=12).contains(&few), "{few}");
    assert_eq!(core.dp.kernel().len(Map::Nodes), 3998);
}

#[test]
fn nodes_of_before_the_restart_stay_until_the_sweep() {
    let mut core = core();
    core.set_node(mesh(), node(1));
    core.drop_node(&mesh(), &node(1).name);
    assert_eq!(core.dp.kernel().len(Map::Nodes), 2);
    core.sweep();
    assert_eq!(core.dp.kernel().len(Map::Nodes), 0);
}
