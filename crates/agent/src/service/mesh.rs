// SPDX-License-Identifier: Apache-2.0
//! Remote clusters in the words of the API.

use api::Timestamp;
use api::models::*;

pub(super) fn remote_cluster(remote: &clustermesh::RemoteStatus) -> RemoteCluster {
    let config = remote.config.as_ref();
    RemoteCluster {
        name: remote.name.clone(),
        ready: remote.ready,
        connected: remote.connected,
        status: remote_text(remote),
        // Nobody knows before it was looked for.
        config: (config.is_some() || remote.connected).then(|| RemoteClusterConfig {
            required: true,
            retrieved: config.is_some(),
            cluster_id: config.map_or(0, |config| config.id.0.into()),
            kvstoremesh: config.is_some_and(|config| config.cached),
            sync_canaries: config.is_some_and(|config| config.synced_canaries),
            service_exports_enabled: config.and_then(|config| config.service_exports_enabled),
            endpoint_slices_export_mode: config
                .map(|config| config.endpoint_slices_export_mode.clone())
                .unwrap_or_default(),
        }),
        synced: Some(RemoteClusterSynced {
            nodes: remote.synced.nodes,
            endpoints: remote.synced.endpoints,
            identities: remote.synced.identities,
            // Nothing of this kind is watched, so nothing is missing once rows are read; clients need the field.
            services: remote.connected && config.is_some(),
            ..Default::default()
        }),
        num_nodes: remote.nodes as i64,
        num_endpoints: remote.endpoints as i64,
        num_identities: remote.identities as i64,
        num_failures: remote.failures as i64,
        last_failure: remote
            .last_failure
            .map_or(Timestamp::NEVER, Timestamp::from),
        ..Default::default()
    }
}

fn remote_text(remote: &clustermesh::RemoteStatus) -> String {
    let etcd = &remote.etcd;
    let connected = usize::from(remote.connected);
    let counts = format!(
        "etcd: {connected}/{} connected",
        etcd.endpoints.len().max(1)
    );
    let id = if etcd.cluster_id.is_empty() {
        String::new()
    } else {
        format!(", ID: {}", etcd.cluster_id)
    };
    let reason = if remote.reason.is_empty() {
        String::new()
    } else {
        format!("; {}: {}", remote.state, remote.reason)
    };
    // A connection begins with a read that a quorum answers, and its watches end when the member has no leader.
    let quorum = if remote.connected { "true" } else { "unknown" };
    format!("{counts}, has-quorum={quorum}{id}{reason}")
}

pub(super) fn mesh_cluster(remote: &clustermesh::RemoteStatus) -> MeshCluster {
    let time = |at: Option<std::time::SystemTime>| at.map_or(Timestamp::NEVER, Timestamp::from);
    MeshCluster {
        name: remote.name.clone(),
        cluster_id: remote
            .config
            .as_ref()
            .map_or(0, |config| config.id.0.into()),
        state: remote.state.to_string(),
        reason: remote.reason.clone(),
        from_disk: remote.served_from_disk,
        refused: remote.refused_rows,
        refused_rows: remote
            .refused
            .iter()
            .map(|row| RefusedRow {
                key: row.key.clone(),
                reason: row.reason.clone(),
            })
            .collect(),
        orphans: remote.orphans as u64,
        orphans_since: time(remote.orphans_since),
        failures: remote.failures,
        last_failure_msg: remote.last_error.clone(),
        disk_error: remote.disk_error.clone(),
        since: remote.since.into(),
        last_heard: time(remote.etcd.last_answer),
        last_failure: time(remote.last_failure),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_configuration_that_was_not_looked_for_is_not_missing() {
        let now = SystemTime::UNIX_EPOCH;
        let mut remote = clustermesh::RemoteStatus::misconfigured("cluster7", now, "".into());
        assert_eq!(remote_cluster(&remote).config, None);
        remote.connected = true;
        let config = remote_cluster(&remote).config.expect("looked for");
        assert!(config.required && !config.retrieved);
    }
}
