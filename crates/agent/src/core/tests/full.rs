// SPDX-License-Identifier: Apache-2.0
//! Full maps: what is in force stays, and the node recovers by itself when there is room again.

use super::*;

#[test]
fn a_prefix_waits_for_its_identity_and_status_for_both() {
    let mut core = core();
    let full = core.dp.kernel().len(Map::Identities) as u32;
    let before = (addresses_of(&core), core.realized);
    core.dp.kernel_mut().set_limit(Map::Identities, full);
    objects(
        &mut core,
        vec![ObjectEvent::Policy(from_cidr("192.0.2.0/24"))],
    );
    assert!(core.policy_waits() && core.notes.contains_key("policy"));
    assert_eq!((addresses_of(&core), core.realized), before);
    for n in 0..100 {
        let cidr = format!("198.51.{n}.0/24");
        objects(&mut core, vec![ObjectEvent::Policy(from_cidr(&cidr))]);
    }
    assert!(
        core.asked.len() < 50,
        "{} operations wait",
        core.asked.len()
    );
    core.dp.kernel_mut().set_limit(Map::Identities, full + 10);
    core.retry_policy();
    assert!(!core.policy_waits() && !core.notes.contains_key("policy"));
    assert_eq!(core.realized, core.engine.revision());
    assert_eq!(
        addresses_of(&core),
        before.0 + 1,
        "only what is in force now"
    );
}

/// Allows the world but for `count` prefixes: each is a class of its own.
pub(super) fn wide(count: u32) -> PolicyObject {
    let cidrs = (0..count).map(|n| CidrRule {
        cidr: format!("198.51.{n}.0/24").parse().expect("valid"),
        except: vec![format!("198.51.{n}.128/25").parse().expect("valid")],
    });
    policy(Peers {
        cidrs: Some(cidrs.collect()),
        ..Peers::default()
    })
}

fn slot(core: &Core<Fake>) -> u32 {
    let slot = core
        .dp
        .kernel()
        .get_row::<table::Endpoints>(&ENDPOINT.0.into());
    slot.expect("readable").expect("an array").policy
}

/// Everything that leads from the endpoint's policy to a verdict.
fn in_force(core: &Core<Fake>) -> Vec<(u32, abi::RowKey, abi::RowVerdict)> {
    let kernel = core.dp.kernel();
    let rows = kernel.dump::<table::Rows>().expect("readable");
    let policies = kernel.dump::<table::Policies>().expect("readable");
    let of_endpoint = policies
        .into_iter()
        .filter(|(key, _)| key.policy == slot(core));
    let found = of_endpoint.flat_map(|(key, row)| {
        let of_row = rows
            .iter()
            .filter(move |(of, _)| u32::from_be_bytes(of.row) == row);
        of_row.map(move |(of, verdict)| (key.class, *of, *verdict))
    });
    found.collect()
}

fn patience_is_over(core: &mut Core<Fake>) {
    core.renewal.not_before = None;
}

#[test]
fn a_policy_that_does_not_fit_can_be_taken_back() {
    for map in [Map::Policies, Map::Rows, Map::Identities] {
        let mut core = core();
        let before = (slot(&core), in_force(&core));
        let used = core.dp.kernel().len(map) as u32;
        core.dp.kernel_mut().set_limit(map, 2 * used + 2);
        objects(&mut core, vec![ObjectEvent::Policy(wide(40))]);
        core.retry_policy();
        assert!(core.policy_waits(), "{map}");
        assert_eq!(core.dp.full_maps(), [map.name()]);
        assert_eq!((slot(&core), in_force(&core)), before, "{map}");
        objects(&mut core, vec![ObjectEvent::PolicyGone(wide(40).key)]);
        core.retry_policy();
        assert!(!core.policy_waits(), "{map}: {:?}", core.notes);
        assert!(!core.notes.contains_key("policy"), "{map}");
        assert!(core.dp.full_maps().is_empty(), "{map}");
        core.prune_generations();
        assert_eq!(in_force(&core).len(), before.1.len(), "{map}");
        assert_eq!(core.dp.kernel().len(map) as u32, used, "{map}");
        assert_eq!(core.realized, core.engine.revision());
        assert_eq!(core.addresses.of(&Source::Policy).count(), 0);
        core.dp.kernel_mut().set_limit(map, 1000);
        objects(
            &mut core,
            vec![ObjectEvent::Policy(from_cidr("192.0.2.0/24"))],
        );
        assert!(!core.policy_waits(), "{map}: it goes on as always");
    }
}

