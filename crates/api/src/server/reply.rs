// SPDX-License-Identifier: Apache-2.0
//! How answers are written: JSON, a bare JSON string for errors, lines of JSON for feeds.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{API_VERSION, Answer, ApiError, Deleted, EndpointRef, Feed};

/// Header that tells the version of the own paths; a client knows an agent of ours by it.
pub(crate) const VERSION_HEADER: HeaderName = HeaderName::from_static("isthmus-api");
/// Longest text of a refusal, bytes.
const MAX_REFUSAL: usize = 64 << 10;
/// Most items of a feed that are sent as one chunk.
const CHUNK: usize = 256;

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.text.is_empty() {
            self.code.into_response()
        } else {
            json(self.code, &self.text)
        }
    }
}

/// 200 with a body, or the refusal.
pub(super) fn ok<T: Serialize>(answer: Answer<T>) -> Response {
    with(StatusCode::OK, answer)
}

/// `code` with a body, or the refusal.
pub(super) fn with<T: Serialize>(code: StatusCode, answer: Answer<T>) -> Response {
    match answer {
        Ok(body) => json(code, &body),
        Err(refusal) => refusal.into_response(),
    }
}

/// 200 without a body, or the refusal.
pub(super) fn empty(answer: Answer<()>) -> Response {
    match answer {
        Ok(()) => StatusCode::OK.into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// 200, 206 with the number of errors, or the refusal.
pub(super) fn deleted(answer: Answer<Deleted>) -> Response {
    match answer {
        Ok(Deleted::All) => StatusCode::OK.into_response(),
        Ok(Deleted::WithErrors(count)) => json(StatusCode::PARTIAL_CONTENT, &count),
        Err(refusal) => refusal.into_response(),
    }
}

/// One JSON text per line, as they come.
pub(super) fn feed<T: Serialize + Send + 'static>(answer: Answer<Feed<T>>) -> Response {
    let items = match answer {
        Ok(items) => items,
        Err(refusal) => return refusal.into_response(),
    };
    let chunks = items.ready_chunks(CHUNK).map(|items| {
        let mut chunk = Vec::with_capacity(items.len() * 256);
        for item in &items {
            let start = chunk.len();
            match serde_json::to_writer(&mut chunk, item) {
                Ok(()) => chunk.push(b'\n'),
                Err(_) => chunk.truncate(start),
            }
        }
        Ok::<_, Infallible>(Bytes::from(chunk))
    });
    let kind = [(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-ndjson"),
    )];
    (kind, Body::from_stream(chunks)).into_response()
}

/// The answer that took too long.
pub(super) fn too_late() -> Response {
    ApiError::failed("the agent did not finish within 60 s: look at its log").into_response()
}

/// A refusal that the HTTP library made, in text, as the bare JSON string that clients of the API read.
pub(super) async fn in_json(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(CONTENT_TYPE);
    let text = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !text || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let body = axum::body::to_bytes(response.into_body(), MAX_REFUSAL).await;
    let words = body.map(|body| String::from_utf8_lossy(&body).into_owned());
    ApiError::new(status, words.unwrap_or_default()).into_response()
}

/// Tells who answers.
pub(super) fn mark(response: &mut Response) {
    response
        .headers_mut()
        .insert(VERSION_HEADER, HeaderValue::from(API_VERSION));
}

fn json<T: Serialize + ?Sized>(code: StatusCode, body: &T) -> Response {
    match serde_json::to_vec(body) {
        Ok(mut text) => {
            text.push(b'\n');
            let kind = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
            (code, kind, text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A JSON body that must be there.
pub(super) fn body<T: DeserializeOwned>(bytes: &Bytes) -> Answer<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| ApiError::invalid(format!("the request body is invalid: {error}")))
}

/// A list of labels in the body, empty if there is no body.
pub(super) fn labels(bytes: &Bytes) -> Answer<Vec<String>> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    Ok(body::<Option<Vec<String>>>(bytes)?.unwrap_or_default())
}

/// The endpoint in the path.
pub(super) fn endpoint(id: &str) -> Answer<EndpointRef> {
    id.parse()
        .map_err(|error: crate::EndpointRefError| ApiError::invalid(error.to_string()))
}
