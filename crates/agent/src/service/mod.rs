// SPDX-License-Identifier: Apache-2.0
//! The agent behind its API: requests in, the node's state out.

mod api_server;
mod bpf;
mod controllers;
mod endpoint_model;
mod endpoints;
mod features;
mod identities;
mod ipam;
mod keys;
mod mesh;
mod nodes;
mod relabel;
mod selectors;
mod services;
mod status;
mod troubleshoot;
mod warnings;

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use api::models::*;
use api::{Agent, Answer, ApiError, Deleted, EndpointRef, Feed, IpQuery, StatusQuery};
use clustermesh::Mesh;
use clustermesh::publish::Announcer;
use kvstore::{Etcd, Publisher};
use netlink::Socket;
use tokio::sync::Notify;

use crate::events::Hub;
use crate::identities::Identities;
use crate::own::OwnStatus;
use crate::shared::{Held, Shared};
use config::options::Values;

pub(crate) use api_server::{Server, ask};
pub(crate) use bpf::now_seconds;
pub(crate) use relabel::RelabelWorker;
pub(crate) use status::version;

/// Time between two looks for the end of the start.
const STEP: Duration = Duration::from_millis(10);

/// The agent's parts as its requests need them.
pub(crate) struct Service {
    pub(crate) core: Arc<Shared>,
    pub(crate) identities: Identities,
    pub(crate) publisher: Option<Publisher<Etcd>>,
    /// What this agent writes for its cluster.
    pub(crate) announcer: Option<Announcer>,
    pub(crate) own: Option<Arc<OwnStatus>>,
    /// This cluster's etcd.
    pub(crate) store: Option<Etcd>,
    pub(crate) mesh: Option<Mesh>,
    /// The API server, if it is the source.
    pub(crate) kubernetes: Option<Server>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) socket: Socket,
    pub(crate) values: Values,
    pub(crate) started: SystemTime,
    /// Wakes those who wait for a pod object.
    pub(crate) objects: Notify,
    pub(crate) clients: Mutex<nodes::NodeClients>,
}

impl Service {
    /// Waits until the first lists are complete and policy is in force.
    pub(crate) async fn until_ready(&self) {
        while !self.core().ready {
            tokio::time::sleep(STEP).await;
        }
    }

    /// The state. Held only for synchronous work.
    pub(crate) fn core(&self) -> Held<'_> {
        self.core.lock()
    }
}

impl Agent for Service {
    async fn status(&self, query: StatusQuery) -> Answer<StatusResponse> {
        Ok(self.status_response(query))
    }

    async fn nodes(&self, client: Option<i64>) -> Answer<ClusterNodeStatus> {
        Ok(self.node_status(client))
    }

    async fn config(&self) -> Answer<DaemonConfiguration> {
        Ok(self.daemon_configuration())
    }

    async fn debuginfo(&self) -> Answer<DebugInfo> {
        Ok(self.debug_info())
    }

    async fn endpoints(&self, labels: Vec<String>) -> Answer<Vec<Endpoint>> {
        self.endpoint_list(&labels)
    }

    async fn endpoint(&self, id: EndpointRef) -> Answer<Endpoint> {
        self.endpoint_model(&id)
    }

    async fn create_endpoint(
        &self,
        _id: EndpointRef,
        change: EndpointChangeRequest,
    ) -> Answer<Endpoint> {
        self.create(change).await
    }

    async fn delete_endpoint(&self, id: EndpointRef) -> Answer<Deleted> {
        self.delete(&id).await
    }

    async fn delete_endpoints(&self, batch: EndpointBatchDelete) -> Answer<Deleted> {
        self.delete(&EndpointRef::Attachment {
            container: batch.container_id,
            interface: None,
        })
        .await
    }

    async fn endpoint_health(&self, id: EndpointRef) -> Answer<EndpointHealth> {
        self.health_of(&id)
    }

    async fn endpoint_log(&self, id: EndpointRef) -> Answer<Vec<EndpointStatusChange>> {
        self.log_of(&id)
    }

    async fn identities(&self, labels: Vec<String>) -> Answer<Vec<Identity>> {
        self.identity_list(&labels)
    }

    async fn identity(&self, id: u32) -> Answer<Identity> {
        self.identity_model(id)
    }

    async fn identity_endpoints(&self) -> Answer<Vec<IdentityEndpoints>> {
        self.identities_in_use()
    }

    async fn ips(&self, query: IpQuery) -> Answer<Vec<IpListEntry>> {
        self.ip_list(&query)
    }

    async fn allocate(&self, request: IpamRequest) -> Answer<IpamResponse> {
        self.allocate_addresses(&request)
    }

    async fn allocate_address(&self, ip: IpAddr, owner: String, _pool: String) -> Answer<()> {
        self.reserve_address(ip, &owner)
    }

    async fn release_address(&self, ip: IpAddr, _pool: String) -> Answer<()> {
        self.free_address(ip)
    }

    async fn policy(&self) -> Answer<Policy> {
        Ok(self.policy_text())
    }

    async fn policy_selectors(&self) -> Answer<Vec<SelectorIdentities>> {
        Ok(self.peer_selectors())
    }

    async fn policy_subject_selectors(&self) -> Answer<Vec<SelectorIdentities>> {
        Ok(self.subject_selectors())
    }

    async fn services(&self) -> Answer<Vec<api::models::Service>> {
        Ok(self.service_list())
    }

    async fn maps(&self) -> Answer<BpfMapList> {
        Ok(self.map_list())
    }

    async fn map(&self, name: String) -> Answer<BpfMap> {
        self.map_rows(&name)
    }

    async fn metric_values(&self) -> Answer<Vec<MetricValue>> {
        crate::metrics::values(self).map_err(failed)
    }

    async fn version(&self) -> Answer<Version> {
        Ok(self.version_model())
    }

    async fn mesh(&self) -> Answer<MeshReport> {
        Ok(self.mesh_report())
    }

    async fn warnings(&self) -> Answer<Vec<Warning>> {
        Ok(self.warning_list())
    }

    async fn troubleshoot(&self, clusters: Vec<String>, seconds: u64) -> Answer<Troubleshoot> {
        self.trouble(&clusters, seconds).await
    }

    async fn kvstore(&self, key: String, recursive: bool) -> Answer<Feed<KvstoreEntry>> {
        self.keys(key, recursive).await
    }

    async fn flows(&self) -> Answer<Feed<FlowEntry>> {
        self.flow_feed()
    }

    async fn bpf_ipcache(&self) -> Answer<Feed<BpfIpcacheEntry>> {
        self.ipcache_feed()
    }

    async fn bpf_endpoints(&self) -> Answer<Vec<BpfEndpoint>> {
        Ok(self.endpoint_map())
    }

    async fn bpf_services(&self) -> Answer<Vec<BpfService>> {
        self.service_map()
    }

    async fn bpf_policies(&self, endpoint: Option<u16>) -> Answer<Vec<BpfPolicy>> {
        self.policy_map(endpoint)
    }

    async fn metrics(&self) -> Answer<Vec<Metric>> {
        self.metric_list()
    }

    async fn pressure(&self) -> Answer<Vec<Pressure>> {
        Ok(self.pressure_list())
    }

    async fn events(&self, query: EventQuery) -> Answer<Feed<DropNotice>> {
        Ok(self.hub.subscribe(query))
    }
}

fn failed(error: impl std::fmt::Display) -> ApiError {
    ApiError::failed(error.to_string())
}
