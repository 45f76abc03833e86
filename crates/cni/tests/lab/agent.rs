// SPDX-License-Identifier: Apache-2.0
//! The pretended agent: the paths that the plugin uses, without anything behind them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use api::API_VERSION;
use api::models::{
    DaemonConfiguration, DaemonConfigurationStatus, Endpoint, EndpointChangeRequest,
    EndpointHealth, EndpointIdentifiers, EndpointNetworking, EndpointState, EndpointStatus,
    EndpointStatusChange, IpamAddress, IpamResponse, NodeAddressing, NodeAddressingElement,
    Version,
};
use axum::Json;
use axum::Router;
use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use tokio::net::UnixListener;
use tokio::sync::oneshot;

use super::{Mood, State};

type Agent = Arc<Mutex<State>>;

/// There is something wrong nearly always: a policy that is refused, an etcd that is away.
const WARNING: &str = r#"{"cilium":{"state":"Warning","msg":"cnp default/p: refused"}}"#;

/// A server on a thread of its own; it ends when this is dropped.
pub(crate) struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl Server {
    pub(crate) fn start(path: PathBuf, agent: Agent) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let at = path.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = UnixListener::bind(&at).unwrap();
                ready.send(()).unwrap();
                tokio::select! {
                    result = axum::serve(listener, router(agent)) => result.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv().unwrap();
        Self {
            stop: Some(stop),
            thread: Some(thread),
            path,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
        let ended = self.thread.take().map(JoinHandle::join);
        std::fs::remove_file(&self.path).unwrap();
        assert!(
            ended.is_none_or(|result| result.is_ok()),
            "the pretended agent panicked"
        );
    }
}

fn router(agent: Agent) -> Router {
    Router::new()
        .route("/v1/config", get(config))
        .route("/v1/healthz", get(async || WARNING))
        .route("/v1/isthmus/version", get(version))
        .route("/v1/endpoint", get(list))
        .route("/v1/ipam", post(allocate))
        .route("/v1/ipam/{ip}", delete(release))
        .route(
            "/v1/endpoint/{id}",
            get(endpoint).put(create).delete(remove),
        )
        .route("/v1/endpoint/{id}/healthz", get(health))
        .route("/v1/endpoint/{id}/log", get(log))
        .with_state(agent)
}

fn refuse(code: u16, text: &str) -> Response {
    (StatusCode::from_u16(code).unwrap(), Json(text)).into_response()
}

async fn config(Shared(agent): Shared<Agent>) -> Response {
    let device_mtu = if agent.lock().unwrap().mood == Mood::BadMtu {
        100
    } else {
        1450
    };
    let status = DaemonConfigurationStatus {
        device_mtu,
        route_mtu: 1450,
        ..Default::default()
    };
    Json(DaemonConfiguration {
        status: Some(status),
        ..Default::default()
    })
    .into_response()
}

async fn version(Shared(agent): Shared<Agent>) -> Response {
    let version = Version {
        ready: agent.lock().unwrap().mood != Mood::NotReady,
        ..Default::default()
    };
    ([("isthmus-api", API_VERSION.to_string())], Json(version)).into_response()
}

async fn allocate(
    Shared(agent): Shared<Agent>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    let mut agent = agent.lock().unwrap();
    if agent.mood == Mood::Exhausted {
        return refuse(502, "no free IPv4 address in 10.1.1.0/24");
    }
    agent.owners.extend(
        query
            .into_iter()
            .filter(|(k, _)| k == "owner")
            .map(|(_, v)| v),
    );
    agent
        .addresses
        .extend(["10.1.1.10".into(), "fd00::10".into()]);
    let router = |ip: &str| {
        Some(NodeAddressingElement {
            enabled: true,
            ip: ip.into(),
            ..Default::default()
        })
    };
    let own = |ip: &str, uuid: &str| {
        Some(IpamAddress {
            ip: ip.into(),
            expiration_uuid: uuid.into(),
            ..Default::default()
        })
    };
    let mut answer = IpamResponse {
        host_addressing: NodeAddressing {
            ipv4: router("10.1.1.1"),
            ipv6: router("fd00::1"),
        },
        ipv4: own("10.1.1.10", "u4"),
        ipv6: own("fd00::10", "u6"),
        ..Default::default()
    };
    answer.address.ipv4 = "10.1.1.10".into();
    answer.address.ipv6 = "fd00::10".into();
    (StatusCode::CREATED, Json(answer)).into_response()
}

async fn release(Shared(agent): Shared<Agent>, Path(ip): Path<String>) -> Response {
    let mut agent = agent.lock().unwrap();
    match agent.addresses.iter().position(|a| *a == ip) {
        Some(at) => {
            agent.addresses.remove(at);
            StatusCode::OK.into_response()
        }
        None => refuse(404, "not allocated"),
    }
}

async fn create(
    Shared(agent): Shared<Agent>,
    Path(id): Path<String>,
    Json(change): Json<EndpointChangeRequest>,
) -> Response {
    assert_eq!(id, "cilium-local:0");
    let mut agent = agent.lock().unwrap();
    if agent.mood == Mood::NotReady {
        return refuse(503, "not ready");
    }
    let addressing = change.addressing.clone().unwrap();
    assert_eq!(addressing.ipv4_expiration_uuid, "u4");
    assert_eq!(addressing.ipv6_expiration_uuid, "u6");
    let key = format!(
        "{}:{}",
        change.container_id, change.container_interface_name
    );
    let mac = if agent.mood == Mood::BadMac {
        "nonsense".into()
    } else {
        change.mac.clone()
    };
    agent.endpoints.insert(key, change);
    if agent.mood == Mood::RefusesEndpoint {
        return refuse(500, "identity not allocated within 10 s: etcd is down");
    }
    let networking = Some(EndpointNetworking {
        mac,
        ..Default::default()
    });
    let status = EndpointStatus {
        state: EndpointState::Ready,
        networking,
        ..Default::default()
    };
    let endpoint = Endpoint {
        id: 7,
        status: Some(status),
        ..Default::default()
    };
    (StatusCode::CREATED, Json(endpoint)).into_response()
}

fn key(id: &str) -> &str {
    id.strip_prefix("cni-attachment-id:").unwrap()
}

async fn endpoint(Shared(agent): Shared<Agent>, Path(id): Path<String>) -> Response {
    match agent.lock().unwrap().endpoints.get(key(&id)) {
        Some(_) => Json(Endpoint {
            id: 7,
            ..Default::default()
        })
        .into_response(),
        None => refuse(404, "no such endpoint"),
    }
}

async fn list(Shared(agent): Shared<Agent>) -> Response {
    let named = |attachment: &String| {
        let names = EndpointIdentifiers {
            cni_attachment_id: attachment.clone(),
            ..Default::default()
        };
        let status = EndpointStatus {
            external_identifiers: Some(names),
            ..Default::default()
        };
        Endpoint {
            status: Some(status),
            ..Default::default()
        }
    };
    // The host's own endpoint is nobody's attachment.
    let host = Endpoint {
        id: 1,
        ..Default::default()
    };
    let agent = agent.lock().unwrap();
    let all: Vec<_> = agent.endpoints.keys().map(named).chain([host]).collect();
    Json(all).into_response()
}

async fn remove(Shared(agent): Shared<Agent>, Path(id): Path<String>) -> Response {
    if agent.lock().unwrap().mood == Mood::Slow {
        std::future::pending::<()>().await;
    }
    let mut agent = agent.lock().unwrap();
    if agent.mood == Mood::NotReady {
        return refuse(503, "not ready");
    }
    match agent.endpoints.remove(key(&id)) {
        Some(_) => {
            agent.addresses.clear();
            StatusCode::OK.into_response()
        }
        None => refuse(404, "no such endpoint"),
    }
}

/// What ails an endpoint.
async fn log() -> Response {
    let line = EndpointStatusChange {
        message: "program from_pod is not on device lxc".into(),
        ..Default::default()
    };
    Json(vec![line]).into_response()
}

async fn health(Shared(agent): Shared<Agent>, Path(id): Path<String>) -> Response {
    let agent = agent.lock().unwrap();
    if !agent.endpoints.contains_key(key(&id)) {
        return refuse(404, "no such endpoint");
    }
    let overall_health = agent.health.clone();
    Json(EndpointHealth {
        overall_health,
        ..Default::default()
    })
    .into_response()
}
