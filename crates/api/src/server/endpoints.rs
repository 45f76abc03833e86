// SPDX-License-Identifier: Apache-2.0
//! `/endpoint`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use http::StatusCode;

use super::reply;
use crate::{Agent, ApiError};

/// The paths under `/endpoint`.
pub(super) fn routes<A: Agent>() -> Router<Arc<A>> {
    Router::new()
        .route("/endpoint", get(list::<A>).delete(delete_batch::<A>))
        .route(
            "/endpoint/{id}",
            get(one::<A>).put(create::<A>).delete(delete::<A>),
        )
        .route("/endpoint/{id}/healthz", get(health::<A>))
        .route("/endpoint/{id}/log", get(log::<A>))
}

async fn list<A: Agent>(State(agent): State<Arc<A>>, body: Bytes) -> Response {
    reply::ok(async { agent.endpoints(reply::labels(&body)?).await }.await)
}

async fn one<A: Agent>(State(agent): State<Arc<A>>, Path(id): Path<String>) -> Response {
    reply::ok(async { agent.endpoint(reply::endpoint(&id)?).await }.await)
}

async fn create<A: Agent>(
    State(agent): State<Arc<A>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    let created = async {
        let id = reply::endpoint(&id)?;
        agent.create_endpoint(id, reply::body(&body)?).await
    };
    reply::with(StatusCode::CREATED, created.await)
}

async fn delete<A: Agent>(State(agent): State<Arc<A>>, Path(id): Path<String>) -> Response {
    reply::deleted(async { agent.delete_endpoint(reply::endpoint(&id)?).await }.await)
}

async fn delete_batch<A: Agent>(State(agent): State<Arc<A>>, body: Bytes) -> Response {
    let deleted = async {
        let batch: crate::models::EndpointBatchDelete = reply::body(&body)?;
        if batch.container_id.is_empty() {
            return Err(ApiError::invalid("container-id is missing in the body"));
        }
        agent.delete_endpoints(batch).await
    };
    reply::deleted(deleted.await)
}

async fn health<A: Agent>(State(agent): State<Arc<A>>, Path(id): Path<String>) -> Response {
    reply::ok(async { agent.endpoint_health(reply::endpoint(&id)?).await }.await)
}

async fn log<A: Agent>(State(agent): State<Arc<A>>, Path(id): Path<String>) -> Response {
    reply::ok(async { agent.endpoint_log(reply::endpoint(&id)?).await }.await)
}
