// SPDX-License-Identifier: Apache-2.0
//! The state between commits: what should be, what the kernel has, and what changed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ipnet::IpNet;
use model::{EndpointId, NamedPort, NumericIdentity, reserved};

use crate::cidrs::{self, Cidrs};
use crate::classes::Classes;
use crate::compile::{CompiledRule, Compiler};
use crate::content::{Content, ContentKey};
use crate::cookie::Cookies;
use crate::crowds::Crowds;
use crate::groups::Groups;
use crate::ids::Ids;
use crate::index::ByLabel;
use crate::peer::Home;
use crate::ports::Ports;
use crate::records::Record;
use crate::room::Admission;
use crate::rows::Rows;
use crate::selectors::{Selectors, Signature};
use crate::{Error, PolicyKey, PolicyObject, Settings, kind, validate};

/// An identity of endpoints of this node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subject {
    pub(crate) rules: BTreeMap<(Arc<PolicyKey>, usize), Arc<CompiledRule>>,
    pub(crate) endpoints: BTreeSet<EndpointId>,
}

#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) identity: NumericIdentity,
    /// Ports to which its pod gives a name.
    pub(crate) ports: Arc<[NamedPort]>,
    /// The policy id that the kernel has for it.
    pub(crate) policy: Option<u32>,
}

#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) object: PolicyObject,
    pub(crate) rules: Vec<Arc<CompiledRule>>,
}

/// A policy id in the kernel.
#[derive(Clone, Debug, Default)]
pub(crate) struct Live {
    /// `None`: a copy that ends with the commit that made it.
    pub(crate) content: Option<Arc<Content>>,
    /// Rows by kind, in the order of [`kind::ALL`]; 0 none.
    pub(crate) kinds: [u32; 5],
    /// Rows by class, where they differ from the kind's.
    pub(crate) classes: BTreeMap<u32, u32>,
    pub(crate) endpoints: usize,
}

impl Live {
    /// Entries in the kernel.
    pub(crate) fn entries(&self) -> usize {
        let of_kinds = self.kinds.iter().filter(|row| **row != 0);
        of_kinds.count() + self.classes.len()
    }

    /// The row that judges a class (0 none) of a kind.
    pub(crate) fn row(&self, class: u32, kind: u32) -> u32 {
        let of_kind = self.kinds[(kind - kind::BASE) as usize];
        self.classes.get(&class).copied().unwrap_or(of_kind)
    }
}

/// Turns policies, identities and endpoints into writes to the kernel's maps.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) settings: Settings,
    pub(crate) home: Home,
    pub(crate) revision: u64,
    pub(crate) objects: BTreeMap<PolicyKey, Stored>,
    pub(crate) groups: Groups,
    pub(crate) ports: Ports,
    pub(crate) crowds: Crowds,
    pub(crate) subjects: HashMap<NumericIdentity, Subject>,
    pub(crate) endpoints: BTreeMap<EndpointId, Endpoint>,
    pub(crate) records: HashMap<NumericIdentity, Record>,
    /// Identities that came, changed or went since the last commit.
    pub(crate) dirty: BTreeSet<NumericIdentity>,
    /// Endpoints whose rules may have changed since the last commit.
    pub(crate) dirty_endpoints: BTreeSet<EndpointId>,
    pub(crate) pending: bool,
    pub(crate) selectors: Selectors,
    pub(crate) by_label: ByLabel,
    pub(crate) kinds: [Signature; 5],
    pub(crate) classes: Classes,
    pub(crate) policies: BTreeMap<u32, Live>,
    /// Policies that may have no endpoints any more.
    pub(crate) left: BTreeSet<u32>,
    pub(crate) by_key: HashMap<ContentKey, u32>,
    pub(crate) policy_ids: Ids,
    pub(crate) rows: Rows,
    pub(crate) cookies: Cookies,
    pub(crate) cidrs: Cidrs,
    pub(crate) next_rule: u64,
    pub(crate) admission: Admission,
}

