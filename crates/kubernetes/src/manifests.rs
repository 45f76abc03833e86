// SPDX-License-Identifier: Apache-2.0
//! The content of a manifest directory → objects and what changed. Pure over the files' texts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use model::{Namespace, Pod, PodKey};
use policy::{PolicyKey, PolicyObject};
use serde_json::Value;

use crate::Problem;
use crate::object::{self, Object, ObjectKey};

/// Most documents of a file.
const MAX_DOCUMENTS: usize = 10_000;

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
}

/// The objects in force, and which file gave each.
#[derive(Debug, Default)]
pub struct Manifests {
    objects: HashMap<ObjectKey, (Object, String)>,
    texts: BTreeMap<String, String>,
    problems: BTreeMap<String, Vec<Problem>>,
}

/// One file, read.
struct File {
    objects: Vec<Object>,
    problems: Vec<Problem>,
    /// Keys that a refused document names: their previous versions stay.
    kept: Vec<(String, String, String)>,
    /// A document could not be read so far as to know its object: everything that the file gave before stays.
    keep_all: bool,
}

impl Manifests {
    /// Takes the directory's files (name → text). Returns what changed, deletions first.
    pub fn update(&mut self, texts: BTreeMap<String, String>) -> Vec<ObjectEvent> {
        let changed: Vec<String> = texts
            .keys()
            .chain(self.texts.keys())
            .filter(|name| texts.get(*name) != self.texts.get(*name))
            .cloned()
            .collect();
        let mut gone = Vec::new();
        let mut upserts = Vec::new();
        for name in std::collections::BTreeSet::from_iter(changed) {
            let file = texts
                .get(&name)
                .map_or_else(File::empty, |text| File::read(&name, text));
            self.replace(&name, file, &mut gone, &mut upserts);
        }
        self.texts = texts;
        gone.retain(|key| !self.objects.contains_key(key));
        gone.into_iter()
            .map(ObjectEvent::gone)
            .chain(upserts)
            .collect()
    }

    /// The files' texts as last taken.
    pub(crate) fn texts(&self) -> &BTreeMap<String, String> {
        &self.texts
    }

    /// What is not in force, by file.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.values().flatten()
    }

    fn replace(
        &mut self,
        name: &str,
        file: File,
        gone: &mut Vec<ObjectKey>,
        upserts: &mut Vec<ObjectEvent>,
    ) {
        let File {
            objects,
            mut problems,
            kept,
            keep_all,
        } = file;
        let named: HashMap<ObjectKey, Object> = objects
            .into_iter()
            .map(|object| (object.key(), object))
            .collect();
        let before = self
            .objects
            .iter()
            .filter(|(_, (_, file))| file == name)
            .map(|(key, _)| key.clone());
        for key in before.collect::<Vec<_>>() {
            let stays = keep_all || kept.iter().any(|named| key.is(named));
            if !named.contains_key(&key) && !stays {
                self.objects.remove(&key);
                gone.push(key);
            }
        }
        for (key, object) in named {
            match self.objects.get(&key) {
                Some((_, other)) if other != name => problems.push(Problem {
                    file: name.to_owned(),
                    document: 0,
                    object: Some(key.describe()),
                    reason: format!(
                        "also defined in {other}, which is in force; remove one of them"
                    ),
                    previous_stays: false,
                }),
                Some((known, _)) if *known == object => {}
                _ => {
                    upserts.push(ObjectEvent::upsert(object.clone()));
                    self.objects.insert(key, (object, name.to_owned()));
                }
            }
        }
        for problem in &mut problems {
            problem.previous_stays |= self
                .objects
                .iter()
                .any(|(key, (_, file))| file == name && problem.object == Some(key.describe()));
        }
        if problems.is_empty() {
            self.problems.remove(name);
        } else {
            self.problems.insert(name.to_owned(), problems);
        }
    }
}

impl File {
    fn empty() -> Self {
        Self {
            objects: Vec::new(),
            problems: Vec::new(),
            kept: Vec::new(),
            keep_all: false,
        }
    }

