// SPDX-License-Identifier: Apache-2.0
//! `/policy/selectors` and `/policy/subject-selectors`: what policies select, and whom that is.

use std::collections::BTreeMap;

use api::models::{SelectorIdentities, SelectorLabel};
use model::{Labels, NumericIdentity, Selector};
use policy::{PolicyKey, PolicyObject};

use super::Service;
use crate::policy_text;

/// Identities and their labels.
type Known = Vec<(NumericIdentity, Labels)>;

/// Selectors by their text.
type Used = BTreeMap<String, Use>;

/// How a selector is used.
struct Use {
    selector: Selector,
    count: i64,
    /// The first policy that it stands in.
    policy: PolicyKey,
}

impl Service {
    /// Selectors of peers, and the identities of the mesh that each selects.
    pub(super) fn peer_selectors(&self) -> Vec<SelectorIdentities> {
        let core = self.core();
        let used = used(core.engine.policies(), policy_text::selectors);
        let all = core.identities.iter();
        let known = all.map(|(id, labels)| (*id, labels.clone())).collect();
        // Matching takes long where there are many of both.
        drop(core);
        selected(used, &known)
    }

    /// Selectors of those whom policies are for, and the identities of this node's pods that each selects.
    pub(super) fn subject_selectors(&self) -> Vec<SelectorIdentities> {
        let core = self.core();
        let subjects = |policy: &PolicyObject| {
            let rules = policy.rules.iter();
            rules.map(|rule| rule.subject.clone()).collect()
        };
        let used = used(core.engine.policies(), subjects);
        let own = core.endpoints.values();
        let known: BTreeMap<_, _> = own.map(|e| (e.identity, e.labels.clone())).collect();
        drop(core);
        selected(used, &known.into_iter().collect())
    }
}

fn used<'a>(
    policies: impl Iterator<Item = &'a PolicyObject>,
    of: impl Fn(&PolicyObject) -> Vec<Selector>,
) -> Used {
    let mut policies: Vec<&PolicyObject> = policies.collect();
    policies.sort_by_key(|policy| policy.key.to_string());
    let mut used = Used::new();
    for policy in policies {
        for selector in of(policy) {
            let first = |selector| Use {
                selector,
                count: 0,
                policy: policy.key.clone(),
            };
            let text = selector.to_string();
            used.entry(text).or_insert_with(|| first(selector)).count += 1;
        }
    }
    used
}

fn selected(used: Used, known: &Known) -> Vec<SelectorIdentities> {
    let of = |(text, used): (String, Use)| {
        let found = known
            .iter()
            .filter(|(_, labels)| used.selector.matches(labels));
        let mut identities: Vec<i64> = found.map(|(id, _)| id.0.into()).collect();
        identities.sort_unstable();
        SelectorIdentities {
            selector: text,
            users: used.count,
            labels: policy_labels(&used.policy),
            identities,
        }
    };
    used.into_iter().map(of).collect()
}

/// The labels that name a policy in Cilium's rules.
fn policy_labels(key: &PolicyKey) -> Vec<SelectorLabel> {
    let label = |name: &str, value: &str| SelectorLabel {
        key: format!("io.cilium.k8s.policy.{name}"),
        source: "k8s".into(),
        value: value.into(),
    };
    let mut labels = vec![
        label("derived-from", key.kind.as_str()),
        label("name", &key.name),
    ];
    if !key.namespace.is_empty() {
        labels.push(label("namespace", &key.namespace));
    }
    labels
}
