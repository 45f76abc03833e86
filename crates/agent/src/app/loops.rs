// SPDX-License-Identifier: Apache-2.0
//! What runs as long as the agent: rows and objects come in, routes follow, time passes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use clustermesh::MeshEvent;
use tables::Event;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::news::socket;
use crate::addresses::Source;
use crate::service::Service;
use crate::shared::Shared;
use crate::start;

/// What only time brings on is done so often while there is some.
const UPKEEP: Duration = Duration::from_millis(100);
/// Conntrack is looked through for expired flows so often, in steps of one per [`UPKEEP`].
const COLLECT: Duration = Duration::from_secs(10);
/// Changes of nodes that come together make one change of routes.
const ROUTE_SETTLE: Duration = Duration::from_millis(20);
/// Changes of the mesh taken in one go.
const BATCH: usize = 512;
/// The node's own addresses are read again so often.
const ADDRESS_CHECK: Duration = Duration::from_secs(5);

/// Rows of remote clusters, for ever.
pub(super) async fn mesh_rows(core: Arc<Shared>, mut events: mpsc::Receiver<MeshEvent>) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        if events.recv_many(&mut batch, BATCH).await == 0 {
            // No mesh: nothing ever comes.
            std::future::pending::<()>().await;
        }
        let mut core = core.lock();
        for event in batch.drain(..) {
            match event {
                MeshEvent::Node(cluster, Event::InitApply(_, node) | Event::Apply(_, node)) => {
                    core.set_node(Source::ClusterMesh(cluster), node);
                }
                MeshEvent::Node(cluster, Event::Delete(name)) => {
                    core.drop_node(&Source::ClusterMesh(cluster), &name);
                }
                MeshEvent::Identity(_, Event::InitApply(id, labels) | Event::Apply(id, labels)) => {
                    core.set_identity(id, labels)
                }
                MeshEvent::Identity(_, Event::Delete(id)) => core.drop_identity(id),
                MeshEvent::Ip(cluster, Event::InitApply(net, row) | Event::Apply(net, row)) => {
                    core.set_remote_ip(Source::ClusterMesh(cluster), net, row.identity, row.host);
                }
                MeshEvent::Ip(cluster, Event::Delete(net)) => {
                    core.withdraw(&net, &Source::ClusterMesh(cluster))
                }
                MeshEvent::Ports(_, identity, ports) => core.put_remote_ports(identity, ports),
                MeshEvent::Removed(cluster) => {
                    tracing::info!(%cluster, "remote cluster removed, its rows are gone")
                }
                _ => {}
            }
        }
        core.settle();
    }
}

/// The cluster's objects, for ever.
pub(super) async fn objects(
    service: Arc<Service>,
    mut source: kubernetes::Source,
    listed: tokio::sync::watch::Sender<bool>,
) {
    let mut told = std::collections::BTreeSet::new();
    loop {
        let update = source.next().await;
        for problem in update.problems.iter().filter(|p| !told.contains(*p)) {
            tracing::warn!(%problem, "object");
        }
        told = update.problems.iter().cloned().collect();
        service.core().take_objects(update);
        service.objects.notify_waiters();
        listed.send_replace(true);
    }
}

/// Routes follow the nodes, and so does what remote clusters may not claim and how much they may have, for ever.
pub(super) async fn routes(service: Arc<Service>) {
    let core = service.core.clone();
    let mut own = BTreeSet::new();
    let changed = core.lock().routes_changed.clone();
    let socket = socket(&service, "routes").await;
    loop {
        let _ = tokio::time::timeout(ADDRESS_CHECK, changed.notified()).await;
        tokio::time::sleep(ROUTE_SETTLE).await;
        let (networks, room) = {
            let core = core.lock();
            (core.own_networks(), core.mesh_room())
        };
        if let Some(mesh) = &service.mesh {
            mesh.set_room(room);
        }
        if let Some(mesh) = service.mesh.as_ref().filter(|_| networks != own) {
            own = networks;
            mesh.protect(&own.iter().copied().collect::<Vec<_>>());
        }
        let mut core = core.lock();
        if core.ready {
            start::ensure_routes(&mut core, &socket);
        }
        let result = start::refresh_host_addresses(&mut core, &socket);
        core.note("host addresses", result.err());
        if !core.living.is_empty()
            && let Ok(links) = socket.links()
        {
            core.free_dead(&links);
        }
    }
}

/// What time asks for: expired flows, expired addresses, prefixes whose flows are to be judged again, operations that
/// found a full map.
pub(super) async fn upkeep(service: Arc<Service>) {
    let mut collect = Instant::now();
    loop {
        if Instant::now() < collect {
            let _ = tokio::time::timeout_at(collect, service.core.unfinished()).await;
        }
        // What comes together is one pass.
        tokio::time::sleep(UPKEEP).await;
        let now = Instant::now();
        let to_sweep = !service.core().is_swept() && service.is_synced();
        let mut core = service.core();
        if to_sweep {
            core.sweep();
        }
        // Walks the flows only if prefixes changed.
        let result = core.dp.settle();
        core.note("prefixes", result.err());
        // Both, whatever becomes of one.
        if core.retry_refused() | core.retry_crowded() {
            service.objects.notify_waiters();
        }
        core.retry_policy();
        core.retry_addresses();
        core.retry_services();
        core.prune_generations();
        if now < collect {
            continue;
        }
        let result = core.dp.collect_flows(crate::service::now_seconds());
        match &result {
            Ok(stats) if stats.finished => {
                collect = now + pause(stats.pressure);
                core.note_full_shares();
            }
            Ok(_) => {}
            Err(_) => collect = now + COLLECT,
        }
        core.note("conntrack", result.err());
        core.retry_held();
        drop(core);
        service.expire_addresses();
    }
}

/// Time between two passes over conntrack: a table that fills up is looked through without a pause.
fn pause(pressure: u8) -> Duration {
    match pressure {
        0..25 => COLLECT,
        25..60 => COLLECT / 5,
        _ => Duration::ZERO,
    }
}
