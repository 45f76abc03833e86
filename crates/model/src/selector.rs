// SPDX-License-Identifier: Apache-2.0
//! Label selectors: those of Kubernetes, with Cilium's source before the key (`pkg/policy/api/selector.go`).

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::labels::prefix_of_key;
use crate::{Label, Labels};

/// Operator of a requirement.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Operator {
    /// The value is one of these.
    In(BTreeSet<String>),
    /// The key is missing or its value is none of these.
    NotIn(BTreeSet<String>),
    /// The key is there.
    Exists,
    /// The key is missing.
    DoesNotExist,
}

/// One condition on one key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Requirement {
    /// Source of the label; `None` is any source.
    pub source: Option<String>,
    /// Key of the label.
    pub key: String,
    /// The condition.
    pub operator: Operator,
}

/// All requirements must hold. Without any it matches every identity. Sorted, so that equal selectors are equal values.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Selector {
    requirements: BTreeSet<Requirement>,
}

impl Requirement {
    /// `key` in the user's notation: `source:key`, `any:key`, `$name` for `reserved:name`, or bare for any source.
    pub fn new(key: &str, operator: Operator) -> Self {
        if let Some(name) = key.strip_prefix('$') {
            return Self {
                source: Some("reserved".into()),
                key: name.into(),
                operator,
            };
        }
        let (source, key) = match key.split_once(':') {
            Some(("any", key)) => (None, key),
            Some((source, key)) => (Some(source.to_owned()), key),
            None => (None, key),
        };
        Self {
            source,
            key: key.to_owned(),
            operator,
        }
    }

    /// Whether it is about this key in source `k8s` or any source.
    pub fn is_about(&self, key: &str) -> bool {
        self.key == key && self.source.as_deref().is_none_or(|source| source == "k8s")
    }

    /// Whether the label has this key and source. A key of source `cidr` also names the labels of narrower prefixes.
    fn names(&self, label: &Label) -> bool {
        match self.source.as_deref() {
            None => label.key() == self.key,
            Some(source) if source != label.source() => false,
            Some("cidr") => {
                let covers = || Some(prefix_of_key(&self.key)?.contains(&label.prefix()?));
                label.key() == self.key || covers().unwrap_or(false)
            }
            Some(_) => label.key() == self.key,
        }
    }

    fn holds<'a>(&self, labels: impl Iterator<Item = &'a Label>) -> bool {
        let mut found = labels.filter(|label| self.names(label));
        match &self.operator {
            Operator::In(values) => found.any(|label| values.contains(label.value())),
            Operator::NotIn(values) => !found.any(|label| values.contains(label.value())),
            Operator::Exists => found.next().is_some(),
            Operator::DoesNotExist => found.next().is_none(),
        }
    }
}

impl Selector {
    /// The selector with these requirements.
    pub fn new(requirements: impl IntoIterator<Item = Requirement>) -> Self {
        Self {
            requirements: requirements.into_iter().collect(),
        }
    }

    /// Matches everything.
    pub fn is_wildcard(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Its requirements.
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.requirements.iter()
    }

    /// With one more requirement.
    pub fn and(mut self, requirement: Requirement) -> Self {
        self.requirements.insert(requirement);
        self
    }

    /// Whether `labels` satisfy all requirements.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.holds_for(labels.iter())
    }

    /// The same for labels among which a key may have several values.
    pub fn holds_for<'a>(&self, labels: impl Iterator<Item = &'a Label> + Clone) -> bool {
        self.requirements
            .iter()
            .all(|requirement| requirement.holds(labels.clone()))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.source.as_deref().unwrap_or("any");
        let list = |values: &BTreeSet<String>| values.iter().cloned().collect::<Vec<_>>().join(",");
        match &self.operator {
            Operator::In(values) if values.len() == 1 => {
                write!(f, "{source}:{}={}", self.key, list(values))
            }
            Operator::In(values) => write!(f, "{source}:{} in ({})", self.key, list(values)),
            Operator::NotIn(values) => write!(f, "{source}:{} notin ({})", self.key, list(values)),
            Operator::Exists => write!(f, "{source}:{}", self.key),
            Operator::DoesNotExist => write!(f, "!{source}:{}", self.key),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_wildcard() {
            return f.write_str("{}");
        }
        for (i, requirement) in self.requirements.iter().enumerate() {
            write!(f, "{}{requirement}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators() {
        let labels = Labels::parse(b"k8s:app=web;reserved:host=;").expect("valid");
        let set = |v: &str| BTreeSet::from([v.to_owned()]);
        let holds =
            |key: &str, op: Operator| Selector::new([Requirement::new(key, op)]).matches(&labels);
        assert!(holds("app", Operator::In(set("web"))));
        assert!(holds("k8s:app", Operator::In(set("web"))));
        assert!(!holds("container:app", Operator::Exists));
        assert!(holds("app", Operator::NotIn(set("db"))));
        assert!(holds("missing", Operator::NotIn(set("db"))));
        assert!(holds("missing", Operator::DoesNotExist));
        assert!(holds("$host", Operator::Exists));
        assert!(Selector::default().matches(&labels));
        let prefix = Labels::parse(b"cidr:10.1.0.0/16=;").expect("valid");
        let within =
            |key| Selector::new([Requirement::new(key, Operator::Exists)]).matches(&prefix);
        assert!(within("cidr:10.0.0.0/8") && within("cidr:10.1.0.0/16"));
        assert!(!within("cidr:10.1.2.0/24"));
    }
}
