// SPDX-License-Identifier: Apache-2.0
//! CiliumIdentities of identities that the cluster has given back.

use std::collections::HashSet;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, ObjectMeta, Preconditions};
use model::NumericIdentity;

use super::Published;
use super::watches::told;

/// Objects per page.
const PAGE: u32 = 500;

/// Deletes the CiliumIdentities whose number is not among `known`, if they are older than `grace`: younger ones may stand
/// for an identity that is newer than the list. Answers how many.
pub async fn prune_identities(
    client: Client,
    known: &HashSet<NumericIdentity>,
    grace: Duration,
) -> Result<usize, String> {
    let resource = Published::Identity.resource();
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    let grace = SignedDuration::try_from(grace).unwrap_or(SignedDuration::MAX);
    let now = Timestamp::now();
    let is_old = |meta: &ObjectMeta| {
        let created = meta.creation_timestamp.as_ref();
        created.is_some_and(|created| now.duration_since(created.0) > grace)
    };
    let mut params = ListParams::default().limit(PAGE);
    let mut deleted = 0;
    loop {
        let page = api.list_metadata(&params).await.map_err(|e| told(&e))?;
        for object in page.items {
            let name = object.metadata.name.clone().unwrap_or_default();
            let number = name.parse().ok().map(NumericIdentity);
            // What is not a number is nobody's identity; somebody may have made it on purpose.
            let unknown = number.is_some_and(|id| !known.contains(&id));
            if !unknown || !is_old(&object.metadata) {
                continue;
            }
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: object.metadata.uid,
                    resource_version: object.metadata.resource_version,
                }),
                ..DeleteParams::default()
            };
            match api.delete(&name, &params).await {
                Ok(_) => deleted += 1,
                // It went, or somebody wrote it since.
                Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => {}
                Err(error) => return Err(format!("CiliumIdentity {name}: {}", told(&error))),
            }
        }
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(deleted);
        }
    }
}
