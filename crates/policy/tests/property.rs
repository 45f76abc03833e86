// SPDX-License-Identifier: Apache-2.0
//! Random histories: after every single write each packet has its verdict from before or after the commit, and after
//! each commit all verdicts are those of the reference.

mod common;

use common::kernel::Kernel;
use common::reference::{Who, World};
use common::{pod, selector, settings};
use model::{EndpointId, Labels, NumericIdentity};
use policy::{
    Action, CidrRule, DefaultDeny, Direction, EnforcementMode, Engine, Entity, Entry, Families, Op,
    Peers, PolicyKey, PolicyKind, PolicyObject, PortProtocol, PortRule, Rule, Settings,
};
use proptest::prelude::*;
use proptest::sample::select;

const OWN: u32 = 5 << 16;
const OTHER: u32 = 7 << 16;
const NUMBERS: [u32; 8] = [
    OWN + 1,
    OWN + 2,
    OWN + 3,
    OWN + 4,
    OTHER + 1,
    OTHER + 2,
    0x0200_0001,
    7,
];
const FLOWS: [(u8, u16); 6] = [(6, 80), (6, 443), (17, 80), (132, 90), (1, 8), (6, 65535)];

#[derive(Clone, Debug)]
enum Event {
    Identity(u32, Labels),
    NoIdentity(u32),
    Policy(PolicyObject),
    NoPolicy(PolicyKey),
    Endpoint(u16, u32),
    NoEndpoint(u16),
    Restart,
    Anew,
}

fn labels() -> impl Strategy<Value = Labels> {
    let cluster = select(vec!["cluster5", "cluster7"]);
    let app = select(vec![
        "",
        "k8s:app=a;",
        "k8s:app=b;",
        "k8s:app=a;k8s:tier=x;",
        "reserved:init=;",
    ]);
    (cluster, select(vec!["prod", "other"]), app).prop_map(|(c, n, l)| pod(c, n, l))
}

fn selectors() -> impl Strategy<Value = model::Selector> {
    let texts = [
        "",
        "app=a",
        "app=b",
        "!app",
        "app!=a",
        "tier",
        "k8s:io.kubernetes.pod.namespace",
        "k8s:io.kubernetes.pod.namespace=other",
        "io.cilium.k8s.policy.cluster",
        "reserved:host",
        "io.cilium.k8s.policy.cluster=cluster7,app=a",
        "!reserved:host",
        "reserved:init",
    ];
    select(texts.to_vec()).prop_map(selector)
}

fn cidrs() -> impl Strategy<Value = CidrRule> {
    let rules = [
        ("0.0.0.0/0", vec![]),
        ("::/0", vec![]),
        ("10.0.0.0/8", vec!["10.1.0.0/16"]),
        ("10.1.0.0/16", vec![]),
        ("10.1.2.0/24", vec!["10.1.2.3/32"]),
        ("192.0.2.3/32", vec![]),
        ("0.0.0.0/0", vec!["10.0.0.0/8", "192.0.2.0/24"]),
        ("2001:db8::/32", vec!["2001:db8:1::/48"]),
    ];
    select(rules.to_vec()).prop_map(|(cidr, except)| CidrRule {
        cidr: cidr.parse().expect("valid"),
        except: except.iter().map(|e| e.parse().expect("valid")).collect(),
    })
}

fn peers() -> impl Strategy<Value = Peers> {
    prop_oneof![
        1 => Just(Peers::default()),
        5 => prop::collection::vec(selectors(), 0..3)
            .prop_map(|l| Peers { endpoints: Some(l), ..Peers::default() }),
        3 => prop::collection::vec(select(Entity::ALL.to_vec()), 0..3)
            .prop_map(|l| Peers { entities: Some(l), ..Peers::default() }),
        3 => prop::collection::vec(cidrs(), 0..3)
            .prop_map(|l| Peers { cidrs: Some(l), ..Peers::default() }),
    ]
}

fn ports() -> impl Strategy<Value = Option<Vec<PortRule>>> {
    let protocol = select(vec![
        PortProtocol::Tcp,
        PortProtocol::Udp,
        PortProtocol::Sctp,
        PortProtocol::Any,
    ]);
    let range = select(vec![
        (80, None),
        (0, None),
        (80, Some(443)),
        (90, Some(1)),
        (1, Some(65535)),
    ]);
    let port = (range, protocol).prop_map(|((port, end_port), protocol)| PortRule {
        port,
        end_port,
        protocol,
    });
    prop::option::of(prop::collection::vec(port, 0..4))
}

