// SPDX-License-Identifier: Apache-2.0
//! The remote clusters in `status`: Cilium's lines, then what only our agent knows.

use api::Timestamp;
use api::models::{ClusterMeshStatus, MeshCluster, MeshReport, RemoteCluster};

use crate::text::{ago, clean};

/// Refused rows that are shown per cluster.
const SHOWN_ROWS: usize = 3;

/// The line `ClusterMesh:` and, for those that are not ready (or for `all`), their details.
pub(super) fn lines(
    mesh: &ClusterMeshStatus,
    own: Option<&MeshReport>,
    all: bool,
    now: Timestamp,
) -> String {
    let ready = mesh.clusters.iter().filter(|cluster| cluster.ready).count();
    let total = mesh.clusters.len();
    let mut text = format!("ClusterMesh:\t{ready}/{total} remote clusters ready\n");
    for cluster in mesh.clusters.iter().filter(|cluster| all || !cluster.ready) {
        text += &cilium(cluster, now);
        let own = own.and_then(|own| own.clusters.iter().find(|c| c.name == cluster.name));
        if let Some(own) = own {
            text += &ours(own, now);
        }
    }
    text
}

fn cilium(cluster: &RemoteCluster, now: Timestamp) -> String {
    let state = if cluster.ready { "ready" } else { "not-ready" };
    let mut text = format!(
        "   {}: {state}, {} nodes, {} endpoints, {} identities, {} services, {} endpoint slices, \
         {} MCS-API service exports, {} reconnections (last: {})\n",
        clean(&cluster.name),
        cluster.num_nodes,
        cluster.num_endpoints,
        cluster.num_identities,
        cluster.num_shared_services,
        cluster.num_endpoint_slices,
        cluster.num_service_exports,
        cluster.num_failures,
        ago(cluster.last_failure, now),
    );
    text += &format!("   └  {}\n", clean(&cluster.status));
    text += &format!("   └  remote configuration: {}\n", configuration(cluster));
    if let Some(synced) = &cluster.synced {
        text += &format!(
            "   └  synchronization status: nodes={}, endpoints={}, identities={}, services={}",
            synced.nodes, synced.endpoints, synced.identities, synced.services
        );
        if let Some(slices) = synced.endpoint_slices {
            text += &format!(", endpoint-slices={slices}");
        }
        if let Some(exports) = synced.service_exports {
            text += &format!(", service-exports={exports}");
        }
        text.push('\n');
    }
    text
}

fn configuration(cluster: &RemoteCluster) -> String {
    let Some(config) = &cluster.config else {
        return "expected=unknown, retrieved=unknown".into();
    };
    let mut text = format!(
        "expected={}, retrieved={}",
        config.required, config.retrieved
    );
    if config.retrieved {
        let exports = match config.service_exports_enabled {
            Some(true) => "enabled",
            Some(false) => "disabled",
            None => "unsupported",
        };
        let mode = match config.endpoint_slices_export_mode.as_str() {
            "" => "services-only",
            mode => mode,
        };
        text += &format!(
            ", cluster-id={}, kvstoremesh={}, sync-canaries={}, service-exports={exports}, endpoint-slice-export-mode={}",
            config.cluster_id,
            config.kvstoremesh,
            config.sync_canaries,
            clean(mode)
        );
    }
    text
}

