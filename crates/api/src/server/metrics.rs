// SPDX-License-Identifier: Apache-2.0
//! `GET /metrics` over TCP, for Prometheus. Nothing else is served there.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::CONTENT_TYPE;
use tokio::net::TcpListener;

use super::prometheus;

/// Media type of the text that is served.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// Serves what `render` gives as OpenMetrics, in the text format of Prometheus, until the returned future is dropped.
/// `render` runs on a thread that may block.
///
/// # Errors
/// Only if the listener itself is unusable.
pub async fn serve_metrics(
    listener: TcpListener,
    render: impl Fn() -> String + Send + Sync + 'static,
) -> io::Result<()> {
    let render: Render = Arc::new(render);
    let router = Router::new()
        .route("/metrics", get(scrape))
        .with_state(render);
    super::serve_tcp(listener, router).await
}

async fn scrape(State(render): State<Render>) -> Response {
    match tokio::task::spawn_blocking(move || prometheus::text(&render())).await {
        Ok(text) => ([(CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(error) => (http::StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