    fn read(name: &str, text: &str) -> Self {
        let mut file = Self::empty();
        for (i, document) in documents(text).enumerate() {
            if i >= MAX_DOCUMENTS {
                file.problem(
                    name,
                    i + 1,
                    None,
                    format!("more than {MAX_DOCUMENTS} documents: split the file"),
                );
                break;
            }
            let value: Result<Value, _> = serde_saphyr::from_str_with_options(
                document,
                serde_saphyr::options! { with_snippet: false },
            );
            match value {
                Ok(value) => file.document(name, i + 1, &value),
                Err(_)
                    if document.lines().all(|line| {
                        line.trim().is_empty() || line.trim_start().starts_with('#')
                    }) => {}
                Err(error) => {
                    file.keep_all = true;
                    file.problem(name, i + 1, None, format!("not valid YAML: {error}"));
                }
            }
        }
        file
    }

    fn document(&mut self, name: &str, number: usize, value: &Value) {
        if value.get("kind").and_then(Value::as_str) == Some("List") {
            for item in value
                .get("items")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                self.document(name, number, item);
            }
            return;
        }
        match object::read(value) {
            Ok(object) => self.objects.extend(object),
            Err(error) => {
                let described = object::describe(value);
                let object = described
                    .as_ref()
                    .map(|(kind, ns, name)| describe(kind, ns, name));
                match described {
                    Some(described) => self.kept.push(described),
                    None => self.keep_all = true,
                }
                self.problem(name, number, object, error.to_string());
            }
        }
    }

    fn problem(&mut self, file: &str, document: usize, object: Option<String>, reason: String) {
        self.problems.push(Problem {
            file: file.to_owned(),
            document,
            object,
            reason,
            previous_stays: false,
        });
    }
}

/// The documents of a stream: a line that begins with `---` separates (YAML 1.2, 9.1.2).
fn documents(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let separator = text.match_indices("---").find(|(at, _)| {
            let begins = *at == 0 || text.as_bytes()[at - 1] == b'\n';
            begins
                && text
                    .as_bytes()
                    .get(at + 3)
                    .is_none_or(u8::is_ascii_whitespace)
        });
        match separator {
            Some((at, _)) => {
                rest = Some(&text[at + 3..]);
                Some(&text[..at])
            }
            None => rest.take(),
        }
    })
    .filter(|document| !document.trim().is_empty())
}

fn describe(kind: &str, namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        format!("{kind} {name}")
    } else {
        format!("{kind} {namespace}/{name}")
    }
}

impl ObjectKey {
    fn parts(&self) -> (&str, &str, &str) {
        match self {
            ObjectKey::Pod(key) => ("Pod", &key.namespace, &key.name),
            ObjectKey::Namespace(name) => ("Namespace", "", name),
            ObjectKey::Policy(key) => (key.kind.as_str(), &key.namespace, &key.name),
        }
    }

    fn describe(&self) -> String {
        let (kind, namespace, name) = self.parts();
        describe(kind, namespace, name)
    }

    /// Whether it is the object that a refused document names; an absent namespace is `default`.
    fn is(&self, (kind, namespace, name): &(String, String, String)) -> bool {
        let (own_kind, own_namespace, own_name) = self.parts();
        let namespace = if namespace.is_empty() && !own_namespace.is_empty() {
            "default"
        } else {
            namespace
        };
        own_kind == kind
            && own_name == name
            && (own_namespace == namespace || own_namespace.is_empty())
    }
}

impl ObjectEvent {
    fn upsert(object: Object) -> Self {
        match object {
            Object::Pod(pod) => Self::Pod(pod),
            Object::Namespace(namespace) => Self::Namespace(namespace),
            Object::Policy(policy) => Self::Policy(policy),
        }
    }

    fn gone(key: ObjectKey) -> Self {
        match key {
            ObjectKey::Pod(key) => Self::PodGone(key),
            ObjectKey::Namespace(name) => Self::NamespaceGone(name),
            ObjectKey::Policy(key) => Self::PolicyGone(key),
        }
    }
}

#[cfg(test)]
mod tests;
