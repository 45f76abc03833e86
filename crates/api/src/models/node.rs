// SPDX-License-Identifier: Apache-2.0
//! `GET /cluster/nodes`: all nodes of the mesh, or what changed since the client asked last.

use super::*;

model! {
    /// Answer of `GET /cluster/nodes`.
    "kebab-case" ClusterNodeStatus {
        /// To be sent with the next call, for changes only.
        client_id: i64,
        /// `cluster/node`.
        #[serde(rename = "self")]
        own_name: String,
    } always {
        #[serde(with = "null_list")]
        nodes_added: Vec<NodeElement>,
        #[serde(with = "null_list")]
        nodes_removed: Vec<NodeElement>,
    }
}
model! {
    /// One node.
    "kebab-case" NodeElement {
        /// `cluster/node`, bare if the cluster is `default`.
        name: String,
        primary_address: Option<NodeAddressing>,
        health_endpoint_address: Option<NodeAddressing>,
        ingress_address: Option<NodeAddressing>,
        /// `local`, `custom-resource`, `kvstore` or `clustermesh`.
        source: String,
    } always {
        #[serde(with = "null_list")]
        secondary_addresses: Vec<NodeAddressingElement>,
    }
}
model! {
    /// Addresses of both families.
    "kebab-case" NodeAddressing {
        ipv4: Option<NodeAddressingElement>,
        ipv6: Option<NodeAddressingElement>,
    }
}
model! {
    /// An address, and the pod network behind it.
    "kebab-case" NodeAddressingElement {
        enabled: bool,
        ip: String,
        /// Pod network, CIDR.
        alloc_range: String,
        /// `InternalIP`, …
        address_type: String,
    }
}
