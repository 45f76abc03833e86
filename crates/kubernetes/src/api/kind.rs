// SPDX-License-Identifier: Apache-2.0
//! The kinds that are followed.

use kube::core::{ApiResource, GroupVersionKind};

use crate::services;

/// A kind of object at the API server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// `v1 Namespace`.
    Namespace,
    /// `v1 Pod`, those of the own node.
    Pod,
    /// `v1 Service`.
    Service,
    /// `discovery.k8s.io/v1 EndpointSlice`.
    EndpointSlice,
    /// `cilium.io/v2 CiliumNetworkPolicy`.
    CiliumNetworkPolicy,
    /// `cilium.io/v2 CiliumClusterwideNetworkPolicy`.
    CiliumClusterwideNetworkPolicy,
    /// `networking.k8s.io/v1 NetworkPolicy`.
    NetworkPolicy,
    /// `cilium.io/v2 CiliumCIDRGroup`.
    CiliumCIDRGroup,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 8] = [
        Kind::Namespace,
        Kind::Pod,
        Kind::Service,
        Kind::EndpointSlice,
        Kind::CiliumNetworkPolicy,
        Kind::CiliumClusterwideNetworkPolicy,
        Kind::NetworkPolicy,
        Kind::CiliumCIDRGroup,
    ];

    /// As in `kind:`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Namespace => "Namespace",
            Kind::Pod => "Pod",
            Kind::Service => "Service",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::CiliumNetworkPolicy => "CiliumNetworkPolicy",
            Kind::CiliumClusterwideNetworkPolicy => "CiliumClusterwideNetworkPolicy",
            Kind::NetworkPolicy => "NetworkPolicy",
            Kind::CiliumCIDRGroup => "CiliumCIDRGroup",
        }
    }

    /// As in a path.
    pub const fn plural(self) -> &'static str {
        match self {
            Kind::Namespace => "namespaces",
            Kind::Pod => "pods",
            Kind::Service => "services",
            Kind::EndpointSlice => "endpointslices",
            Kind::CiliumNetworkPolicy => "ciliumnetworkpolicies",
            Kind::CiliumClusterwideNetworkPolicy => "ciliumclusterwidenetworkpolicies",
            Kind::NetworkPolicy => "networkpolicies",
            Kind::CiliumCIDRGroup => "ciliumcidrgroups",
        }
    }

    /// Whether its objects are policies.
    pub(super) const fn is_policy(self) -> bool {
        match self {
            Kind::CiliumNetworkPolicy
            | Kind::CiliumClusterwideNetworkPolicy
            | Kind::NetworkPolicy => true,
            Kind::Namespace
            | Kind::Pod
            | Kind::Service
            | Kind::EndpointSlice
            | Kind::CiliumCIDRGroup => false,
        }
    }

    const fn group_version(self) -> (&'static str, &'static str) {
        match self {
            Kind::Namespace | Kind::Pod | Kind::Service => ("", "v1"),
            Kind::EndpointSlice => ("discovery.k8s.io", "v1"),
            Kind::CiliumNetworkPolicy
            | Kind::CiliumClusterwideNetworkPolicy
            | Kind::CiliumCIDRGroup => ("cilium.io", "v2"),
            Kind::NetworkPolicy => ("networking.k8s.io", "v1"),
        }
    }

    /// As in `apiVersion:`.
    pub fn api_version(self) -> String {
        match self.group_version() {
            ("", version) => version.to_owned(),
            (group, version) => format!("{group}/{version}"),
        }
    }

    pub(super) fn resource(self) -> ApiResource {
        let (group, version) = self.group_version();
        let gvk = GroupVersionKind::gvk(group, version, self.as_str());
        ApiResource::from_gvk_with_plural(&gvk, self.plural())
    }

    /// What of it a node needs, by fields.
    pub(super) fn field_selector(self, node: &str) -> Option<String> {
        matches!(self, Kind::Pod).then(|| format!("spec.nodeName={node}"))
    }

    /// What of it a node needs, by labels: not what another proxy serves, nor endpoints of services without a ClusterIP.
    pub(super) fn label_selector(self) -> Option<String> {
        match self {
            Kind::Service => Some(format!("!{}", services::PROXY_NAME)),
            Kind::EndpointSlice => Some(format!(
                "{},!{},!{}",
                services::SERVICE_NAME,
                services::PROXY_NAME,
                services::HEADLESS
            )),
            _ => None,
        }
    }
}
