// SPDX-License-Identifier: Apache-2.0
//! Ours, under `/isthmus/`: versions, warnings, and what is known about each remote cluster beyond Cilium's model.

use super::*;
use crate::Timestamp;

model! {
    /// Answer of `GET /isthmus/version`.
    "kebab-case" Version {
        /// Of the program.
        version: String,
        /// Of the own paths; see [`crate::API_VERSION`].
        api: u32,
        /// Of the layout of the kernel maps.
        abi: u32,
        /// `cluster/node`.
        node: String,
        /// Whether it takes endpoints: the first lists are there.
        ready: bool,
    } always {
        started: Timestamp,
    }
}
model! {
    /// Answer of `GET /isthmus/mesh`.
    "kebab-case" MeshReport { cluster: String, cluster_id: u32, clusters: Vec<MeshCluster>, }
}
model! {
    /// One remote cluster: what it is doing, why, since when.
    "kebab-case" MeshCluster {
        name: String,
        /// 0 until known.
        cluster_id: u32,
        /// `configured`, `connecting`, `waiting-for-config`, `syncing`, `ready`, `stale`, `refused`, …
        state: String,
        /// Why it is not (yet) ready; empty if it is.
        reason: String,
        /// Rows come from this node's disk, saved by an earlier run; the remote has not confirmed them yet.
        from_disk: bool,
        /// Rows refused now.
        refused: u64,
        /// Some of them.
        refused_rows: Vec<RefusedRow>,
        /// Rows whose keys went with their lease: their agents are away, the rows stay.
        orphans: u64,
        /// Reconnections.
        failures: u64,
        last_failure_msg: String,
        /// What is wrong with its rows on this node's disk.
        disk_error: String,
    } always {
        /// Since when `state` holds.
        since: Timestamp,
        /// When the remote was heard last.
        last_heard: Timestamp,
        last_failure: Timestamp,
        /// When the first of the orphans became one.
        orphans_since: Timestamp,
    }
}
model! {
    /// A row of a remote that was not accepted.
    "kebab-case" RefusedRow { key: String, reason: String, }
}
model! {
    /// Something the operator should look at, although the agent works.
    "kebab-case" Warning { text: String, } always { since: Timestamp, }
}
