// SPDX-License-Identifier: Apache-2.0
//! Parts of several tests: a simulator of the kernel's maps, a slow, obvious model of what policies mean, and histories.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

pub mod case;
pub mod generate;
pub mod kernel;
pub mod reference;

use std::collections::BTreeSet;

use model::{ClusterId, ClusterName, IdentityScheme, Labels, Operator, Requirement, Selector};
use policy::{
    EnforcementMode, Families, PolicyKey, PolicyKind, PolicyObject, Room, Rule, Settings,
};

/// A member of a mesh: cluster 5 named `cluster5`, dual stack, everything at its default.
pub fn settings() -> Settings {
    Settings {
        scheme: IdentityScheme::default(),
        cluster_id: ClusterId(5),
        cluster: ClusterName::new("cluster5").expect("valid"),
        default_local_cluster: true,
        families: Families::Dual,
        mode: EnforcementMode::Default,
        allow_localhost: true,
        max_classes: 2048,
        room: Room::UNBOUNDED,
    }
}

/// Labels of a pod.
pub fn pod(cluster: &str, namespace: &str, labels: &str) -> Labels {
    let text = format!(
        "{labels}k8s:io.cilium.k8s.policy.cluster={cluster};k8s:io.kubernetes.pod.namespace={namespace};"
    );
    Labels::parse(text.as_bytes()).expect("valid")
}

/// A selector in short: `a=b`, `a`, `!a`, `a!=b`, separated by commas.
pub fn selector(text: &str) -> Selector {
    let set = |value: &str| BTreeSet::from([value.to_owned()]);
    let parts = text.split(',').filter(|part| !part.is_empty());
    Selector::new(parts.map(|part| {
        if let Some((key, value)) = part.split_once("!=") {
            Requirement::new(key, Operator::NotIn(set(value)))
        } else if let Some((key, value)) = part.split_once('=') {
            Requirement::new(key, Operator::In(set(value)))
        } else if let Some(key) = part.strip_prefix('!') {
            Requirement::new(key, Operator::DoesNotExist)
        } else {
            Requirement::new(part, Operator::Exists)
        }
    }))
}

/// A policy of one rule, in namespace `prod`.
pub fn object(name: &str, rule: Rule) -> PolicyObject {
    PolicyObject {
        key: PolicyKey {
            kind: PolicyKind::CiliumNetworkPolicy,
            namespace: "prod".into(),
            name: name.into(),
        },
        uid: String::new(),
        labels: Vec::new(),
        rules: vec![rule],
    }
}
