// SPDX-License-Identifier: Apache-2.0
//! Pods and namespaces as far as the network cares, and endpoint numbers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::{Labels, NamedPort};

/// Number of an endpoint on its node, 1..4096.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct EndpointId(pub u16);

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Namespace and name of a pod.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PodKey {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A pod object, trimmed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pod {
    /// Namespace and name.
    pub key: PodKey,
    /// UID, empty if the source has none.
    pub uid: Arc<str>,
    /// UID by which a kubelet runs the static pod that the object mirrors; empty if it mirrors none.
    pub mirrored: Arc<str>,
    /// `spec.nodeName`, empty if not scheduled.
    pub node: Arc<str>,
    /// `spec.serviceAccountName`, `default` if absent.
    pub service_account: Arc<str>,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// The user's labels, unfiltered.
    pub labels: BTreeMap<String, String>,
    /// Container ports with names, sorted.
    pub named_ports: Arc<[NamedPort]>,
}

/// A namespace object, trimmed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl Pod {
    /// Whether a container runtime means this pod by `uid`, and not another one of its name. Where either side knows no
    /// UID, the name says it alone.
    pub fn is_run_as(&self, uid: &str) -> bool {
        uid.is_empty() || self.uid.is_empty() || [&self.uid, &self.mirrored].contains(&&uid.into())
    }

    /// The labels that make up the pod's identity: the pod's own and the automatic ones, filtered.
    pub fn identity_labels(
        &self,
        namespace: Option<&Namespace>,
        cluster: &crate::ClusterName,
        filter: &crate::LabelFilter,
    ) -> Labels {
        use crate::{Label, keys};
        let own = self
            .labels
            .iter()
            .filter(|(key, _)| !keys::is_automatic(key));
        let own = own.map(|(key, value)| Label::new("k8s", key, value));
        let of_namespace = namespace
            .into_iter()
            .flat_map(|ns| &ns.labels)
            .map(|(key, value)| {
                Label::new("k8s", &format!("{}.{key}", keys::NAMESPACE_LABELS), value)
            });
        let automatic = [
            Label::new("k8s", keys::NAMESPACE, &self.key.namespace),
            Label::new("k8s", keys::CLUSTER, cluster.as_str()),
            Label::new("k8s", keys::SERVICE_ACCOUNT, &self.service_account),
        ];
        own.chain(of_namespace)
            .chain(automatic)
            .filter(|label| filter.accepts(label))
            .collect()
    }
}
