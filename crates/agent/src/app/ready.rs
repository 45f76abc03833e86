// SPDX-License-Identifier: Apache-2.0
//! The way from started to ready: what this node is gets published, the first lists come, policy is put in force.

use std::sync::Arc;
use std::time::Duration;

use api::Agent as _;
use clustermesh::publish::Announcer;
use kvstore::schema;

use crate::delete_queue::DeleteQueue;
use crate::service::{RelabelWorker, Service};

/// Longest wait for this cluster's own lists at start, if nothing of them is known from before.
const OWN_PATIENCE: Duration = Duration::from_secs(5);
/// The same, if the last good rows are known.
const OWN_PATIENCE_RESTORED: Duration = Duration::from_millis(1500);
/// Wait for remote clusters of which nothing was known.
const MESH_GRACE: Duration = Duration::from_millis(300);

/// Waits for the first lists, puts policy in force, and takes up what plugins queued.
pub(super) async fn become_ready(
    service: Arc<Service>,
    mut objects: tokio::sync::watch::Receiver<bool>,
    queue: DeleteQueue,
    announcer: Option<Announcer>,
) {
    publish_node(&service);
    let restored: Vec<_> = service.core().endpoints.values().cloned().collect();
    for endpoint in &restored {
        service.publish(endpoint);
    }
    // The sender lives as long as its task; its end is seen elsewhere.
    let _ = objects.wait_for(|listed| *listed).await;
    if let Some(own) = &service.own {
        let mut synced = own.synced.subscribe();
        let known = !service.core().nodes.is_empty() || !restored.is_empty();
        let patience = if known {
            OWN_PATIENCE_RESTORED
        } else {
            OWN_PATIENCE
        };
        if tokio::time::timeout(patience, synced.wait_for(|synced| synced.all()))
            .await
            .is_err()
        {
            tracing::warn!(
                "this cluster's etcd has not answered yet: the agent goes on with what it knows"
            );
        }
    }
    if !restored.is_empty() {
        wait_for_mesh(&service).await;
    }
    service.core().become_ready();
    tracing::info!("ready");
    for which in queue.take() {
        // An endpoint that is gone already is what was asked for.
        let _ = service.delete_endpoint(which).await;
    }
    drop(queue);
    let worker = RelabelWorker {
        service: service.clone(),
    };
    worker.confirm(restored).await;
    if let (Some(publisher), Some(announcer)) = (&service.publisher, &announcer) {
        publisher.settled().await;
        announcer.published();
    }
    std::future::pending::<()>().await;
}

/// Pods of before this start talk to remote clusters under policies that name their labels. Those labels come from
/// the disk at once; only a cluster whose rows on disk are damaged is worth a wait, as long as the option allows.
/// A cluster that this node never knew has no flows to lose.
async fn wait_for_mesh(service: &Service) {
    let Some(mesh) = &service.mesh else { return };
    let begun = tokio::time::Instant::now();
    let limit = service.core().config.sync_timeout;
    loop {
        let (mut pending, mut damaged) = (false, false);
        for remote in mesh.status() {
            let served = remote.ready || remote.served_from_disk;
            pending |= !served;
            damaged |= !served && !remote.disk_error.is_empty();
        }
        let patience = if damaged {
            limit
        } else {
            limit.min(MESH_GRACE)
        };
        if !pending {
            return;
        }
        if begun.elapsed() >= patience {
            tracing::warn!(
                "not every remote cluster has answered: the agent goes on with what it knows"
            );
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn publish_node(service: &Service) {
    let Some(publisher) = &service.publisher else {
        return;
    };
    let (key, value) = {
        let core = service.core();
        let node = core.node.published(&core.config);
        (
            schema::keys::node(core.config.cluster.as_str(), &core.config.node),
            schema::encode_node(&node),
        )
    };
    if let Err(error) = publisher.put(key, value) {
        service.core().note("this node's key", Some(error));
    }
}
