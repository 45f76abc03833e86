// SPDX-License-Identifier: Apache-2.0
//! `/isthmus`: what the Cilium API has no path for.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;

use super::reply;
use crate::Agent;
use crate::models::EventQuery;

/// The paths under `/isthmus`.
pub(super) fn routes<A: Agent>() -> Router<Arc<A>> {
    Router::new()
        .route("/version", get(version::<A>))
        .route("/mesh", get(mesh::<A>))
        .route("/warnings", get(warnings::<A>))
        .route("/pressure", get(pressure::<A>))
        .route("/troubleshoot", get(troubleshoot::<A>))
        .route("/events", get(events::<A>))
        .route("/kvstore", get(kvstore::<A>))
        .route("/bpf/ct", get(flows::<A>))
        .route("/bpf/ipcache", get(ipcache::<A>))
        .route("/bpf/endpoint", get(bpf_endpoints::<A>))
        .route("/bpf/policy", get(bpf_policies::<A>))
        .route("/bpf/metrics", get(metrics::<A>))
}

async fn version<A: Agent>(State(agent): State<Arc<A>>) -> Response {
    reply::ok(agent.version().await)
}

async fn mesh<A: Agent>(State(agent): State<Arc<A>>) -> Response {
    reply::ok(agent.mesh().await)
}

async fn warnings<A: Agent>(State(agent): State<Arc<A>>) -> Response {
    reply::ok(agent.warnings().await)
}

async fn pressure<A: Agent>(State(agent): State<Arc<A>>) -> Response {
    reply::ok(agent.pressure().await)
}

#[derive(Deserialize)]
struct Trouble {
    /// Names, separated by commas.
    cluster: Option<String>,
    timeout: Option<u64>,
}

/// Longest time for one step, seconds: all steps together must end before the request does.
const MAX_STEP: u64 = 10;
/// The same, if the client names none.
const STEP: u64 = 5;

async fn troubleshoot<A: Agent>(
    State(agent): State<Arc<A>>,
    Query(query): Query<Trouble>,
) -> Response {
    let names = query.cluster.unwrap_or_default();
    let names = names.split(',').filter(|name| !name.is_empty());
    let names = names.map(str::to_owned).collect();
    let seconds = query.timeout.unwrap_or(STEP).clamp(1, MAX_STEP);
    reply::ok(agent.troubleshoot(names, seconds).await)
}

async fn events<A: Agent>(
    State(agent): State<Arc<A>>,
    Query(query): Query<EventQuery>,
) -> Response {
    reply::feed(agent.events(query).await)
}

#[derive(Deserialize)]
struct Keys {
    key: String,
    #[serde(default)]
    recursive: bool,
}

async fn kvstore<A: Agent>(State(agent): State<Arc<A>>, Query(query): Query<Keys>) -> Response {
    reply::feed(agent.kvstore(query.key, query.recursive).await)
}

async fn flows<A: Agent>(State(agent): State<Arc<A>>) -> Response {
    reply::feed(agent.flows().await)
}

async fn ipcache<A: Agent>(State(agent): State<Arc<A>>) -> Response {
    reply::feed(agent.bpf_ipcache().await)
}

async fn bpf_endpoints<A: Agent>(State(agent): State<Arc<A>>) -> Response {
    reply::ok(agent.bpf_endpoints().await)
}

#[derive(Deserialize)]
struct OneEndpoint {
    endpoint: Option<u16>,
}

async fn bpf_policies<A: Agent>(
    State(agent): State<Arc<A>>,
    Query(query): Query<OneEndpoint>,
) -> Response {
    reply::ok(agent.bpf_policies(query.endpoint).await)
}

async fn metrics<A: Agent>(State(agent): State<Arc<A>>) -> Response {
    reply::ok(agent.metrics().await)
}
