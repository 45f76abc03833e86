// SPDX-License-Identifier: Apache-2.0
//! What became of policies is written into their objects. Every agent of the cluster comes to the same answer; one of them
//! writes it, and the others find it written.

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

/// Keeps the objects of policies true, for ever.
pub(super) async fn publish(service: Arc<Service>, client: Client) {
    let node = service.core().config.node.clone();
    let writer = Verdicts::new(client, &node);
    loop {
        // Registered before the look, so that no change falls between.
        let changed = service.objects.notified();
        let spread = {
            let core = service.core();
            let nodes = u32::try_from(core.nodes.len() + 1).unwrap_or(u32::MAX);
            let is_told = untold(&core).next().is_none();
            (!is_told).then(|| SPREAD.saturating_mul(nodes).min(MAX_SPREAD))
        };
        let Some(spread) = spread else {
            changed.await;
            continue;
        };
        tokio::time::sleep(spread.mul_f64(rand::random())).await;
        let result = write(&service, &writer).await;
        service.core().note("status of policies", result.err());
        tokio::time::sleep(PAUSE).await;
    }
}

async fn write(service: &Service, writer: &Verdicts) -> Result<(), String> {
    let untold: Vec<_> = {
        let core = service.core();
        untold(&core)
            .map(|(key, verdict)| {
                let shown = core.policy_shows.get(&key).cloned();
                (key, verdict, shown)
            })
            .collect()
    };
    for (key, verdict, shown) in untold {
        if let Some(now) = writer.write(&key, &verdict, shown.as_ref()).await? {
            service.core().policy_shows.insert(key, now);
        }
    }
    Ok(())
}

/// Policies whose objects say something else than what became of them, once all are known.
fn untold(core: &Core<Linux>) -> impl Iterator<Item = (PolicyKey, Verdict)> {
    let verdicts = core.ready.then(|| core.verdicts()).into_iter().flatten();
    verdicts.filter(|(key, verdict)| {
        // A NetworkPolicy has no status; its refusal is in the log and in `status`.
        if key.kind == PolicyKind::NetworkPolicy {
            return false;
        }
        let wanted = Condition::of(verdict, None, String::new());
        let shown = core.policy_shows.get(key);
        shown.is_none_or(|shown| !wanted.agrees(shown))
    })
}
