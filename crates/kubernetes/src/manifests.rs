// SPDX-License-Identifier: Apache-2.0
//! The content of a manifest directory → objects and what changed. Pure over the files' texts.
//!
//! Every file has its say about the objects that it defines or names in a document that is refused; who is in force is
//! decided per object over all files. So an object may move between files, and only who touches it changes it.

mod file;
mod saved;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use model::{EndpointSlice, Namespace, NamespacedName, Pod, PodKey, Service};
use policy::{PolicyKey, PolicyObject};

use crate::object::{Object, ObjectKey};
use crate::{CidrGroupObject, Condition, Problem};
use file::{About, Defined, File};

/// Objects of all files together.
const MAX_OBJECTS: usize = 250_000;
/// Problems that are told; of the others only how many there are.
const MAX_PROBLEMS: usize = 128;

/// A change of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ObjectEvent {
    /// A pod is new or has changed.
    Pod(Pod),
    /// A pod is gone.
    PodGone(PodKey),
    /// A namespace is new or has changed.
    Namespace(Namespace),
    /// A namespace is gone.
    NamespaceGone(Arc<str>),
    /// A policy is new or has changed.
    Policy(PolicyObject),
    /// A policy is gone.
    PolicyGone(PolicyKey),
    /// A service is new or has changed.
    Service(Service),
    /// A service is gone.
    ServiceGone(NamespacedName),
    /// A slice is new or has changed.
    EndpointSlice(EndpointSlice),
    /// A slice is gone.
    EndpointSliceGone(NamespacedName),
    /// A group of prefixes is new or has changed.
    CidrGroup(CidrGroupObject),
    /// A group of prefixes is gone.
    CidrGroupGone(String),
    /// The object of a policy shows another condition `Valid`, or none any more; API servers alone tell it.
    PolicyShows(PolicyKey, Option<Condition>),
}

/// The objects in force, and which file gave each.
#[derive(Debug, Default)]
pub struct Manifests {
    files: BTreeMap<String, File>,
    objects: HashMap<ObjectKey, InForce>,
    /// Files that define an object.
    definers: HashMap<ObjectKey, BTreeSet<String>>,
    /// Objects that several files define.
    contested: BTreeSet<ObjectKey>,
    /// Files that are there and were never read.
    unread: BTreeSet<String>,
    /// Objects in force since an earlier run that nobody was told of.
    untold: BTreeSet<ObjectKey>,
}

#[derive(Debug)]
struct InForce {
    defined: Arc<Defined>,
    /// The file that gave it; it may be gone while a refused version elsewhere keeps the object.
    file: String,
}

impl Manifests {
    /// Takes the directory's files (name → text; `None`: as it was). Returns what changed, deletions first.
    pub fn update(&mut self, texts: BTreeMap<String, Option<String>>) -> Vec<ObjectEvent> {
        let gone = self.files.keys().filter(|name| !texts.contains_key(*name));
        let gone: Vec<String> = gone.cloned().collect();
        let mut touched = self.untold.clone();
        for name in gone {
            self.replace(&name, None, &mut touched);
        }
        let unread = texts
            .iter()
            .filter(|(name, text)| text.is_none() && !self.files.contains_key(*name));
        let unread = unread.map(|(name, _)| name.clone()).collect();
        for name in std::mem::replace(&mut self.unread, unread) {
            touched.extend(self.given_by(&name));
        }
        for (name, text) in texts {
            let Some(text) = text else { continue };
            let digest = file::digest(&text);
            if self
                .files
                .get(&name)
                .is_some_and(|file| file.digest == digest)
            {
                continue;
            }
            let free = MAX_OBJECTS.saturating_sub(self.definers.len());
            let file = File::read(&name, &text, digest, free);
            self.replace(&name, Some(file), &mut touched);
        }
        self.decide(touched)
    }

    /// A file says something else now.
    fn replace(&mut self, name: &str, new: Option<File>, touched: &mut BTreeSet<ObjectKey>) {
        let old = match new {
            Some(file) => self.files.insert(name.to_owned(), file),
            None => self.files.remove(name),
        };
        if let Some(old) = old {
            for key in old.objects.keys() {
                if let Some(files) = self.definers.get_mut(key) {
                    files.remove(name);
                    if files.len() < 2 {
                        self.contested.remove(key);
                    }
                    if files.is_empty() {
                        self.definers.remove(key);
                    }
                }
            }
            if old.keep_all {
                touched.extend(self.given_by(name));
            }
            touched.extend(old.objects.into_keys());
            touched.extend(old.kept);
        }
        let Some(new) = self.files.get(name) else {
            return;
        };
        for key in new.objects.keys() {
            let files = self.definers.entry(key.clone()).or_default();
            files.insert(name.to_owned());
            if files.len() > 1 {
                self.contested.insert(key.clone());
            }
        }
        touched.extend(new.objects.keys().cloned());
        touched.extend(new.kept.iter().cloned());
    }

