// SPDX-License-Identifier: Apache-2.0
//! Keeps the definitions of the custom resources as this version knows them: installers make them, and update none.

use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

use super::watches::told;
use crate::crds;

/// Who writes.
const MANAGER: &str = "cilium-operator";
/// On definitions that Cilium's own operator keeps; those are not ours to change.
const FOREIGN: &str = "io.cilium.k8s.crd.schema.version";

/// Makes definitions that are missing or differ; returns their names.
///
/// # Errors
/// What the server says to the first that it refuses; those before it are as they should be.
pub async fn keep_definitions(client: &Client) -> Result<Vec<String>, String> {
    let gvk = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "customresourcedefinitions");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let params = PatchParams::apply(MANAGER).force();
    let mut changed = Vec::new();
    for wanted in crds::all() {
        let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
        let failed =
            |error: kube::Error| format!("CustomResourceDefinition {name}: {}", told(&error));
        let found = api.get_opt(name).await.map_err(failed)?;
        if found.is_some_and(|found| {
            is_foreign(&found) || contains(&found.data["spec"], &wanted["spec"])
        }) {
            continue;
        }
        let written = api.patch(name, &params, &Patch::Apply(&wanted)).await;
        written.map_err(failed)?;
        changed.push(name.to_owned());
    }
    Ok(changed)
}

fn is_foreign(found: &DynamicObject) -> bool {
    let labels = found.metadata.labels.as_ref();
    labels.is_some_and(|labels| labels.contains_key(FOREIGN))
}

/// Whether `found` says all that `wanted` says. Servers add defaults.
fn contains(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, value)| found.get(key).is_some_and(|found| contains(found, value))),
        (Value::Array(found), Value::Array(wanted)) => {
            let pairs = || found.iter().zip(wanted);
            found.len() == wanted.len() && pairs().all(|(found, wanted)| contains(found, wanted))
        }
        _ => found == wanted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_of_the_server_are_no_difference() {
        let wanted = json!({"a": [{"b": 1}], "c": "d"});
        let found = json!({"a": [{"b": 1, "e": true}], "c": "d", "f": {}});
        assert!(contains(&found, &wanted));
        for other in [
            json!({"a": [{"b": 2}], "c": "d"}),
            json!({"a": [{"b": 1}, {}], "c": "d"}),
            json!({"a": [{"b": 1}]}),
        ] {
            assert!(!contains(&other, &wanted), "{other}");
        }
    }
}