/// What helps only a little is not tried without end, and what is in force stays all the while.
#[test]
fn a_policy_that_still_does_not_fit_waits_without_harm() {
    let mut core = core();
    let used = core.dp.kernel().len(Map::Policies) as u32;
    core.dp.kernel_mut().set_limit(Map::Policies, 2 * used + 2);
    objects(&mut core, vec![ObjectEvent::Policy(wide(40))]);
    let before = in_force(&core);
    let policy = slot(&core);
    for count in (20..40).rev() {
        objects(&mut core, vec![ObjectEvent::Policy(wide(count))]);
        core.retry_policy();
        assert!(core.policy_waits() && core.notes.contains_key("policy"));
        assert_eq!((slot(&core), in_force(&core)), (policy, before.clone()));
    }
    core.dp.kernel_mut().calls.clear();
    core.retry_policy();
    assert!(
        core.dp.kernel().calls.is_empty(),
        "{:?}",
        core.dp.kernel().calls
    );
    objects(&mut core, vec![ObjectEvent::Policy(wide(1))]);
    patience_is_over(&mut core);
    core.retry_policy();
    assert!(!core.policy_waits(), "{:?}", core.notes);
    let verdict = |ip: &str| {
        let prefix: IpNet = ip.parse().expect("valid");
        let (_, claim) = core.addresses.get(&prefix).expect("named");
        let why = core
            .engine
            .explain(ENDPOINT, Direction::Ingress, claim.identity, 6, 80);
        why.expect("committed").verdict
    };
    assert_eq!(verdict("198.51.0.0/24"), Action::Allow);
    assert_eq!(verdict("198.51.0.128/25"), Action::DefaultDeny);
}

/// Pods and identities that go make room for what waits.
#[test]
fn who_goes_makes_room() {
    let mut core = core();
    let peers = |n: u32| NumericIdentity(PEER.0 + n);
    for n in 0..20 {
        core.set_identity(peers(n), labels("cluster7", "web"));
    }
    core.settle();
    let full = core.dp.kernel().len(Map::Identities) as u32;
    core.dp.kernel_mut().set_limit(Map::Identities, full);
    core.set_identity(peers(20), labels("cluster7", "web"));
    core.settle();
    core.retry_policy();
    assert!(core.policy_waits());
    let has = |core: &Core<Fake>, n| {
        let row = core.dp.kernel().get_row::<table::Identities>(&peers(n).0);
        row.expect("readable").is_some()
    };
    assert!(has(&core, 3) && !has(&core, 20));
    core.drop_identity(peers(3));
    patience_is_over(&mut core);
    core.retry_policy();
    assert!(!core.policy_waits(), "{:?}", core.notes);
    assert!(!has(&core, 3) && has(&core, 20));
}

/// What a run that ended early left behind makes room for the next one's policy, without any change.
#[test]
fn what_an_earlier_run_left_makes_room() {
    let mut core = core();
    objects(&mut core, vec![ObjectEvent::Policy(wide(10))]);
    let used = core.dp.kernel().len(Map::Policies) as u32;
    let (kept, policy) = (core.dp.generation(), slot(&core));
    let mut kernel = core.dp.into_kernel();
    // As if a run had written everything and ended before it flipped anybody.
    for (key, row) in kernel.dump::<table::Policies>().expect("readable") {
        let generation = (kept + 2) % 4;
        let policy = key.policy & (u32::MAX >> 2) | generation << 30;
        let key = abi::PolicyKey { policy, ..key };
        kernel.put_row::<table::Policies>(&key, &row).expect("room");
    }
    kernel.set_limit(Map::Policies, 2 * used + 2);
    let mut core = core_before_lists(kernel);
    objects(&mut core, vec![ObjectEvent::Policy(wide(10))]);
    core.become_ready();
    core.prune_generations();
    core.retry_policy();
    core.prune_generations();
    assert!(!core.policy_waits(), "{:?}", core.notes);
    assert_ne!(slot(&core), policy);
    assert!(core.dp.kernel().len(Map::Policies) as u32 <= used);
}

/// Nothing is written into the map after it was full, so only what waits can say that nothing is missing.
#[test]
fn a_map_is_full_while_an_address_waits() {
    for (map, cidr) in [
        (Map::Ipcache, "192.0.2.1/32"),
        (Map::Prefixes, "192.0.2.0/24"),
    ] {
        let mut core = core();
        let prefix: IpNet = cidr.parse().expect("valid");
        let full = core.dp.kernel().len(map) as u32;
        core.dp.kernel_mut().set_limit(map, full);
        core.claim(prefix, Source::Kvstore, rules::cidr_claim(PEER));
        core.retry_addresses();
        assert_eq!(core.dp.full_maps(), [map.name()]);
        assert!(core.notes.contains_key("addresses"));
        core.withdraw(&prefix, &Source::Kvstore);
        assert!(core.dp.full_maps().is_empty(), "{map}");
        assert!(!core.notes.contains_key("addresses"), "{map}");
    }
}

#[test]
fn this_cluster_comes_first_in_what_the_mesh_may_have() {
    let mut core = core();
    let room = |core: &Core<Fake>| core.mesh_room().addresses;
    let mut claim = |source: Source, first: u32, count: u32| {
        for n in first..first + count {
            let ip = IpNet::from(IpAddr::from(Ipv4Addr::from(n)));
            let claim = rules::cidr_claim(PEER);
            core.addresses.claim(ip, source.clone(), claim);
        }
        room(&core)
    };
    let mesh = Source::ClusterMesh(ClusterName::new("cluster7").expect("valid"));
    assert_eq!(claim(mesh, 0x0a07_0000, 300_000), (1 << 20) / 4 * 3);
    let left = claim(Source::Kvstore, 0x0b00_0000, 300_000);
    assert_eq!(left, (1 << 20) - 23 * (1 << 14), "a quarter of itself more");
    assert_eq!(claim(Source::Kvstore, 0x0b00_0000 + 300_000, 1), left);
}