    fn given_by(&self, file: &str) -> impl Iterator<Item = ObjectKey> {
        let given = self.objects.iter();
        let given = given.filter(move |(_, in_force)| in_force.file == file);
        given.map(|(key, _)| key.clone())
    }

    /// Who is in force now, for every object that a file touched.
    fn decide(&mut self, touched: BTreeSet<ObjectKey>) -> Vec<ObjectEvent> {
        let mut gone = Vec::new();
        let mut upserts = Vec::new();
        for key in touched {
            let is_told = !self.untold.remove(&key);
            let owner = self
                .objects
                .get(&key)
                .map(|in_force| in_force.file.as_str());
            let definers = self.definers.get(&key);
            let stays = owner.filter(|owner| definers.is_some_and(|files| files.contains(*owner)));
            let next = stays.or_else(|| definers?.first().map(String::as_str));
            let Some(next) = next.map(str::to_owned) else {
                if owner.is_some_and(|owner| !self.is_kept(&key, owner)) {
                    self.objects.remove(&key);
                    gone.extend(is_told.then(|| ObjectEvent::gone(key)));
                } else if let Some(kept) = self.objects.get(&key).filter(|_| !is_told) {
                    upserts.push(ObjectEvent::upsert(kept.defined.object.clone()));
                }
                continue;
            };
            let defined = self.files[&next].objects[&key].clone();
            let old = self.objects.insert(
                key,
                InForce {
                    defined: defined.clone(),
                    file: next,
                },
            );
            if !is_told || old.is_none_or(|old| old.defined.object != defined.object) {
                upserts.push(ObjectEvent::upsert(defined.object.clone()));
            }
        }
        gone.into_iter().chain(upserts).collect()
    }

    /// Whether an object that no file defines stays: a refused document names it, or may be it.
    fn is_kept(&self, key: &ObjectKey, owner: &str) -> bool {
        self.unread.contains(owner)
            || self.files.get(owner).is_some_and(|file| file.keep_all)
            || self.files.values().any(|file| file.kept.contains(key))
    }

    /// What is not in force, by file. At most a bounded number, the last of which tells how many there are beyond.
    pub fn problems(&self) -> Vec<Problem> {
        let refused = self.files.values().flat_map(|file| &file.problems);
        let refused = refused.map(|(problem, about)| {
            let stays = match about {
                About::Nothing => false,
                About::Objects(keys) => keys.iter().any(|key| self.objects.contains_key(key)),
                About::File => self.objects.values().any(|of| of.file == problem.file),
            };
            Problem {
                previous_stays: stays,
                ..problem.clone()
            }
        });
        let shadowed = self.contested.iter().flat_map(|key| {
            let owner = &self.objects[key].file;
            let others = self.definers[key].iter().filter(move |file| *file != owner);
            others.map(move |file| Problem {
                file: file.clone(),
                document: 0,
                object: Some(key.describe()),
                reason: format!("also defined in {owner}, which is in force; remove one of them"),
                previous_stays: false,
            })
        });
        let mut all = refused.chain(shadowed);
        let mut told: Vec<Problem> = all.by_ref().take(MAX_PROBLEMS).collect();
        let beyond = all.count();
        if beyond > 0 {
            told.push(Problem::of_file(
                "",
                format!("{beyond} more problems"),
                false,
            ));
        }
        told
    }
}

impl ObjectEvent {
    /// Whether it takes something away.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(
            self,
            Self::PodGone(_)
                | Self::NamespaceGone(_)
                | Self::PolicyGone(_)
                | Self::ServiceGone(_)
                | Self::EndpointSliceGone(_)
                | Self::CidrGroupGone(_)
        )
    }

    /// Whether it is about what policy means.
    pub(crate) fn is_of_policy(&self) -> bool {
        matches!(
            self,
            Self::Policy(_) | Self::PolicyGone(_) | Self::CidrGroup(_) | Self::CidrGroupGone(_)
        )
    }

    pub(crate) fn upsert(object: Object) -> Self {
        match object {
            Object::Pod(pod) => Self::Pod(pod),
            Object::Namespace(namespace) => Self::Namespace(namespace),
            Object::Policy(policy) => Self::Policy(policy),
            Object::Service(service) => Self::Service(service),
            Object::EndpointSlice(slice) => Self::EndpointSlice(slice),
            Object::CidrGroup(group) => Self::CidrGroup(group),
        }
    }

    pub(crate) fn gone(key: ObjectKey) -> Self {
        match key {
            ObjectKey::Pod(key) => Self::PodGone(key),
            ObjectKey::Namespace(name) => Self::NamespaceGone(name),
            ObjectKey::Policy(key) => Self::PolicyGone(key),
            ObjectKey::Service(key) => Self::ServiceGone(key),
            ObjectKey::EndpointSlice(key) => Self::EndpointSliceGone(key),
            ObjectKey::CidrGroup(name) => Self::CidrGroupGone(name),
        }
    }
}

#[cfg(test)]
mod odd_tests;
#[cfg(test)]
mod tests;
