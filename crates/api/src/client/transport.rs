// SPDX-License-Identifier: Apache-2.0
//! One request and its answer, and what every failure on the way means.

use std::io::ErrorKind;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::{Client, Peer};
use crate::server::VERSION_HEADER;
use crate::{API_VERSION, Error};

/// Largest answer that is read at once, bytes.
const MAX_ANSWER: usize = 256 << 20;
/// Longest text of a refusal that is shown, characters.
const MAX_REFUSAL: usize = 4096;

/// What is asked.
pub(super) struct Ask {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

impl Ask {
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    pub(super) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub(super) fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    pub(super) fn json(mut self, body: &impl serde::Serialize) -> Self {
        self.body = serde_json::to_vec(body)
            .expect("models have no maps with other keys than strings")
            .into();
        self
    }
}

/// The task that drives a connection; it ends with the answer.
pub(super) struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Client {
    /// The body of a good answer.
    pub(super) async fn call<T: DeserializeOwned>(&self, ask: Ask) -> Result<T, Error> {
        let request = ask.path.clone();
        let (_, body) = self.fetch(ask).await?;
        serde_json::from_slice(&body).map_err(|error| Error::Answer {
            path: self.path.clone(),
            request,
            why: error.to_string(),
        })
    }

    /// Status and bytes of a good answer.
    pub(super) async fn fetch(&self, ask: Ask) -> Result<(StatusCode, Bytes), Error> {
        let exchange = async {
            let (response, _connection) = self.open(ask).await?;
            let status = response.status();
            Ok((status, self.body(response).await?))
        };
        let answer = tokio::time::timeout(self.timeout, exchange).await;
        answer.unwrap_or_else(|_| Err(self.late()))
    }

    /// The head of a good answer; its body is still to come.
    pub(super) async fn open(&self, ask: Ask) -> Result<(Response<Incoming>, Connection), Error> {
        let own_path = ask.path.starts_with("/isthmus/");
        let stream = UnixStream::connect(&self.path)
            .await
            .map_err(|error| self.refused_connection(error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(&error))?;
        let connection = Connection(tokio::spawn(async move {
            // Its failure is seen by the request.
            let _ = connection.await;
        }));
        let response = sender
            .send_request(self.request(ask)?)
            .await
            .map_err(|error| self.broken(&error))?;
        self.check_version(&response, own_path)?;
        if response.status().is_success() {
            return Ok((response, connection));
        }
        let code = response.status();
        let body = self.body(response).await?;
        let text = serde_json::from_slice(&body)
            .unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned());
        let text = text.trim().chars().take(MAX_REFUSAL).collect();
        Err(Error::Refused { code, text })
    }

    /// The error of an answer that took too long.
    pub(super) fn late(&self) -> Error {
        Error::Timeout {
            path: self.path.clone(),
            after: self.timeout,
        }
    }

    fn request(&self, ask: Ask) -> Result<Request<Full<Bytes>>, Error> {
        let mut request = Request::builder()
            .method(ask.method)
            .uri(format!("/v1{}", ask.path))
            .header(HOST, "localhost");
        if !ask.body.is_empty() {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        request
            .body(Full::new(ask.body))
            .map_err(|error| Error::Answer {
                path: self.path.clone(),
                request: ask.path,
                why: error.to_string(),
            })
    }

    async fn body(&self, response: Response<Incoming>) -> Result<Bytes, Error> {
        match Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
        {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(self.not_an_agent(&format!(
                "its answer is larger than {} MiB",
                MAX_ANSWER >> 20
            ))),
            Err(error) => Err(Error::Broken {
                path: self.path.clone(),
                why: error.to_string(),
            }),
        }
    }

    fn check_version(&self, response: &Response<Incoming>, own_path: bool) -> Result<(), Error> {
        if self.peer == Peer::AnyRelease && !own_path {
            return Ok(());
        }
        let Some(version) = response.headers().get(VERSION_HEADER) else {
            return Err(self.not_an_agent("another HTTP server answers there"));
        };
        if version.as_bytes() == API_VERSION.to_string().as_bytes() {
            return Ok(());
        }
        Err(Error::Version {
            path: self.path.clone(),
            theirs: String::from_utf8_lossy(version.as_bytes()).into_owned(),
            ours: API_VERSION,
        })
    }

    fn not_an_agent(&self, why: &str) -> Error {
        Error::NotAnAgent {
            path: self.path.clone(),
            why: why.into(),
        }
    }

    fn refused_connection(&self, source: std::io::Error) -> Error {
        let path = self.path.clone();
        match source.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Error::NoSocket { path },
            ErrorKind::ConnectionRefused if is_socket(&path) => Error::AgentDown { path },
            ErrorKind::ConnectionRefused => self.not_an_agent("it is not a socket"),
            ErrorKind::PermissionDenied => Error::Permission { path },
            _ if source.raw_os_error() == Some(nix::libc::EPROTOTYPE) => {
                self.not_an_agent("it is a datagram socket")
            }
            _ => Error::Connect { path, source },
        }
    }

    fn broken(&self, error: &hyper::Error) -> Error {
        if error.is_parse() {
            return self.not_an_agent("what answers there does not speak HTTP");
        }
        let why = if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
            "it closed without an answer".to_owned()
        } else {
            // The library's own words name the step only.
            let cause = std::error::Error::source(error);
            cause.map_or_else(|| error.to_string(), ToString::to_string)
        };
        Error::Broken {
            path: self.path.clone(),
            why,
        }
    }
}

fn is_socket(path: &std::path::Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}
