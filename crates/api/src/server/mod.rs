// SPDX-License-Identifier: Apache-2.0
//! Serves an [`Agent`] on a unix socket: connections, limits, time-outs. The paths are in `routes`.

mod endpoints;
mod health;
mod ipam;
mod metrics;
mod own;
mod path;
mod reply;
mod routes;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::Agent;

pub use health::serve_health;
pub use metrics::serve_metrics;
pub(crate) use reply::VERSION_HEADER;

/// Longest time for reading a request and for making its answer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Largest request body, bytes.
const MAX_BODY: usize = 1 << 20;
/// Room for the head of a request, bytes.
const MAX_HEAD: usize = 64 << 10;
/// Connections served at the same time; more wait.
const MAX_CONNECTIONS: usize = 256;
/// Pause after a failed accept (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `agent` until the returned future is dropped, which ends all connections.
///
/// # Errors
/// Only if the listener itself is unusable.
pub async fn serve(listener: UnixListener, agent: Arc<impl Agent>) -> io::Result<()> {
    let router = routes::router(agent);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let slot = slots
            .clone()
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                connections.spawn(async move {
                    connection(stream, router).await;
                    drop(slot);
                });
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "the API cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves `agent` on one connection until the client closes it.
pub async fn serve_connection(stream: UnixStream, agent: Arc<impl Agent>) {
    connection(stream, routes::router(agent)).await;
}

async fn connection(stream: UnixStream, router: axum::Router) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let router = router.clone();
        async move { Ok::<_, Infallible>(answer(router, request.map(Body::new)).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a client of the API left early");
    }
}

async fn answer(
    router: axum::Router,
    mut request: axum::extract::Request,
) -> axum::response::Response {
    if let Some(uri) = path::clean(request.uri()) {
        *request.uri_mut() = uri;
    }
    let answer = tokio::time::timeout(TIMEOUT, router.oneshot(request)).await;
    let mut response = match answer {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => reply::too_late(),
    };
    response = reply::in_json(response).await;
    reply::mark(&mut response);
    response
}
