// SPDX-License-Identifier: Apache-2.0
//! What became of policies is written into their objects. Every agent of the cluster comes to the same answer; one of them
//! writes it, and the others find it written. A NetworkPolicy shows nothing; its refusal is an Event, which is one and the
//! same whoever tells it. So is what is true of a node alone: that it has no room for a policy.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datapath::Linux;
use kubernetes::api::{Client, Verdicts};
use kubernetes::{Condition, Verdict};
use policy::{PolicyKey, PolicyKind};

use crate::core::Core;
use crate::service::Service;

/// Agents wait up to so long for others, times the number of nodes.
const SPREAD: Duration = Duration::from_millis(100);
/// The same in large clusters.
const MAX_SPREAD: Duration = Duration::from_secs(30);
/// Between two looks, so that what was written is seen.
const PAUSE: Duration = Duration::from_secs(1);

/// Policies about which an Event was told, and what it said.
type Told = BTreeMap<PolicyKey, String>;

/// Keeps the objects of policies true, for ever.
pub(super) async fn publish(service: Arc<Service>, client: Client) {
    let node = service.core().config.node.clone();
    let writer = Verdicts::new(client, &node);
    let mut told = Told::new();
    loop {
        // Registered before the look, so that no change falls between.
        let changed = service.objects.notified();
        let spread = {
            let core = service.core();
            let nodes = u32::try_from(core.nodes.len() + 1).unwrap_or(u32::MAX);
            let events = by_event(&core);
            told.retain(|key, _| events.contains_key(key));
            let is_told = untold(&core).next().is_none() && told == events;
            (!is_told).then(|| SPREAD.saturating_mul(nodes).min(MAX_SPREAD))
        };
        let Some(spread) = spread else {
            changed.await;
            continue;
        };
        tokio::time::sleep(spread.mul_f64(rand::random())).await;
        let result = write(&service, &writer, &mut told).await;
        service.core().note("status of policies", result.err());
        tokio::time::sleep(PAUSE).await;
    }
}

async fn write(service: &Service, writer: &Verdicts, told: &mut Told) -> Result<(), String> {
    let (untold, events): (Vec<_>, _) = {
        let core = service.core();
        let untold = untold(&core).map(|(key, verdict)| {
            let shown = core.policy_shows.get(&key).cloned();
            (key, verdict, shown)
        });
        (untold.collect(), by_event(&core))
    };
    for (key, verdict, shown) in untold {
        if let Some(now) = writer.write(&key, &verdict, shown.as_ref()).await? {
            service.core().policy_shows.insert(key, now);
        }
    }
    for (key, reason) in events {
        if told.get(&key) != Some(&reason) {
            writer.warn(&key, &reason).await?;
            told.insert(key, reason);
        }
    }
    Ok(())
}

/// Policies whose objects show something else than what became of them, once all are known.
fn untold(core: &Core<Linux>) -> impl Iterator<Item = (PolicyKey, Verdict)> + '_ {
    let verdicts = core.ready.then(|| core.verdicts()).into_iter().flatten();
    let shows = verdicts.filter(|(key, _)| key.kind != PolicyKind::NetworkPolicy);
    shows.filter(|(key, verdict)| {
        let wanted = Condition::of(verdict, None, String::new());
        let shown = core.policy_shows.get(key);
        shown.is_none_or(|shown| !wanted.agrees(shown))
    })
}

/// What no object shows: why NetworkPolicies are refused, and for what this node alone has no room.
fn by_event(core: &Core<Linux>) -> Told {
    let verdicts = core.ready.then(|| core.verdicts()).into_iter().flatten();
    let silent = verdicts.filter(|(key, _)| key.kind == PolicyKind::NetworkPolicy);
    let refused = silent.filter_map(|(key, verdict)| Some((key, verdict.problem()?.to_owned())));
    let node = &core.node.name.name;
    let here = core.ready.then(|| core.crowded_policies());
    let here = here.into_iter().flatten();
    let here = here.map(|(key, text)| (key.clone(), format!("node {node}: {text}")));
    refused.chain(here).collect()
}
