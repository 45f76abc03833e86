// SPDX-License-Identifier: Apache-2.0
//! Groups of prefixes that policies select by label. A prefix carries the labels of every group that holds it or a wider
//! one, as many values of a key as there are.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use ipnet::IpNet;
use model::{Label, Operator, Selector};
use serde::{Deserialize, Serialize};

use crate::cidrs::{self, CidrSet};
use crate::compile::CompiledRule;
use crate::engine::Engine;
use crate::{Entity, Error, GroupRule, Peers, PolicyKey, PolicyObject, Rule};

/// A group of prefixes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CidrGroup {
    /// Its name.
    pub name: String,
    /// Labels by which rules select it, source `cidrgroup`.
    pub labels: Vec<Label>,
    /// The prefixes.
    pub prefixes: BTreeSet<IpNet>,
}

/// All groups.
#[derive(Clone, Default, Debug)]
pub(crate) struct Groups {
    by_name: BTreeMap<String, Arc<CidrGroup>>,
    /// Groups that hold a prefix. Ordered by family, address and length: wider ones come before what is inside.
    holders: BTreeMap<IpNet, Vec<Arc<CidrGroup>>>,
    /// Where the API server is, which an entity names.
    api_servers: BTreeSet<IpNet>,
}

impl Groups {
    /// Puts a group in place of the one before, or takes it away. Returns the one before.
    fn replace(&mut self, name: &str, new: Option<Arc<CidrGroup>>) -> Option<Arc<CidrGroup>> {
        let old = self.by_name.remove(name);
        for prefix in old.iter().flat_map(|old| &old.prefixes) {
            if let Some(holders) = self.holders.get_mut(prefix) {
                holders.retain(|group| group.name != name);
                if holders.is_empty() {
                    self.holders.remove(prefix);
                }
            }
        }
        if let Some(new) = new {
            for prefix in &new.prefixes {
                self.holders.entry(*prefix).or_default().push(new.clone());
            }
            self.by_name.insert(name.to_owned(), new);
        }
        old
    }

    /// What a rule is about. A wider prefix that matches has narrower ones that do not taken out: they have labels of their
    /// own, which a negative requirement may refuse, and whatever is inside them is refused as well.
    pub(crate) fn resolve(&self, rule: &GroupRule) -> CidrSet {
        let mut set = CidrSet {
            within: BTreeSet::new(),
            except: rule.except.iter().map(IpNet::trunc).collect(),
        };
        let mut around: Vec<(IpNet, Vec<&Label>, bool)> = Vec::new();
        for (prefix, holders) in &self.holders {
            while around
                .pop_if(|(wider, ..)| !wider.contains(prefix))
                .is_some()
            {}
            let (mut labels, is_inside) = match around.last() {
                Some((_, labels, matched)) => (labels.clone(), *matched),
                None => (Vec::new(), false),
            };
            labels.extend(holders.iter().flat_map(|group| &group.labels));
            let matches = rule.selector.holds_for(labels.iter().copied());
            if matches {
                set.within.insert(*prefix);
            } else if is_inside {
                set.except.push(*prefix);
            }
            around.push((*prefix, labels, matches));
        }
        set.except.sort_unstable();
        set.except.dedup();
        set
    }

    /// What an entity selects beside the identities that it matches.
    pub(crate) fn prefixes_of(&self, entity: Entity) -> Option<CidrSet> {
        let named = entity == Entity::KubeApiserver && !self.api_servers.is_empty();
        named.then(|| CidrSet {
            within: self.api_servers.clone(),
            except: Vec::new(),
        })
    }

    pub(crate) fn api_servers(&self) -> &BTreeSet<IpNet> {
        &self.api_servers
    }

