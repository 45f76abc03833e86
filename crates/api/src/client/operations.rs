// SPDX-License-Identifier: Apache-2.0
//! One typed method per operation. Every one fails with [`Error`]; a refusal is [`Error::Refused`].

use std::fmt::Write;
use std::net::IpAddr;

use http::{Method, StatusCode};

use super::transport::Ask;
use super::{Client, Lines};
use crate::models::*;
use crate::{Deleted, EndpointRef, Error, IpQuery, StatusQuery};

type Result<T> = std::result::Result<T, Error>;

/// `text` with everything escaped that has a meaning in a path or query.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                out.push(byte.into());
            }
            _ => write!(out, "%{byte:02X}").expect("a string takes everything"),
        }
    }
    out
}

fn endpoint_path(id: &EndpointRef, rest: &str) -> String {
    format!("/endpoint/{}{rest}", escape(&id.to_string()))
}

fn with_labels(ask: Ask, labels: &[String]) -> Ask {
    if labels.is_empty() {
        ask
    } else {
        ask.json(&labels)
    }
}

macro_rules! plain {
    ($($(#[$doc:meta])* $name:ident -> $out:ty = $path:literal;)*) => {
        impl Client {
            $($(#[$doc])* pub async fn $name(&self) -> Result<$out> { self.call(Ask::get($path)).await })*
        }
    };
}

plain! {
    /// How the agent is configured.
    config -> DaemonConfiguration = "/config";
    /// Everything at once.
    debuginfo -> DebugInfo = "/debuginfo";
    /// Identities in use on this node.
    identity_endpoints -> Vec<IdentityEndpoints> = "/identity/endpoints";
    /// The rules in force.
    policy -> Policy = "/policy";
    /// Their selectors of peers.
    policy_selectors -> Vec<SelectorIdentities> = "/policy/selectors";
    /// Their selectors of those whom they are for.
    policy_subject_selectors -> Vec<SelectorIdentities> = "/policy/subject-selectors";
    /// What is translated.
    services -> Vec<Service> = "/service";
    /// The kernel's maps.
    maps -> BpfMapList = "/map";
    /// What Prometheus gets.
    metric_values -> Vec<MetricValue> = "/metrics";
    /// Versions of the agent.
    version -> Version = "/isthmus/version";
    /// The remote clusters.
    mesh -> MeshReport = "/isthmus/mesh";
    /// What the operator should look at.
    warnings -> Vec<Warning> = "/isthmus/warnings";
    /// Endpoints as the kernel knows them.
    bpf_endpoints -> Vec<BpfEndpoint> = "/isthmus/bpf/endpoint";
    /// Services as the kernel knows them.
    bpf_services -> Vec<BpfService> = "/isthmus/bpf/lb";
    /// Packets per reason.
    metrics -> Vec<Metric> = "/isthmus/bpf/metrics";
    /// How full the maps are.
    pressure -> Vec<Pressure> = "/isthmus/pressure";
}

impl Client {
    /// The state of the agent.
    pub async fn status(&self, query: StatusQuery) -> Result<StatusResponse> {
        let ask = Ask::get("/healthz")
            .header("brief", query.brief)
            .header("require-k8s-connectivity", query.require_k8s_connectivity);
        self.call(ask).await
    }

    /// The nodes of the mesh, or what changed since `client` asked last.
    pub async fn nodes(&self, client: Option<i64>) -> Result<ClusterNodeStatus> {
        let ask = Ask::get("/cluster/nodes");
        self.call(match client {
            Some(id) => ask.header("client-id", id),
            None => ask,
        })
        .await
    }

    /// Endpoints with all of `labels`.
    pub async fn endpoints(&self, labels: &[String]) -> Result<Vec<Endpoint>> {
        self.call(with_labels(Ask::get("/endpoint"), labels)).await
    }

    /// One endpoint.
    pub async fn endpoint(&self, id: &EndpointRef) -> Result<Endpoint> {
        self.call(Ask::get(endpoint_path(id, ""))).await
    }

    /// Adds an endpoint; the answer holds the number that the agent chose.
    pub async fn create_endpoint(
        &self,
        id: &EndpointRef,
        change: &EndpointChangeRequest,
    ) -> Result<Endpoint> {
        let ask = Ask::new(Method::PUT, endpoint_path(id, "")).json(change);
        self.call(ask).await
    }

    /// Removes an endpoint.
    pub async fn delete_endpoint(&self, id: &EndpointRef) -> Result<Deleted> {
        self.delete(Ask::new(Method::DELETE, endpoint_path(id, "")))
            .await
    }

    /// Removes all endpoints of a container.
    pub async fn delete_endpoints(&self, batch: &EndpointBatchDelete) -> Result<Deleted> {
        self.delete(Ask::new(Method::DELETE, "/endpoint").json(batch))
            .await
    }

    async fn delete(&self, ask: Ask) -> Result<Deleted> {
        let (code, body) = self.fetch(ask).await?;
        Ok(match code {
            StatusCode::PARTIAL_CONTENT => {
                Deleted::WithErrors(serde_json::from_slice(&body).unwrap_or(1))
            }
            _ => Deleted::All,
        })
    }

    /// Health of an endpoint.
    pub async fn endpoint_health(&self, id: &EndpointRef) -> Result<EndpointHealth> {
        self.call(Ask::get(endpoint_path(id, "/healthz"))).await
    }

    /// Labels of an endpoint.
    pub async fn endpoint_labels(&self, id: &EndpointRef) -> Result<LabelConfiguration> {
        self.call(Ask::get(endpoint_path(id, "/labels"))).await
    }

    /// What happened to an endpoint, newest first.
    pub async fn endpoint_log(&self, id: &EndpointRef) -> Result<Vec<EndpointStatusChange>> {
        self.call(Ask::get(endpoint_path(id, "/log"))).await
    }

    /// Identities with all of `labels`.
    pub async fn identities(&self, labels: &[String]) -> Result<Vec<Identity>> {
        self.call(with_labels(Ask::get("/identity"), labels)).await
    }

    /// One identity.
    pub async fn identity(&self, id: u32) -> Result<Identity> {
        self.call(Ask::get(format!("/identity/{id}"))).await
    }

    /// One of the kernel's maps with what is in it; a refusal with 404 if there is none of this name.
    pub async fn map(&self, name: &str) -> Result<BpfMap> {
        self.call(Ask::get(format!("/map/{}", escape(name)))).await
    }

    /// Addresses and who is behind them; a refusal with 404 if there are none.
    pub async fn ips(&self, query: &IpQuery) -> Result<Vec<IpListEntry>> {
        let path = match &query.cidr {
            Some(cidr) => format!("/ip?cidr={}", escape(cidr)),
            None => "/ip".to_owned(),
        };
        self.call(with_labels(Ask::get(path), &query.labels)).await
    }

    /// Takes addresses for a pod.
    pub async fn allocate(&self, request: &IpamRequest) -> Result<IpamResponse> {
        let family = match request.family {
            Some(Family::V4) => "family=ipv4&",
            Some(Family::V6) => "family=ipv6&",
            None => "",
        };
        let (owner, pool) = (escape(&request.owner), escape(&request.pool));
        let path = format!("/ipam?{family}owner={owner}&pool={pool}");
        let ask = Ask::new(Method::POST, path).header("expiration", request.expiration);
        self.call(ask).await
    }

    /// Takes a given address.
    pub async fn allocate_address(&self, ip: IpAddr, owner: &str, pool: &str) -> Result<()> {
        let path = format!("/ipam/{ip}?owner={}&pool={}", escape(owner), escape(pool));
        self.fetch(Ask::new(Method::POST, path)).await.map(drop)
    }

    /// Gives an address back.
    pub async fn release_address(&self, ip: IpAddr, pool: &str) -> Result<()> {
        let path = format!("/ipam/{ip}?pool={}", escape(pool));
        self.fetch(Ask::new(Method::DELETE, path)).await.map(drop)
    }

    /// What the kernel holds for the policy of `endpoint`, or of all.
    pub async fn bpf_policies(&self, endpoint: Option<u16>) -> Result<Vec<BpfPolicy>> {
        let path = match endpoint {
            Some(id) => format!("/isthmus/bpf/policy?endpoint={id}"),
            None => "/isthmus/bpf/policy".to_owned(),
        };
        self.call(Ask::get(path)).await
    }

    /// Tries the way to the etcds of `clusters`, or of all; each step for at most `seconds`, 1 to 10.
    pub async fn troubleshoot(&self, clusters: &[String], seconds: u64) -> Result<Troubleshoot> {
        let names: Vec<String> = clusters.iter().map(|name| escape(name)).collect();
        let names = names.join(",");
        let path = format!("/isthmus/troubleshoot?cluster={names}&timeout={seconds}");
        self.call(Ask::get(path)).await
    }

    /// A key of this cluster's etcd, or all that begin with it; a refusal with 404 if there is no such key.
    pub async fn kvstore(&self, key: &str, recursive: bool) -> Result<Lines<KvstoreEntry>> {
        let key = escape(key);
        self.lines(&format!("/isthmus/kvstore?key={key}&recursive={recursive}"))
            .await
    }

    /// The conntrack map.
    pub async fn flows(&self) -> Result<Lines<FlowEntry>> {
        self.lines("/isthmus/bpf/ct").await
    }

    /// The address maps.
    pub async fn bpf_ipcache(&self) -> Result<Lines<BpfIpcacheEntry>> {
        self.lines("/isthmus/bpf/ipcache").await
    }

    /// Drops from now on.
    pub async fn events(&self, query: &EventQuery) -> Result<Lines<DropNotice>> {
        let mut path = "/isthmus/events?".to_owned();
        let wanted = [
            ("from", query.from),
            ("to", query.to),
            ("related-to", query.related_to),
        ];
        for (name, id) in wanted {
            if let Some(id) = id {
                write!(path, "{name}={id}&").expect("a string takes everything");
            }
        }
        self.lines(path.trim_end_matches(['?', '&'])).await
    }
}
