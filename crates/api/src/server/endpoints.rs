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
use crate::models::{
    EndpointChangeRequest, EndpointConfigurationSpec, EndpointConfigurationStatus,
    LabelConfiguration, LabelConfigurationSpec,
};
use crate::{Agent, ApiError};

/// The paths under `/endpoint`.
pub(super) fn routes<A: Agent>() -> Router<Arc<A>> {
    Router::new()
        .route("/endpoint", get(list::<A>).delete(delete_batch::<A>))
        .route(
            "/endpoint/{id}",
            get(one::<A>)
                .put(create::<A>)
                .patch(change::<A>)
                .delete(delete::<A>),
        )
        .route(
            "/endpoint/{id}/config",
            get(config::<A>).patch(change_config::<A>),
        )
        .route(
            "/endpoint/{id}/labels",
            get(labels::<A>).patch(change_labels::<A>),
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

/// Nothing of an endpoint is changed here; asking for what is there is fine.
fn follows_its_pod() -> ApiError {
    ApiError::new(
        StatusCode::FORBIDDEN,
        "an endpoint follows its pod: change the pod's labels, or the agent's options",
    )
}

async fn change<A: Agent>(
    State(agent): State<Arc<A>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    let changed = async {
        let _: EndpointChangeRequest = reply::body(&body)?;
        agent.endpoint(reply::endpoint(&id)?).await?;
        Err(follows_its_pod())
    };
    reply::empty(changed.await)
}

async fn config<A: Agent>(State(agent): State<Arc<A>>, Path(id): Path<String>) -> Response {
    let found = async {
        let endpoint = agent.endpoint(reply::endpoint(&id)?).await?;
        Ok(EndpointConfigurationStatus {
            realized: endpoint.spec,
            ..Default::default()
        })
    };
    reply::ok(found.await)
}

async fn change_config<A: Agent>(
    State(agent): State<Arc<A>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    let changed = async {
        let wanted: EndpointConfigurationSpec = reply::body(&body)?;
        let endpoint = agent.endpoint(reply::endpoint(&id)?).await?;
        let now = endpoint.spec.unwrap_or_default();
        let mut options = wanted.options.iter();
        let labels = &wanted.label_configuration;
        let same = options.all(|(name, value)| now.options.get(name) == Some(value))
            && (labels.is_none() || *labels == now.label_configuration);
        same.then_some(()).ok_or_else(follows_its_pod)
    };
    reply::empty(changed.await)
}

async fn labels<A: Agent>(State(agent): State<Arc<A>>, Path(id): Path<String>) -> Response {
    let found = async {
        let endpoint = agent.endpoint(reply::endpoint(&id)?).await?;
        let status = endpoint.status.and_then(|status| status.labels);
        Ok(LabelConfiguration {
            spec: status.as_ref().and_then(|status| status.realized.clone()),
            status,
        })
    };
    reply::ok(found.await)
}

async fn change_labels<A: Agent>(
    State(agent): State<Arc<A>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    let changed = async {
        let wanted: LabelConfigurationSpec = reply::body(&body)?;
        let endpoint = agent.endpoint(reply::endpoint(&id)?).await?;
        let labels = endpoint.status.and_then(|status| status.labels);
        let now = labels
            .and_then(|labels| labels.realized)
            .unwrap_or_default();
        let same = wanted.user == now.user;
        same.then_some(()).ok_or_else(follows_its_pod)
    };
    reply::empty(changed.await)
}
