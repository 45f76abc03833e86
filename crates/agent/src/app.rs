// SPDX-License-Identifier: Apache-2.0
//! The composition root: parts are made in the order in which they need each other, then run until the end.

mod alarms;
mod collect;
mod loops;
mod news;
mod own_cluster;
mod ready;
mod repair;
mod resources;
mod source;
mod underlay;
mod verdicts;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use clustermesh::{Mesh, MeshEvent};
use kubernetes::api::PodNetworks;
use kvstore::{ClientOptions, Etcd};
use netlink::Socket;
use tables::Tasks;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};

use crate::events::Hub;
use crate::identities::Identities;
use crate::lock::{LockError, Locks};
use crate::own::{self, Follower};
use crate::service::{Server, Service, ask};
use crate::shared::Shared;
use crate::start::{self, StartError};
use crate::{cni_file, health, metrics};
use config::Config;
use config::options::Values;
use loops::{mesh_rows, objects, routes, upkeep};
use own_cluster::Own;
use ready::become_ready;
use repair::repair;
use underlay::underlay;

/// Why the agent ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
    /// The node.
    #[error("{0}")]
    Start(#[from] StartError),
    /// Another agent.
    #[error("{0}")]
    Lock(#[from] LockError),
    /// The API's socket.
    #[error("{0}")]
    Socket(#[from] api::Error),
    /// A kernel socket.
    #[error("kernel: {0}")]
    Netlink(#[from] netlink::Error),
    /// This cluster's etcd.
    #[error("{0}")]
    Kvstore(String),
    /// The mesh directory.
    #[error("{0}")]
    Mesh(#[from] clustermesh::Error),
    /// The manifest directory.
    #[error("{0}")]
    Manifests(#[from] kubernetes::WatchError),
    /// The API server.
    #[error("{0}")]
    Kubernetes(#[from] kubernetes::api::ConnectError),
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

/// Runs the agent until a signal; calls `is_up` once, after the work of a start.
pub(crate) async fn run(mut config: Config, values: Values, is_up: fn()) -> Result<(), AppError> {
    let started = SystemTime::now();
    let state = config.state_dir.clone();
    std::fs::create_dir_all(&state).map_err(|source| AppError::State {
        dir: state.clone(),
        source,
    })?;
    let _locks = Locks::take(&[&state, &config.bpf_root])?;
    let listener = api::bind(&config.socket)?;
    let run_dir = config
        .socket
        .parent()
        .map_or_else(|| PathBuf::from("/var/run/cilium"), PathBuf::from);
    let socket = Socket::open()?;
    let client = source::client(&config).await?;
    let given = match &client {
        Some(client) => source::find_networks(client, &mut config).await,
        None => PodNetworks::default(),
    };
    let config = Arc::new(config);
    let up = start::start(config.clone(), &socket)?;
    let core = Arc::new(Shared::new(up.core));
    let hub = Hub::new(core.clone());
    let mut tasks = Tasks::default();
    tasks.spawn("drop events", hub.clone().run(up.events));

    let own = config
        .kvstore
        .as_ref()
        .map(|kvstore| Own::start(kvstore, &config, &core, &mut tasks, client.is_some()))
        .transpose()?;
    let (mesh_events, mesh_rx) = mpsc::channel(4096);
    let mesh = start_mesh(&config, &core, mesh_events)?;
    let source = source::start(&config, client.as_ref())?;

    let known = own::known_identities(&core.lock());
    let former = own
        .as_ref()
        .map(|own| (own.store.clone(), own.follower.directory()));
    let former = former.map(|(store, rows)| (store, rows, known.clone()));
    let store = own.as_ref().map(|own| own.store.clone());
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
        announcer,
        own: status,
        store,
        mesh,
        kubernetes: client.is_some().then(Server::default),
        hub,
        socket,
        values,
        started,
        objects: Notify::new(),
        clients: Mutex::default(),
    });
    if let Some((store, rows, known)) = former {
        let labels = known.into_iter().map(|(_, labels)| labels).collect();
        tasks.spawn(
            "former names",
            own::forget_former_names(service.clone(), store, labels, rows),
        );
    }
    tasks.spawn("mesh rows", mesh_rows(core.clone(), mesh_rx));
    let (listed, first_list) = tokio::sync::watch::channel(source.is_none());
    if let Some(source) = source {
        tasks.spawn("objects", objects(service.clone(), source, listed));
    }
    if let Some(client) = client {
        tasks.spawn("API server", ask(service.clone(), client.clone()));
        tasks.spawn(
            "custom resources",
            resources::publish(service.clone(), client.clone()),
        );
        tasks.spawn(
            "status of policies",
            verdicts::publish(service.clone(), client.clone()),
        );
        tasks.spawn("events", alarms::tell(service.clone(), client.clone()));
        let pools = config.kubernetes.as_ref().and_then(|k| k.pools());
        if let Some(pools) = pools.cloned() {
            tasks.spawn(
                "pod networks",
                resources::keep_networks(service.clone(), client.clone(), pools),
            );
        }
        tasks.spawn(
            "own Node",
            resources::keep_open(service.clone(), client, given),
        );
    }
    tasks.spawn("underlay", underlay(service.clone()));
    tasks.spawn("repair", repair(service.clone()));
    tasks.spawn("routes", routes(service.clone()));
    tasks.spawn("upkeep", upkeep(service.clone()));
    if let Some(port) = config.health_port {
        tasks.spawn("probes", health::serve(service.clone(), port));
    }
    if !config.metrics.is_empty() {
        let addresses = config.metrics.clone();
        tasks.spawn("metrics", metrics::serve(service.clone(), addresses));
    }
    if let Some(file) = config.cni_file.clone() {
        tasks.spawn("CNI configuration", cni_file::keep(service.clone(), file));
    }
    let server = service.clone();
    tasks.spawn("api", async move {
        if let Err(error) = api::serve(listener, server).await {
            tracing::error!(%error, "the API's socket is lost");
        }
    });
    tasks.spawn(
        "start",
        become_ready(service.clone(), first_list, run_dir, is_up),
    );
    let result = until_end(&mut tasks).await;
    shutdown(&config, service, follower, tasks).await;
    result
}

fn start_mesh(
    config: &Arc<Config>,
    core: &Shared,
    events: mpsc::Sender<MeshEvent>,
) -> Result<Option<Mesh>, AppError> {
    let Some(dir) = &config.mesh_dir else {
        return Ok(None);
    };
    let (own, room) = {
        let core = core.lock();
        (core.own_networks().into_iter().collect(), core.mesh_room())
    };
    let settings = clustermesh::Settings {
        cluster: config.cluster.clone(),
        id: config.cluster_id,
        scheme: config.scheme,
        own_pod_cidrs: own,
        room,
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
        follower.save_now();
    }
    if let Some(service) = Arc::into_inner(service)
        && let Some(mesh) = service.mesh
    {
        mesh.shutdown().await;
    }
    // A socket without a listener says as much as none.
    let _ = std::fs::remove_file(&config.socket);
}
