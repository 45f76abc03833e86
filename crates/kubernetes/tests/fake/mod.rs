// SPDX-License-Identifier: Apache-2.0
//! An API server small enough to misbehave: it lists and watches, forgets versions, breaks streams, talks rubbish, and
//! goes away.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use kubernetes::api::{Client, Settings, connect};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;

type Chunk = Result<Bytes, std::io::Error>;

#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) version: u64,
    /// Path of a collection → name → object.
    pub(crate) objects: BTreeMap<String, BTreeMap<String, Value>>,
    /// What happened, for watches that resume.
    log: Vec<(u64, String, Value)>,
    /// Versions before this one are forgotten.
    pub(crate) compacted: u64,
    watchers: Vec<(String, mpsc::UnboundedSender<Chunk>)>,
    /// Requests by path and `list` or `watch`.
    pub(crate) counts: HashMap<(String, &'static str), usize>,
    /// Queries of lists.
    pub(crate) queries: Vec<(String, HashMap<String, String>)>,
    /// Method, path and body.
    pub(crate) writes: Vec<(String, String, Value)>,
    /// Paths that do not exist.
    pub(crate) missing: Vec<String>,
    /// What everything is answered with.
    pub(crate) refusal: Option<StatusCode>,
}

#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) shared: Arc<Mutex<Shared>>,
    pub(crate) address: SocketAddr,
}

pub(crate) struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Fake {
    pub(crate) async fn start() -> (Fake, Running) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Fake {
            shared: Arc::default(),
            address: listener.local_addr().unwrap(),
        };
        fake.shared.lock().unwrap().version = 10;
        let running = fake.serve(listener);
        (fake, running)
    }

    fn serve(&self, listener: TcpListener) -> Running {
        let app = Router::new()
            .fallback(answer)
            .with_state(self.shared.clone());
        Running(tokio::spawn(async move {
            axum::serve(listener, app).await.unwrap();
        }))
    }

    /// Goes away: connections break, nobody answers.
    pub(crate) async fn stop(&self, running: Running) {
        drop(running);
        self.break_streams();
    }

    pub(crate) async fn again(&self) -> Running {
        loop {
            if let Ok(listener) = TcpListener::bind(self.address).await {
                return self.serve(listener);
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How a client of it alone is made, which nothing slows down.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            servers: vec![self.url()],
            kubeconfig: None,
            qps: 1000,
            burst: 1000,
        }
    }

    pub(crate) async fn client(&self) -> Client {
        connect(&self.settings()).await.unwrap()
    }

    pub(crate) fn put(&self, path: &str, name: &str, mut object: Value) {
        let mut shared = self.shared.lock().unwrap();
        shared.version += 1;
        let version = shared.version;
        object["metadata"]["name"] = name.into();
        object["metadata"]["resourceVersion"] = version.to_string().into();
        let old = shared
            .objects
            .entry(path.into())
            .or_default()
            .insert(name.into(), object.clone());
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        shared.tell(path, json!({"type": kind, "object": object}));
    }

    pub(crate) fn delete(&self, path: &str, name: &str) {
        let mut shared = self.shared.lock().unwrap();
        shared.version += 1;
        let version = shared.version;
        let mut object = shared.objects.get_mut(path).unwrap().remove(name).unwrap();
        object["metadata"]["resourceVersion"] = version.to_string().into();
        shared.tell(path, json!({"type": "DELETED", "object": object}));
    }

    /// Says `line` to everybody who watches `path`.
    pub(crate) fn say(&self, path: &str, line: &str) {
        let shared = self.shared.lock().unwrap();
        for (watched, to) in &shared.watchers {
            if watched == path {
                let _ = to.send(Ok(Bytes::from(format!("{line}\n"))));
            }
        }
    }

    pub(crate) fn break_streams(&self) {
        let mut shared = self.shared.lock().unwrap();
        for (_, to) in std::mem::take(&mut shared.watchers) {
            let _ = to.send(Ok(Bytes::from_static(b"{\"type\":\"MODI")));
            let _ = to.send(Err(std::io::Error::other("cut")));
        }
    }

    pub(crate) fn count(&self, path: &str, what: &'static str) -> usize {
        let shared = self.shared.lock().unwrap();
        shared
            .counts
            .get(&(path.to_owned(), what))
            .copied()
            .unwrap_or(0)
    }
}

