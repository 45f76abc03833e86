// SPDX-License-Identifier: Apache-2.0
//! The way from started to ready: what this node is gets published, the first lists come, policy is put in force.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::Agent as _;
use api::queue::Queue;
use model::ClusterId;

use crate::endpoint::Endpoint;
use crate::service::{RelabelWorker, Service};

/// Longest wait for this cluster's own lists.
const OWN_PATIENCE: Duration = Duration::from_secs(5);
/// The same, if its etcd is away and the last good rows are known.
const OWN_PATIENCE_AWAY: Duration = Duration::from_millis(1500);
/// Longest wait for other nodes after the cluster got another id.
const OTHERS_PATIENCE: Duration = Duration::from_secs(5);
/// Time between two looks at them: each is at all nodes.
const OTHERS_LOOK: Duration = Duration::from_millis(50);
/// Time between two looks at queued deletions and at files of endpoints.
const FILES: Duration = Duration::from_secs(10);
/// Time between two looks.
const STEP: Duration = Duration::from_millis(10);

/// Waits for the first lists, puts policy in force, and takes up what plugins queued.
pub(super) async fn become_ready(
    service: Arc<Service>,
    mut objects: tokio::sync::watch::Receiver<bool>,
    run_dir: PathBuf,
    is_up: fn(),
) {
    service.publish_node();
    let restored: Vec<_> = service.core().endpoints.values().cloned().collect();
    for endpoint in &restored {
        service.publish(endpoint.attachment.id);
    }
    // The sender lives as long as its task; its end is seen elsewhere.
    let _ = objects.wait_for(|listed| *listed).await;
    wait_for_own_cluster(&service, &restored).await;
    if !restored.is_empty() {
        wait_for_mesh(&service, &restored).await;
    }
    service.core().become_ready();
    tracing::info!("ready");
    work_off(&service, &run_dir).await;
    let worker = RelabelWorker {
        service: service.clone(),
    };
    worker.confirm().await;
    is_up();
    let announce = async {
        if let (Some(publisher), Some(announcer)) = (&service.publisher, &service.announcer) {
            publisher.settled().await;
            announcer.published();
        }
    };
    let files = async {
        loop {
            tokio::time::sleep(FILES).await;
            work_off(&service, &run_dir).await;
            service.core().keep_files();
        }
    };
    // Never ends.
    let relabel = async {
        wait_for_other_nodes(&service).await;
        worker.run().await;
    };
    tokio::join!(announce, relabel, files);
}

/// Where the cluster has another id than before: its pods get identities of the new one when all nodes of before are there
/// under it too. A node does not believe an identity of a cluster that the sender is no node of, so those that are restarted
/// together change together.
async fn wait_for_other_nodes(service: &Service) {
    let begun = tokio::time::Instant::now();
    loop {
        let missing = service.core().stragglers();
        if missing.is_empty() {
            return;
        }
        if begun.elapsed() >= OTHERS_PATIENCE {
            tracing::warn!(
                nodes = ?missing,
                "nodes of this cluster do not have its new id yet: until they do, packets between their pods and those of this node are dropped"
            );
            return;
        }
        tokio::time::sleep(STEP).await;
    }
}

/// Takes up the deletions that plugins queued, because the agent was away or slow.
async fn work_off(service: &Service, run_dir: &Path) {
    let dir = run_dir.to_owned();
    // Plugins hold the lock while they ask the agent once more: others' work must not wait.
    let taken = tokio::task::spawn_blocking(move || Queue::take_waiting(&dir)).await;
    let taken = taken.unwrap_or_else(|error| {
        tracing::error!(%error, "queued deletions");
        Ok(Vec::new())
    });
    let (queued, problem) = match taken {
        Ok(queued) => (queued, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    service.core().note("queued deletions", problem);
    for which in queued {
        // An endpoint that is gone already is what was asked for.
        let _ = service.delete_endpoint(which).await;
    }
}

/// This cluster's own lists; shorter if its etcd is away and the last good rows are known.
async fn wait_for_own_cluster(service: &Service, restored: &[Endpoint]) {
    let Some(own) = &service.own else { return };
    let known = !service.core().nodes.is_empty() || restored.is_empty();
    let begun = tokio::time::Instant::now();
    while !own.synced.borrow().all() {
        let patience = if known && own.is_away() {
            OWN_PATIENCE_AWAY
        } else {
            OWN_PATIENCE
        };
        if begun.elapsed() >= patience {
            tracing::warn!(
                "this cluster's etcd has not answered yet: the agent goes on with what it knows"
            );
            return;
        }
        tokio::time::sleep(STEP).await;
    }
}

/// Pods of before this start talk to remote clusters under policies that name their labels. A cluster whose pods the
/// kernel knows must have said who they are, live or from the disk, before new policy is put in force; the option
/// bounds the wait. A cluster that this node never knew has no flows to lose.
async fn wait_for_mesh(service: &Service, restored: &[Endpoint]) {
    let Some(mesh) = &service.mesh else { return };
    let begun = tokio::time::Instant::now();
    let (limit, mut missing) = {
        let core = service.core();
        (core.config.sync_timeout, core.adopted_clusters.clone())
    };
    let scheme = service.core().config.scheme;
    for endpoint in restored {
        // This cluster under an id of before: nobody else can say who they are.
        if let Some(former) = scheme.cluster_of(endpoint.identity) {
            missing.remove(&former);
        }
    }
    loop {
        let status = mesh.status();
        let said = status.iter().map(|remote| {
            let id = remote.config.as_ref().map(|config| config.id);
            (id, remote.ready || remote.served_from_disk)
        });
        await_no_more(&mut missing, &said.collect::<Vec<_>>());
        if missing.is_empty() {
            return;
        }
        if begun.elapsed() >= limit {
            tracing::warn!(
                clusters = ?missing,
                "not every remote cluster has answered: the agent goes on with what it knows"
            );
            return;
        }
        tokio::time::sleep(OTHERS_LOOK).await;
    }
}

/// Leaves of `missing` the clusters to wait for, by what remote clusters said: their ids, unless they did not say them yet, and
/// whether their rows are known. A cluster that no file names has nothing to say: it was removed, or never was one, where
/// numbers of identities meant others before (`max-connected-clusters`).
fn await_no_more(missing: &mut BTreeSet<ClusterId>, said: &[(Option<ClusterId>, bool)]) {
    let all_said = said.iter().all(|(id, _)| id.is_some());
    missing.retain(|missing| {
        let found = said.iter().find(|(id, _)| *id == Some(*missing));
        found.map_or(!all_said, |(_, known)| !known)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_still_say_something_is_waited_for() {
        let left = |missing: &[u16], said: &[(Option<u16>, bool)]| {
            let mut missing: BTreeSet<_> = missing.iter().map(|id| ClusterId(*id)).collect();
            let said: Vec<_> = said
                .iter()
                .map(|(id, known)| (id.map(ClusterId), *known))
                .collect();
            await_no_more(&mut missing, &said);
            missing.into_iter().map(|id| id.0).collect::<Vec<_>>()
        };
        assert_eq!(left(&[7, 8], &[(Some(7), false), (Some(8), true)]), [7]);
        assert!(left(&[7, 14], &[(Some(7), true)]).is_empty());
        // The one that has not said who it is may be either.
        assert_eq!(left(&[7, 14], &[(Some(7), true), (None, false)]), [14]);
        assert!(left(&[7], &[]).is_empty());
    }
}
