// SPDX-License-Identifier: Apache-2.0
//! `GET /healthz` over TCP, for the kubelet's probes: 200 or 503 with an empty body. Nothing else is served there.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State as Shared;
use axum::routing::get;
use http::{HeaderMap, StatusCode};
use tokio::net::TcpListener;

use super::routes::flag;
use crate::models::State;
use crate::{Agent, StatusQuery};

/// Serves the probes of `agent` until the returned future is dropped.
///
/// # Errors
/// Only if the listener itself is unusable.
pub async fn serve_health(listener: TcpListener, agent: Arc<impl Agent>) -> io::Result<()> {
    super::serve_tcp(listener, router(agent)).await
}

fn router<A: Agent>(agent: Arc<A>) -> Router {
    Router::new()
        .route("/healthz", get(probe::<A>))
        .with_state(agent)
}

/// Serves the probes of a process that is no agent: `is_well` says how it is, and that it answers is enough for who does not
/// require Kubernetes.
///
/// # Errors
/// Only if the listener itself is unusable.
pub async fn serve_probe(
    listener: TcpListener,
    is_well: impl Fn() -> bool + Clone + Send + Sync + 'static,
) -> io::Result<()> {
    let probe = move |headers: HeaderMap| async move {
        match flag(&headers, "require-k8s-connectivity", true) {
            Ok(true) if !is_well() => StatusCode::SERVICE_UNAVAILABLE,
            Ok(_) => StatusCode::OK,
            Err(_) => StatusCode::BAD_REQUEST,
        }
    };
    let router = Router::new().route("/healthz", get(probe));
    super::serve_tcp(listener, router).await
}

/// A restriction is no reason to restart an agent or to send its pods elsewhere, and a lost etcd or API server is none to
/// restart it: liveness (which does not require them) asks only whether the agent answers.
async fn probe<A: Agent>(Shared(agent): Shared<Arc<A>>, headers: HeaderMap) -> StatusCode {
    let Ok(require_k8s_connectivity) = flag(&headers, "require-k8s-connectivity", true) else {
        return StatusCode::BAD_REQUEST;
    };
    let query = StatusQuery {
        brief: true,
        require_k8s_connectivity,
    };
    let state = agent.status(query).await.ok().and_then(|all| all.cilium);
    match state.map(|status| status.state) {
        Some(State::Ok | State::Warning) => StatusCode::OK,
        Some(_) if !require_k8s_connectivity => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}
