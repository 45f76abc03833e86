// SPDX-License-Identifier: Apache-2.0
//! Labels, their canonical text, and the filter that decides which of them make up an identity
//! (Cilium's `pkg/labels` and `pkg/labelsfilter`).

mod cidr;
mod filter;

use std::fmt;
use std::sync::Arc;

pub(crate) use cidr::prefix_of_key;
pub use filter::{LabelFilter, LabelFilterError};
use serde::{Deserialize, Serialize};

/// Keys of the automatic labels, source `k8s`.
pub mod keys {
    /// Namespace of the pod.
    pub const NAMESPACE: &str = "io.kubernetes.pod.namespace";
    /// Prefix (without the dot) of the namespace's own labels.
    pub const NAMESPACE_LABELS: &str = "io.cilium.k8s.namespace.labels";
    /// Cluster name.
    pub const CLUSTER: &str = "io.cilium.k8s.policy.cluster";
    /// Prefix of the key that names a group of CIDRs, source `cidrgroup`.
    pub const CIDR_GROUP_NAME: &str = "io.cilium.policy.cidrgroupname";
    /// Service account.
    pub const SERVICE_ACCOUNT: &str = "io.cilium.k8s.policy.serviceaccount";

    /// Whether a user may not set a label with this key on a pod.
    pub fn is_automatic(key: &str) -> bool {
        key == NAMESPACE
            || key == CLUSTER
            || key == SERVICE_ACCOUNT
            || key.starts_with("io.cilium.k8s.")
    }
}

/// One label. Ordered by key, then source, then value.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Label {
    source: Arc<str>,
    key: Arc<str>,
    value: Arc<str>,
}

impl Label {
    /// A label `source:key=value`.
    pub fn new(source: &str, key: &str, value: &str) -> Self {
        Self {
            source: source.into(),
            key: key.into(),
            value: value.into(),
        }
    }

    /// Where it comes from: `k8s`, `reserved`, `cidr`, …
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Its key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its value, often empty.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Its key, to be shared.
    pub fn key_text(&self) -> &Arc<str> {
        &self.key
    }

    /// Its value, to be shared.
    pub fn value_text(&self) -> &Arc<str> {
        &self.value
    }

    /// Reads `source:key=value`; without a source it is `unspec`, without `=` the value is empty.
    pub fn parse(text: &str) -> Result<Self, LabelsError> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let (source, key) = name.split_once(':').unwrap_or(("unspec", name));
        if key.is_empty() || source.is_empty() {
            return Err(LabelsError::Malformed {
                label: text.chars().take(128).collect(),
            });
        }
        Ok(Self::new(source, key, value))
    }
}

impl PartialOrd for Label {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Label {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (&self.key, &self.source, &self.value).cmp(&(&other.key, &other.source, &other.value))
    }
}

impl fmt::Display for Label {
    /// `source:key=value`, or `source:key` if the value is empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source, self.key)?;
        if self.value.is_empty() {
            Ok(())
        } else {
            write!(f, "={}", self.value)
        }
    }
}

/// Why a label string is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LabelsError {
    /// Longer than [`Labels::MAX_BYTES`].
    #[error("label string of {length} bytes: at most {max} are allowed", max = Labels::MAX_BYTES)]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// More than [`Labels::MAX_COUNT`].
    #[error("more than {max} labels", max = Labels::MAX_COUNT)]
    TooMany,
    /// Not `source:key=value`.
    #[error("malformed label {label:?}: expected source:key=value")]
    Malformed {
        /// The label, cut to 128 characters.
        label: String,
    },
    /// Not UTF-8 or with control characters.
    #[error("label string is not printable text")]
    NotText,
}

/// A set of labels, at most one per source and key, sorted by key. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Labels(Arc<[Label]>);

impl Labels {
    /// Largest canonical string that is accepted from outside: that of a pod whose labels, and whose namespace's, are as many
    /// and as long as an object may have them.
    pub const MAX_BYTES: usize = 256 * 1024;
    /// Most labels that are accepted from outside.
    pub const MAX_COUNT: usize = 1024;

