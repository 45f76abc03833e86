// SPDX-License-Identifier: Apache-2.0
//! Which labels make up an identity: prefixes, longest include against shortest exclude, as in
//! Cilium's `pkg/labelsfilter/filter.go`.
//!
//! The user's rules are regular expressions anchored at the start of the key; only their literal subset is
//! supported (`\.` and plain characters, a trailing `.*`), since a prefix is what every known rule is.

use super::Label;

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Rule {
    source: Option<String>,
    /// Literal prefix of the key.
    prefix: String,
    /// The prefix may begin with anything (`.*` in front).
    floating: bool,
    exclude: bool,
}

/// Decides which labels make up an identity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LabelFilter {
    rules: Vec<Rule>,
    whitelist: bool,
}

/// A rule of the `labels` option that is not understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "label rule {rule:?}: only literal prefixes, `\\.` and a leading or trailing `.*` are supported"
)]
pub struct LabelFilterError {
    /// The rule.
    pub rule: String,
}

const DEFAULT: &str = "reserved:.* io\\.kubernetes\\.pod\\.namespace io\\.cilium\\.k8s\\.namespace\\.labels \
    app\\.kubernetes\\.io io\\.cilium\\.k8s\\.policy\\.cluster io\\.cilium\\.k8s\\.policy\\.serviceaccount \
    !io\\.kubernetes !kubernetes\\.io !statefulset\\.kubernetes\\.io/pod-name !apps\\.kubernetes\\.io/pod-index \
    !batch\\.kubernetes\\.io/job-completion-index !batch\\.kubernetes\\.io/controller-uid !.*beta\\.kubernetes\\.io \
    !k8s\\.io !pod-template-generation !pod-template-hash !controller-revision-hash !controller-uid !annotation.* \
    !etcd_node !topology\\.kubernetes\\.io";

impl Default for LabelFilter {
    fn default() -> Self {
        Self {
            rules: DEFAULT
                .split_ascii_whitespace()
                .map(|r| Rule::parse(r).expect("own rules parse"))
                .collect(),
            whitelist: false,
        }
    }
}

impl LabelFilter {
    /// The default rules and the user's, separated by blanks: `prefix`, `!prefix` to exclude, `source:prefix`.
    /// One including rule turns the filter into a whitelist.
    pub fn new(user: &str) -> Result<Self, LabelFilterError> {
        let user: Vec<Rule> = user
            .split_ascii_whitespace()
            .map(Rule::parse)
            .collect::<Result<_, _>>()?;
        let whitelist = user.iter().any(|rule| !rule.exclude);
        let defaults = Self::default().rules.into_iter().filter(|rule| {
            !whitelist || rule.exclude || rule.source.as_deref() == Some("reserved")
        });
        Ok(Self {
            rules: defaults.chain(user).collect(),
            whitelist,
        })
    }

    /// Whether `label` makes up an identity.
    pub fn accepts(&self, label: &Label) -> bool {
        let lengths = |exclude| {
            self.rules
                .iter()
                .filter(move |r| r.exclude == exclude)
                .filter_map(|r| r.matches(label))
        };
        let include = lengths(false).max();
        let exclude = lengths(true).min();
        match (include, exclude) {
            (None, None) => !self.whitelist,
            (Some(include), Some(exclude)) => include > exclude,
            (include, None) => include.is_some(),
            (None, Some(_)) => false,
        }
    }
}

impl Rule {
    fn parse(text: &str) -> Result<Self, LabelFilterError> {
        let error = || LabelFilterError {
            rule: text.to_owned(),
        };
        let (exclude, rest) = text
            .strip_prefix('!')
            .map_or((false, text), |rest| (true, rest));
        let (source, pattern) = rest
            .split_once(':')
            .map_or((None, rest), |(source, p)| (Some(source.to_owned()), p));
        let (floating, pattern) = match pattern.strip_prefix(".*") {
            Some(rest) if !rest.is_empty() => (true, rest),
            _ => (false, pattern),
        };
        let pattern = pattern
            .strip_suffix(".*")
            .unwrap_or(pattern)
            .strip_prefix('^')
            .unwrap_or(pattern.strip_suffix(".*").unwrap_or(pattern));
        let mut prefix = String::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => prefix.push(chars.next().ok_or_else(error)?),
                '[' | ']' | '(' | ')' | '*' | '+' | '?' | '|' | '{' | '}' | '$' => {
                    return Err(error());
                }
                other => prefix.push(other),
            }
        }
        Ok(Self {
            source,
            prefix,
            floating,
            exclude,
        })
    }

    /// Length of the match, if it matches.
    fn matches(&self, label: &Label) -> Option<usize> {
        if self
            .source
            .as_deref()
            .is_some_and(|source| source != label.source())
        {
            return None;
        }
        if self.floating {
            return label
                .key()
                .find(&self.prefix)
                .map(|at| at + self.prefix.len());
        }
        label
            .key()
            .starts_with(&self.prefix)
            .then_some(self.prefix.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(filter: &LabelFilter, text: &str) -> bool {
        filter.accepts(&Label::parse(text).expect("valid"))
    }

    #[test]
    fn defaults() {
        let filter = LabelFilter::default();
        for yes in [
            "k8s:app=web",
            "k8s:io.kubernetes.pod.namespace=x",
            "k8s:app.kubernetes.io/name=a",
            "reserved:host",
            "k8s:io.cilium.k8s.namespace.labels.team=x",
            "k8s:io.cilium.k8s.policy.cluster=c",
        ] {
            assert!(accepted(&filter, yes), "{yes}");
        }
        for no in [
            "k8s:pod-template-hash=1",
            "k8s:io.kubernetes.foo=1",
            "k8s:topology.kubernetes.io/zone=a",
            "k8s:statefulset.kubernetes.io/pod-name=a",
            "k8s:failure-domain.beta.kubernetes.io/zone=a",
            "k8s:controller-uid=1",
        ] {
            assert!(!accepted(&filter, no), "{no}");
        }
    }

    #[test]
    fn whitelist() {
        let filter =
            LabelFilter::new("k8s:app k8s:io\\.kubernetes\\.pod\\.namespace").expect("valid");
        assert!(accepted(&filter, "k8s:app=web"));
        assert!(accepted(&filter, "reserved:host"));
        assert!(!accepted(&filter, "k8s:role=x"));
        assert!(LabelFilter::new("a[bc]").is_err());
    }
}
