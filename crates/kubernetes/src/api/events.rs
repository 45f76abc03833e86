// SPDX-License-Identifier: Apache-2.0
//! Events: what somebody who looks at the cluster with kubectl must know. The same again within some minutes is one event
//! that says how often.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use super::watches::told;

/// Who tells.
const REPORTER: &str = "cilium-agent";
/// Longest text that an API server takes is 1 KiB.
const MAX_TEXT: usize = 1024;

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
pub struct Events(Recorder);

impl Events {
    /// In the name of the agent of `node`.
    pub fn new(client: Client, node: &str) -> Self {
        let reporter = Reporter {
            controller: REPORTER.into(),
            instance: Some(node.to_owned()),
        };
        Self(Recorder::new(client, reporter))
    }

    /// Warns: `reason` is a word for programs, `note` a text for people.
    ///
    /// # Errors
    /// Why it was not told.
    pub async fn warn(&self, subject: &Subject, reason: &str, note: &str) -> Result<(), String> {
        let event = Event {
            type_: EventType::Warning,
            reason: reason.to_owned(),
            note: Some(note.chars().take(MAX_TEXT / 4).collect()),
            action: "Watching".into(),
            secondary: None,
        };
        let result = self.0.publish(&event, &subject.0).await;
        result.map_err(|error| format!("event {reason}: {}", told(&error)))
    }
}
