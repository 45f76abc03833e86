// SPDX-License-Identifier: Apache-2.0
//! The nouns of the mesh: clusters, labels, selectors, identities, nodes, addresses, endpoints, services.
//!
//! Pure values and functions: no I/O, no clock, no async, no unsafe. Outside formats (JSON of etcd, YAML of
//! Kubernetes, bytes of BPF maps) are known by the crates that convert from and to these types.
#![forbid(unsafe_code)]

mod cluster;
mod endpoint;
mod identity;
mod ip;
mod labels;
mod node;
mod selector;
mod service;
mod service_objects;
mod services;

pub use cluster::{ClusterConfig, ClusterId, ClusterName, ClusterNameError};
pub use endpoint::{EndpointId, Namespace, Pod, PodKey};
pub use identity::{IdentityScheme, NumericIdentity, SchemeError, reserved};
pub use ip::{IpEntry, NamedPort, Protocol};
pub use labels::{Label, LabelFilter, LabelFilterError, Labels, LabelsError, keys};
pub use node::{AddressType, Node, NodeAddress, NodeName};
pub use selector::{Operator, Requirement, Selector};
pub use service::{Backend, Backends, Frontend};
pub use service_objects::{
    EndpointSlice, Family, NamespacedName, Service, ServicePort, SliceEndpoint, SlicePort,
};
pub use services::{
    EndpointState, FrontendRow, MAX_ENDPOINTS, ServiceChange, ServiceSettings, Services,
};
