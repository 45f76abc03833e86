// SPDX-License-Identifier: Apache-2.0
//! Which labels make up an identity: prefixes, longest include against shortest exclude, as in
//! Cilium's `pkg/labelsfilter/filter.go`.
//!
//! The user's rules are regular expressions anchored at the start of the key; of these plain and escaped characters, `.`,
//! `.*` in front and behind, and a closing `$` are supported, since a prefix is what every known rule is.

use super::Label;

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Rule {
    source: Option<String>,
    /// What the key begins with; `None` is any character.
    prefix: Vec<Option<char>>,
    /// Anything may stand in front (`.*`).
    floating: bool,
    /// Anything that follows belongs to the match (`.*` behind).
    greedy: bool,
    /// Nothing may follow (`$`).
    closed: bool,
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
        let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
        let (floating, pattern) = match pattern.strip_prefix(".*") {
            Some(rest) if !rest.is_empty() => (true, rest),
            _ => (false, pattern),
        };
        let open = pattern
            .strip_suffix('$')
            .filter(|rest| !rest.ends_with('\\'));
        let (closed, pattern) = (open.is_some(), open.unwrap_or(pattern));
        let rest = pattern
            .strip_suffix(".*")
            .filter(|rest| !rest.ends_with('\\'));
        let (greedy, pattern) = (rest.is_some(), rest.unwrap_or(pattern));
        let mut prefix = Vec::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => {
                    let escaped = chars.next().filter(|c| !c.is_alphanumeric());
                    prefix.push(Some(escaped.ok_or_else(error)?));
                }
                '.' => prefix.push(None),
                '[' | ']' | '(' | ')' | '*' | '+' | '?' | '|' | '{' | '}' | '$' | '^' => {
                    return Err(error());
                }
                other => prefix.push(Some(other)),
            }
        }
        Ok(Self {
            source,
            prefix,
            floating,
            greedy,
            closed,
            exclude,
        })
    }

    /// Length of the match, if it matches: a floating rule takes the last place that it finds.
    fn matches(&self, label: &Label) -> Option<usize> {
        let source = self.source.as_deref();
        if source.is_some_and(|source| source != label.source()) {
            return None;
        }
        let key: Vec<char> = label.key().chars().collect();
        let last = key.len().checked_sub(self.prefix.len())?;
        let fits = |at: &usize| {
            let end = at + self.prefix.len();
            let mut pairs = key[*at..end].iter().zip(&self.prefix);
            let ends = !self.closed || self.greedy || end == key.len();
            ends && pairs.all(|(c, wanted)| wanted.is_none_or(|wanted| wanted == *c))
        };
        let places = if self.floating { 0..last + 1 } else { 0..1 };
        let at = places.rev().find(fits)?;
        Some(if self.greedy {
            key.len()
        } else {
            at + self.prefix.len()
        })
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
    fn expressions() {
        let filter = LabelFilter::new("!k8s:secret$ !k8s:a.c !k8s:hidden.*").expect("valid");
        for (label, yes) in [
            ("k8s:secret", false),
            ("k8s:secrets", true),
            ("k8s:abc", false),
            ("k8s:a.cd", false),
            ("k8s:abd", true),
            ("k8s:hidden-thing", false),
            ("k8s:annotations.x", false),
            ("k8s:x.beta.kubernetes.io/y", false),
            ("any:secret", true),
        ] {
            assert_eq!(accepted(&filter, label), yes, "{label}");
        }
        // The exclusion takes the whole key, so no inclusion is longer.
        let filter = LabelFilter::new("k8s:annotations").expect("valid");
        assert!(!accepted(&filter, "k8s:annotations.x"));
        assert!(accepted(&filter, "k8s:app.kubernetes.io/name") == accepted(&filter, "k8s:name"));
        for bad in ["a\\", "a\\d", "(a|b)", "a+", "a^b"] {
            assert!(LabelFilter::new(bad).is_err(), "{bad}");
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
