// SPDX-License-Identifier: Apache-2.0
//! Random histories: after every single write each packet has its verdict from before or after the commit, and after
//! each commit all verdicts are those of the reference.

mod common;

use std::collections::BTreeSet;

use common::generate::{Event, NUMBERS, OTHER, OWN, any_settings, events, labels, named_ports};
use common::kernel::Kernel;
use common::reference::{Who, World};
use model::{EndpointId, NumericIdentity};
use policy::{Action, Direction, Engine, Families, Op, Refusal, Settings};
use proptest::prelude::*;

const FLOWS: [(u8, u16); 6] = [(6, 80), (6, 443), (17, 80), (132, 90), (1, 8), (6, 65535)];

struct Test {
    world: World,
    engine: Engine,
    kernel: Kernel,
    probes: Vec<Who>,
    /// Endpoints whose policy found no room: they keep what they have.
    unplaced: BTreeSet<EndpointId>,
}

type Verdicts = std::collections::BTreeMap<(EndpointId, Direction, Who, (u8, u16)), Action>;

impl Test {
    fn new(settings: Settings) -> Self {
        let identities =
            NUMBERS
                .into_iter()
                .chain([1, 2, 4, 6, 8, 9, 10, 200, OWN + 99, OTHER + 99]);
        let identities = identities.map(|n| Who::Identity(NumericIdentity(n)));
        let addresses = [
            "10.9.9.9",
            "10.1.9.9",
            "10.1.2.9",
            "10.1.2.3",
            "192.0.2.3",
            "2001:db8::1",
            "2001:db8:1::1",
        ];
        let addresses = addresses
            .into_iter()
            .map(|a| Who::Address(a.parse().expect("valid")));
        let families = settings.families;
        let exists = |who: &Who| match who {
            Who::Address(a) => {
                families == Families::Dual || (families == Families::Ipv4) == a.is_ipv4()
            }
            Who::Identity(_) => true,
        };
        Self {
            world: World::new(settings.clone()),
            engine: Engine::new(settings),
            kernel: Kernel::default(),
            probes: identities.chain(addresses).filter(exists).collect(),
            unplaced: BTreeSet::new(),
        }
    }

    fn tell(&mut self, event: Event) {
        match event {
            Event::Identity(n, labels) => {
                self.engine
                    .upsert_identity(NumericIdentity(n), labels.clone());
                self.world.identities.insert(NumericIdentity(n), labels);
            }
            Event::NoIdentity(n) => {
                let id = NumericIdentity(n);
                self.engine.remove_identity(id);
                match model::reserved::labels(id) {
                    Some(labels) => self.world.identities.insert(id, labels),
                    None => self.world.identities.remove(&id),
                };
            }
            Event::Policy(object) => {
                if self.engine.upsert_policy(object.clone()).is_ok() {
                    self.world.policies.insert(object.key.clone(), object);
                }
            }
            Event::NoPolicy(key) => {
                self.engine.remove_policy(&key);
                self.world.policies.remove(&key);
            }
            Event::Endpoint(e, n) => {
                self.engine
                    .upsert_endpoint(EndpointId(e), NumericIdentity(n));
                self.world
                    .endpoints
                    .insert(EndpointId(e), NumericIdentity(n));
            }
            Event::NoEndpoint(e) => {
                self.engine.remove_endpoint(EndpointId(e));
                self.world.endpoints.remove(&EndpointId(e));
                self.world.endpoint_ports.remove(&EndpointId(e));
                self.kernel.endpoints.remove(&EndpointId(e));
            }
            Event::Group(group) => {
                self.engine.upsert_group(group.clone()).expect("room");
                self.world.groups.insert(group.name.clone(), group);
            }
            Event::NoGroup(name) => {
                self.engine.remove_group(&name).expect("room");
                self.world.groups.remove(&name);
            }
            Event::EndpointPorts(e, ports) => {
                let id = EndpointId(e);
                self.engine.set_named_ports(id, &ports);
                if self.world.endpoints.contains_key(&id) {
                    self.world.endpoint_ports.insert(id, ports);
                }
            }
            Event::IdentityPorts(n, ports) => {
                let id = NumericIdentity(n);
                self.engine.set_identity_ports(id, ports.iter());
                self.world.identity_ports.insert(id, ports);
            }
            Event::Restart => self.restart(),
            Event::Anew => {
                let kept = std::mem::take(&mut self.kernel).cidrs;
                self.engine = self.engine.anew(kept.clone());
                self.kernel.cidrs = kept;
            }
        }
    }

    /// A new engine, which knows the prefixes of before, writes maps of its own.
    fn restart(&mut self) {
        let kept: Vec<_> = self.kernel.cidrs.iter().map(|(p, id)| (*p, *id)).collect();
        self.engine = Engine::new(self.world.settings.clone());
        self.engine.adopt(kept.clone());
        self.kernel = Kernel::default();
        self.kernel.cidrs = kept.into_iter().collect();
        let world = self.world.clone();
        world
            .endpoints
            .iter()
            .for_each(|(&e, &n)| self.engine.upsert_endpoint(e, n));
        world
            .identities
            .into_iter()
            .for_each(|(n, labels)| self.engine.upsert_identity(n, labels));
        for object in world.policies.into_values() {
            self.engine
                .upsert_policy(object)
                .expect("it was accepted before");
        }
        for group in world.groups.into_values() {
            self.engine.upsert_group(group).expect("room");
        }
        for (e, ports) in world.endpoint_ports {
            self.engine.set_named_ports(e, &ports);
        }
        for (id, ports) in world.identity_ports {
            self.engine.set_identity_ports(id, ports.iter());
        }
    }

