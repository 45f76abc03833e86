// SPDX-License-Identifier: Apache-2.0
//! The composition root: who watches always runs, what changes the cluster runs while this replica leads.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::Arc;

use config::Config;
use config::options::Values;
use kubernetes::api::{self, Client, Leader};
use kvstore::{ClientOptions, Etcd};
use tables::Tasks;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::definitions;
use crate::identities::Identities;
use crate::nodes::Nodes;
use crate::status::Status;
use crate::watch;

/// Why the operator ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The API server.
    #[error("{0}")]
    Kubernetes(#[from] api::ConnectError),
    /// There is none.
    #[error(
        "an operator is for a cluster of Kubernetes: run it in a pod, or set --k8s-kubeconfig-path or --k8s-api-server-urls"
    )]
    NoKubernetes,
    /// This cluster's etcd.
    #[error("{0}")]
    Kvstore(String),
    /// A port.
    #[error("{name}: cannot listen on {address}: {source}")]
    Port {
        /// The option.
        name: &'static str,
        /// What it says.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Signals.
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
    /// A part that should run for ever.
    #[error("task {0} ended; the operator stops so that its supervisor starts it again")]
    TaskEnded(&'static str),
}

/// What is done while this replica leads.
struct Duties {
    client: Client,
    identities: Option<Identities>,
    nodes: Option<Arc<Nodes<Etcd>>>,
    status: Arc<Status>,
}

impl Duties {
    async fn run(&self) {
        tokio::join!(
            definitions::keep(&self.client, &self.status),
            async {
                if let Some(identities) = &self.identities {
                    identities.collect(&self.client, &self.status).await;
                }
            },
            async {
                if let Some(nodes) = &self.nodes {
                    nodes.forget_gone(&self.status).await;
                }
            },
        );
    }
}

/// Runs until a signal, or until the configuration is another one.
pub(crate) async fn run(
    config: Config,
    values: Values,
    args: Vec<OsString>,
) -> Result<(), Failure> {
    let client = connect(&config).await?;
    let store = match &config.kvstore {
        Some(kvstore) => Some(Etcd::lazy(
            kvstore.client().map_err(Failure::Kvstore)?,
            ClientOptions::default(),
        )),
        None => None,
    };
    let status = Arc::new(Status::default());
    let mut tasks = Tasks::default();
    if let Some(listener) = bind("operator-api-serve-addr", &config.operator_probes).await? {
        let status = status.clone();
        tasks.spawn("probes", async move {
            let answers = move || status.answers();
            told("probes", ::api::serve_probe(listener, answers).await);
        });
    }
    if let Some(listener) = bind("operator-prometheus-serve-addr", &config.operator_metrics).await?
    {
        let render = status.clone().renderer();
        tasks.spawn("metrics", async move {
            told("metrics", ::api::serve_metrics(listener, render).await);
        });
    }
    let (cluster, own) = (&config.cluster, &config.node);
    let nodes = store
        .clone()
        .map(|store| Arc::new(Nodes::new(store, cluster.clone(), own.clone())));
    if let Some(nodes) = nodes.clone() {
        tasks.spawn("nodes", nodes.follow(client.clone()));
    }
    let gc = config
        .kvstore
        .as_ref()
        .and_then(|kvstore| kvstore.identity_gc);
    let identities = store
        .zip(gc)
        .map(|(store, pause)| Identities::new(store, &config, pause));
    let duties = Duties {
        client: client.clone(),
        identities,
        nodes,
        status: status.clone(),
    };
    let namespace = values.get("k8s-namespace").to_owned();
    let name = format!("{}-{:08x}", config.node, rand::random::<u32>());
    let mut leader = Leader::new(client, &namespace, &name);
    let mut term = signal(SignalKind::terminate()).map_err(Failure::Signals)?;
    let mut int = signal(SignalKind::interrupt()).map_err(Failure::Signals)?;
    let result = tokio::select! {
        () = work(&mut leader, &duties, &status) => Ok(()),
        () = watch::until_changed(args, values) => Ok(()),
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
        ended = tasks.ended() => Err(Failure::TaskEnded(ended.map_or("", |task| task.name))),
    };
    tasks.shutdown().await;
    leader.resign().await;
    result
}

/// Contends, and works while it leads, for ever.
async fn work(leader: &mut Leader, duties: &Duties, status: &Status) {
    loop {
        leader.lead(|answer| status.server(answer)).await;
        tracing::info!("this replica leads");
        status.leads(true);
        let reason = tokio::select! {
            () = duties.run() => "its work ended".to_owned(),
            reason = leader.keep(|answer| status.server(answer)) => reason,
        };
        status.leads(false);
        tracing::warn!(reason, "this replica leads no more");
        leader.resign().await;
    }
}

async fn connect(config: &Config) -> Result<Client, Failure> {
    match &config.kubernetes {
        Some(kubernetes) if kubernetes.is_explicit() || api::is_in_pod() => {
            Ok(api::connect(&kubernetes.settings).await?)
        }
        _ => Err(Failure::NoKubernetes),
    }
}

/// The first of `addresses` that can be had.
async fn bind(
    name: &'static str,
    addresses: &[SocketAddr],
) -> Result<Option<TcpListener>, Failure> {
    let Some(address) = addresses.first().copied() else {
        return Ok(None);
    };
    let listener = TcpListener::bind(addresses).await;
    listener.map(Some).map_err(|source| Failure::Port {
        name,
        address,
        source,
    })
}

fn told(what: &str, served: std::io::Result<()>) {
    if let Err(error) = served {
        tracing::error!(%error, "{what} are not served any more");
    }
}
