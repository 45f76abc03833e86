// SPDX-License-Identifier: Apache-2.0
//! `/isthmus`: what the Cilium API has no path for.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::StreamExt;
use http::StatusCode;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{MAX_FEEDS, reply};
use crate::models::EventQuery;
use crate::{Agent, ApiError};

/// The paths under `/isthmus`.
pub(super) fn routes<A: Agent>() -> Router<Arc<A>> {
    Router::new()
        .route("/version", get(version::<A>))
        .route("/mesh", get(mesh::<A>))
        .route("/warnings", get(warnings::<A>))
        .route("/pressure", get(pressure::<A>))
        .route("/troubleshoot", get(troubleshoot::<A>))
        .merge(feeds())
        .route("/bpf/endpoint", get(bpf_endpoints::<A>))
        .route("/bpf/lb", get(bpf_services::<A>))
        .route("/bpf/policy", get(bpf_policies::<A>))
        .route("/bpf/metrics", get(metrics::<A>))
}

/// What is read for as long as the client likes.
fn feeds<A: Agent>() -> Router<Arc<A>> {
    let slots = Arc::new(Semaphore::new(MAX_FEEDS));
    Router::new()
        .route("/events", get(events::<A>))
        .route("/kvstore", get(kvstore::<A>))
        .route("/bpf/ct", get(flows::<A>))
        .route("/bpf/ipcache", get(ipcache::<A>))
        .route_layer(from_fn_with_state(slots, bounded))
}

/// How long a feed waits for the end of another: one whose reader left may not have ended yet.
const FEED_WAIT: Duration = Duration::from_secs(1);

/// Answers unless too many feeds are being read; a feed counts until its end.
async fn bounded(
    State(slots): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let free = timeout(FEED_WAIT, slots.acquire_owned()).await;
    let Ok(slot) = free else {
        let text = format!(
            "{MAX_FEEDS} clients read drops, flows, addresses or keys already: end some (cilium monitor, bpf ct list, bpf ipcache list, kvstore get), or try again later"
        );
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, text));
    };
    let response = next.run(request).await;
    if !response.status().is_success() {
        return Ok(response);
    }
    let (head, body) = response.into_parts();
    let body = body.into_data_stream().map(move |chunk| {
        let _counted = &slot;
        chunk
    });
    Ok(Response::from_parts(head, Body::from_stream(body)))
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
    if query.key.is_empty() {
        let text = "the key is empty: name one, or how some begin, such as cilium/state/";
        return ApiError::invalid(text).into_response();
    }
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

async fn bpf_services<A: Agent>(State(agent): State<Arc<A>>) -> Response {
    reply::ok(agent.bpf_services().await)
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
