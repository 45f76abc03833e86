// SPDX-License-Identifier: Apache-2.0
//! Policy operations over the fake kernel: order, full maps, restarts.

mod support;

use abi::{PolicyKey, generation, identity_bucket};
use datapath::{Call, Datapath, Error, Fake, Map, Typed, table};
use model::{EndpointId, NumericIdentity};
use policy::{Direction, Op, RowMatch};
use support::{allow_all, endpoint};

fn with_endpoint() -> Datapath<Fake> {
    let mut datapath = Datapath::new(Fake::new()).expect("empty maps");
    datapath
        .put_endpoint(&endpoint(9, 12, "10.5.1.9"))
        .expect("room");
    datapath
}

fn policy_of(datapath: &Datapath<Fake>, id: u32) -> u32 {
    let slot = datapath.kernel().get_row::<table::Endpoints>(&id);
    slot.expect("readable").expect("array").policy
}

#[test]
fn writes_keep_the_order_of_the_operations() {
    let mut datapath = with_endpoint();
    datapath.kernel_mut().calls.clear();
    datapath.apply(&allow_all(3, 9)).expect("room");
    let maps: Vec<Map> = datapath
        .kernel()
        .calls
        .iter()
        .filter_map(|call| match call {
            Call::Put(map, ..) => Some(*map),
            _ => None,
        })
        .collect();
    let mut sorted = maps.clone();
    sorted.sort_by_key(|map| {
        [Map::Rows, Map::Policies, Map::Endpoints]
            .iter()
            .position(|m| m == map)
    });
    assert_eq!(maps, sorted);
    assert_eq!(policy_of(&datapath, 9), 3);
}

#[test]
fn an_identity_raises_its_bucket_after_the_write() {
    let mut datapath = with_endpoint();
    datapath.kernel_mut().calls.clear();
    let identity = NumericIdentity(70000);
    datapath
        .apply(&[Op::PutIdentity { identity, class: 4 }])
        .expect("room");
    let bucket = u32::from(identity_bucket(70000));
    let calls = datapath.kernel().calls.clone();
    assert!(matches!(calls[0], Call::Put(Map::Identities, ..)));
    assert_eq!(calls[1..], [Call::Add(Map::Epochs, bucket, 1)]);
    datapath
        .apply(&[Op::PutIdentity { identity, class: 4 }])
        .expect("room");
    assert_eq!(datapath.kernel().calls, calls, "equal: nothing");
    datapath
        .apply(&[Op::DeleteIdentity { identity }])
        .expect("removable");
    assert!(datapath.kernel().is_empty(Map::Identities));
    assert_eq!(
        datapath.kernel().calls.last(),
        Some(&Call::Add(Map::Epochs, bucket, 1))
    );
}

