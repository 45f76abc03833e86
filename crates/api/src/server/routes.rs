// SPDX-License-Identifier: Apache-2.0
//! The paths, and the handlers of those without a subject of their own.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri};
use serde::Deserialize;

use super::{endpoints, ipam, own, reply};
use crate::models::DaemonConfigurationSpec;
use crate::{Agent, Answer, ApiError, IpQuery, StatusQuery};

/// All paths of the API.
pub(super) fn router<A: Agent>(agent: Arc<A>) -> Router {
    let api = Router::new()
        .route("/healthz", get(status::<A>))
        .route("/cluster/nodes", get(nodes::<A>))
        .route("/config", get(config::<A>).patch(change_config::<A>))
        .route("/debuginfo", get(debuginfo::<A>))
        .route("/identity", get(identities::<A>))
        .route("/identity/endpoints", get(identity_endpoints::<A>))
        .route("/identity/{id}", get(identity::<A>))
        .route("/ip", get(ips::<A>))
        .route("/policy", get(policy::<A>))
        .route("/policy/selectors", get(policy_selectors::<A>))
        .route(
            "/policy/subject-selectors",
            get(policy_subject_selectors::<A>),
        )
        .route("/map", get(maps::<A>))
        .route("/metrics", get(metric_values::<A>))
        .route("/map/{name}", get(map::<A>))
        .route("/service", get(services::<A>))
        .merge(absent())
        .route("/ipam", post(ipam::allocate::<A>))
        .route(
            "/ipam/{ip}",
            post(ipam::allocate_address::<A>).delete(ipam::release_address::<A>),
        )
        .merge(endpoints::routes::<A>())
        .nest("/isthmus", own::routes::<A>());
    Router::new()
        .nest("/v1", api)
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(agent)
}

async fn no_such_path(uri: Uri) -> ApiError {
    ApiError::not_found(format!("this agent has no path {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let text = format!("{method} is not possible on {}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, text)
}

/// What clients may ask about and this agent does not do: they get the answer of an agent that has it switched off.
fn absent<A: Agent>() -> Router<Arc<A>> {
    Router::new()
        .route("/node/ids", get(none))
        .route("/lrp", get(none))
        .route("/cgroup-dump-metadata", get(nothing))
        .route("/prefilter", get(nothing))
        .route("/fqdn/names", get(nothing))
        .route("/fqdn/cache", get(not_found))
        .route("/fqdn/cache/{id}", get(not_found))
        .route("/bgp/{*what}", get(no_bgp))
}

async fn none() -> Response {
    reply::ok(Ok::<[(); 0], _>([]))
}

async fn nothing() -> Response {
    reply::ok(Ok(serde_json::Map::new()))
}

async fn not_found() -> ApiError {
    ApiError::not_found("")
}

async fn no_bgp() -> ApiError {
    let text = "this agent speaks no BGP: pods are reached through the tunnel";
    ApiError::new(StatusCode::NOT_IMPLEMENTED, text)
}

/// A boolean header.
pub(super) fn flag(headers: &HeaderMap, name: &str, default: bool) -> Answer<bool> {
    let Some(value) = headers.get(name) else {
        return Ok(default);
    };
    match value.to_str().map(str::to_ascii_lowercase).as_deref() {
        Ok("true" | "t" | "1" | "yes" | "y" | "on") => Ok(true),
        Ok("false" | "f" | "0" | "no" | "n" | "off" | "") => Ok(false),
        _ => Err(ApiError::invalid(format!(
            "header {name} must be true or false"
        ))),
    }
}

async fn status<A: Agent>(State(agent): State<Arc<A>>, headers: HeaderMap) -> Response {
    reply::ok(
        async {
            let query = StatusQuery {
                brief: flag(&headers, "brief", false)?,
                require_k8s_connectivity: flag(&headers, "require-k8s-connectivity", true)?,
            };
            agent.status(query).await
        }
        .await,
    )
}

async fn nodes<A: Agent>(State(agent): State<Arc<A>>, headers: HeaderMap) -> Response {
    let client = match headers.get("client-id").map(|id| id.to_str()) {
        None => Ok(None),
        Some(id) => id
            .ok()
            .and_then(|id| id.parse().ok())
            .map(Some)
            .ok_or_else(|| ApiError::invalid("header client-id must be a number")),
    };
    reply::ok(
        async {
            let answer = agent.nodes(client?).await?;
            Ok(answer)
        }
        .await,
    )
}

async fn config<A: Agent>(State(agent): State<Arc<A>>) -> Response {
    reply::ok(agent.config().await)
}

/// What can be changed while the agent runs: nothing; asking for what is there is fine.
async fn change_config<A: Agent>(State(agent): State<Arc<A>>, body: Bytes) -> Response {
    let changed = async {
        let wanted: DaemonConfigurationSpec = reply::body(&body)?;
        let now = agent.config().await?.spec.unwrap_or_default();
        let same = wanted
            .options
            .iter()
            .all(|(k, v)| now.options.get(k) == Some(v));
        let mode = &wanted.policy_enforcement;
        if same && (mode.is_empty() || *mode == now.policy_enforcement) {
            return Ok(());
        }
        Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "options are set when the agent starts (isthmus agent --help); restart it with others",
        ))
    };
    reply::empty(changed.await)
}

async fn debuginfo<A: Agent>(State(agent): State<Arc<A>>) -> Response {
    reply::ok(agent.debuginfo().await)
}

async fn identities<A: Agent>(State(agent): State<Arc<A>>, body: Bytes) -> Response {
    reply::ok(async { agent.identities(reply::labels(&body)?).await }.await)
}

async fn identity_endpoints<A: Agent>(State(agent): State<Arc<A>>) -> Response {
    reply::ok(agent.identity_endpoints().await)
}

async fn identity<A: Agent>(State(agent): State<Arc<A>>, Path(id): Path<String>) -> Response {
    let number = id
        .parse()
        .map_err(|_| ApiError::invalid("an identity is a number below 2^32"));
    reply::ok(async { agent.identity(number?).await }.await)
}

#[derive(Deserialize)]
struct IpParameters {
    cidr: Option<String>,
}

async fn ips<A: Agent>(
    State(agent): State<Arc<A>>,
    Query(query): Query<IpParameters>,
    body: Bytes,
) -> Response {
    reply::ok(
        async {
            let labels = reply::labels(&body)?;
            let cidr = query.cidr.filter(|cidr| !cidr.is_empty());
            agent.ips(IpQuery { cidr, labels }).await
        }
        .await,
    )
}

async fn policy<A: Agent>(State(agent): State<Arc<A>>) -> Response {
    reply::ok(agent.policy().await)
}

async fn services<A: Agent>(State(agent): State<Arc<A>>) -> Response {
    reply::ok(agent.services().await)
}

async fn policy_selectors<A: Agent>(State(agent): State<Arc<A>>) -> Response {
    reply::ok(agent.policy_selectors().await)
}

async fn policy_subject_selectors<A: Agent>(State(agent): State<Arc<A>>) -> Response {
    reply::ok(agent.policy_subject_selectors().await)
}

async fn map<A: Agent>(State(agent): State<Arc<A>>, Path(name): Path<String>) -> Response {
    reply::ok(agent.map(name).await)
}

async fn maps<A: Agent>(State(agent): State<Arc<A>>) -> Response {
    reply::ok(agent.maps().await)
}

async fn metric_values<A: Agent>(State(agent): State<Arc<A>>) -> Response {
    reply::ok(agent.metric_values().await)
}
