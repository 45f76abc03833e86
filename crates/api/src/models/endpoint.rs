// SPDX-License-Identifier: Apache-2.0
//! `/endpoint`: the pods of this node.

use std::collections::BTreeMap;

use super::*;

model! {
    /// One endpoint.
    "kebab-case" Endpoint {
        id: i64,
        spec: Option<EndpointConfigurationSpec>,
        status: Option<EndpointStatus>,
    }
}
model! {
    /// What can be changed at run time.
    "kebab-case" EndpointConfigurationSpec {
        options: BTreeMap<String, String>,
        label_configuration: Option<LabelConfigurationSpec>,
    }
}
model! {
    /// Labels set by the orchestrator.
    "kebab-case" LabelConfigurationSpec { user: Vec<String>, }
}
model! {
    /// Answer of `GET /endpoint/{id}/config`.
    "kebab-case" EndpointConfigurationStatus {
        realized: Option<EndpointConfigurationSpec>,
        immutable: BTreeMap<String, String>,
    }
}
model! {
    /// Answer of `GET /endpoint/{id}/labels`.
    "kebab-case" LabelConfiguration {
        spec: Option<LabelConfigurationSpec>,
        status: Option<LabelConfigurationStatus>,
    }
}
model! {
    /// What is in force.
    "kebab-case" EndpointStatus {
        controllers: Vec<ControllerStatus>,
        external_identifiers: Option<EndpointIdentifiers>,
        health: Option<EndpointHealth>,
        /// `None` until allocated.
        identity: Option<Identity>,
        labels: Option<LabelConfigurationStatus>,
        /// The newest change only.
        log: Vec<EndpointStatusChange>,
        #[serde(rename = "namedPorts")]
        named_ports: Vec<Port>,
        networking: Option<EndpointNetworking>,
        policy: Option<EndpointPolicyStatus>,
        realized: Option<EndpointConfigurationSpec>,
    } always {
        state: EndpointState,
    }
}

/// State of an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndpointState {
    #[default]
    WaitingForIdentity,
    NotReady,
    WaitingToRegenerate,
    Regenerating,
    Restoring,
    Ready,
    Disconnecting,
    Disconnected,
    Invalid,
}

impl EndpointState {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            EndpointState::WaitingForIdentity => "waiting-for-identity",
            EndpointState::NotReady => "not-ready",
            EndpointState::WaitingToRegenerate => "waiting-to-regenerate",
            EndpointState::Regenerating => "regenerating",
            EndpointState::Restoring => "restoring",
            EndpointState::Ready => "ready",
            EndpointState::Disconnecting => "disconnecting",
            EndpointState::Disconnected => "disconnected",
            EndpointState::Invalid => "invalid",
        }
    }

    /// The health that follows from the state.
    pub fn health(self) -> EndpointHealth {
        let of = |overall: &str, bpf: &str, policy: &str, connected| EndpointHealth {
            overall_health: overall.into(),
            bpf: bpf.into(),
            policy: policy.into(),
            connected,
        };
        match self {
            EndpointState::Ready => of("OK", "OK", "OK", true),
            EndpointState::Regenerating
            | EndpointState::WaitingToRegenerate
            | EndpointState::Disconnecting => of("Pending", "Pending", "Pending", true),
            EndpointState::WaitingForIdentity => of("Disabled", "Disabled", "Bootstrap", true),
            EndpointState::NotReady => of("Warning", "Warning", "Warning", true),
            EndpointState::Restoring | EndpointState::Disconnected | EndpointState::Invalid => {
                of("Disabled", "Disabled", "Disabled", false)
            }
        }
    }
}

