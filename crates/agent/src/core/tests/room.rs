// SPDX-License-Identifier: Apache-2.0
//! Policies that need more room than there is: one tenant's do not keep the node from following the others.

use model::{Operator, Requirement, Selector};

use super::full::wide;
use super::*;

const DB: NumericIdentity = NumericIdentity((5 << 16) + 2);
const DB_ENDPOINT: EndpointId = EndpointId(10);
const LATE: EndpointId = EndpointId(11);

/// A node with room for about 20 classes of two endpoints, of which the second is another tenant's.
fn small() -> Core<Fake> {
    let mut kernel = Fake::new();
    kernel.set_limit(Map::Policies, 2 * 34);
    let mut core = core_before_lists(kernel);
    core.set_identity(DB, labels("cluster5", "db"));
    core.engine.upsert_endpoint(DB_ENDPOINT, DB);
    core.dp
        .put_endpoint(&row_of(DB_ENDPOINT, DB))
        .expect("room");
    core.become_ready();
    core
}

fn row_of(id: EndpointId, identity: NumericIdentity) -> EndpointRow {
    EndpointRow {
        other_router: false,
        id,
        ifindex: 12 + u32::from(id.0),
        device: format!("lxc{id}"),
        ipv4: Some(Ipv4Addr::new(10, 5, 1, id.0 as u8)),
        ipv6: None,
        mac: [2; 6],
        host_mac: [4; 6],
        identity,
    }
}

/// A policy of this name for the pods of `app`.
fn of(app: &str, name: &str, mut object: PolicyObject) -> ObjectEvent {
    let is = Operator::In([app.to_owned()].into());
    object.rules[0].subject = Selector::new([Requirement::new("app", is)]);
    object.key.name = name.into();
    ObjectEvent::Policy(object)
}

fn key(name: &str) -> PolicyKey {
    let mut key = wide(0).key;
    key.name = name.into();
    key
}

/// Whether a pod of another cluster reaches an endpoint.
fn lets(core: &Core<Fake>, id: EndpointId) -> Option<Action> {
    let why = core.engine.explain(id, Direction::Ingress, PEER, 6, 80);
    why.map(|why| why.verdict)
}

fn try_again(core: &mut Core<Fake>) -> bool {
    if let Some((at, _)) = &mut core.crowded.tried {
        *at -= std::time::Duration::from_secs(100);
    }
    core.retry_crowded()
}

fn crowded(core: &Core<Fake>) -> Vec<String> {
    let all = core.crowded_policies();
    all.map(|(key, _)| key.name.clone()).collect()
}

#[test]
fn a_policy_without_room_leaves_others_alone() {
    let mut core = small();
    let huge = of("web", "huge", wide(40));
    objects(
        &mut core,
        vec![huge, of("db", "small", from_cidr("192.0.2.0/24"))],
    );
    assert_eq!(crowded(&core), ["huge"]);
    assert!(!core.policy_waits() && core.dp.full_maps().is_empty());
    assert_eq!(lets(&core, ENDPOINT), Some(Action::Allow), "as before");
    assert_eq!(lets(&core, DB_ENDPOINT), Some(Action::DefaultDeny));
    assert_eq!(core.realized, core.engine.revision());
    let told = &core.notes["cnp demo/huge"].text;
    assert!(told.contains("34 entries of map ist_policies"), "{told}");
    // Another node may have room for it: that it is refused here is no property of the object.
    assert_eq!(core.verdicts().remove(&key("huge")), Some(Verdict::InForce));
    // Others come and go meanwhile, and only what makes a difference has it tried again.
    objects(
        &mut core,
        vec![of("db", "other", from_cidr("192.0.3.0/24"))],
    );
    assert_eq!(core.realized, core.engine.revision());
    try_again(&mut core);
    core.dp.kernel_mut().calls.clear();
    assert!(!try_again(&mut core));
    assert!(core.dp.kernel().calls.is_empty());
    objects(&mut core, vec![ObjectEvent::PolicyGone(key("huge"))]);
    assert!(crowded(&core).is_empty() && core.notes.is_empty());
}

#[test]
fn the_version_before_stays_until_a_newer_one_fits() {
    let mut core = small();
    objects(&mut core, vec![of("web", "p", wide(2))]);
    let before = core.dp.kernel().calls.len();
    objects(&mut core, vec![of("web", "p", wide(40))]);
    assert_eq!(core.dp.kernel().calls.len(), before, "not a single write");
    assert_eq!(lets(&core, ENDPOINT), Some(Action::DefaultDeny));
    assert!(
        core.notes["cnp demo/p"]
            .text
            .ends_with("the previous version stays in force")
    );
    objects(&mut core, vec![of("web", "p", wide(3))]);
    assert!(try_again(&mut core));
    assert!(crowded(&core).is_empty() && core.notes.is_empty());
    let ObjectEvent::Policy(newest) = of("web", "p", wide(3)) else {
        unreachable!()
    };
    assert_eq!(core.engine.policies().collect::<Vec<_>>(), [&newest]);
}

