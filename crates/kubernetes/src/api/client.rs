// SPDX-License-Identifier: Apache-2.0
//! A client of the API server: who it is and where, several servers in turn, and at most so many requests per second.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode, Uri};
use kube::Client;
use kube::client::Body;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use tokio::time::timeout;
use tower::limit::RateLimitLayer;
use tower::{BoxError, Service, ServiceBuilder};

/// Connecting takes at most so long, so that another server gets its turn.
const CONNECT: Duration = Duration::from_secs(5);
/// An answer begins within so long; a server gives a request a minute.
const ANSWER: Duration = Duration::from_secs(75);
/// A connection on which nothing comes for so long is of no use: no watch lasts longer, and a quiet one may be silent all the
/// time.
const SILENCE: Duration = Duration::from_secs(300);
/// Credentials that are refused, or may be, are looked for again so often.
const AGAIN: Duration = Duration::from_secs(10);
/// The credentials of a pod.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Where the API server is and who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// URLs; empty: that of the kubeconfig, or of the pod's environment.
    pub servers: Vec<String>,
    /// Credentials; `None`: those of the pod, if any.
    pub kubeconfig: Option<PathBuf>,
    /// Requests per second.
    pub qps: u32,
    /// Requests at once.
    pub burst: u32,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The file.
    #[error("--k8s-kubeconfig-path={file}: {reason}")]
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The pod's environment.
    #[error("the service account of this pod cannot be used: {0}")]
    InPod(String),
    /// A URL.
    #[error("API server {url:?}: {reason}")]
    Server {
        /// As given.
        url: String,
        /// What is wrong.
        reason: String,
    },
}

/// The version of the server, as Cilium prints it.
///
/// # Errors
/// Why there is no answer.
pub async fn server_version(client: &Client) -> Result<String, String> {
    match timeout(CONNECT, client.apiserver_version()).await {
        Ok(Ok(info)) => Ok(format!(
            "{}.{} ({}) [{}]",
            info.major, info.minor, info.git_version, info.platform
        )),
        Ok(Err(error)) => Err(super::watches::chain(&error)),
        Err(_) => Err("the API server is silent".to_owned()),
    }
}

/// Whether the environment is that of a pod with a service account.
pub fn is_in_pod() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() && Path::new(TOKEN).exists()
}

/// Makes a client. Nothing is asked yet: a server that is away is no error.
pub async fn connect(settings: &Settings) -> Result<Client, ConnectError> {
    let clients = clients(settings).await?;
    let burst = settings.burst.max(1);
    let period = Duration::from_secs_f64(f64::from(burst) / f64::from(settings.qps.max(1)));
    let service = ServiceBuilder::new()
        .layer(RateLimitLayer::new(burst.into(), period))
        .service(Servers {
            settings: settings.clone(),
            clients: Arc::new(Mutex::new(clients)),
            current: Arc::default(),
            read: Arc::default(),
        });
    Ok(Client::new(service, "default"))
}

/// A client per server, with the credentials as they are now.
async fn clients(settings: &Settings) -> Result<Arc<[Client]>, ConnectError> {
    let base = base(settings).await?;
    let mut clients = Vec::new();
    let urls = if settings.servers.is_empty() {
        vec![base.cluster_url.to_string()]
    } else {
        settings.servers.clone()
    };
    for url in urls {
        let error = |reason: String| ConnectError::Server {
            url: url.clone(),
            reason,
        };
        let mut config = base.clone();
        config.cluster_url = url.parse::<Uri>().map_err(|e| error(e.to_string()))?;
        if config.cluster_url.host().is_none() || config.cluster_url.scheme().is_none() {
            return Err(error(
                "expected a URL such as https://192.0.2.1:6443".into(),
            ));
        }
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(SILENCE);
        // Counts from the request on, whatever time its connection was idle.
        config.reset_reader_on_write = true;
        clients.push(Client::try_from(config).map_err(|e| error(e.to_string()))?);
    }
    Ok(clients.into())
}

async fn base(settings: &Settings) -> Result<Config, ConnectError> {
    if let Some(file) = &settings.kubeconfig {
        let error = |reason: String| ConnectError::Kubeconfig {
            file: file.clone(),
            reason,
        };
        let kubeconfig = Kubeconfig::read_from(file).map_err(|e| error(e.to_string()))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .map_err(|e| error(e.to_string()))?;
        if config.auth_info.exec.is_some() {
            return Err(error(
                "it asks for a program that gives credentials, and none is started here; use a token or a certificate".into(),
            ));
        }
        return Ok(config);
    }
    if is_in_pod() {
        return Config::incluster().map_err(|e| ConnectError::InPod(e.to_string()));
    }
    Ok(Config::new(Uri::from_static("http://localhost:8080")))
}

/// Several servers: who fails to answer gives way to the next.
#[derive(Clone)]
struct Servers {
    settings: Settings,
    clients: Arc<Mutex<Arc<[Client]>>>,
    current: Arc<AtomicUsize>,
    /// When the credentials were read again last.
    read: Arc<Mutex<Option<Instant>>>,
}

impl Servers {
    fn clients(&self) -> Arc<[Client]> {
        let clients = self.clients.lock();
        clients.expect("nothing panics under this lock").clone()
    }

    /// Whoever renews certificates or tokens writes them where the old ones were. What the library reads again by itself, it does
    /// by a clock that may have been set back.
    async fn read_again(&self) {
        {
            let mut read = self.read.lock().expect("nothing panics under this lock");
            if read.is_some_and(|at| at.elapsed() < AGAIN) {
                return;
            }
            *read = Some(Instant::now());
        }
        match clients(&self.settings).await {
            Ok(new) => *self.clients.lock().expect("nothing panics under this lock") = new,
            Err(error) => tracing::warn!(%error, "the credentials of before stay in use"),
        }
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

impl Service<Request<Body>> for Servers {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Answer;

    /// The servers' own clients queue.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let servers = self.clone();
        let chosen = self.current.load(Ordering::Relaxed);
        Box::pin(async move {
            let clients = servers.clients();
            let answer = match timeout(ANSWER, clients[chosen].send(request)).await {
                Ok(answer) => answer.map_err(BoxError::from),
                Err(_) => Err("the API server is silent".into()),
            };
            if answer.is_err() {
                // Of several that failed at the same server only one moves on.
                let next = (chosen + 1) % clients.len();
                let _ = servers.current.compare_exchange(
                    chosen,
                    next,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
            }
            let is_good = |answer: &Response<Body>| answer.status() != StatusCode::UNAUTHORIZED;
            if !answer.as_ref().is_ok_and(is_good) {
                servers.read_again().await;
            }
            answer
        })
    }
}