impl Shared {
    fn tell(&mut self, path: &str, event: Value) {
        self.log
            .push((self.version, path.to_owned(), event.clone()));
        let line = format!("{event}\n");
        self.watchers.retain(|(watched, to)| {
            watched != path || to.send(Ok(Bytes::from(line.clone()))).is_ok()
        });
    }
}

/// What a write said: method, path, body.
fn write(shared: &mut Shared, method: &Method, path: &str, body: &[u8]) -> Response {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let posted = body["metadata"]["name"].as_str().unwrap_or_default();
    let (collection, name) = match *method == Method::POST {
        true => (path, posted),
        false => path.rsplit_once('/').unwrap(),
    };
    shared
        .writes
        .push((method.to_string(), path.to_owned(), body.clone()));
    shared.version += 1;
    let version = shared.version;
    let all = shared.objects.entry(collection.into()).or_default();
    if *method == Method::DELETE {
        let wanted = &body["preconditions"]["resourceVersion"];
        match all.get(name) {
            Some(object)
                if wanted.is_null() || *wanted == object["metadata"]["resourceVersion"] =>
            {
                return axum::Json(all.remove(name)).into_response();
            }
            Some(_) => return status(StatusCode::CONFLICT, "Conflict"),
            None => return status(StatusCode::NOT_FOUND, "NotFound"),
        }
    }
    let seen = &body["metadata"]["resourceVersion"];
    let now = all
        .get(name)
        .map(|object| &object["metadata"]["resourceVersion"]);
    if (*method == Method::POST && now.is_some()) || (*method == Method::PUT && now != Some(seen)) {
        return status(StatusCode::CONFLICT, "Conflict");
    }
    let mut object = body.clone();
    object["metadata"]["name"] = name.into();
    object["metadata"]["resourceVersion"] = version.to_string().into();
    object["metadata"]["uid"] = name.into();
    all.insert(name.into(), object.clone());
    axum::Json(object).into_response()
}

fn status(code: StatusCode, reason: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": reason, "reason": reason, "code": code.as_u16()});
    (code, axum::Json(body)).into_response()
}

async fn answer(
    State(shared): State<Arc<Mutex<Shared>>>,
    method: Method,
    uri: Uri,
    Query(query): Query<HashMap<String, String>>,
    body: Bytes,
) -> Response {
    let mut shared = shared.lock().unwrap();
    let path = uri.path().to_owned();
    if let Some(code) = shared.refusal {
        return status(code, "Refused");
    }
    if shared.missing.contains(&path) {
        return status(StatusCode::NOT_FOUND, "NotFound");
    }
    if method != Method::GET {
        return write(&mut shared, &method, &path, &body);
    }
    if query.get("watch").is_some_and(|w| w == "true" || w == "1") {
        *shared.counts.entry((path.clone(), "watch")).or_default() += 1;
        let since: u64 = query
            .get("resourceVersion")
            .and_then(|v| v.parse().ok())
            .unwrap_or(0);
        if since < shared.compacted {
            let line = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "too old resource version", "reason": "Expired", "code": 410}});
            return Body::from(format!("{line}\n")).into_response();
        }
        let (tx, rx) = mpsc::unbounded_channel();
        for (version, at, event) in &shared.log {
            if *version > since && *at == path {
                let _ = tx.send(Ok(Bytes::from(format!("{event}\n"))));
            }
        }
        shared.watchers.push((path, tx));
        let stream = UnboundedReceiverStream::new(rx).map(|chunk| chunk);
        return Body::from_stream(stream).into_response();
    }
    if let Some((collection, name)) = path.rsplit_once('/')
        && let Some(object) = shared.objects.get(collection).and_then(|all| all.get(name))
    {
        return axum::Json(object.clone()).into_response();
    }
    let single = path.split('/').count() > if path.starts_with("/api/") { 4 } else { 5 };
    if single {
        return status(StatusCode::NOT_FOUND, "NotFound");
    }
    *shared.counts.entry((path.clone(), "list")).or_default() += 1;
    shared.queries.push((path.clone(), query));
    let items: Vec<Value> = shared
        .objects
        .get(&path)
        .map(|all| all.values().cloned().collect())
        .unwrap_or_default();
    axum::Json(json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": shared.version.to_string()}, "items": items})).into_response()
}
