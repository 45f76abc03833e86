// SPDX-License-Identifier: Apache-2.0
//! What a cluster says about itself (Cilium's `pkg/clustermesh/types`, `CiliumClusterConfig`).

use bytes::Bytes;
use model::{ClusterConfig, ClusterId};
use serde::{Deserialize, Serialize};

use super::{DecodeError, MAX_OBJECT, json, text, to_json};

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Capabilities {
    #[serde(skip_serializing_if = "is_false")]
    synced_canaries: bool,
    #[serde(skip_serializing_if = "is_false")]
    cached: bool,
    #[serde(skip_serializing_if = "is_zero")]
    max_connected_clusters: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_exports_enabled: Option<bool>,
    #[serde(skip_serializing_if = "String::is_empty")]
    endpoint_slices_export_mode: String,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Wire {
    #[serde(skip_serializing_if = "is_zero")]
    id: u32,
    capabilities: Capabilities,
}

/// The value of a cluster-config key.
pub fn encode_cluster_config(config: &ClusterConfig) -> Bytes {
    to_json(&Wire {
        id: config.id.0.into(),
        capabilities: Capabilities {
            synced_canaries: config.synced_canaries,
            cached: config.cached,
            max_connected_clusters: config.max_connected_clusters,
            service_exports_enabled: config.service_exports_enabled,
            endpoint_slices_export_mode: config.endpoint_slices_export_mode.clone(),
        },
    })
}

/// Reads the value of a cluster-config key. An absent id is 0; whether that is acceptable is the caller's to say.
pub fn decode_cluster_config(key: &str, value: &[u8]) -> Result<ClusterConfig, DecodeError> {
    let Wire { id, capabilities } = json(key, value, MAX_OBJECT)?;
    let id = u16::try_from(id)
        .map_err(|_| DecodeError::new(key, "id", format!("{id} is not a cluster id")))?;
    // Newer versions may know others, and nothing here depends on it.
    let mode = capabilities.endpoint_slices_export_mode;
    text(key, "endpointSlicesExportMode", &mode, 64)?;
    Ok(ClusterConfig {
        id: ClusterId(id),
        synced_canaries: capabilities.synced_canaries,
        cached: capabilities.cached,
        max_connected_clusters: capabilities.max_connected_clusters,
        service_exports_enabled: capabilities.service_exports_enabled,
        endpoint_slices_export_mode: mode,
    })
}