    fn get(&self, name: &str) -> Option<&CidrGroup> {
        self.by_name.get(name).map(|group| &**group)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &CidrGroup> {
        self.by_name.values().map(|group| &**group)
    }
}

/// Whether a group may change what a selector selects: it has a label that the selector asks for, or the selector asks for
/// none.
fn concerns(selector: &Selector, group: &CidrGroup) -> bool {
    let has_key = |key: &str| group.labels.iter().any(|label| label.key() == key);
    let asks = |operator: &Operator| matches!(operator, Operator::In(_) | Operator::Exists);
    let mut all = selector.requirements();
    selector.requirements().any(|r| has_key(&r.key)) || !all.any(|r| asks(&r.operator))
}

fn peers(object: &PolicyObject) -> impl Iterator<Item = &Peers> {
    let entries = object.rules.iter().flat_map(Rule::entries);
    entries.map(|entry| &entry.peers)
}

/// The elements of an object that are about groups.
fn group_rules(object: &PolicyObject) -> impl Iterator<Item = &GroupRule> {
    peers(object).flat_map(|peers| &peers.groups)
}

fn names_api_server(object: &PolicyObject) -> bool {
    let mut entities = peers(object).flat_map(|peers| peers.entities.iter().flatten());
    entities.any(|entity| *entity == Entity::KubeApiserver)
}

/// A policy to which a group makes a difference.
struct Changed {
    key: PolicyKey,
    rules: Vec<Arc<CompiledRule>>,
    /// Its prefixes.
    before: HashSet<IpNet>,
    after: HashSet<IpNet>,
}

impl Engine {
    /// Puts a group into force, in place of an earlier version, for the policies that select it.
    ///
    /// # Errors
    /// The policies that select it would name more prefixes than there are numbers for: the earlier version stays.
    pub fn upsert_group(&mut self, group: CidrGroup) -> Result<(), Error> {
        let name = group.name.clone();
        self.change_group(&name, Some(Arc::new(group)))
    }

    /// Takes a group away: what selects it selects its prefixes no longer.
    ///
    /// # Errors
    /// As [`Engine::upsert_group`]: a selector that asks for the absence of its labels may select more now.
    pub fn remove_group(&mut self, name: &str) -> Result<(), Error> {
        self.change_group(name, None)
    }

    /// A group as it is in force.
    pub fn group(&self, name: &str) -> Option<&CidrGroup> {
        self.groups.get(name)
    }

    fn change_group(&mut self, name: &str, new: Option<Arc<CidrGroup>>) -> Result<(), Error> {
        let old = self.groups.replace(name, new.clone());
        if old == new {
            return Ok(());
        }
        let both: Vec<_> = [&old, &new].into_iter().flatten().cloned().collect();
        let is_affected = |object: &&PolicyObject| {
            let mut rules = group_rules(object);
            rules.any(|rule| both.iter().any(|group| concerns(&rule.selector, group)))
        };
        let affected = self.policies().filter(is_affected).cloned();
        let result = self.compile_anew(affected.collect());
        if result.is_err() {
            self.groups.replace(name, old);
        }
        result
    }

    /// Says where the API server is: its addresses outside of the mesh are what `kube-apiserver` selects there.
    ///
    /// # Errors
    /// As [`Engine::upsert_group`].
    pub fn set_api_servers(&mut self, addresses: BTreeSet<IpNet>) -> Result<(), Error> {
        let old = std::mem::replace(&mut self.groups.api_servers, addresses);
        if old == self.groups.api_servers {
            return Ok(());
        }
        let affected = self.policies().filter(|object| names_api_server(object));
        let result = self.compile_anew(affected.cloned().collect());
        if result.is_err() {
            self.groups.api_servers = old;
        }
        result
    }

    /// Has these policies say what they say of groups and the API server now, all of them or none.
    fn compile_anew(&mut self, affected: Vec<PolicyObject>) -> Result<(), Error> {
        let mut changed = Vec::new();
        for object in affected {
            let rules = self.compile(&object);
            let before = self.rules_of(&object.key);
            // Rules that say the same are the same.
            if before.iter().zip(&rules).all(|(a, b)| Arc::ptr_eq(a, b)) {
                continue;
            }
            let (key, before) = (object.key, cidrs::prefixes_of(before));
            let after = cidrs::prefixes_of(&rules);
            if let Err(error) = self.rename_prefixes(&key, &before, &after) {
                for Changed {
                    key, before, after, ..
                } in changed
                {
                    let back = self.rename_prefixes(&key, &after, &before);
                    back.expect("there was room for what was in force");
                }
                return Err(error);
            }
            changed.push(Changed {
                key,
                rules,
                before,
                after,
            });
        }
        for Changed { key, rules, .. } in changed {
            self.put_rules(&key, rules);
        }
        Ok(())
    }
}
