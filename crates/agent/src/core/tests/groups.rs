// SPDX-License-Identifier: Apache-2.0
//! Groups of prefixes from objects into the kernel, and what is told of those that are not in force.

use kubernetes::CidrGroupObject;
use model::{Operator, Requirement, Selector};
use policy::{CidrGroup, GroupRule};

use super::*;

fn group(prefixes: impl IntoIterator<Item = IpNet>) -> ObjectEvent {
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

fn from_group() -> ObjectEvent {
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

fn net(n: u32) -> IpNet {
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
