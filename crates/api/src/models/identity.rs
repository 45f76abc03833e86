// SPDX-License-Identifier: Apache-2.0
//! `/identity` and `/ip`: numbers, labels, and the addresses behind them.

use super::*;

model! {
    /// A security identity.
    "kebab-case" Identity {
        id: i64,
        labels: Vec<String>,
        #[serde(rename = "labelsSHA256")]
        labels_sha256: String,
    }
}
model! {
    /// An identity in use on this node, with the number of its endpoints.
    "camelCase" IdentityEndpoints { identity: Option<Identity>, ref_count: i64, }
}
model! {
    /// An address or prefix, and who is behind it.
    "camelCase" IpListEntry {
        #[serde(rename = "hostIP")]
        host_ip: String,
        encrypt_key: i64,
        metadata: Option<IpListMetadata>,
    } always {
        cidr: String,
        identity: i64,
    }
}
model! {
    /// The pod behind an address. Absent for addresses without Kubernetes metadata.
    "kebab-case" IpListMetadata { name: String, namespace: String, source: String, }
}
