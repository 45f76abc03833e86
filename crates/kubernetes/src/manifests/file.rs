// SPDX-License-Identifier: Apache-2.0
//! One file of the directory: its documents, read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::Problem;
use crate::object::{self, Object, ObjectKey};

/// Most documents of a file.
const MAX_DOCUMENTS: usize = 10_000;
/// Refused documents of a file after which the rest is not read.
const MAX_REFUSED: usize = 32;
/// What aliases of one document may expand to.
const MAX_ALIASED: usize = 20_000;

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct File {
    /// Of the text.
    pub(super) digest: [u8; 32],
    pub(super) objects: BTreeMap<ObjectKey, Arc<Defined>>,
    /// What is refused.
    pub(super) problems: Vec<(Problem, About)>,
    /// Objects that a refused document names, or may: their previous versions stay.
    pub(super) kept: BTreeSet<ObjectKey>,
    /// A part could not be read so far as to know its object: everything that the file gave before stays.
    pub(super) keep_all: bool,
}

/// An object as a file defines it.
#[derive(Debug)]
pub(super) struct Defined {
    pub(super) object: Object,
    /// Of a policy or a group that policies name, its document as JSON: what a restart needs if a later version is refused. Empty for others.
    pub(super) text: Box<str>,
}

impl Defined {
    pub(super) fn new(object: Object, document: &Value) -> Self {
        let text = match object {
            Object::Policy(_) | Object::CidrGroup(_) => document.to_string().into(),
            _ => "".into(),
        };
        Self { object, text }
    }
}

/// Whose previous version a problem keeps in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum About {
    /// Nobody's.
    Nothing,
    /// Those of the objects that a document may be.
    Objects(Vec<ObjectKey>),
    /// Those of all objects of the file.
    File,
}

/// Tells texts apart.
pub(super) fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

impl File {
    /// Reads a file that may give `free` objects.
    pub(super) fn read(name: &str, text: &str, digest: [u8; 32], free: usize) -> Self {
        let mut file = Self {
            digest,
            ..Self::default()
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut reader = Reader {
            file: &mut file,
            name,
            free,
        };
        for (i, document) in documents(text).enumerate() {
            let number = i + 1;
            if i >= MAX_DOCUMENTS {
                reader.unread(
                    number,
                    format!("more than {MAX_DOCUMENTS} documents: split the file"),
                );
                break;
            }
            if reader.file.problems.len() >= MAX_REFUSED {
                reader.unread(
                    number,
                    format!("{MAX_REFUSED} documents before are refused: this one and those behind it are not read"),
                );
                break;
            }
            match parse(document) {
                Ok(value) => reader.document(number, "", &value),
                Err(error) => reader.unread(number, error),
            }
        }
        file
    }
}

struct Reader<'a> {
    file: &'a mut File,
    name: &'a str,
    free: usize,
}

impl Reader<'_> {
    fn document(&mut self, number: usize, path: &str, value: &Value) {
        if value.get("kind").and_then(Value::as_str) == Some("List") {
            match value.get("items") {
                None | Some(Value::Null) => {}
                Some(Value::Array(items)) => {
                    for (i, item) in items.iter().enumerate() {
                        if self.file.problems.len() >= MAX_REFUSED {
                            return self.unread(
                                number,
                                format!("{path}items[{i}]: {MAX_REFUSED} objects before are refused: this one and those behind it are not read"),
                            );
                        }
                        self.document(number, &format!("{path}items[{i}]."), item);
                    }
                }
                Some(_) => self.unread(number, format!("{path}items: expected a list")),
            }
            return;
        }
        match object::read(value) {
            Ok(None) => {}
            Ok(Some(object)) => self.object(number, Defined::new(object, value)),
            Err(error) => {
                let reason = match error.path.as_str() {
                    "document" if !path.is_empty() => {
                        format!("{}: {}", path.trim_end_matches('.'), error.reason)
                    }
                    _ => format!("{path}{error}"),
                };
                match object::named(value) {
                    Some(named) => {
                        self.file.kept.extend(named.keys.iter().cloned());
                        let about = About::Objects(named.keys);
                        self.problem(number, Some(named.description), reason, about);
                    }
                    None => self.unread(number, reason),
                }
            }
        }
    }

    fn object(&mut self, number: usize, defined: Defined) {
        let key = defined.object.key();
        let full = self.file.objects.len() >= self.free;
        let refused = if self.file.objects.contains_key(&key) {
            Some((
                "an earlier document of this file defines the same object and is in force; remove one of them",
                About::Nothing,
            ))
        } else if full {
            self.file.kept.insert(key.clone());
            let about = About::Objects(vec![key.clone()]);
            Some((
                "too many objects in the directory: this one and those behind it are not in force",
                about,
            ))
        } else {
            None
        };
        match refused {
            Some((reason, about)) => {
                self.problem(number, Some(key.describe()), reason.into(), about)
            }
            None => drop(self.file.objects.insert(key, Arc::new(defined))),
        }
    }

    /// It is not known what some of the file says.
    fn unread(&mut self, number: usize, reason: String) {
        self.file.keep_all = true;
        self.problem(number, None, reason, About::File);
    }

    fn problem(&mut self, document: usize, object: Option<String>, reason: String, about: About) {
        let problem = Problem {
            file: self.name.to_owned(),
            document,
            object,
            reason,
            previous_stays: false,
        };
        self.file.problems.push((problem, about));
    }
}

/// A document as a value: JSON, which YAML readers do not take with every indentation, or YAML.
fn parse(document: &str) -> Result<Value, String> {
    let blank = |line: &str| line.is_empty() || line.starts_with('#') || line == "...";
    if document.lines().all(|line| blank(line.trim())) {
        return Ok(Value::Null);
    }
    if document.trim_start().starts_with('{')
        && let Ok(value) = serde_json::from_str(document)
    {
        return Ok(value);
    }
    let mut options = serde_saphyr::options! { with_snippet: false };
    options.alias_limits.max_total_replayed_events = MAX_ALIASED;
    serde_saphyr::from_str_with_options(document, options)
        .map_err(|error| format!("not valid YAML: {error}"))
}

/// The documents of a stream: a line that begins with `---` separates (YAML 1.2, 9.1.2); directives before it say
/// nothing about objects.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    let split = std::iter::from_fn(move || {
        let text = rest?;
        let separator = text.match_indices("---").find(|(at, _)| {
            let begins = *at == 0 || matches!(text.as_bytes()[at - 1], b'\n' | b'\r');
            let after = text.as_bytes().get(at + 3);
            begins && after.is_none_or(u8::is_ascii_whitespace)
        });
        match separator {
            Some((at, _)) => {
                rest = Some(&text[at + 3..]);
                Some(&text[..at])
            }
            None => rest.take(),
        }
    });
    let says = |document: &&str| {
        let mut lines = document.lines().map(str::trim_end);
        lines.any(|line| !line.is_empty() && !line.starts_with('%'))
    };
    split.filter(says)
}
