// SPDX-License-Identifier: Apache-2.0
//! Identities that CiliumEndpoints have. They outlive what a node wrote into etcd, whose lease may end while its pods run.

use std::collections::HashSet;

use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use model::NumericIdentity;

use super::publish::Published;
use super::watches::told;

/// Objects per page.
const PAGE: u32 = 500;

/// All of them.
///
/// # Errors
/// What the server says.
pub async fn endpoint_identities(client: &Client) -> Result<HashSet<NumericIdentity>, String> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &Published::Endpoint.resource());
    let mut page = ListParams::default().limit(PAGE);
    let mut found = HashSet::new();
    loop {
        let list = api.list(&page).await.map_err(|error| told(&error))?;
        found.extend(list.items.iter().filter_map(identity));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page.continue_token = Some(token),
            None => return Ok(found),
        }
    }
}

fn identity(endpoint: &DynamicObject) -> Option<NumericIdentity> {
    let id = endpoint.data.pointer("/status/identity/id")?.as_u64()?;
    u32::try_from(id).ok().map(NumericIdentity)
}
