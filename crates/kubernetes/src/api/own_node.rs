// SPDX-License-Identifier: Apache-2.0
//! The Node of an agent that serves it: pods may come. The taint that keeps them away until there is a network goes, and
//! so does the condition with which some clouds say that there is none.

use futures::StreamExt;
use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};
use tables::Backoff;

use super::pool::is_v4;
use super::watches::{FIRST, LONGEST, Pause, told};

/// Pods that do not tolerate it wait for the network.
const TAINT: &str = "node.cilium.io/agent-not-ready";
const CONDITION: &str = "NetworkUnavailable";
const REASON: &str = "CiliumIsUp";

/// Keeps the Node called `node` open for pods, for ever: whenever it says otherwise. `seen` hears its uid, `tell` how it
/// goes, and whether the networks that the node has from it, `own`, are still what it says.
pub async fn keep_open(
    client: Client,
    node: &str,
    own: &[IpNet],
    seen: impl Fn(&str),
    tell: impl Fn(Result<(), String>),
) {
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
        tell(changed(own, &object.data).map_or(Ok(()), Err));
    }
}

/// What to say of networks that the Node says otherwise: one that was deleted and is back may have others.
fn changed(own: &[IpNet], node: &Value) -> Option<String> {
    let said = node.pointer("/spec/podCIDRs").and_then(Value::as_array)?;
    let said = said
        .iter()
        .filter_map(|net| net.as_str()?.parse::<IpNet>().ok());
    let said: Vec<IpNet> = said.map(|net| net.trunc()).collect();
    own.iter().find_map(|net| {
        // The first of a family is the node's.
        let said = said.iter().find(|said| is_v4(said) == is_v4(net))?;
        (said != net).then(|| {
            format!(
                "the Node says {said}, new pods of this node get addresses of {net}, which may be another node's: restart the agent; pods that run keep their addresses"
            )
        })
    })
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
    fn other_networks_are_told() {
        let own: Vec<IpNet> = ["10.5.1.0/24", "fd05::1:0/112"]
            .map(|net| net.parse().unwrap())
            .into();
        let node = |nets: &[&str]| json!({"spec": {"podCIDRs": nets}});
        let same = node(&["fd05::1:0/112", "10.5.1.0/24", "10.9.0.0/24"]);
        for unknown in [same, node(&["10.5.1.0/24"]), json!({"spec": {}})] {
            assert_eq!(changed(&own, &unknown), None);
        }
        let text = changed(&own, &node(&["10.5.1.0/24", "fd05::2:0/112"])).unwrap();
        assert!(
            text.contains("says fd05::2:0/112") && text.contains("of fd05::1:0/112"),
            "{text}"
        );
        assert_eq!(changed(&[], &node(&["10.5.2.0/24"])), None);
    }
}
