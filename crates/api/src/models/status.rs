// SPDX-License-Identifier: Apache-2.0
//! `GET /healthz`: the state of an agent and of the remote clusters that it knows.

use std::collections::BTreeMap;

use super::*;
use crate::Timestamp;

/// State of one subsystem.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub enum State {
    /// It works.
    Ok,
    /// It works with a restriction.
    Warning,
    /// It does not work.
    Failure,
    /// It is switched off.
    #[default]
    Disabled,
}

impl State {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Ok => "Ok",
            State::Warning => "Warning",
            State::Failure => "Failure",
            State::Disabled => "Disabled",
        }
    }
}

model! {
    /// State of one subsystem, with a message.
    "kebab-case" Status { msg: String, } always { state: State, }
}

impl Status {
    /// A state with its message.
    pub fn new(state: State, msg: impl Into<String>) -> Self {
        Self {
            state,
            msg: msg.into(),
        }
    }
}

model! {
    /// Answer of `GET /healthz`. A part that is `None` does not exist in this agent.
    "kebab-case" StatusResponse {
        cilium: Option<Status>,
        kvstore: Option<Status>,
        kubernetes: Option<K8sStatus>,
        kube_proxy_replacement: Option<KubeProxyReplacement>,
        host_firewall: Option<HostFirewall>,
        cni_chaining: Option<Mode>,
        cni_file: Option<Status>,
        auth_certificate_provider: Option<Status>,
        cluster: Option<ClusterStatus>,
        cluster_mesh: Option<ClusterMeshStatus>,
        ipam: Option<IpamStatus>,
        #[serde(rename = "nodeMonitor")]
        node_monitor: Option<MonitorStatus>,
        controllers: Vec<ControllerStatus>,
        proxy: Option<ProxyStatus>,
        hubble: Option<HubbleStatus>,
        hubble_metrics: Option<Status>,
        identity_range: Option<IdentityRange>,
        routing: Option<Routing>,
        masquerading: Option<Masquerading>,
        encryption: Option<EncryptionStatus>,
        bpf_maps: Option<BpfMapStatus>,
        clock_source: Option<ClockSource>,
        bandwidth_manager: Option<BandwidthManager>,
        ipv4_big_tcp: Option<BigTcp>,
        ipv6_big_tcp: Option<BigTcp>,
        srv6: Option<Srv6>,
        /// `tc` or `tcx`.
        attach_mode: String,
        /// `veth`.
        datapath_mode: String,
        configured_datapath_mode: String,
        /// Probes that hang, and since when.
        stale: BTreeMap<String, Timestamp>,
    }
}

model! {
    /// State of the connection to the Kubernetes API.
    "kebab-case" K8sStatus { msg: String, } always {
        state: State,
        #[serde(with = "null_list")]
        k8s_api_versions: Vec<String>,
    }
}

model! {
    /// This node in its cluster.
    "kebab-case" ClusterStatus {
        #[serde(rename = "ciliumHealth")]
        cilium_health: Option<Status>,
        /// `cluster/node`.
        #[serde(rename = "self")]
        own_name: String,
    } always {
        #[serde(with = "null_list")]
        nodes: Vec<NodeElement>,
    }
}

model! {
    /// The remote clusters.
    "kebab-case" ClusterMeshStatus {} always {
        #[serde(with = "null_list")]
        clusters: Vec<RemoteCluster>,
    }
}

model! {
    /// One remote cluster.
    "kebab-case" RemoteCluster {
        name: String,
        /// Connected, configuration accepted, every watched kind synced.
        ready: bool,
        connected: bool,
        /// Text of the kvstore client, or what is waited for.
        status: String,
        config: Option<RemoteClusterConfig>,
        synced: Option<RemoteClusterSynced>,
        num_nodes: i64,
        num_endpoints: i64,
        num_identities: i64,
        num_shared_services: i64,
        num_endpoint_slices: i64,
        num_service_exports: i64,
        num_failures: i64,
    } always {
        last_failure: Timestamp,
    }
}

model! {
    /// What a remote cluster says about itself.
    "kebab-case" RemoteClusterConfig {
        required: bool,
        retrieved: bool,
        cluster_id: i64,
        kvstoremesh: bool,
        sync_canaries: bool,
        /// `None`: the remote does not support them.
        service_exports_enabled: Option<bool>,
        endpoint_slices_export_mode: String,
    }
}

model! {
    /// Which kinds of rows of a remote cluster are complete.
    "kebab-case" RemoteClusterSynced {
        nodes: bool,
        endpoints: bool,
        identities: bool,
        services: bool,
        /// `None`: not watched.
        endpoint_slices: Option<bool>,
        /// `None`: not watched.
        service_exports: Option<bool>,
    }
}

model! {
    /// Addresses in use on this node.
    "kebab-case" IpamStatus {
        /// Address → owner.
        allocations: BTreeMap<String, String>,
        status: String,
    } always {
        #[serde(with = "null_list")]
        ipv4: Vec<String>,
        #[serde(with = "null_list")]
        ipv6: Vec<String>,
    }
}

model! {
    /// The event buffer.
    "kebab-case" MonitorStatus { cpus: i64, npages: i64, pagesize: i64, lost: i64, unknown: i64, }
}

model! {
    /// Identities that this cluster allocates.
    "kebab-case" IdentityRange { min_identity: u32, max_identity: u32, }
}