#[test]
fn it_is_taken_when_another_makes_room() {
    let mut core = small();
    objects(&mut core, vec![of("web", "first", wide(8))]);
    objects(
        &mut core,
        vec![of("db", "second", wide(8)), of("db", "third", wide(1))],
    );
    assert_eq!(crowded(&core), ["second"]);
    assert!(!try_again(&mut core));
    objects(&mut core, vec![ObjectEvent::PolicyGone(key("first"))]);
    assert!(try_again(&mut core), "{:?}", core.notes);
    assert!(
        crowded(&core).is_empty() && core.notes.is_empty(),
        "{:?}",
        core.notes
    );
    assert_eq!(lets(&core, ENDPOINT), Some(Action::Allow));
}

/// The API says of an endpoint what status says of its pod.
#[test]
fn an_endpoint_without_room_is_not_ready() {
    let mut core = small();
    core.endpoint_dir = "/dev/null/endpoints".into();
    let pod = PodKey {
        namespace: "demo".into(),
        name: "late-1".into(),
    };
    core.restore_endpoint(endpoint(LATE, pod)).expect("room");
    objects(&mut core, vec![of("late", "huge", wide(40))]);
    let state = |core: &Core<Fake>| core.endpoints[&LATE].state.as_str();
    assert_eq!(state(&core), "ready");
    core.relabel(LATE, labels("cluster5", "late"), NumericIdentity(DB.0 + 1));
    assert_eq!(state(&core), "not-ready");
    objects(
        &mut core,
        vec![of("db", "small", from_cidr("192.0.2.0/24"))],
    );
    let told = &core.notes["pods"].text;
    assert!(told.contains("policy of demo/late-1: "), "{told}");
    objects(&mut core, vec![ObjectEvent::PolicyGone(key("huge"))]);
    assert_eq!(state(&core), "ready");
}

/// Nobody changed a policy: a new pod whose policy has no room gets no packets, and the next one is not its affair.
#[test]
fn a_pod_without_room_waits_alone() {
    let mut core = small();
    objects(&mut core, vec![of("late", "huge", wide(40))]);
    assert!(crowded(&core).is_empty(), "it selects nobody");
    let pod = |core: &mut Core<Fake>, id: EndpointId, identity, app| {
        core.set_identity(identity, labels("cluster5", app));
        core.engine.upsert_endpoint(id, identity);
        core.dp.put_endpoint(&row_of(id, identity)).expect("room");
        core.dirty = true;
        core.settle();
    };
    pod(&mut core, LATE, NumericIdentity(DB.0 + 1), "late");
    pod(&mut core, EndpointId(12), DB, "db");
    assert!(
        core.notes["pods"].text.contains("no packets"),
        "{:?}",
        core.notes
    );
    assert_eq!(
        (lets(&core, LATE), lets(&core, EndpointId(12))),
        (None, Some(Action::Allow))
    );
    let slot = |core: &Core<Fake>, id: EndpointId| {
        let slot = core.dp.kernel().get_row::<table::Endpoints>(&id.0.into());
        slot.expect("readable").expect("an array").policy
    };
    assert_eq!(slot(&core, LATE), 0);
    assert_ne!(slot(&core, EndpointId(12)), 0);
    objects(&mut core, vec![of("late", "huge", wide(1))]);
    assert!(core.notes.is_empty(), "{:?}", core.notes);
    assert_ne!(slot(&core, LATE), 0);
}

/// A start begins with everything at once. Where that does not fit, what is in force from before stays.
#[test]
fn a_start_with_too_much_leaves_the_pod_as_it_was() {
    let mut core = core();
    objects(&mut core, vec![of("web", "huge", wide(40))]);
    let slot = |core: &Core<Fake>| {
        let slot = core
            .dp
            .kernel()
            .get_row::<table::Endpoints>(&ENDPOINT.0.into());
        slot.expect("readable").expect("an array").policy
    };
    let before = slot(&core);
    let mut kernel = core.dp.into_kernel();
    kernel.set_limit(Map::Policies, 2 * 34);
    let mut core = core_before_lists(kernel);
    objects(&mut core, vec![of("web", "huge", wide(40))]);
    core.become_ready();
    core.prune_generations();
    assert!(!core.policy_waits() && crowded(&core).is_empty());
    assert_eq!(slot(&core), before);
    assert!(core.notes.contains_key("pods"));
    objects(&mut core, vec![of("web", "huge", wide(2))]);
    core.prune_generations();
    assert_ne!(slot(&core), before);
    assert!(core.notes.is_empty(), "{:?}", core.notes);
}
