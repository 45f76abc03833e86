// SPDX-License-Identifier: Apache-2.0
//! Groups of prefixes from objects into the kernel, and what is told of those that are not in force.

use kubernetes::CidrGroupObject;
use model::{Operator, Requirement, Selector};
use policy::{CidrGroup, GroupRule};

use super::*;

pub(super) fn group(prefixes: impl IntoIterator<Item = IpNet>) -> ObjectEvent {
    let key = format!("{}/vpn", model::keys::CIDR_GROUP_NAME);
    ObjectEvent::CidrGroup(CidrGroupObject {
        group: CidrGroup {
            name: "vpn".into(),
            labels: vec![model::Label::new("cidrgroup", &key, "")],
            prefixes: prefixes.into_iter().collect(),
        },
        ignored: None,
    })
}

pub(super) fn from_group() -> ObjectEvent {
    let key = format!("cidrgroup:{}/vpn", model::keys::CIDR_GROUP_NAME);
    let selector = Selector::new([Requirement::new(&key, Operator::Exists)]);
    ObjectEvent::Policy(policy(Peers {
        cidrs: Some(Vec::new()),
        groups: vec![GroupRule {
            selector,
            except: Vec::new(),
        }],
        ..Peers::default()
    }))
}

pub(super) fn net(n: u32) -> IpNet {
    let addr = Ipv4Addr::from(0xc633_0000 + n);
    IpNet::new(addr.into(), 32).expect("a length")
}

#[test]
fn prefixes_of_a_group_come_and_go_with_it() {
    let mut core = core();
    let before = addresses_of(&core);
    objects(&mut core, vec![from_group()]);
    assert_eq!(addresses_of(&core), before, "a missing group is nobody");
    objects(&mut core, vec![group((0..3).map(net))]);
    assert_eq!(addresses_of(&core), before + 3);
    let large = group((0..40_000).map(net));
    objects(&mut core, vec![large]);
    assert_eq!(addresses_of(&core), before + 3, "the one before stays");
    let note = &core.notes["CiliumCIDRGroup vpn"].text;
    assert!(note.contains("new prefixes need an identity"), "{note}");
    objects(&mut core, vec![ObjectEvent::CidrGroupGone("vpn".into())]);
    assert_eq!(addresses_of(&core), before);
    assert!(core.notes.is_empty());
}

/// A policy of this name about `count` prefixes.
pub(super) fn about(name: &str, first: u32, count: u32) -> PolicyObject {
    let cidr = |n| CidrRule {
        cidr: net(n),
        except: Vec::new(),
    };
    let prefixes: Vec<u32> = (first..first + count).collect();
    let entries = prefixes.chunks(4096).map(|part| {
        let peers = Peers {
            cidrs: Some(part.iter().copied().map(cidr).collect()),
            ..Peers::default()
        };
        Entry::new(peers, None)
    });
    let mut object = policy(Peers::default());
    object.key.name = name.into();
    object.rules[0].ingress = Some(entries.collect());
    object
}

#[test]
fn what_found_no_numbers_is_taken_when_there_are_some() {
    let mut core = core();
    let before = addresses_of(&core);
    let (wide, late, never) = (
        about("wide", 0, 32_000),
        about("late", 40_000, 2_000),
        about("never", 50_000, 2_000),
    );
    let key = late.key.clone();
    let [gone, never_again] = [&wide, &never].map(|of| ObjectEvent::PolicyGone(of.key.clone()));
    objects(&mut core, vec![ObjectEvent::Policy(wide), from_group()]);
    let others = vec![
        ObjectEvent::Policy(late),
        ObjectEvent::Policy(never),
        group((60_000..63_000).map(net)),
    ];
    objects(&mut core, others);
    assert!(!core.retry_refused(), "no room");
    assert_eq!(addresses_of(&core), before + 32_000);
    assert!(core.notes.contains_key("CiliumCIDRGroup vpn"));
    let told = core.verdicts().remove(&key).expect("told");
    assert!(matches!(told, Verdict::Refused(why) if why.contains("need an identity")));
    // The newest version is what waits; and what is taken away does not.
    let smaller = group((60_000..62_500).map(net));
    objects(&mut core, vec![smaller, never_again, gone]);
    assert_eq!(addresses_of(&core), before, "not yet");
    core.refused.not_before = None;
    assert!(core.retry_refused());
    assert_eq!(addresses_of(&core), before + 4_500);
    assert_eq!(core.verdicts().remove(&key), Some(Verdict::InForce));
    assert!(core.notes.is_empty(), "{:?}", core.notes);
    core.refused.not_before = None;
    assert!(!core.retry_refused(), "nothing waits");
}