impl Engine {
    /// An engine that knows the reserved identities and nothing else. Revision 1, as nothing has been said yet.
    pub fn new(settings: Settings) -> Self {
        let home = Home {
            scheme: settings.scheme,
            cluster_id: settings.cluster_id,
            cluster: settings.cluster.clone(),
            families: settings.families,
        };
        let mut engine = Self {
            kinds: kind::ALL.map(|_| Signature::from([])),
            settings,
            home,
            revision: 1,
            objects: BTreeMap::new(),
            groups: Groups::default(),
            ports: Ports::default(),
            crowds: Crowds::default(),
            subjects: HashMap::new(),
            endpoints: BTreeMap::new(),
            records: HashMap::new(),
            dirty: BTreeSet::new(),
            dirty_endpoints: BTreeSet::new(),
            pending: true,
            selectors: Selectors::default(),
            by_label: ByLabel::default(),
            classes: Classes::new(),
            policies: BTreeMap::new(),
            left: BTreeSet::new(),
            by_key: HashMap::new(),
            policy_ids: Ids::up_to(u32::MAX),
            rows: Rows::new(),
            cookies: Cookies::new(),
            cidrs: Cidrs::new(),
            next_rule: 0,
            admission: Admission::default(),
        };
        for &(identity, _) in reserved::ALL {
            let labels = reserved::labels(identity).expect("a reserved identity has labels");
            engine.upsert_identity(identity, labels);
        }
        engine
    }

    pub(crate) fn identity_changed(&mut self, identity: NumericIdentity) {
        self.pending = true;
        self.dirty.insert(identity);
        if self.subjects.contains_key(&identity) {
            let rules = self.rules_for(identity);
            let subject = self.subjects.get_mut(&identity).expect("just seen");
            subject.rules = rules;
            self.dirty_endpoints.extend(&subject.endpoints);
        }
    }

    /// All rules that select endpoints of an identity.
    fn rules_for(
        &self,
        identity: NumericIdentity,
    ) -> BTreeMap<(Arc<PolicyKey>, usize), Arc<CompiledRule>> {
        let Some(labels) = self.labels(identity) else {
            return BTreeMap::new();
        };
        let all = self
            .objects
            .values()
            .flat_map(|stored| stored.rules.iter().enumerate());
        all.filter(|(_, rule)| rule.selects(labels))
            .map(|(i, rule)| ((rule.policy.clone(), i), rule.clone()))
            .collect()
    }

    /// Puts a policy into force, in place of an earlier version.
    ///
    /// # Errors
    /// The object has no meaning, or names more prefixes than there are numbers for: it is refused whole, and the
    /// earlier version stays.
    pub fn upsert_policy(&mut self, object: PolicyObject) -> Result<(), Error> {
        validate(&object)?;
        let old = self.objects.get(&object.key);
        if old.is_some_and(|old| old.object == object) {
            return Ok(());
        }
        let rules = self.compile(&object);
        let old = cidrs::prefixes_of(self.rules_of(&object.key));
        self.rename_prefixes(&object.key, &old, &cidrs::prefixes_of(&rules))?;
        let key = object.key.clone();
        let stored = Stored {
            object,
            rules: Vec::new(),
        };
        let old = self.objects.insert(key.clone(), stored);
        self.admission.change(&key, old);
        self.put_rules(&key, rules);
        Ok(())
    }

    /// The rules of a policy in force; none if it is not.
    pub(crate) fn rules_of(&self, key: &PolicyKey) -> &[Arc<CompiledRule>] {
        let stored = self.objects.get(key);
        stored.map_or(&[], |stored| &stored.rules)
    }

    /// A policy names other prefixes now, unless there are too many.
    pub(crate) fn rename_prefixes(
        &mut self,
        key: &PolicyKey,
        old: &HashSet<IpNet>,
        new: &HashSet<IpNet>,
    ) -> Result<(), Error> {
        let renamed = self.cidrs.rename(old, new);
        renamed.map_err(|(needed, free)| Error::Prefixes {
            key: key.clone(),
            needed,
            free,
            max: cidrs::MAX_PREFIXES,
        })
    }

    /// A policy in force says this now.
    pub(crate) fn put_rules(&mut self, key: &PolicyKey, rules: Vec<Arc<CompiledRule>>) {
        self.set_rules(key, &rules);
        if let Some(stored) = self.objects.get_mut(key) {
            stored.rules = rules;
        }
        self.revision += 1;
    }

    /// Takes a policy out of force.
    pub fn remove_policy(&mut self, key: &PolicyKey) {
        let Some(old) = self.objects.remove(key) else {
            return;
        };
        self.admission.forget(key);
        let prefixes = cidrs::prefixes_of(&old.rules);
        self.cidrs
            .rename(&prefixes, &Default::default())
            .expect("nothing new needs no number");
        self.set_rules(key, &[]);
        self.revision += 1;
    }