    fn expected(&self) -> Verdicts {
        let mut all = Verdicts::new();
        let mut world = self.world.clone();
        world
            .identities
            .retain(|id, _| !self.engine.left_out().any(|out| out == *id));
        for &endpoint in self.world.endpoints.keys() {
            for way in [Direction::Ingress, Direction::Egress] {
                for &who in &self.probes {
                    for flow in FLOWS {
                        let action = world.judge(endpoint, way, who, flow);
                        all.insert((endpoint, way, who, flow), action);
                    }
                }
            }
        }
        all
    }

    fn seen(
        &self,
        &(endpoint, way, who, flow): &(EndpointId, Direction, Who, (u8, u16)),
    ) -> Option<Action> {
        let identity = match who {
            Who::Identity(id) => id,
            Who::Address(a) => self.kernel.resolve(a, self.world.world_of(a)),
        };
        self.kernel.action(endpoint, way, identity, flow)
    }

    fn commit(&mut self, old: &Verdicts) {
        self.engine.retry_unplaced();
        let ops = self.engine.commit();
        self.refuse();
        let mut new = self.expected();
        let unplaced: BTreeSet<EndpointId> = self.engine.unplaced().collect();
        new.retain(|(endpoint, ..), _| !unplaced.contains(endpoint));
        let before = std::mem::replace(&mut self.unplaced, unplaced);
        for op in ops {
            if let Op::SetEndpointPolicy { endpoint, .. } = &op {
                // A copy of what it has is the same.
                assert!(!self.unplaced.contains(endpoint), "{op:?}");
            }
            self.kernel.apply(&op);
            if matches!(op, Op::PutRow { .. }) {
                continue;
            }
            for (key, after) in &new {
                if !self.kernel.endpoints.contains_key(&key.0) || before.contains(&key.0) {
                    continue;
                }
                let seen = self.seen(key);
                let before = old.get(key).unwrap_or(after);
                assert!(
                    seen == Some(*before) || seen == Some(*after),
                    "{op:?}: {key:?}: before {before:?}, after {after:?}, seen {seen:?}"
                );
            }
        }
        for (key, action) in &new {
            assert_eq!(self.seen(key), Some(*action), "{key:?}");
            self.explains(key, *action);
        }
        let mut fresh = Kernel::default();
        self.engine.snapshot().iter().for_each(|op| fresh.apply(op));
        assert_eq!(fresh, self.kernel, "a snapshot is what the kernel has");
        assert!(self.engine.commit().is_empty(), "nothing changed since");
        let taken = self.engine.taken();
        assert_eq!(taken.policies, self.kernel.policies.len());
        assert_eq!(taken.rows, self.kernel.rows.len());
    }

    /// What found no room says what it said before.
    fn refuse(&mut self) {
        for Refusal { object, earlier } in self.engine.refused() {
            let key = object.key.clone();
            let told = match earlier {
                Some(earlier) => self.world.policies.insert(key, earlier),
                None => self.world.policies.remove(&key),
            };
            assert_eq!(told, Some(object));
        }
    }

    fn explains(
        &self,
        &(endpoint, way, who, (proto, port)): &(EndpointId, Direction, Who, (u8, u16)),
        action: Action,
    ) {
        for (prefix, id) in &self.kernel.cidrs {
            let labels = self.engine.labels_of(*id).expect("a prefix has labels");
            assert!(labels.iter().any(|label| label.prefix() == Some(*prefix)));
        }
        let Who::Identity(id) = who else { return };
        let why = self
            .engine
            .explain(endpoint, way, id, proto, port)
            .expect("committed");
        assert_eq!(why.verdict, action);
        assert_eq!(why.rule.is_some(), why.cookie != 0);
        assert!(
            action == Action::Allow || why.rule.is_some(),
            "every drop has a rule"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_write_is_safe(
        settings in any_settings(),
        start in prop::collection::vec((labels(), named_ports()), 6),
        steps in prop::collection::vec(prop::collection::vec(events(), 1..5), 1..7),
    ) {
        let mut test = Test::new(settings);
        for (n, (labels, ports)) in NUMBERS.into_iter().zip(&start) {
            test.tell(Event::Identity(n, labels.clone()));
            test.tell(Event::IdentityPorts(n, ports.clone()));
        }
        for (e, (_, ports)) in (1..3).zip(&start) {
            test.tell(Event::Endpoint(e, OWN + u32::from(e)));
            test.tell(Event::EndpointPorts(e, ports.clone()));
        }
        test.commit(&Verdicts::new());
        for step in steps {
            let old = test.expected();
            step.into_iter().for_each(|event| test.tell(event));
            test.commit(&old);
        }
    }
}