#[test]
fn no_endpoint_flips_to_a_policy_that_did_not_fit() {
    let mut datapath = with_endpoint();
    datapath.apply(&allow_all(3, 9)).expect("room");
    datapath.kernel_mut().set_limit(Map::Policies, 6);
    let error = datapath.apply(&allow_all(4, 9)).expect_err("full");
    assert!(
        matches!(
            error,
            Error::MapFull {
                map: Map::Policies,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(policy_of(&datapath, 9), 3, "the last good policy stays");
    assert!(datapath.waiting_ops() > 0);
    assert_eq!(datapath.full_maps(), ["ist_policies"]);
    assert!(datapath.apply(&[]).is_err(), "still full");
    datapath.kernel_mut().set_limit(Map::Policies, 100);
    datapath.apply(&[]).expect("room now");
    assert_eq!((policy_of(&datapath, 9), datapath.waiting_ops()), (4, 0));
}

#[test]
fn removals_wait_unless_their_room_is_needed() {
    let mut datapath = with_endpoint();
    datapath.apply(&allow_all(3, 9)).expect("room");
    datapath.kernel_mut().set_limit(Map::Policies, 5);
    let delete = |class| Op::DeletePolicy { policy: 3, class };
    datapath
        .apply(&[delete(policy::kind::WORLD)])
        .expect("queued");
    assert_eq!(
        datapath.kernel().len(Map::Policies),
        5,
        "programs may be on their way there"
    );
    let again = Op::PutPolicy {
        policy: 3,
        class: policy::kind::WORLD,
        row: 3,
    };
    datapath.apply(&[again]).expect("a replacement");
    datapath
        .apply(&[delete(policy::kind::OTHER)])
        .expect("queued");
    datapath
        .apply(&[Op::PutPolicy {
            policy: 3,
            class: 8,
            row: 3,
        }])
        .expect("takes the room");
    let has = |class| {
        let key = PolicyKey { policy: 3, class };
        datapath
            .kernel()
            .get_row::<table::Policies>(&key)
            .expect("readable")
            .is_some()
    };
    assert!(has(policy::kind::WORLD), "a put takes the removal back");
    assert!(has(8) && !has(policy::kind::OTHER));
}

#[test]
fn a_restart_takes_another_generation_and_removes_the_old_when_nobody_uses_it() {
    let mut datapath = with_endpoint();
    datapath
        .put_endpoint(&endpoint(8, 11, "10.5.1.8"))
        .expect("room");
    let flip8 = Op::SetEndpointPolicy {
        endpoint: EndpointId(8),
        policy: 3,
    };
    let identity = NumericIdentity(70000);
    datapath
        .apply(&[Op::PutIdentity { identity, class: 4 }])
        .expect("room");
    datapath.apply(&allow_all(3, 9)).expect("room");
    datapath.apply(std::slice::from_ref(&flip8)).expect("room");
    let old = datapath.generation();

    let mut datapath = Datapath::new(datapath.into_kernel()).expect("adopts");
    assert_ne!(datapath.generation(), old);
    datapath
        .apply(&[Op::PutIdentity { identity, class: 1 }])
        .expect("room");
    datapath.apply(&allow_all(3, 9)).expect("room");
    assert_eq!(generation(policy_of(&datapath, 9)), datapath.generation());
    assert!(
        !datapath.prune_policy().expect("readable"),
        "endpoint 8 still uses it"
    );
    assert_eq!(datapath.kernel().len(Map::Policies), 10);
    datapath.apply(&[flip8]).expect("room");
    assert!(datapath.prune_policy().expect("readable"));
    assert_eq!(datapath.kernel().len(Map::Policies), 5);
    assert_eq!(datapath.kernel().len(Map::Rows), 2);
    let classes = datapath.kernel().get_row::<table::Identities>(&70000);
    let classes = classes.expect("readable").expect("known").slot;
    assert_eq!(classes.iter().filter(|class| **class != 0).count(), 1);
    assert_eq!(classes[datapath.generation() as usize], 1);
}

#[test]
fn a_run_that_ended_early_leaves_nothing_in_the_next_ones_generation() {
    let mut datapath = with_endpoint();
    datapath.apply(&allow_all(3, 9)).expect("room");
    for _ in 0..6 {
        datapath = Datapath::new(datapath.into_kernel()).expect("adopts");
        let ops = allow_all(5, 9);
        datapath.apply(&ops[..ops.len() - 1]).expect("room");
    }
    assert_eq!(generation(policy_of(&datapath, 9)), 0);
    assert_eq!(
        datapath.kernel().len(Map::Policies),
        10,
        "the old and this run's"
    );
}

/// Whoever starts over removes what no packet can reach, and nothing else.
#[test]
fn starting_over_keeps_what_is_in_force() {
    let mut datapath = with_endpoint();
    let [kept, unknown] = [70000, 70001].map(NumericIdentity);
    let put = |identity| Op::PutIdentity { identity, class: 4 };
    datapath.apply(&[put(kept), put(unknown)]).expect("room");
    datapath.apply(&allow_all(3, 9)).expect("room");
    datapath.kernel_mut().set_limit(Map::Policies, 8);
    datapath.apply(&allow_all(4, 9)).expect_err("full");
    let old = datapath.generation();
    let freed = datapath.start_over(&|identity| identity == kept);
    assert!(freed.expect("readable"), "a generation is free");
    assert_ne!(datapath.generation(), old);
    assert_eq!((policy_of(&datapath, 9), datapath.waiting_ops()), (3, 0));
    let left = [Map::Policies, Map::Rows, Map::Identities].map(|map| datapath.kernel().len(map));
    assert_eq!(left, [5, 2, 1]);
    let bucket = u32::from(identity_bucket(unknown.0));
    assert_eq!(
        datapath.kernel().calls.last(),
        Some(&Call::Add(Map::Epochs, bucket, 1))
    );
    datapath.kernel_mut().set_limit(Map::Policies, 10);
    datapath.apply(&allow_all(3, 9)).expect("room now");
    assert_eq!(generation(policy_of(&datapath, 9)), datapath.generation());
    assert!(datapath.prune_policy().expect("readable"));
    assert_eq!(datapath.kernel().len(Map::Policies), 5);
}

#[test]
fn ports_are_prefixes() {
    let mut datapath = with_endpoint();
    let matching = RowMatch {
        direction: Direction::Ingress,
        proto: Some(6),
        port: 0x1fff,
        port_bits: 12,
    };
    let verdict = policy::RowVerdict {
        action: policy::Action::Deny,
        rule: 1,
    };
    datapath
        .apply(&[Op::PutRow {
            row: 2,
            matching,
            verdict,
        }])
        .expect("room");
    let rows = datapath.kernel().dump::<table::Rows>().expect("readable");
    let (key, value) = rows[0];
    assert_eq!((key.prefixlen, key.port, key.proto), (60, [0x1f, 0xf0], 6));
    assert_eq!(value.action, abi::action::DENY);
}
