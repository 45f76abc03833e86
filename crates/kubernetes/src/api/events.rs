// SPDX-License-Identifier: Apache-2.0
//! Events: what somebody who looks at the cluster with kubectl must know. kube has a recorder for them, which takes two texts
//! of one reason about one object for the same; two clusters that are refused are two events.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::ApiResource;
use sha2::{Digest, Sha256};

use super::watches::told;

/// Who tells.
const REPORTER: &str = "cilium-agent";
/// Longest text that an API server takes is 1 KiB.
const MAX_TEXT: usize = 1024;
/// What the agent did when it found out.
const ACTION: &str = "Watching";
/// Where events about objects without a namespace are.
const NOWHERE: &str = "default";
/// Seconds after which what has no version is told anew.
const AGAIN: i64 = 600;
/// Longest part of an object's name in an event's, bytes. Names of objects are ASCII.
const MAX_STEM: usize = 200;

/// What an event is about.
pub struct Subject(ObjectReference);

impl Subject {
    /// A node. Kubelets name nodes by their names where an event wants a uid, and kubectl looks for that.
    pub fn node(name: &str) -> Self {
        Self(ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: Some(name.to_owned()),
            uid: Some(name.to_owned()),
            ..ObjectReference::default()
        })
    }

    /// An object as the server gave it.
    pub(super) fn of(resource: &ApiResource, object: &DynamicObject) -> Self {
        Self(ObjectReference {
            api_version: Some(resource.api_version.clone()),
            kind: Some(resource.kind.clone()),
            name: object.metadata.name.clone(),
            namespace: object.metadata.namespace.clone(),
            uid: object.metadata.uid.clone(),
            resource_version: object.metadata.resource_version.clone(),
            ..ObjectReference::default()
        })
    }
}

/// Tells events.
pub struct Events {
    client: Client,
    node: String,
}

impl Events {
    /// In the name of the agent of `node`.
    pub fn new(client: Client, node: &str) -> Self {
        Self {
            client,
            node: node.to_owned(),
        }
    }

    /// Warns: `reason` is a word for programs, `note` a text for people. Agents that find out the same about a version of an
    /// object make one event: its name follows from what it says. About a node it is made again after ten minutes.
    ///
    /// # Errors
    /// Why it was not told.
    pub async fn warn(&self, subject: &Subject, reason: &str, note: &str) -> Result<(), String> {
        let about = &subject.0;
        let now = Timestamp::now();
        let namespace = about.namespace.clone().unwrap_or_else(|| NOWHERE.into());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name(about, reason, note, now)),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            type_: Some("Warning".into()),
            reason: Some(reason.into()),
            note: Some(bounded(note)),
            action: Some(ACTION.into()),
            event_time: Some(MicroTime(now)),
            regarding: Some(about.clone()),
            reporting_controller: Some(REPORTER.into()),
            reporting_instance: Some(self.node.clone()),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => Ok(()),
            // It was told, by whomever.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(format!("event {reason}: {}", told(&error))),
        }
    }
}

/// What an API server takes, whatever bytes its characters have.
fn bounded(note: &str) -> String {
    note.chars().take(MAX_TEXT / 4).collect()
}

/// The name of the event that says this. What has no version is told anew after a while.
fn name(about: &ObjectReference, reason: &str, note: &str, now: Timestamp) -> String {
    let version = about.resource_version.clone();
    let version = version.unwrap_or_else(|| (now.as_second() / AGAIN).to_string());
    let uid = about.uid.as_deref().unwrap_or_default();
    let mut hash = Sha256::new();
    for part in [uid, &version, reason, note] {
        hash.update(part);
        hash.update([0]);
    }
    let digits: String = hash.finalize()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let name = about.name.as_deref().unwrap_or_default();
    let stem: String = name.chars().take(MAX_STEM).collect();
    format!("{stem}.{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_named_by_what_it_says() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let about = |version: Option<&str>| ObjectReference {
            name: Some("p".repeat(253)),
            resource_version: version.map(str::to_owned),
            ..ObjectReference::default()
        };
        let named =
            |version, note, second| name(&about(version), "PolicyRefused", note, at(second));
        let one = named(Some("1"), "endPort", 0);
        assert_eq!(one, named(Some("1"), "endPort", 99 * AGAIN));
        assert_ne!(one, named(Some("2"), "endPort", 0));
        assert_ne!(one, named(Some("1"), "protocol", 0));
        assert!(one.len() < 253, "{one}");
        assert_eq!(named(None, "full", 0), named(None, "full", AGAIN - 1));
        assert_ne!(named(None, "full", 0), named(None, "full", AGAIN));
        assert_eq!(bounded(&"é".repeat(2000)).len(), 512);
    }
}
