// SPDX-License-Identifier: Apache-2.0
//! `GET /config`: how the agent is configured; the CNI plugin takes router addresses and MTUs from it.

use std::collections::BTreeMap;

use super::*;

model! {
    /// Answer of `GET /config`.
    "kebab-case" DaemonConfiguration {
        spec: Option<DaemonConfigurationSpec>,
        status: Option<DaemonConfigurationStatus>,
    }
}
model! {
    /// What can be changed at run time.
    "kebab-case" DaemonConfigurationSpec {
        options: BTreeMap<String, String>,
        /// `default`, `always` or `never`.
        policy_enforcement: String,
    }
}
model! {
    /// What is in force.
    "camelCase" DaemonConfigurationStatus {
        realized: Option<DaemonConfigurationSpec>,
        immutable: BTreeMap<String, String>,
        /// The **router's** addresses and the pod networks.
        addressing: Option<NodeAddressing>,
        #[serde(rename = "k8s-endpoint")]
        k8s_endpoint: String,
        #[serde(rename = "k8s-configuration")]
        k8s_configuration: String,
        node_monitor: Option<MonitorStatus>,
        kvstore_configuration: Option<KvstoreConfiguration>,
        /// MTU of pod devices, bytes.
        #[serde(rename = "deviceMTU")]
        device_mtu: i64,
        /// MTU of pod routes, bytes.
        #[serde(rename = "routeMTU")]
        route_mtu: i64,
        datapath_mode: String,
        configured_datapath_mode: String,
        #[serde(rename = "ipam-mode")]
        ipam_mode: String,
        masquerade: bool,
        masquerade_protocols: Option<EnabledProtocols>,
        /// Every option by its CamelCase name.
        daemon_configuration_map: serde_json::Map<String, serde_json::Value>,
        #[serde(rename = "GSOMaxSize")]
        gso_max_size: i64,
        #[serde(rename = "GROMaxSize")]
        gro_max_size: i64,
        #[serde(rename = "GSOIPv4MaxSize")]
        gso_ipv4_max_size: i64,
        #[serde(rename = "GROIPv4MaxSize")]
        gro_ipv4_max_size: i64,
        ip_local_reserved_ports: String,
        #[serde(rename = "enableRouteMTUForCNIChaining")]
        enable_route_mtu_for_cni_chaining: bool,
    }
}
model! {
    /// The own kvstore.
    "camelCase" KvstoreConfiguration {
        #[serde(rename = "type")]
        kind: String,
        options: BTreeMap<String, String>,
    }
}
