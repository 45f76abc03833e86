// SPDX-License-Identifier: Apache-2.0
//! The composition root: parts are made in the order in which they need each other, then run until the end.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use api::Agent as _;
use clustermesh::publish::{Announcement, Announcer};
use clustermesh::{Mesh, MeshEvent};
use datapath::Linux;
use kvstore::{
    Allocator, AllocatorOptions, ClientOptions, Etcd, Publisher, PublisherOptions, schema,
};
use netlink::Socket;
use tables::{Event, Tasks};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};

use crate::addresses::Source;
use crate::config::{Config, KvstoreConfig, KvstoreSource};
use crate::core::Core;
use crate::delete_queue::DeleteQueue;
use crate::events::Hub;
use crate::identities::Identities;
use crate::options::Values;
use crate::own::{self, Follower, OwnStatus};
use crate::own_file;
use crate::service::{RelabelWorker, Service};
use crate::start::{self, StartError};

/// Longest wait for this cluster's own lists at start, if nothing of them is known from before.
const OWN_PATIENCE: Duration = Duration::from_secs(5);
/// The same, if the last good rows are known.
const OWN_PATIENCE_RESTORED: Duration = Duration::from_millis(1500);
/// Wait for remote clusters of which nothing was known.
const MESH_GRACE: Duration = Duration::from_millis(300);
/// What time asks for is looked at so often.
const UPKEEP: Duration = Duration::from_millis(100);
/// Conntrack is looked through for expired flows so often, in steps of one per [`UPKEEP`].
const COLLECT: Duration = Duration::from_secs(10);
/// Changes of nodes that come together make one change of routes.
const ROUTE_SETTLE: Duration = Duration::from_millis(20);
/// Changes of the mesh taken in one go.
const BATCH: usize = 512;
/// The node's own addresses are read again so often.
const ADDRESS_CHECK: Duration = Duration::from_secs(5);