fn list() -> impl Strategy<Value = Option<Vec<Entry>>> {
    let entry = (peers(), ports()).prop_map(|(peers, ports)| Entry::new(peers, ports));
    prop::option::weighted(0.6, prop::collection::vec(entry, 0..3))
}

fn policies() -> impl Strategy<Value = PolicyObject> {
    let flag = || prop::option::weighted(0.3, any::<bool>());
    let rule = (selectors(), list(), list(), list(), list(), flag(), flag()).prop_map(
        |(subject, ingress, ingress_deny, egress, egress_deny, i, e)| Rule {
            subject,
            ingress,
            ingress_deny,
            egress,
            egress_deny,
            default_deny: DefaultDeny {
                ingress: i,
                egress: e,
            },
            description: String::new(),
        },
    );
    (keys(), prop::collection::vec(rule, 1..3)).prop_map(|(key, rules)| PolicyObject {
        key,
        uid: String::new(),
        labels: Vec::new(),
        rules,
    })
}

fn keys() -> impl Strategy<Value = PolicyKey> {
    select(vec![
        ("prod", "a"),
        ("prod", "b"),
        ("other", "a"),
        ("", "c"),
    ])
    .prop_map(|(ns, name)| PolicyKey {
        kind: match ns {
            "" => PolicyKind::CiliumClusterwideNetworkPolicy,
            _ => PolicyKind::CiliumNetworkPolicy,
        },
        namespace: ns.into(),
        name: name.into(),
    })
}

fn events() -> impl Strategy<Value = Event> {
    let number = || select(NUMBERS.to_vec());
    prop_oneof![
        6 => (number(), labels()).prop_map(|(n, l)| Event::Identity(n, l)),
        2 => number().prop_map(Event::NoIdentity),
        6 => policies().prop_map(Event::Policy),
        1 => keys().prop_map(Event::NoPolicy),
        3 => (1..4u16, number()).prop_map(|(e, n)| Event::Endpoint(e, n)),
        1 => (1..4u16).prop_map(Event::NoEndpoint),
        1 => Just(Event::Restart),
        1 => Just(Event::Anew),
    ]
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let mode = prop_oneof![
        8 => Just(EnforcementMode::Default),
        1 => Just(EnforcementMode::Always),
        1 => Just(EnforcementMode::Never),
    ];
    let families = select(vec![
        Families::Dual,
        Families::Dual,
        Families::Ipv4,
        Families::Ipv6,
    ]);
    (mode, families, any::<bool>(), any::<bool>()).prop_map(|(mode, families, local, host)| {
        Settings {
            mode,
            families,
            default_local_cluster: local,
            allow_localhost: host,
            ..settings()
        }
    })
}

struct Test {
    world: World,
    engine: Engine,
    kernel: Kernel,
    probes: Vec<Who>,
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
                self.kernel.endpoints.remove(&EndpointId(e));
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
    }

    fn expected(&self) -> Verdicts {
        let mut all = Verdicts::new();
        for &endpoint in self.world.endpoints.keys() {
            for way in [Direction::Ingress, Direction::Egress] {
                for &who in &self.probes {
                    for flow in FLOWS {
                        let action = self.world.judge(endpoint, way, who, flow);
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
        let new = self.expected();
        for op in self.engine.commit() {
            self.kernel.apply(&op);
            if matches!(op, Op::PutRow { .. }) {
                continue;
            }
            for (key, after) in &new {
                if !self.kernel.endpoints.contains_key(&key.0) {
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
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_write_is_safe(
        settings in any_settings(),
        start in prop::collection::vec(labels(), 4),
        steps in prop::collection::vec(prop::collection::vec(events(), 1..5), 1..7),
    ) {
        let mut test = Test::new(settings);
        for (n, labels) in NUMBERS.into_iter().zip(start) {
            test.tell(Event::Identity(n, labels));
        }
        test.tell(Event::Endpoint(1, OWN + 1));
        test.tell(Event::Endpoint(2, OWN + 2));
        test.commit(&Verdicts::new());
        for step in steps {
            let old = test.expected();
            step.into_iter().for_each(|event| test.tell(event));
            test.commit(&old);
        }
    }
}
