// SPDX-License-Identifier: Apache-2.0
//! Serves an [`Agent`] on a unix socket, and parts of it over TCP: connections, limits, time-outs. The paths are in `routes`.

mod endpoints;
mod health;
mod ipam;
mod metrics;
mod own;
mod path;
mod places;
mod prometheus;
mod reply;
mod routes;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::IntoResponse;
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower::ServiceExt;

use crate::socket::Socket;
use crate::{Agent, ApiError};
use places::{Answered, Place, Places};

pub use health::{serve_health, serve_probe};
pub use metrics::serve_metrics;
pub(crate) use reply::VERSION_HEADER;

/// Longest time for reading a request and for making its answer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Largest request body, bytes.
const MAX_BODY: usize = 1 << 20;
/// Room for the head of a request, bytes.
const MAX_HEAD: usize = 64 << 10;
/// Connections served at the same time. One more takes the place of one that is idle, or waits.
const MAX_CONNECTIONS: usize = 256;
/// Feeds read at the same time, which may go on for ever: they must leave room for everything else.
const MAX_FEEDS: usize = 64;
/// How long a connection over TCP is kept: whoever can reach the port must not hold the agent's descriptors for ever.
const LIFETIME: Duration = Duration::from_secs(300);
/// How long a connection that gives its place up may go on writing its last answer.
const FAREWELL: Duration = Duration::from_secs(1);
/// Pause after a failed accept (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `agent` until the returned future is dropped, which ends all connections.
///
/// # Errors
/// Only if the listener itself is unusable.
pub async fn serve(mut socket: Socket, agent: Arc<impl Agent>) -> io::Result<()> {
    let accept = |context: &mut Context<'_>| socket.poll_accept(context);
    serve_all(accept, routes::router(agent), None).await
}

/// The same over TCP, for `router`: a client that reads nothing, or never asks, is let go.
async fn serve_tcp(listener: TcpListener, router: axum::Router) -> io::Result<()> {
    let accept = |context: &mut Context<'_>| listener.poll_accept(context).map_ok(|(one, _)| one);
    serve_all(accept, router, Some(LIFETIME)).await
}

async fn serve_all<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    mut accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<S>>,
    router: axum::Router,
    lifetime: Option<Duration>,
) -> io::Result<()> {
    let places = Places::new(MAX_CONNECTIONS);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match poll_fn(&mut accept).await {
            Ok(stream) => {
                let place = places.take().await;
                let router = router.clone();
                connections.spawn(connection(stream, router, lifetime, place));
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
    let place = Places::new(1).take().await;
    connection(stream, routes::router(agent), None, place).await;
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send>(
    stream: S,
    router: axum::Router,
    lifetime: Option<Duration>,
    place: Arc<Place>,
) {
    let holder = place.clone();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (router, holder) = (router.clone(), holder.clone());
        async move {
            let request = whole(request).await;
            // Not before: who sends slowly gives its place up like who sends nothing.
            let under_way = holder.request();
            let mut response = match request {
                Ok(request) => answer(router, request).await,
                Err(refusal) => refusal.into_response(),
            };
            reply::mark(&mut response);
            Ok::<_, Infallible>(response.map(|body| Answered {
                body,
                _request: under_way,
            }))
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(TIMEOUT)
        .max_buf_size(MAX_HEAD);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let expired = async {
        match lifetime {
            Some(lifetime) => tokio::time::sleep(lifetime).await,
            None => std::future::pending().await,
        }
    };
    // Requests first: one that is there already is answered before the connection may have to leave.
    let asked = tokio::select! {
        biased;
        done = served.as_mut() => return tell(done),
        asked = place.is_needed() => asked,
        () = expired => {
            served.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                done = served.as_mut() => return tell(done),
                asked = place.is_needed() => asked,
                () = tokio::time::sleep(TIMEOUT) => return,
            }
        }
    };
    tracing::debug!("an idle client of the API gives its place to another");
    if asked {
        served.as_mut().graceful_shutdown();
        if let Ok(done) = timeout(FAREWELL, served).await {
            tell(done);
        }
    }
}

/// The request with all of its body.
async fn whole(
    request: hyper::Request<hyper::body::Incoming>,
) -> Result<axum::extract::Request, ApiError> {
    let (head, body) = request.into_parts();
    let large = || {
        let text = format!("the request body is larger than {} MiB", MAX_BODY >> 20);
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    };
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(large());
    }
    match timeout(TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok(http::Request::from_parts(head, Body::from(body.to_bytes()))),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(large()),
        Ok(Err(error)) => Err(ApiError::invalid(format!("the request body: {error}"))),
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "the request did not come within 60 s",
        )),
    }
}

fn tell(done: hyper::Result<()>) {
    if let Err(error) = done {
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
    let answer = timeout(TIMEOUT, router.oneshot(request)).await;
    let response = match answer {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => reply::too_late(),
    };
    reply::in_json(response).await
}