/// Why the agent ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
    /// The node.
    #[error("{0}")]
    Start(#[from] StartError),
    /// The API's socket.
    #[error("{0}")]
    Socket(#[from] api::Error),
    /// A kernel socket.
    #[error("kernel: {0}")]
    Netlink(#[from] netlink::Error),
    /// This cluster's etcd configuration.
    #[error("--kvstore-opt etcd.config: {0}")]
    Kvstore(#[from] kvstore::config::ConfigError),
    /// The mesh directory.
    #[error("{0}")]
    Mesh(#[from] clustermesh::Error),
    /// The manifest directory.
    #[error("{0}")]
    Manifests(#[from] kubernetes::WatchError),
    /// The state directory.
    #[error("cannot use state directory {dir}: {source}; check --state-dir")]
    State {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Signals.
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
    /// A part that should run for ever.
    #[error("{0} ended; the agent stops so that its supervisor starts it again")]
    TaskEnded(String),
}

/// Runs the agent until a signal.
pub(crate) async fn run(config: Config, values: Values) -> Result<(), AppError> {
    let config = Arc::new(config);
    let started = SystemTime::now();
    let listener = api::bind(&config.socket)?;
    let run_dir = config
        .socket
        .parent()
        .map_or_else(|| PathBuf::from("/var/run/cilium"), PathBuf::from);
    let queue = DeleteQueue::lock(&run_dir).map_err(|source| AppError::State {
        dir: run_dir,
        source,
    })?;
    let socket = Socket::open()?;
    let up = start::start(config.clone(), &socket)?;
    let overlay = up.overlay;
    let core = Arc::new(Mutex::new(up.core));
    let hub = Hub::new(core.clone());
    let mut tasks = Tasks::default();
    tasks.spawn("drop events", hub.clone().run(up.events));

    let own = config
        .kvstore
        .as_ref()
        .map(|kvstore| Own::start(kvstore, &config, &core, &mut tasks))
        .transpose()?;
    let (mesh_events, mesh_rx) = mpsc::channel(4096);
    let mesh = start_mesh(&config, &core, mesh_events)?;
    let manifests = config
        .manifests
        .as_deref()
        .map(kubernetes::Follow::new)
        .transpose()?;

    let known = own::known_identities(&lock(&core));
    let (identities, publisher, status, follower, announcer) = match own {
        Some(own) => (
            Identities::Cluster(own.allocator),
            Some(own.publisher),
            Some(own.status),
            Some(own.follower),
            own.announcer,
        ),
        None => (
            Identities::alone(config.scheme, config.cluster_id, known),
            None,
            None,
            None,
            None,
        ),
    };
    let service = Arc::new(Service {
        core: core.clone(),
        identities,
        publisher,
        own: status,
        mesh,
        hub,
        socket,
        values,
        started,
        objects: Notify::new(),
        clients: Mutex::default(),
    });
    tasks.spawn("mesh rows", mesh_rows(core.clone(), mesh_rx));
    let (listed, first_list) = tokio::sync::watch::channel(manifests.is_none());
    if let Some(follow) = manifests {
        tasks.spawn("manifests", objects(service.clone(), follow, listed));
    }
    tasks.spawn("routes", routes(core.clone(), overlay));
    tasks.spawn("upkeep", upkeep(service.clone()));
    let server = service.clone();
    tasks.spawn("api", async move {
        if let Err(error) = api::serve(listener, server).await {
            tracing::error!(%error, "the API's socket is lost");
        }
    });
    tasks.spawn(
        "start",
        become_ready(service.clone(), first_list, queue, announcer),
    );
    let result = until_end(&mut tasks).await;
    shutdown(&config, service, follower, tasks).await;
    result
}

fn lock(core: &Arc<Mutex<Core<Linux>>>) -> std::sync::MutexGuard<'_, Core<Linux>> {
    core.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// This cluster's etcd and what lives on it.
struct Own {
    allocator: Allocator<Etcd>,
    publisher: Publisher<Etcd>,
    status: Arc<OwnStatus>,
    follower: Follower,
    announcer: Option<Announcer>,
}

impl Own {
    fn start(
        kvstore: &KvstoreConfig,
        config: &Arc<Config>,
        core: &Arc<Mutex<Core<Linux>>>,
        tasks: &mut Tasks,
    ) -> Result<Own, AppError> {
        let client = match &kvstore.source {
            KvstoreSource::File(path) => kvstore::config::Config::load(path)?,
            KvstoreSource::Address(url) => {
                kvstore::config::Config::parse(&format!("endpoints: [{url:?}]\n"))?
            }
        };
        let endpoints = client.endpoints.iter().map(url).collect();
        let store = Etcd::lazy(client, ClientOptions::default());
        let status = OwnStatus::new(endpoints);
        let follower = Follower {
            core: core.clone(),
            status: status.clone(),
            rows: Default::default(),
        };
        let path = own_path(config);
        match own_file::load(&path) {
            Ok(saved) => drop(follower.restore(saved)),
            Err(problem) => lock(core).note("last good rows of this cluster", Some(problem)),
        }
        let node = lock(core).node.clone();
        let options = AllocatorOptions {
            scheme: config.scheme,
            lease_ttl: kvstore.lease_ttl,
            known: own::known_identities(&lock(core)),
            ..AllocatorOptions::new(config.cluster_id, node.ipv4.to_string())
        };
        let allocator = Allocator::start(store.clone(), options);
        let publisher = Publisher::start(
            store.clone(),
            PublisherOptions {
                lease_ttl: kvstore.lease_ttl,
                ops_per_second: f64::from(kvstore.qps),
                prefixes: vec![
                    format!("{}/{}/", schema::keys::NODES, config.cluster),
                    format!("{}/", schema::keys::IPS),
                ],
                ..PublisherOptions::default()
            },
        );
        tasks.spawn(
            "own identities",
            follower.clone().identities(allocator.subscribe()),
        );
        tasks.spawn("own nodes", follower.clone().nodes(store.clone()));
        tasks.spawn("own addresses", follower.clone().ips(store.clone()));
        tasks.spawn("own rows on disk", follower.clone().save(path));
        tasks.spawn("own etcd", status.clone().probe(store.clone()));
        let announcer = (config.cluster_id.0 != 0).then(|| {
            Announcer::start(
                store,
                Announcement {
                    cluster: config.cluster.clone(),
                    id: config.cluster_id,
                    scheme: config.scheme,
                    lease_ttl: kvstore.lease_ttl,
                },
            )
        });
        Ok(Own {
            allocator,
            publisher,
            status,
            follower,
            announcer,
        })
    }
}

fn url(endpoint: &kvstore::config::Endpoint) -> String {
    let scheme = if endpoint.tls { "https" } else { "http" };
    let host = if endpoint.host.contains(':') {
        format!("[{}]", endpoint.host)
    } else {
        endpoint.host.clone()
    };
    format!("{scheme}://{host}:{}", endpoint.port)
}

fn own_path(config: &Config) -> PathBuf {
    config.state_dir.join("state/own.rows")
}

fn start_mesh(
    config: &Arc<Config>,
    core: &Arc<Mutex<Core<Linux>>>,
    events: mpsc::Sender<MeshEvent>,
) -> Result<Option<Mesh>, AppError> {
    let Some(dir) = &config.mesh_dir else {
        return Ok(None);
    };
    let node = lock(core).node.clone();
    let own = node
        .pod_cidrs()
        .into_iter()
        .chain(node.underlay().map(Into::into))
        .collect();
    let settings = clustermesh::Settings {
        cluster: config.cluster.clone(),
        id: config.cluster_id,
        scheme: config.scheme,
        own_pod_cidrs: own,
        config_dir: dir.clone(),
        state_dir: Some(config.state_dir.join("state")),
        sync_timeout: config.sync_timeout,
    };
    let connector = |_: &model::ClusterName, client: &kvstore::config::Config| {
        let client = client.clone();
        async move { Etcd::connect(client, ClientOptions::default()).await }
    };
    Ok(Some(Mesh::start(settings, connector, events)?))
}

/// Rows of remote clusters, for ever.
async fn mesh_rows(core: Arc<Mutex<Core<Linux>>>, mut events: mpsc::Receiver<MeshEvent>) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        if events.recv_many(&mut batch, BATCH).await == 0 {
            // No mesh: nothing ever comes.
            std::future::pending::<()>().await;
        }
        let mut core = lock(&core);
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
async fn objects(
    service: Arc<Service>,
    mut follow: kubernetes::Follow,
    listed: tokio::sync::watch::Sender<bool>,
) {
    let worker = RelabelWorker {
        service: service.clone(),
    };
    loop {
        let update = follow.next().await;
        for problem in &update.problems {
            tracing::warn!(%problem, "manifest");
        }
        let changes = service.core().take_objects(update);
        service.objects.notify_waiters();
        listed.send_replace(true);
        worker.work(changes).await;
    }
}

/// Routes follow the nodes, for ever.
async fn routes(core: Arc<Mutex<Core<Linux>>>, overlay: u32) {
    let changed = lock(&core).routes_changed.clone();
    let socket = loop {
        match Socket::open() {
            Ok(socket) => break socket,
            Err(error) => {
                lock(&core).note("routes", Some(error));
                tokio::time::sleep(ADDRESS_CHECK).await;
            }
        }
    };
    loop {
        let _ = tokio::time::timeout(ADDRESS_CHECK, changed.notified()).await;
        tokio::time::sleep(ROUTE_SETTLE).await;
        let mut core = lock(&core);
        if core.ready {
            start::ensure_routes(&mut core, &socket, overlay);
        }
        if let Err(error) = start::refresh_host_addresses(&mut core, &socket) {
            core.note("node addresses", Some(error));
        }
    }
}

/// What time asks for: expired flows, expired addresses, prefixes whose flows are to be judged again, operations that
/// found a full map.
async fn upkeep(service: Arc<Service>) {
    let mut tick = tokio::time::interval(UPKEEP);
    let mut collect = tokio::time::Instant::now();
    loop {
        let now = tick.tick().await;
        let mut core = service.core();
        // Walks the flows only if prefixes changed.
        let result = core.dp.settle();
        core.note("prefixes", result.err());
        if core.dp.waiting_ops() > 0 {
            let result = core.dp.apply(&[]);
            core.note("policy", result.err());
        }
        core.prune_generations();
        if now < collect {
            continue;
        }
        let result = core.dp.collect_flows(crate::service::now_seconds());
        match &result {
            Ok(stats) if stats.finished => collect = now + pause(stats.pressure),
            Ok(_) => {}
            Err(_) => collect = now + COLLECT,
        }
        core.note("conntrack", result.err());
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

/// Waits for the first lists, puts policy in force, and takes up what plugins queued.
async fn become_ready(
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

async fn until_end(tasks: &mut Tasks) -> Result<(), AppError> {
    let mut term = signal(SignalKind::terminate()).map_err(AppError::Signals)?;
    let mut int = signal(SignalKind::interrupt()).map_err(AppError::Signals)?;
    tokio::select! {
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
        ended = tasks.ended() => {
            let text = ended.map_or_else(String::new, |task| format!("task {}{}", task.name, task.panic.map(|p| format!(" ({p})")).unwrap_or_default()));
            Err(AppError::TaskEnded(text))
        }
    }
}

/// Saves what a start wants to know. Nothing is drained: the node goes on without its agent.
async fn shutdown(
    config: &Config,
    service: Arc<Service>,
    follower: Option<Follower>,
    mut tasks: Tasks,
) {
    tasks.shutdown().await;
    if let Some(follower) = follower {
        follower.save_now(&own_path(config));
    }
    if let Some(service) = Arc::into_inner(service)
        && let Some(mesh) = service.mesh
    {
        mesh.shutdown().await;
    }
    // A socket without a listener says as much as none.
    let _ = std::fs::remove_file(&config.socket);
}
