// SPDX-License-Identifier: Apache-2.0
//! What holds for an endpoint: the rules that select it, and what happens where none of them speaks
//! (Cilium's documentation, "Policy Enforcement Modes").

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ipnet::IpNet;
use model::{Labels, NamedPort};

use crate::cidrs::CidrSet;
use crate::compile::{CompiledEntry, CompiledRule, Origin, Span};
use crate::cookie::{Cookies, Decision};
use crate::peer::{Home, PeerSelector};
use crate::ports::{Named, Ports};
use crate::row::{self, Level, Term, Winner};
use crate::rows::RowContent;
use crate::selectors::{SelectorId, Selectors};
use crate::{Action, Direction, EnforcementMode, Entity, RowVerdict, Settings};

/// What happens to packets that no entry matches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Base {
    /// Nothing selects the endpoint.
    Open,
    /// Entries select it and none begins default deny.
    AllowRest,
    /// Default deny.
    Closed(Decision),
}

/// Equal keys are equal policies.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ContentKey {
    pub(crate) bases: [Base; 2],
    localhost: bool,
    rules: Vec<u64>,
    /// The numbers that the endpoint's pod gives to ports which its rules name.
    named: Vec<Named>,
    /// The numbers that peers give to ports which its rules name.
    peers_named: Vec<Named>,
}

/// What it means for a peer that a selector matches it.
#[derive(Clone, Copy, Debug)]
enum Atom {
    /// Direction, rule and entry: the entry is about it.
    Entry(Direction, usize, usize),
    /// It has the port of this index in [`ContentKey::peers_named`].
    Port(usize),
}

/// Everything that judges the packets of an endpoint.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) key: ContentKey,
    rules: Vec<Arc<CompiledRule>>,
    /// What a selector leads to.
    atoms: Vec<Atom>,
    by_selector: HashMap<SelectorId, Vec<usize>>,
    localhost: Option<SelectorId>,
}

/// Which atoms match a peer, and whether it is the local host where that counts.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Matched {
    atoms: BTreeSet<usize>,
    localhost: bool,
}

const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

impl ContentKey {
    /// What holds for an endpoint with these labels under these rules.
    pub(crate) fn new(
        settings: &Settings,
        labels: Option<&Labels>,
        rules: &[Arc<CompiledRule>],
        own: &[NamedPort],
        ports: &Ports,
    ) -> Self {
        let host = labels.is_some_and(|labels| labels.get("reserved", "host").is_some());
        if settings.mode == EnforcementMode::Never || host {
            return Self {
                bases: [Base::Open; 2],
                localhost: false,
                rules: Vec::new(),
                named: Vec::new(),
                peers_named: Vec::new(),
            };
        }
        let bases = DIRECTIONS.map(|direction| base(settings, labels, rules, direction));
        let ingress = rules
            .iter()
            .any(|rule| !rule.side(Direction::Ingress).entries.is_empty());
        let closed = matches!(bases[0], Base::Closed(_));
        let localhost = settings.allow_localhost && ingress && closed;
        let [ingress, egress] = DIRECTIONS.map(|direction| {
            let sides = rules.iter().map(|rule| rule.side(direction));
            let entries = sides.flat_map(|side| &side.entries);
            entries
                .flat_map(|entry| &entry.named)
                .collect::<BTreeSet<_>>()
        });
        let named = own.iter().filter_map(|port| {
            let (name, proto) = (port.name.clone(), port.protocol.number());
            let name = (name, proto);
            ingress
                .contains(&name)
                .then_some((name.0, proto, port.port))
        });
        let peers_named = egress.into_iter().flat_map(|name| ports.numbers(name));
        Self {
            bases,
            localhost,
            rules: rules.iter().map(|rule| rule.id).collect(),
            named: named.collect(),
            peers_named: peers_named.collect(),
        }
    }
}

impl ContentKey {
    /// Numbers that stand for names.
    pub(crate) fn named_ports(&self) -> usize {
        self.named.len() + self.peers_named.len()
    }
}

fn base(
    settings: &Settings,
    labels: Option<&Labels>,
    rules: &[Arc<CompiledRule>],
    direction: Direction,
) -> Base {
    let mut sides = rules.iter().map(|rule| rule.side(direction));
    let mut selecting = sides.clone().filter(|side| !side.entries.is_empty());
    let init = |labels: &Labels| labels.get("reserved", "init").is_some();
    if sides.any(|side| side.default_deny && !side.entries.is_empty()) {
        Base::Closed(Decision::DefaultDeny)
    } else if labels.is_none() {
        Base::Closed(Decision::Unlabelled)
    } else if labels.is_some_and(init) {
        Base::Closed(Decision::Init)
    } else if settings.mode == EnforcementMode::Always {
        Base::Closed(Decision::ModeAlways)
    } else if selecting.next().is_some() {
        Base::AllowRest
    } else {
        Base::Open
    }
}

