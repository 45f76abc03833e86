// SPDX-License-Identifier: Apache-2.0
//! Custom resources of a node: told what shall be, writes what differs. Server-side apply, so that fields of others
//! stay theirs.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;
use tokio::time::{Duration, Instant};

use super::watches::told;

/// Who writes.
pub(super) const MANAGER: &str = "cilium-agent";
/// What others changed or deleted is put right so often.
const AGAIN: Duration = Duration::from_secs(300);

/// Refusals after which no more is tried in one go.
const MOST_FAILURES: usize = 16;

/// A kind that a node publishes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Published {
    /// `CiliumNode`.
    Node,
    /// `CiliumEndpoint`.
    Endpoint,
    /// `CiliumIdentity`. Nodes share them: none is deleted here.
    Identity,
}

/// Kind, namespace (empty for cluster scope) and name.
pub type ResourceKey = (Published, String, String);

/// A resource without kind and name, as JSON: as long as it is the same object in memory, comparing it costs nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Body(Arc<str>);

impl From<&Value> for Body {
    fn from(value: &Value) -> Self {
        Self(value.to_string().into())
    }
}

#[derive(Debug)]
struct Written {
    body: Body,
    at: Instant,
    uid: Option<String>,
    version: Option<String>,
}

/// What was written.
pub struct Publication {
    client: Client,
    written: BTreeMap<ResourceKey, Written>,
}

impl Published {
    pub(super) fn resource(self) -> ApiResource {
        let (kind, plural) = match self {
            Published::Node => ("CiliumNode", "ciliumnodes"),
            Published::Endpoint => ("CiliumEndpoint", "ciliumendpoints"),
            Published::Identity => ("CiliumIdentity", "ciliumidentities"),
        };
        let gvk = GroupVersionKind::gvk("cilium.io", "v2", kind);
        ApiResource::from_gvk_with_plural(&gvk, plural)
    }
}

impl Publication {
    /// Nothing is written yet.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            written: BTreeMap::new(),
        }
    }

    /// The resource is not there any more: the next call writes it.
    pub fn forget(&mut self, key: &ResourceKey) {
        self.written.remove(key);
    }

    fn api(&self, kind: Published, namespace: &str) -> Api<DynamicObject> {
        let resource = kind.resource();
        if namespace.is_empty() {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        }
    }

    /// Makes the cluster's resources these. What fails is tried again with the next call; the answer is the first
    /// failure. One that the server refuses keeps none of the others from being written; a server that does not answer,
    /// or refuses many, is left alone until then.
    pub async fn sync(&mut self, wanted: &BTreeMap<ResourceKey, Body>) -> Result<(), String> {
        let gone: Vec<ResourceKey> = self
            .written
            .keys()
            .filter(|key| !wanted.contains_key(*key))
            .cloned()
            .collect();
        let mut failures = Failures::default();
        for key in gone {
            if key.0 == Published::Identity {
                self.written.remove(&key);
                continue;
            }
            match self.delete(&key).await {
                Ok(()) => drop(self.written.remove(&key)),
                Err(error) => failures.add(&key, &error)?,
            }
        }
        for (key, body) in wanted {
            if let Err(error) = self.put(key, body).await {
                failures.add(key, &error)?;
            }
        }
        failures.first.map_or(Ok(()), Err)
    }

    async fn put(&mut self, key: &ResourceKey, wanted: &Body) -> kube::Result<()> {
        let is_there = |old: &Written| old.body == *wanted && old.at.elapsed() < AGAIN;
        if self.written.get(key).is_some_and(is_there) {
            return Ok(());
        }
        let (kind, namespace, name) = key;
        let resource = kind.resource();
        let mut body: Value = serde_json::from_str(&wanted.0).map_err(kube::Error::SerdeError)?;
        body["apiVersion"] = resource.api_version.clone().into();
        body["kind"] = resource.kind.clone().into();
        body["metadata"]["name"] = name.as_str().into();
        let object = self
            .api(*kind, namespace)
            .patch(
                name,
                &PatchParams::apply(MANAGER).force(),
                &Patch::Apply(&body),
            )
            .await?;
        let written = Written {
            body: wanted.clone(),
            at: Instant::now(),
            uid: object.metadata.uid,
            version: object.metadata.resource_version,
        };
        self.written.insert(key.clone(), written);
        Ok(())
    }

    /// Deletes what we wrote, unless somebody wrote it since: a pod may be back under its name on another node.
    async fn delete(&self, key: &ResourceKey) -> kube::Result<()> {
        let (kind, namespace, name) = key;
        let Some(written) = self.written.get(key) else {
            return Ok(());
        };
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: written.uid.clone(),
                resource_version: written.version.clone(),
            }),
            ..DeleteParams::default()
        };
        match self.api(*kind, namespace).delete(name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// What did not work in one go.
#[derive(Default)]
struct Failures {
    first: Option<String>,
    count: usize,
}

impl Failures {
    /// Notes a failure; an error if it is time to stop.
    fn add(&mut self, (kind, _, name): &ResourceKey, error: &kube::Error) -> Result<(), String> {
        let text = format!("{} {name}: {}", kind.resource().kind, told(error));
        let first = self.first.get_or_insert(text);
        self.count += 1;
        if matches!(error, kube::Error::Api(_)) && self.count < MOST_FAILURES {
            Ok(())
        } else {
            Err(first.clone())
        }
    }
}