model! {
    /// Names that others have for the endpoint.
    "kebab-case" EndpointIdentifiers {
        /// `<container id>:<interface>`.
        cni_attachment_id: String,
        container_id: String,
        container_name: String,
        k8s_namespace: String,
        k8s_pod_name: String,
        pod_name: String,
    }
}
model! {
    /// `OK`, `Bootstrap`, `Pending`, `Warning`, `Failure` or `Disabled`.
    "camelCase" EndpointHealth { overall_health: String, bpf: String, policy: String, connected: bool, }
}
model! {
    /// Labels by what becomes of them.
    "kebab-case" LabelConfigurationStatus {
        realized: Option<LabelConfigurationSpec>,
        security_relevant: Vec<String>,
        derived: Vec<String>,
        disabled: Vec<String>,
    }
}
model! {
    /// A change of state.
    "kebab-case" EndpointStatusChange {
        /// UTC, RFC 3339.
        timestamp: String,
        /// `OK` or `Failure`.
        code: String,
        message: String,
        state: Option<EndpointState>,
    }
}
model! {
    /// A port with a name.
    "kebab-case" Port { name: String, port: u16, protocol: String, }
}
model! {
    /// Addresses and devices.
    "kebab-case" EndpointNetworking {
        host_addressing: Option<NodeAddressing>,
        mac: String,
        host_mac: String,
        interface_name: String,
        interface_index: i64,
        container_interface_name: String,
    } always {
        #[serde(with = "null_list")]
        addressing: Vec<AddressPair>,
    }
}
model! {
    /// The policy of an endpoint: wanted and in force.
    "kebab-case" EndpointPolicyStatus {
        spec: Option<EndpointPolicy>,
        realized: Option<EndpointPolicy>,
        proxy_policy_revision: i64,
    } always {
        proxy_statistics: Vec<serde_json::Value>,
    }
}
model! {
    /// A resolved policy.
    "kebab-case" EndpointPolicy {
        build: i64,
        policy_revision: i64,
        id: i64,
        /// `none`, `ingress`, `egress` or `both`; `audit-` before it where it only counts.
        policy_enabled: String,
        l4: Option<L4Policy>,
    } always {
        #[serde(with = "null_list")]
        allowed_ingress_identities: Vec<i64>,
        #[serde(with = "null_list")]
        allowed_egress_identities: Vec<i64>,
        #[serde(with = "null_list")]
        denied_ingress_identities: Vec<i64>,
        #[serde(with = "null_list")]
        denied_egress_identities: Vec<i64>,
    }
}
model! {
    /// Rules on ports.
    "kebab-case" L4Policy {} always { ingress: Vec<PolicyRule>, egress: Vec<PolicyRule>, }
}
model! {
    /// One rule, as JSON text, and what it came from.
    "kebab-case" PolicyRule {
        rule: String,
        derived_from_rules: Vec<Vec<String>>,
        rules_by_selector: BTreeMap<String, Vec<Vec<String>>>,
    }
}

model! {
    /// Body of `PUT /endpoint/{id}`.
    "kebab-case" EndpointChangeRequest {
        id: i64,
        container_id: String,
        container_netns_path: String,
        container_interface_name: String,
        interface_name: String,
        interface_index: i64,
        parent_interface_index: i64,
        mac: String,
        host_mac: String,
        addressing: Option<AddressPair>,
        labels: Vec<String>,
        k8s_pod_name: String,
        k8s_namespace: String,
        k8s_uid: String,
        /// Answer when the endpoint is ready, not before.
        sync_build_endpoint: bool,
        is_secondary_interface: bool,
        /// Decimal.
        netns_cookie: String,
        datapath_map_id: i64,
        policy_enabled: bool,
        pid: i64,
        properties: serde_json::Map<String, serde_json::Value>,
        datapath_configuration: Option<EndpointDatapathConfiguration>,
    } always {
        /// To be sent as `waiting-for-identity`.
        state: EndpointState,
    }
}
model! {
    /// Special wishes for the packet path.
    "kebab-case" EndpointDatapathConfiguration {
        require_arp_passthrough: bool,
        require_egress_prog: bool,
        external_ipam: bool,
        /// `None` is true.
        require_routing: Option<bool>,
        install_endpoint_route: bool,
        disable_sip_verification: bool,
    }
}
model! {
    /// Body of `DELETE /endpoint`.
    "kebab-case" EndpointBatchDelete { container_id: String, }
}
