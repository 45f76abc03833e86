// SPDX-License-Identifier: Apache-2.0
//! What becomes of policies, told where their authors look: in the status of the object, where its kind has one, and by an
//! Event if the newest version is refused, or in force otherwise than it is written.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use policy::{PolicyKey, PolicyKind};
use serde_json::json;

use super::Kind;
use super::events::{Events, Subject};
use super::publish::MANAGER;
use super::watches::told;
use crate::condition::{Condition, Verdict};

/// Why an Event is told.
const REFUSED: &str = "PolicyRefused";
const OTHERWISE: &str = "PolicyInForceOtherwise";

/// Writes into the status of policies.
pub struct Verdicts {
    client: Client,
    events: Events,
}

impl Verdicts {
    /// For the node called `node`.
    pub fn new(client: Client, node: &str) -> Self {
        let events = Events::new(client.clone(), node);
        Self { client, events }
    }

    /// Makes the object of `key`, of a kind that has such a status, show `verdict` where it shows `shown`. The answer is what
    /// it shows now; `None`: nothing, for there is no such object.
    ///
    /// # Errors
    /// Why it was not written.
    pub async fn write(
        &self,
        key: &PolicyKey,
        verdict: &Verdict,
        shown: Option<&Condition>,
    ) -> Result<Option<Condition>, String> {
        let now = serde_json::to_value(Time(Timestamp::now())).ok();
        let now = now
            .and_then(|now| now.as_str().map(str::to_owned))
            .unwrap_or_default();
        let condition = Condition::of(verdict, shown, now);
        let resource = kind(key).resource();
        let api = self.api(key, &resource);
        // To the status of an object that is gone nothing is applied.
        let body = json!({
            "apiVersion": resource.api_version, "kind": resource.kind,
            "metadata": {"name": key.name},
            "status": {"conditions": [condition.to_json()]},
        });
        let params = PatchParams::apply(MANAGER).force();
        let written = api
            .patch_status(&key.name, &params, &Patch::Apply(&body))
            .await;
        let object = match written {
            Ok(object) => object,
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
            Err(error) => return Err(format!("status of {key}: {}", told(&error))),
        };
        let event = match verdict {
            Verdict::InForce => None,
            Verdict::Otherwise(text) => Some((OTHERWISE, text)),
            Verdict::Refused(text) => Some((REFUSED, text)),
        };
        if let Some((reason, text)) = event {
            let subject = Subject::of(&resource, &object);
            self.events.warn(&subject, reason, text).await?;
        }
        Ok(Some(condition))
    }

    fn api(&self, key: &PolicyKey, resource: &ApiResource) -> Api<DynamicObject> {
        if key.namespace.is_empty() {
            Api::all_with(self.client.clone(), resource)
        } else {
            Api::namespaced_with(self.client.clone(), &key.namespace, resource)
        }
    }

    /// Tells by an Event alone why a policy is not in force.
    ///
    /// # Errors
    /// Why it was not told.
    pub async fn warn(&self, key: &PolicyKey, reason: &str) -> Result<(), String> {
        let resource = kind(key).resource();
        let found = self.api(key, &resource).get_opt(&key.name).await;
        let found = found.map_err(|error| format!("{key}: {}", told(&error)))?;
        let Some(object) = found else {
            return Ok(());
        };
        let subject = Subject::of(&resource, &object);
        self.events.warn(&subject, REFUSED, reason).await
    }
}

fn kind(key: &PolicyKey) -> Kind {
    match key.kind {
        PolicyKind::CiliumNetworkPolicy => Kind::CiliumNetworkPolicy,
        PolicyKind::CiliumClusterwideNetworkPolicy => Kind::CiliumClusterwideNetworkPolicy,
        PolicyKind::NetworkPolicy => Kind::NetworkPolicy,
    }
}
