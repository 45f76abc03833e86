// SPDX-License-Identifier: Apache-2.0
//! The Node of an agent that serves it: pods may come. The taint that keeps them away until there is a network goes, and
//! so does the condition with which some clouds say that there is none.

use std::path::Path;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};
use tables::Backoff;

use super::networks::{PodNetworks, save};
use super::watches::{FIRST, LONGEST, Pause, told};

/// Pods that do not tolerate it wait for the network.
const TAINT: &str = "node.cilium.io/agent-not-ready";
const CONDITION: &str = "NetworkUnavailable";
const REASON: &str = "CiliumIsUp";

/// Keeps the Node called `node` open for pods: whenever it says otherwise. `seen` hears its uid, `tell` how it goes. Ends when
/// the Node says other networks than `own`, those that the node has from it: they are in `file` then, where
/// [`super::pod_networks`] looks for those of the last run.
pub async fn keep_open(
    client: Client,
    node: &str,
    own: &PodNetworks,
    file: &Path,
    seen: impl Fn(&str),
    tell: impl Fn(Result<(), String>),
) -> PodNetworks {
    let gvk = GroupVersionKind::gvk("", "v1", "Node");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "nodes");
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    let config = watcher::Config::default().fields(&format!("metadata.name={node}"));
    let objects = watcher::watcher(api.clone(), config)
        .backoff(Pause(Backoff::new(FIRST, LONGEST)))
        .applied_objects();
    let mut objects = std::pin::pin!(objects);
    while let Some(object) = objects.next().await {
        // The source of objects tells how the server is.
        let Ok(object) = object else { continue };
        if let Some(uid) = &object.metadata.uid {
            seen(uid);
        }
        let mut pause = Backoff::new(FIRST, LONGEST);
        let mut result = open(&api, node, &object).await;
        while result.as_ref().is_err_and(|error| !is_outdated(error)) {
            tell(result.map_err(|error| told(&error)));
            tokio::time::sleep(pause.next(rand::random())).await;
            result = open(&api, node, &object).await;
        }
        // What is outdated comes anew.
        tell(Ok(()));
        if let Some(others) = others(own, &object.data) {
            save(file, &others);
            return others;
        }
    }
    // A watch does not end.
    std::future::pending().await
}

/// The networks that the Node says, if they are whole and other than `own`: one that was deleted and is back may have others,
/// and its former ones be another node's.
fn others(own: &PodNetworks, node: &Value) -> Option<PodNetworks> {
    let said = PodNetworks::read(node.pointer("/spec/podCIDRs")?);
    // A family that is not from the Node, or that it does not say, stays.
    let said = PodNetworks {
        v4: own.v4.and(said.v4),
        v6: own.v6.and(said.v6),
    };
    let is_whole = said.missing((own.v4.is_some(), own.v6.is_some())).is_none();
    (is_whole && said != *own).then_some(said)
}

fn is_outdated(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if [404, 409].contains(&status.code))
}

async fn open(
    api: &Api<DynamicObject>,
    name: &str,
    node: &DynamicObject,
) -> Result<(), kube::Error> {
    let params = PatchParams::default();
    if let Some(condition) = condition(&node.data) {
        let status = json!({"status": {"conditions": [condition]}});
        api.patch_status(name, &params, &Patch::Strategic(&status))
            .await?;
    }
    if let Some(taints) = taints(&node.data) {
        // The version makes it fail if somebody else changed the list meanwhile.
        let version = &node.metadata.resource_version;
        let spec = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
        api.patch(name, &params, &Patch::Merge(&spec)).await?;
    }
    Ok(())
}

/// The condition to write, if the node does not say it.
fn condition(node: &Value) -> Option<Value> {
    let all = node.pointer("/status/conditions").and_then(Value::as_array);
    let mut all = all.into_iter().flatten();
    let is_said = all
        .any(|one| one["type"] == CONDITION && one["status"] == "False" && one["reason"] == REASON);
    let now = Time(Timestamp::now());
    (!is_said).then(|| {
        json!({
            "type": CONDITION, "status": "False", "reason": REASON,
            "message": "Cilium is running on this node",
            "lastTransitionTime": now, "lastHeartbeatTime": now,
        })
    })
}

/// The taints without ours, if it is among them.
fn taints(node: &Value) -> Option<Vec<&Value>> {
    let all = node.pointer("/spec/taints")?.as_array()?;
    let others: Vec<_> = all.iter().filter(|taint| taint["key"] != TAINT).collect();
    (others.len() < all.len()).then_some(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_taint_goes_and_the_condition_is_written_once() {
        let other = json!({"key": "other", "effect": "NoSchedule"});
        let node = json!({
            "spec": {"taints": [{"key": TAINT, "effect": "NoExecute"}, other]},
            "status": {"conditions": [{"type": CONDITION, "status": "True", "reason": "NoRoute"}]},
        });
        assert_eq!(taints(&node), Some(vec![&other]));
        let written = condition(&node).expect("it says otherwise");
        let open = json!({"spec": {"taints": [other]}, "status": {"conditions": [written]}});
        assert_eq!((taints(&open), condition(&open)), (None, None));
        assert!(condition(&json!({})).is_some());
    }

    #[test]
    fn networks_that_are_whole_and_others_are_seen() {
        let node = |nets: &[&str]| json!({"spec": {"podCIDRs": nets}});
        let nets = |nets: &[&str]| PodNetworks::read(&json!(nets));
        let own = nets(&["10.5.1.0/24", "fd05::1:0/112"]);
        let same = node(&["fd05::1:0/112", "10.5.1.0/24", "10.9.0.0/24"]);
        for unknown in [same, node(&["10.5.2.0/24"]), json!({"spec": {}})] {
            assert_eq!(others(&own, &unknown), None);
        }
        let new = node(&["10.5.1.0/24", "fd05::2:0/112"]);
        let said = nets(&["10.5.1.0/24", "fd05::2:0/112"]);
        assert_eq!(others(&own, &new), Some(said));
        // An option gives this node its IPv6 network.
        assert_eq!(others(&nets(&["10.5.1.0/24"]), &new), None);
        assert_eq!(others(&PodNetworks::default(), &new), None);
    }
}
