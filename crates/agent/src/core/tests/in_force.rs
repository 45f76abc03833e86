// SPDX-License-Identifier: Apache-2.0
//! A restart while newest versions are refused: those before them stay in force.

use std::path::Path;

use super::full::wide;
use super::groups::{about, from_group, group, net};
use super::restarts::keep_state_in;
use super::*;

/// The agent ends and starts again; nothing is told yet.
fn restarted(core: Core<Fake>, dir: &Path) -> Core<Fake> {
    let mut core = core_before_lists(core.dp.into_kernel());
    keep_state_in(&mut core, dir);
    core.restore_in_force();
    core
}

fn in_force(core: &Core<Fake>) -> Vec<PolicyObject> {
    core.engine.policies().cloned().collect()
}

fn put(object: PolicyObject) -> ObjectEvent {
    ObjectEvent::Policy(object)
}

#[test]
fn a_policy_without_room_keeps_its_version() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut kernel = Fake::new();
    kernel.set_limit(Map::Policies, 2 * 20);
    let mut core = core_on(kernel);
    keep_state_in(&mut core, dir.path());
    objects(&mut core, vec![put(wide(2))]);
    objects(&mut core, vec![put(wide(40))]);
    for _ in 0..2 {
        let reason = core.notes["cnp demo/p"].text.clone();
        core = restarted(core, dir.path());
        objects(&mut core, vec![put(wide(40))]);
        core.become_ready();
        assert_eq!(in_force(&core), [wide(2)]);
        assert_eq!(core.notes["cnp demo/p"].text, reason);
        core.retry_refused();
        assert_eq!(in_force(&core), [wide(2)]);
        assert_eq!(core.notes["cnp demo/p"].text, reason, "it was tried again");
        assert_eq!(core.crowded_policies().count(), 1);
    }
    // Mended while the agent was away.
    core = restarted(core, dir.path());
    objects(&mut core, vec![put(wide(3))]);
    core.become_ready();
    core.retry_refused();
    assert_eq!(in_force(&core), [wide(3)]);
    assert!(core.notes.is_empty(), "{:?}", core.notes);
    // And gone while it was away again.
    objects(&mut core, vec![put(wide(40))]);
    core = restarted(core, dir.path());
    core.become_ready();
    assert_eq!(in_force(&core), []);
    assert!(core.notes.is_empty(), "{:?}", core.notes);
}

#[test]
fn what_found_no_numbers_keeps_those_that_it_had() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut core = core();
    keep_state_in(&mut core, dir.path());
    let (small, large) = (about("late", 40_000, 10), about("late", 40_000, 2_000));
    let first = vec![put(small.clone()), from_group(), group((0..5).map(net))];
    objects(&mut core, first);
    objects(&mut core, vec![put(about("wide", 1_000, 32_000))]);
    let newest = || vec![group((0..3_000).map(net)), put(large.clone())];
    objects(&mut core, newest());
    let before = addresses_of(&core);
    core = restarted(core, dir.path());
    // What comes first has no advantage, nor has what grew meanwhile.
    objects(&mut core, newest());
    let others = vec![put(about("wide", 1_000, 32_767)), from_group()];
    objects(&mut core, others);
    objects(&mut core, vec![put(about("wide", 1_000, 32_000))]);
    core.become_ready();
    core.sweep();
    assert_eq!(core.engine.policy(&small.key), Some(&small));
    assert_eq!(
        core.engine.group("vpn").map(|group| group.prefixes.len()),
        Some(5)
    );
    assert_eq!(addresses_of(&core), before);
    assert!(!core.retry_refused(), "no room");
    assert_eq!(core.engine.policy(&small.key), Some(&small));
    let gone = about("wide", 0, 1).key;
    objects(&mut core, vec![ObjectEvent::PolicyGone(gone)]);
    core.refused.not_before = None;
    assert!(core.retry_refused());
    assert_eq!(core.engine.policy(&small.key), Some(&large));
    assert!(core.notes.is_empty(), "{:?}", core.notes);
    let file = dir.path().join("state/policies-in-force.json");
    assert_eq!(std::fs::read_to_string(file).expect("there"), "{}");
}