impl Content {
    /// Puts the selectors of the rules into use; those that are new go to `new`.
    pub(crate) fn new(
        key: ContentKey,
        rules: Vec<Arc<CompiledRule>>,
        selectors: &mut Selectors,
        home: &Home,
        new: &mut BTreeSet<SelectorId>,
    ) -> Self {
        let rules = if key.rules.is_empty() {
            Vec::new()
        } else {
            rules
        };
        let mut acquire = |selector: &PeerSelector| {
            let (id, is_new) = selectors.acquire(selector, home);
            if is_new {
                new.insert(id);
            }
            id
        };
        let localhost = key
            .localhost
            .then(|| acquire(&PeerSelector::Entity(Entity::Host)));
        let (mut atoms, mut by_selector) = (Vec::new(), HashMap::<_, Vec<usize>>::new());
        for (r, rule) in rules.iter().enumerate() {
            for direction in DIRECTIONS {
                for (e, entry) in rule.side(direction).entries.iter().enumerate() {
                    for peer in &entry.peers {
                        by_selector
                            .entry(acquire(peer))
                            .or_default()
                            .push(atoms.len());
                    }
                    atoms.push(Atom::Entry(direction, r, e));
                }
            }
        }
        for (i, port) in key.peers_named.iter().enumerate() {
            by_selector
                .entry(acquire(&PeerSelector::Port(port.clone())))
                .or_default()
                .push(atoms.len());
            atoms.push(Atom::Port(i));
        }
        Self {
            key,
            rules,
            atoms,
            by_selector,
            localhost,
        }
    }

    /// Every selector as often as it was put into use.
    pub(crate) fn selectors(&self) -> impl Iterator<Item = SelectorId> + '_ {
        let used = self.by_selector.iter();
        let used = used.flat_map(|(&id, atoms)| atoms.iter().map(move |_| id));
        used.chain(self.localhost)
    }

    /// The prefixes that need an identity, with repetitions.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = IpNet> + '_ {
        let sets = self.rules.iter().flat_map(|rule| rule.cidr_sets());
        sets.flat_map(CidrSet::prefixes)
    }

    /// What matches a peer that these selectors match.
    pub(crate) fn matched(&self, signature: &[SelectorId]) -> Matched {
        let atoms = signature
            .iter()
            .filter_map(|id| self.by_selector.get(id))
            .flatten();
        Matched {
            atoms: atoms.copied().collect(),
            localhost: self
                .localhost
                .is_some_and(|id| signature.binary_search(&id).is_ok()),
        }
    }

    /// The entries about such a peer.
    fn entries(&self, matched: &Matched, way: Direction) -> impl Iterator<Item = &CompiledEntry> {
        let atoms = matched.atoms.iter().map(|&atom| self.atoms[atom]);
        atoms.filter_map(move |atom| match atom {
            Atom::Entry(direction, rule, entry) if direction == way => {
                Some(&self.rules[rule].side(direction).entries[entry])
            }
            _ => None,
        })
    }

    /// What a name stands for with who is asked: the endpoint, or such a peer.
    fn named(&self, matched: &Matched, direction: Direction) -> Vec<&Named> {
        match direction {
            Direction::Ingress => self.key.named.iter().collect(),
            Direction::Egress => {
                let atoms = matched.atoms.iter().map(|&atom| self.atoms[atom]);
                let ports = atoms.filter_map(|atom| match atom {
                    Atom::Port(i) => Some(&self.key.peers_named[i]),
                    Atom::Entry(..) => None,
                });
                ports.collect()
            }
        }
    }

    /// The row for such a peer.
    pub(crate) fn row(&self, matched: &Matched, cookies: &mut Cookies) -> RowContent {
        let mut all = Vec::new();
        for direction in DIRECTIONS {
            let named = self.named(matched, direction);
            let mut terms: Vec<Term<'_>> = self
                .entries(matched, direction)
                .flat_map(|entry| {
                    let level = if entry.deny {
                        Level::Deny
                    } else {
                        Level::Allow
                    };
                    let named = named.iter().filter(|(name, proto, _)| {
                        !entry.named.is_empty() && entry.named.contains(&(name.clone(), *proto))
                    });
                    let named = named.map(|(_, proto, port)| Span {
                        proto: Some(*proto),
                        first: *port,
                        last: *port,
                    });
                    let spans: Vec<Span> = entry.spans.iter().copied().chain(named).collect();
                    spans.into_iter().map(move |span| Term {
                        level,
                        span,
                        origin: Some(&entry.origin),
                    })
                })
                .collect();
            if matched.localhost && direction == Direction::Ingress {
                let span = Span::ANY;
                terms.push(Term {
                    level: Level::Localhost,
                    span,
                    origin: None,
                });
            }
            let verdict = |winner: Winner<'_>| self.verdict(direction, winner, cookies);
            all.extend(row::entries(direction, &terms, verdict));
        }
        all.into()
    }

    fn verdict(
        &self,
        direction: Direction,
        winner: Winner<'_>,
        cookies: &mut Cookies,
    ) -> RowVerdict {
        let (action, decision, by) = match (winner, self.key.bases[direction as usize - 1]) {
            (Some((level, by)), _) => {
                let by = by.into_iter().cloned().collect();
                match level {
                    Level::Deny => (Action::Deny, Decision::Denied, by),
                    Level::Allow => (Action::Allow, Decision::Allowed, by),
                    Level::Localhost => (Action::Allow, Decision::Localhost, by),
                }
            }
            (None, Base::Closed(decision)) => (
                Action::DefaultDeny,
                decision,
                self.beginners(direction, decision),
            ),
            (None, Base::Open | Base::AllowRest) => {
                return RowVerdict {
                    action: Action::Allow,
                    rule: 0,
                };
            }
        };
        RowVerdict {
            action,
            rule: cookies.of(decision, direction, by),
        }
    }

    /// The policies that began the default deny.
    fn beginners(&self, direction: Direction, decision: Decision) -> Vec<Origin> {
        if decision != Decision::DefaultDeny {
            return Vec::new();
        }
        let begins = |rule: &&Arc<CompiledRule>| {
            let side = rule.side(direction);
            side.default_deny && !side.entries.is_empty()
        };
        let origin = |rule: &Arc<CompiledRule>| Origin {
            policy: rule.policy.clone(),
            path: "".into(),
        };
        self.rules.iter().filter(begins).map(origin).collect()
    }
}
