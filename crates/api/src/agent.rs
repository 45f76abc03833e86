// SPDX-License-Identifier: Apache-2.0
//! What an agent must be able to answer.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use futures::Stream;
use http::StatusCode;

use crate::EndpointRef;
use crate::models::*;

/// A refusal: status code and text. An empty text sends an empty body.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{code}: {text}")]
pub struct ApiError {
    /// Status code of the answer.
    pub code: StatusCode,
    /// What is wrong, and what to do.
    pub text: String,
}

impl ApiError {
    /// A refusal.
    pub fn new(code: StatusCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }

    /// 400: the request cannot be right, whatever the agent's state.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 404.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// 503: not ready yet; the CNI plugin queues a deletion that is refused with this and with nothing else.
    pub fn not_ready(text: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    /// 500: the agent tried and failed.
    pub fn failed(text: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }
}

/// An answer or a refusal.
pub type Answer<T> = Result<T, ApiError>;

/// An answer in pieces: a dump too large for memory, or events. It ends when the reader goes away.
pub type Feed<T> = Pin<Box<dyn Stream<Item = T> + Send>>;

/// Headers of `GET /healthz`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatusQuery {
    /// Only `cilium`, `cluster.ciliumHealth`, the first failing controller, and `stale`.
    pub brief: bool,
    /// A lost Kubernetes API is a failure.
    pub require_k8s_connectivity: bool,
}

/// How a deletion ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deleted {
    /// 200.
    All,
    /// 206: it is gone, but so many steps of the way failed.
    WithErrors(u32),
}

/// Which addresses `GET /ip` is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IpQuery {
    /// Only inside this prefix.
    pub cidr: Option<String>,
    /// Only identities with all of these labels.
    pub labels: Vec<String>,
}

macro_rules! operations {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {
        /// The agent behind the API. Operations run concurrently; one that waits must bound its wait below 60 s.
        ///
        /// Implementations may write `async fn`.
        pub trait Agent: Send + Sync + 'static {
            $($(#[$doc])* fn $name(&self, $($arg: $ty),*) -> impl Future<Output = Answer<$out>> + Send;)*
        }
    };
}

operations! {
    /// `GET /healthz`.
    fn status(query: StatusQuery) -> StatusResponse;
    /// `GET /cluster/nodes`. `None`: everything, no client kept. Unknown client: everything and a new id.
    fn nodes(client: Option<i64>) -> ClusterNodeStatus;
    /// `GET /config`.
    fn config() -> DaemonConfiguration;
    /// `GET /debuginfo`.
    fn debuginfo() -> DebugInfo;

    /// `GET /endpoint`: those with all `labels`; 404 if labels are given and none has them.
    fn endpoints(labels: Vec<String>) -> Vec<Endpoint>;
    /// `GET /endpoint/{id}`; 404.
    fn endpoint(id: EndpointRef) -> Endpoint;
    /// `PUT /endpoint/{id}`: 400 also if the id, attachment or address is in use; 503 before the agent is ready.
    fn create_endpoint(id: EndpointRef, change: EndpointChangeRequest) -> Endpoint;
    /// `DELETE /endpoint/{id}`; 404, 503.
    fn delete_endpoint(id: EndpointRef) -> Deleted;
    /// `DELETE /endpoint`: all endpoints of a container; 404, 503.
    fn delete_endpoints(batch: EndpointBatchDelete) -> Deleted;
    /// `GET /endpoint/{id}/healthz`; 404.
    fn endpoint_health(id: EndpointRef) -> EndpointHealth;
    /// `GET /endpoint/{id}/log`, newest first; 404.
    fn endpoint_log(id: EndpointRef) -> Vec<EndpointStatusChange>;

    /// `GET /identity`: those with all `labels`; 404 if labels are given and none has them.
    fn identities(labels: Vec<String>) -> Vec<Identity>;
    /// `GET /identity/{id}`; 404.
    fn identity(id: u32) -> Identity;
    /// `GET /identity/endpoints`.
    fn identity_endpoints() -> Vec<IdentityEndpoints>;
    /// `GET /ip`; 404 when nothing.
    fn ips(query: IpQuery) -> Vec<IpListEntry>;

    /// `POST /ipam`; 502 when none is free.
    fn allocate(request: IpamRequest) -> IpamResponse;
    /// `POST /ipam/{ip}`; 409 when in use.
    fn allocate_address(ip: IpAddr, owner: String, pool: String) -> ();
    /// `DELETE /ipam/{ip}`; 404, 500 when an endpoint uses it.
    fn release_address(ip: IpAddr, pool: String) -> ();

    /// `GET /policy`.
    fn policy() -> Policy;
    /// `GET /policy/selectors`.
    fn policy_selectors() -> Vec<SelectorIdentities>;
    /// `GET /policy/subject-selectors`.
    fn policy_subject_selectors() -> Vec<SelectorIdentities>;
    /// `GET /service`: one entry per address and port.
    fn services() -> Vec<Service>;
    /// `GET /map`.
    fn maps() -> BpfMapList;
    /// `GET /map/{name}`, with what is in it; 404, 413 if that is too much.
    fn map(name: String) -> BpfMap;
    /// `GET /metrics`: what Prometheus gets, whether or not it is served over TCP.
    fn metric_values() -> Vec<MetricValue>;

    /// `GET /isthmus/version`.
    fn version() -> Version;
    /// `GET /isthmus/mesh`.
    fn mesh() -> MeshReport;
    /// `GET /isthmus/warnings`: options that are not known, maps that fill up, policies that were refused, …
    fn warnings() -> Vec<Warning>;
    /// `GET /isthmus/troubleshoot?cluster=&timeout=`: tries the way to the etcds of `clusters`, or of all if none is named,
    /// each step for at most `seconds`; 404 for one that no file names.
    fn troubleshoot(clusters: Vec<String>, seconds: u64) -> Troubleshoot;
    /// `GET /isthmus/kvstore?key=&recursive=`: a key of this cluster's etcd, or all that begin with it; 404.
    fn kvstore(key: String, recursive: bool) -> Feed<KvstoreEntry>;
    /// `GET /isthmus/bpf/ct`: the conntrack map.
    fn flows() -> Feed<FlowEntry>;
    /// `GET /isthmus/bpf/ipcache`: the address maps.
    fn bpf_ipcache() -> Feed<BpfIpcacheEntry>;
    /// `GET /isthmus/bpf/endpoint`.
    fn bpf_endpoints() -> Vec<BpfEndpoint>;
    /// `GET /isthmus/bpf/lb`, in the order of addresses.
    fn bpf_services() -> Vec<BpfService>;
    /// `GET /isthmus/bpf/policy?endpoint=`: `None`: of all endpoints; 404.
    fn bpf_policies(endpoint: Option<u16>) -> Vec<BpfPolicy>;
    /// `GET /isthmus/bpf/metrics`.
    fn metrics() -> Vec<Metric>;
    /// `GET /isthmus/pressure`.
    fn pressure() -> Vec<Pressure>;
    /// `GET /isthmus/events?from=&to=&related-to=`: drops from now on. A slow reader loses some, and the next tells how many.
    fn events(query: EventQuery) -> Feed<DropNotice>;
}
