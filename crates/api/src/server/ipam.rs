// SPDX-License-Identifier: Apache-2.0
//! `/ipam`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::{reply, routes::flag};
use crate::models::{Family, IpamRequest};
use crate::{Agent, Answer, ApiError};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Parameters {
    family: String,
    owner: String,
    pool: String,
}

pub(super) async fn allocate<A: Agent>(
    State(agent): State<Arc<A>>,
    Query(query): Query<Parameters>,
    headers: HeaderMap,
) -> Response {
    let allocated = async {
        let request = IpamRequest {
            family: family(&query.family)?,
            owner: query.owner,
            pool: query.pool,
            expiration: flag(&headers, "expiration", false)?,
        };
        agent.allocate(request).await
    };
    reply::with(StatusCode::CREATED, allocated.await)
}

fn family(word: &str) -> Answer<Option<Family>> {
    match word {
        "" => Ok(None),
        "ipv4" => Ok(Some(Family::V4)),
        "ipv6" => Ok(Some(Family::V6)),
        _ => Err(ApiError::invalid("family must be ipv4 or ipv6")),
    }
}

fn address(text: &str) -> Answer<IpAddr> {
    text.parse()
        .map_err(|_| ApiError::invalid("the path must end with an IP address"))
}

pub(super) async fn allocate_address<A: Agent>(
    State(agent): State<Arc<A>>,
    Path(ip): Path<String>,
    Query(query): Query<Parameters>,
) -> Response {
    let allocated = async {
        let ip = address(&ip)?;
        agent.allocate_address(ip, query.owner, query.pool).await
    };
    reply::empty(allocated.await)
}

pub(super) async fn release_address<A: Agent>(
    State(agent): State<Arc<A>>,
    Path(ip): Path<String>,
    Query(query): Query<Parameters>,
) -> Response {
    reply::empty(async { agent.release_address(address(&ip)?, query.pool).await }.await)
}