    /// Rules that say the same as before keep their number, so that nothing is written for them.
    pub(crate) fn compile(&mut self, object: &PolicyObject) -> Vec<Arc<CompiledRule>> {
        let old = self.objects.get(&object.key);
        let compiler = Compiler {
            cluster: &self.settings.cluster,
            default_local_cluster: self.settings.default_local_cluster,
            groups: &self.groups,
            object,
            key: Arc::new(object.key.clone()),
        };
        let mut rules = Vec::with_capacity(object.rules.len());
        for index in 0..object.rules.len() {
            let new = compiler.rule(self.next_rule, index);
            self.next_rule += 1;
            let same = old
                .and_then(|old| old.rules.get(index))
                .filter(|old| old.is_same(&new));
            rules.push(same.cloned().unwrap_or_else(|| Arc::new(new)));
        }
        rules
    }

    fn set_rules(&mut self, key: &PolicyKey, rules: &[Arc<CompiledRule>]) {
        let key = Arc::new(key.clone());
        for (&identity, subject) in &mut self.subjects {
            let labels = self
                .records
                .get(&identity)
                .and_then(|record| record.labels.as_ref());
            let old = subject
                .rules
                .range((key.clone(), 0)..=(key.clone(), usize::MAX));
            let old: Vec<_> = old.map(|(at, _)| at.clone()).collect();
            let new = rules.iter().enumerate();
            let new = new.filter(|(_, rule)| labels.is_some_and(|labels| rule.selects(labels)));
            let new: Vec<_> = new
                .map(|(i, rule)| ((key.clone(), i), rule.clone()))
                .collect();
            if old.is_empty() && new.is_empty() {
                continue;
            }
            for at in old {
                subject.rules.remove(&at);
            }
            subject.rules.extend(new);
            self.dirty_endpoints.extend(&subject.endpoints);
            self.pending = true;
        }
    }

    /// Says which identity an endpoint of this node has.
    pub fn upsert_endpoint(&mut self, id: EndpointId, identity: NumericIdentity) {
        self.let_in(identity);
        let known = self.endpoints.get_mut(&id).map(|endpoint| {
            let old = std::mem::replace(&mut endpoint.identity, identity);
            (old, endpoint.policy)
        });
        match known {
            Some((old, _)) if old == identity => return,
            Some((old, _)) => self.leave_subject(id, old),
            None => {
                self.endpoints.insert(
                    id,
                    Endpoint {
                        identity,
                        ports: Arc::new([]),
                        policy: None,
                    },
                );
            }
        }
        if !self.subjects.contains_key(&identity) {
            let rules = self.rules_for(identity);
            self.subjects.insert(
                identity,
                Subject {
                    rules,
                    endpoints: BTreeSet::new(),
                },
            );
        }
        let subject = self.subjects.get_mut(&identity).expect("just made");
        subject.endpoints.insert(id);
        self.dirty_endpoints.insert(id);
        self.pending = true;
    }

    /// Says which ports the pod of an endpoint names. An endpoint that is not known has none.
    pub fn set_named_ports(&mut self, id: EndpointId, ports: &Arc<[NamedPort]>) {
        if let Some(endpoint) = self.endpoints.get_mut(&id)
            && endpoint.ports != *ports
        {
            endpoint.ports = ports.clone();
            self.dirty_endpoints.insert(id);
            self.pending = true;
        }
    }

    /// Forgets an endpoint. The kernel must not judge its packets any more when the next commit is applied.
    pub fn remove_endpoint(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoints.remove(&id) else {
            return;
        };
        self.leave_subject(id, endpoint.identity);
        self.dirty_endpoints.remove(&id);
        self.admission.unplaced.remove(&id);
        if let Some(live) = endpoint
            .policy
            .and_then(|policy| self.policies.get_mut(&policy))
        {
            live.endpoints -= 1;
            self.left.extend(endpoint.policy);
            self.pending = true;
        }
    }

    fn leave_subject(&mut self, id: EndpointId, identity: NumericIdentity) {
        if let Some(subject) = self.subjects.get_mut(&identity) {
            subject.endpoints.remove(&id);
            if subject.endpoints.is_empty() {
                self.subjects.remove(&identity);
            }
        }
    }

    /// The rules that select endpoints of an identity, in the order of policy keys.
    pub(crate) fn selecting(&self, identity: NumericIdentity) -> Vec<Arc<CompiledRule>> {
        let subject = self.subjects.get(&identity);
        subject
            .map(|subject| subject.rules.values().cloned().collect())
            .unwrap_or_default()
    }

    /// Raised by one with every policy object that is put into force, changed or taken out.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// A policy as it is in force.
    pub fn policy(&self, key: &PolicyKey) -> Option<&PolicyObject> {
        self.objects.get(key).map(|stored| &stored.object)
    }

    /// The policies in force.
    pub fn policies(&self) -> impl Iterator<Item = &PolicyObject> {
        self.objects.values().map(|stored| &stored.object)
    }
}