fn ours(cluster: &MeshCluster, now: Timestamp) -> String {
    let mut text = format!("   └  state: {}", clean(&cluster.state));
    if !cluster.since.is_never() {
        text += &format!(" since {} ({})", cluster.since, ago(cluster.since, now));
    }
    if !cluster.reason.is_empty() {
        text += &format!(": {}", clean(&cluster.reason));
    }
    text.push('\n');
    if !cluster.last_heard.is_never() {
        text += &format!("   └  last heard: {}\n", ago(cluster.last_heard, now));
    }
    if cluster.from_disk {
        text += "   └  served from disk: rows that an earlier run saved\n";
    }
    if cluster.orphans > 0 {
        text += &format!(
            "   └  orphaned rows: {}, kept since their agents went away {}\n",
            cluster.orphans,
            ago(cluster.orphans_since, now)
        );
    }
    if cluster.refused > 0 {
        text += &format!("   └  refused rows: {}\n", cluster.refused);
        for row in cluster.refused_rows.iter().take(SHOWN_ROWS) {
            text += &format!("      - {}: {}\n", clean(&row.key), clean(&row.reason));
        }
    }
    if !cluster.last_failure_msg.is_empty() {
        let (message, when) = (
            clean(&cluster.last_failure_msg),
            ago(cluster.last_failure, now),
        );
        text += &format!("   └  last failure: {message} ({when})\n");
    }
    if !cluster.disk_error.is_empty() {
        text += &format!("   └  rows on disk: {}\n", clean(&cluster.disk_error));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::models::{RefusedRow, RemoteClusterConfig, RemoteClusterSynced};

    #[test]
    fn a_stale_cluster_tells_why_and_since_when() {
        let at = |text: &str| serde_json::from_value(text.into()).expect("a time");
        let now: Timestamp = at("2026-05-04T10:01:02Z");
        let mesh = ClusterMeshStatus {
            clusters: vec![RemoteCluster {
                name: "west".into(),
                num_nodes: 2,
                num_failures: 2,
                last_failure: at("2026-05-04T10:00:00Z"),
                status: "etcd: 0/1 connected".into(),
                config: Some(RemoteClusterConfig {
                    required: true,
                    retrieved: true,
                    cluster_id: 2,
                    sync_canaries: true,
                    ..Default::default()
                }),
                synced: Some(RemoteClusterSynced {
                    nodes: true,
                    endpoint_slices: Some(false),
                    service_exports: Some(true),
                    ..Default::default()
                }),
                ..Default::default()
            }],
        };
        let own = MeshReport {
            clusters: vec![MeshCluster {
                name: "west".into(),
                state: "stale".into(),
                reason: "no answer to a probe".into(),
                since: at("2026-05-04T10:00:50Z"),
                last_heard: at("2026-05-04T10:00:40Z"),
                from_disk: true,
                orphans: 3,
                orphans_since: at("2026-05-04T10:00:02Z"),
                refused: 1,
                refused_rows: vec![RefusedRow {
                    key: "cilium/state/ip/v1/default/10.0.0.1\x1b[2J".into(),
                    reason: "inside our own pod network".into(),
                }],
                last_failure_msg: "connection refused".into(),
                last_failure: at("2026-05-04T10:00:00Z"),
                disk_error: "no space left".into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        assert_eq!(
            lines(&mesh, Some(&own), false, now),
            "ClusterMesh:\t0/1 remote clusters ready
   west: not-ready, 2 nodes, 0 endpoints, 0 identities, 0 services, 0 endpoint slices, 0 MCS-API service exports, 2 reconnections (last: 1m2s ago)
   └  etcd: 0/1 connected
   └  remote configuration: expected=true, retrieved=true, cluster-id=2, kvstoremesh=false, sync-canaries=true, service-exports=unsupported, endpoint-slice-export-mode=services-only
   └  synchronization status: nodes=true, endpoints=false, identities=false, services=false, endpoint-slices=false, service-exports=true
   └  state: stale since 2026-05-04T10:00:50.000Z (12s ago): no answer to a probe
   └  last heard: 22s ago
   └  served from disk: rows that an earlier run saved
   └  orphaned rows: 3, kept since their agents went away 1m0s ago
   └  refused rows: 1
      - cilium/state/ip/v1/default/10.0.0.1\u{fffd}[2J: inside our own pod network
   └  last failure: connection refused (1m2s ago)
   └  rows on disk: no space left
"
        );
        let unknown = ClusterMeshStatus {
            clusters: vec![RemoteCluster::default()],
        };
        let text = lines(&unknown, None, false, now);
        assert!(text.contains("expected=unknown, retrieved=unknown"));
    }
}
