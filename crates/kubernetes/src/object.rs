// SPDX-License-Identifier: Apache-2.0
//! One document → one object that the agent knows, or a reason.

use std::sync::Arc;

use model::{EndpointSlice, Namespace, NamespacedName, Pod, PodKey, Service};
use policy::{PolicyKey, PolicyKind, PolicyObject};
use serde_json::Value;

use crate::field::Field;
use crate::{
    CidrGroupObject, FieldError, cidr_group, network_policy, pods, policy_object, services,
};

/// What identifies an object in the directory.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum ObjectKey {
    Pod(PodKey),
    Namespace(Arc<str>),
    Policy(PolicyKey),
    Service(NamespacedName),
    EndpointSlice(NamespacedName),
    CidrGroup(String),
}

/// An object of a kind that the agent knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Object {
    /// `v1 Pod`.
    Pod(Pod),
    /// `v1 Namespace`.
    Namespace(Namespace),
    /// A policy.
    Policy(PolicyObject),
    /// `v1 Service`.
    Service(Service),
    /// `discovery.k8s.io/v1 EndpointSlice`.
    EndpointSlice(EndpointSlice),
    /// `cilium.io/v2 CiliumCIDRGroup`.
    CidrGroup(CidrGroupObject),
}

impl ObjectKey {
    fn policy(kind: PolicyKind, namespace: &str, name: &str) -> Self {
        ObjectKey::Policy(PolicyKey {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Kind, namespace (empty for cluster scope) and name.
    fn parts(&self) -> (&str, &str, &str) {
        match self {
            ObjectKey::Pod(key) => ("Pod", &key.namespace, &key.name),
            ObjectKey::Namespace(name) => ("Namespace", "", name),
            ObjectKey::Policy(key) => (key.kind.as_str(), &key.namespace, &key.name),
            ObjectKey::Service(key) => ("Service", &key.namespace, &key.name),
            ObjectKey::EndpointSlice(key) => ("EndpointSlice", &key.namespace, &key.name),
            ObjectKey::CidrGroup(name) => ("CiliumCIDRGroup", "", name),
        }
    }

    /// `kind namespace/name`, for messages.
    pub(crate) fn describe(&self) -> String {
        let (kind, namespace, name) = self.parts();
        describe(kind, namespace, name)
    }
}

impl Object {
    pub(crate) fn key(&self) -> ObjectKey {
        match self {
            Object::Pod(pod) => ObjectKey::Pod(pod.key.clone()),
            Object::Namespace(namespace) => ObjectKey::Namespace(namespace.name.as_str().into()),
            Object::Policy(policy) => ObjectKey::Policy(policy.key.clone()),
            Object::Service(service) => ObjectKey::Service(service.key.clone()),
            Object::EndpointSlice(slice) => ObjectKey::EndpointSlice(slice.key.clone()),
            Object::CidrGroup(object) => ObjectKey::CidrGroup(object.group.name.clone()),
        }
    }
}

/// Kinds that are ordinary in a manifest directory and mean nothing to the agent.
const IGNORED: &[&str] = &[
    "Endpoints",
    "ConfigMap",
    "Secret",
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "Node",
    "Event",
    "PersistentVolumeClaim",
];

/// Reads a document. `None`: empty, or of a kind that means nothing here.
pub(crate) fn read(document: &Value) -> Result<Option<Object>, FieldError> {
    if document.is_null() {
        return Ok(None);
    }
    let root = Field::root(document);
    let kind = root
        .get("kind")
        .ok_or_else(|| root.error("kind is missing"))?;
    let version = root
        .get("apiVersion")
        .ok_or_else(|| root.error("apiVersion is missing"))?;
    match (version.text()?, kind.text()?) {
        ("v1", "Pod") => pods::pod(&root).map(Object::Pod).map(Some),
        ("v1", "Namespace") => pods::namespace(&root).map(Object::Namespace).map(Some),
        ("cilium.io/v2", "CiliumNetworkPolicy" | "CiliumClusterwideNetworkPolicy") => {
            policy_object::read(&root).map(Object::Policy).map(Some)
        }
        ("networking.k8s.io/v1", "NetworkPolicy") => {
            network_policy::read(&root).map(Object::Policy).map(Some)
        }
        ("v1", "Service") => services::service(&root).map(Object::Service).map(Some),
        ("discovery.k8s.io/v1", "EndpointSlice") => services::slice(&root)
            .map(Object::EndpointSlice)
            .map(Some),
        ("cilium.io/v2" | "cilium.io/v2alpha1", "CiliumCIDRGroup") => {
            cidr_group::read(&root).map(Object::CidrGroup).map(Some)
        }
        (_, other) if IGNORED.contains(&other) => Ok(None),
        (version, other) => Err(kind.error(format!(
            "{version} {other} is not supported; supported: v1 Pod, Namespace and Service, discovery.k8s.io/v1 EndpointSlice, networking.k8s.io/v1 NetworkPolicy, cilium.io/v2 CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy and CiliumCIDRGroup"
        ))),
    }
}

/// What a refused document names.
pub(crate) struct Named {
    /// `kind namespace/name`, for messages.
    pub(crate) description: String,
    /// The object; with an unknown kind every one that it may be, the most important first.
    pub(crate) keys: Vec<ObjectKey>,
}

/// Which object a document is about, if that much can be read.
pub(crate) fn named(document: &Value) -> Option<Named> {
    let text = |value: Option<&Value>| {
        let text = value.and_then(Value::as_str)?;
        (text.len() <= 253).then(|| text.to_owned())
    };
    let kind = text(document.get("kind"))?;
    let metadata = document.get("metadata")?;
    let name = text(metadata.get("name"))?;
    let namespace = text(metadata.get("namespace")).unwrap_or_else(|| "default".into());
    let namespaced = || NamespacedName {
        namespace: namespace.as_str().into(),
        name: name.as_str().into(),
    };
    let all = [
        ObjectKey::policy(PolicyKind::CiliumNetworkPolicy, &namespace, &name),
        ObjectKey::policy(PolicyKind::CiliumClusterwideNetworkPolicy, "", &name),
        ObjectKey::policy(PolicyKind::NetworkPolicy, &namespace, &name),
        ObjectKey::Pod(PodKey {
            namespace: namespace.as_str().into(),
            name: name.as_str().into(),
        }),
        ObjectKey::Namespace(name.as_str().into()),
        ObjectKey::Service(namespaced()),
        ObjectKey::EndpointSlice(namespaced()),
        ObjectKey::CidrGroup(name.clone()),
    ];
    match all.iter().find(|key| key.parts().0 == kind) {
        Some(key) => Some(Named {
            description: key.describe(),
            keys: vec![key.clone()],
        }),
        None => Some(Named {
            description: describe(&kind, &namespace, &name),
            keys: all.into(),
        }),
    }
}

/// The policy of a kind, if it is one of policies.
pub(crate) fn named_policy(kind: &str, namespace: &str, name: &str) -> Option<PolicyKey> {
    let kinds = [
        PolicyKind::CiliumNetworkPolicy,
        PolicyKind::CiliumClusterwideNetworkPolicy,
        PolicyKind::NetworkPolicy,
    ];
    let kind = kinds.into_iter().find(|known| known.as_str() == kind)?;
    Some(PolicyKey {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

pub(crate) fn describe(kind: &str, namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        format!("{kind} {name}")
    } else {
        format!("{kind} {namespace}/{name}")
    }
}

pub(crate) fn metadata<'a>(root: &Field<'a>) -> Result<Field<'a>, FieldError> {
    root.get("metadata")
        .ok_or_else(|| root.error("metadata is missing"))
}

/// Name, at most 253 characters of what DNS names hold.
pub(crate) fn name(metadata: &Field<'_>) -> Result<String, FieldError> {
    let field = metadata
        .get("name")
        .ok_or_else(|| metadata.error("name is missing"))?;
    checked(&field)
}

/// Namespace, `default` if absent.
pub(crate) fn namespace(metadata: &Field<'_>) -> Result<String, FieldError> {
    metadata
        .get("namespace")
        .map_or_else(|| Ok("default".to_owned()), |field| checked(&field))
}

/// Whether an object may have this name.
pub(crate) fn is_name(text: &str) -> bool {
    let valid = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'.';
    (1..=253).contains(&text.len()) && text.bytes().all(valid)
}

/// A name.
pub(crate) fn checked(field: &Field<'_>) -> Result<String, FieldError> {
    let text = field.scalar()?;
    if !is_name(&text) {
        return Err(field.error(format!(
            "{text:?} is not a name of 1 to 253 characters of a-z, 0-9, '-', '.'"
        )));
    }
    Ok(text)
}