    /// Reads the canonical string `source:key=value;…;` (the final `;` may be missing).
    pub fn parse(text: &[u8]) -> Result<Self, LabelsError> {
        if text.len() > Self::MAX_BYTES {
            return Err(LabelsError::TooLong { length: text.len() });
        }
        let text = std::str::from_utf8(text).map_err(|_| LabelsError::NotText)?;
        if text.chars().any(char::is_control) {
            return Err(LabelsError::NotText);
        }
        let parts = text.strip_suffix(';').unwrap_or(text).split(';');
        if parts.clone().count() > Self::MAX_COUNT {
            return Err(LabelsError::TooMany);
        }
        let labels: Self = parts.map(Label::parse).collect::<Result<_, _>>()?;
        // Left-out sources and signs make the canonical string longer than what was read.
        let length = labels.canonical().len();
        if length > Self::MAX_BYTES {
            return Err(LabelsError::TooLong { length });
        }
        Ok(labels)
    }

    /// The canonical string: `source:key=value;` per label, sorted by key.
    pub fn canonical(&self) -> String {
        let mut text = String::with_capacity(self.0.len() * 48);
        for label in self.0.iter() {
            for part in [&label.source, ":", &label.key, "=", &label.value, ";"] {
                text.push_str(part);
            }
        }
        text
    }

    /// The same labels with every text replaced by what `text` answers for it, an equal one that is shared with others.
    pub fn share(&self, mut text: impl FnMut(&Arc<str>) -> Arc<str>) -> Self {
        let shared = self.0.iter().map(|label| Label {
            source: text(&label.source),
            key: text(&label.key),
            value: text(&label.value),
        });
        Self(shared.collect())
    }

    /// The label with this source and key.
    pub fn get(&self, source: &str, key: &str) -> Option<&Label> {
        self.0
            .iter()
            .find(|label| &*label.key == key && &*label.source == source)
    }

    /// All labels in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Label> {
        self.0.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Label> for Labels {
    /// A later label replaces an earlier one of the same source and key.
    fn from_iter<I: IntoIterator<Item = Label>>(labels: I) -> Self {
        let mut labels: Vec<Label> = labels.into_iter().collect();
        labels.sort_by(|a, b| (&a.key, &a.source).cmp(&(&b.key, &b.source)));
        labels.reverse();
        labels.dedup_by(|a, b| a.key == b.key && a.source == b.source);
        labels.reverse();
        Self(labels.into())
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = &'a Label;
    type IntoIter = std::slice::Iter<'a, Label>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Display for Labels {
    /// Labels separated by commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, label) in self.0.iter().enumerate() {
            write!(f, "{}{label}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_round_trip() {
        let text = "k8s:app=baz;k8s:io.cilium.k8s.policy.cluster=cluster3;k8s:io.kubernetes.pod.namespace=bar;";
        let labels = Labels::parse(text.as_bytes()).expect("valid");
        assert_eq!(labels.canonical(), text);
        assert_eq!(labels.get("k8s", "app").map(Label::value), Some("baz"));
    }

    #[test]
    fn canonical_is_not_longer_than_what_is_accepted() {
        let short = format!("a;{}", "k".repeat(Labels::MAX_BYTES - 2));
        assert!(matches!(
            Labels::parse(short.as_bytes()),
            Err(LabelsError::TooLong { .. })
        ));
    }

    #[test]
    fn sorted_by_key_whatever_the_source() {
        let labels = Labels::parse(b"reserved:init=;k8s:z=1;any:a=;").expect("valid");
        assert_eq!(labels.canonical(), "any:a=;reserved:init=;k8s:z=1;");
    }

    #[test]
    fn later_label_wins() {
        let labels: Labels = [Label::new("k8s", "a", "1"), Label::new("k8s", "a", "2")]
            .into_iter()
            .collect();
        assert_eq!(labels.canonical(), "k8s:a=2;");
    }

    #[test]
    fn hostile_strings_are_refused() {
        assert!(Labels::parse(&vec![b'a'; Labels::MAX_BYTES + 1]).is_err());
        assert!(Labels::parse(b"k8s:=x;").is_err());
        assert!(Labels::parse(b"k8s:a=\n;").is_err());
        assert!(Labels::parse(&[0xff]).is_err());
        assert!(Labels::parse(b"").is_err());
    }
}
