// SPDX-License-Identifier: Apache-2.0
//! Metrics for Prometheus, under the names and labels that Cilium's dashboards and alerts read. Nothing is counted twice:
//! every scrape reads what the kernel's maps, the node's state and the mesh say at that moment.

mod process;
mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use crate::listen::listen;
use crate::service::{Service, version};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use writer::Writer;

/// Serves metrics on the first of `addresses` that can be had, for ever.
pub(crate) async fn serve(service: Arc<Service>, addresses: Vec<SocketAddr>) {
    let mut registry = Registry::with_prefix("cilium");
    registry.register_collector(Box::new(Source(Arc::downgrade(&service))));
    let registry = Arc::new(registry);
    let metrics = |listener| {
        let registry = registry.clone();
        let render = move || {
            let mut text = String::new();
            encode(&mut text, &registry).expect("a string takes everything");
            text
        };
        api::serve_metrics(listener, render)
    };
    listen(&service, "metrics", &addresses, metrics).await;
}

/// Where scrapes read. Weak: the agent's end does not wait for a server.
struct Source(Weak<Service>);

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

impl Collector for Source {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(service) = self.0.upgrade() else {
            return Ok(());
        };
        let mut writer = Writer::new(encoder);
        packets(&service, &mut writer)?;
        node(&service, &mut writer)?;
        maps(&service, &mut writer)?;
        mesh(&service, &mut writer)?;
        process::write(&mut writer)
    }
}

/// What the programs counted.
fn packets(service: &Service, w: &mut Writer<'_>) -> fmt::Result {
    // A map that cannot be read is told in status; its metrics are absent, which alerts can see.
    let Ok(all) = service.metric_list() else {
        return Ok(());
    };
    let is_drop = |code: u8| code != 0;
    let dropped: Vec<_> = all.iter().filter(|m| is_drop(m.code)).collect();
    let passed: Vec<_> = all.iter().filter(|m| !is_drop(m.code)).collect();
    w.counters(
        "drop_count",
        "Packets dropped, by reason and direction",
        dropped.iter().map(|m| {
            (
                vec![
                    ("reason", m.reason.clone()),
                    ("direction", m.direction.clone()),
                ],
                m.packets,
            )
        }),
    )?;
    w.counters(
        "drop_bytes",
        "Bytes dropped, by reason and direction",
        dropped.iter().map(|m| {
            (
                vec![
                    ("reason", m.reason.clone()),
                    ("direction", m.direction.clone()),
                ],
                m.bytes,
            )
        }),
    )?;
    w.counters(
        "forward_count",
        "Packets forwarded, by direction",
        passed
            .iter()
            .map(|m| (vec![("direction", m.direction.clone())], m.packets)),
    )?;
    w.counters(
        "forward_bytes",
        "Bytes forwarded, by direction",
        passed
            .iter()
            .map(|m| (vec![("direction", m.direction.clone())], m.bytes)),
    )
}

/// Endpoints, identities, policy, addresses, nodes.
fn node(service: &Service, w: &mut Writer<'_>) -> fmt::Result {
    let core = service.core();
    let mut states: BTreeMap<&'static str, i64> = BTreeMap::new();
    let mut enforced: BTreeMap<&'static str, i64> = BTreeMap::new();
    for (id, endpoint) in &core.endpoints {
        *states.entry(endpoint.state.as_str()).or_default() += 1;
        let word = match core.engine.enforcement(*id) {
            (true, true) => "both",
            (true, false) => "ingress",
            (false, true) => "egress",
            (false, false) => "none",
        };
        *enforced.entry(word).or_default() += 1;
    }
    let mut identities: BTreeMap<&'static str, i64> = BTreeMap::new();
    for id in core.identities.keys() {
        let kind = if id.is_reserved() {
            "reserved"
        } else if core.config.scheme.cluster_of(*id) == Some(core.config.cluster_id) {
            "cluster_local"
        } else {
            "remote"
        };
        *identities.entry(kind).or_default() += 1;
    }
    let count = core.endpoints.len() as i64;
    let nodes = core.nodes.len() as i64 + 1;
    let policies = core.engine.policies().count() as i64;
    let revision = core.engine.revision() as i64;
    let used = [("ipv4", &core.pool4), ("ipv6", &core.pool6)]
        .map(|(family, pool)| (family, pool.as_ref().map_or(0, |pool| pool.used() as i64)));
    let notes = core.notes.len() as i64;
    let refused = core.problems.len() as i64;
    drop(core);
    let one = |name, values: BTreeMap<&'static str, i64>| {
        values
            .into_iter()
            .map(move |(word, n)| (vec![(name, word.to_owned())], n))
            .collect::<Vec<_>>()
    };
    w.gauge("endpoint", "Endpoints of this node", count)?;
    w.gauges(
        "endpoint_state",
        "Endpoints by state",
        one("endpoint_state", states),
    )?;
    w.gauges(
        "identity",
        "Identities known, by type",
        one("type", identities),
    )?;
    w.gauge("policy", "Policies loaded", policies)?;
    w.gauge("policy_max_revision", "Highest policy revision", revision)?;
    w.gauges(
        "policy_endpoint_enforcement_status",
        "Endpoints by enforcement",
        one("enforcement", enforced),
    )?;
    w.gauge(
        "nodes_all_num",
        "Nodes of the mesh, this one included",
        nodes,
    )?;
    w.gauges(
        "ip_addresses",
        "Addresses in use, by family",
        used.map(|(family, n)| (vec![("family", family.to_owned())], n)),
    )?;
    w.gauges(
        "errors_warnings",
        "What status warns of, by kind",
        [
            (vec![("kind", "problem".to_owned())], notes),
            (vec![("kind", "object".to_owned())], refused),
        ],
    )?;
    w.gauges(
        "version",
        "Version of the agent",
        [(
            vec![
                ("version", version()),
                ("arch", std::env::consts::ARCH.to_owned()),
            ],
            1,
        )],
    )
}

/// How full the kernel's maps are.
fn maps(service: &Service, w: &mut Writer<'_>) -> fmt::Result {
    let all = service.pressure_list();
    let label = |name: &str| vec![("map_name", name.to_owned())];
    w.shares(
        "bpf_map_pressure",
        "Entries per capacity of each map, 0 to 1",
        all.iter().map(|map| {
            (
                label(&map.name),
                map.entries as f64 / (map.capacity as f64).max(1.0),
            )
        }),
    )?;
    w.gauges(
        "bpf_map_capacity",
        "Entries that fit each map",
        all.iter()
            .map(|map| (vec![("map_group", map.name.clone())], map.capacity as i64)),
    )?;
    w.gauges(
        "bpf_map_full",
        "1 while rows are missing in a map because it is full",
        all.iter()
            .map(|map| (label(&map.name), map.failures as i64)),
    )
}

/// Remote clusters.
fn mesh(service: &Service, w: &mut Writer<'_>) -> fmt::Result {
    let Some(mesh) = &service.mesh else {
        return Ok(());
    };
    let all = mesh.status();
    let own = service.core().config.cluster.to_string();
    let label = |name: &str| {
        vec![
            ("source_cluster", own.clone()),
            ("target_cluster", name.to_owned()),
        ]
    };
    let each = |value: fn(&clustermesh::RemoteStatus) -> i64| {
        all.iter()
            .map(|remote| (label(&remote.name), value(remote)))
            .collect::<Vec<_>>()
    };
    w.gauge(
        "clustermesh_remote_clusters",
        "Remote clusters configured",
        all.len() as i64,
    )?;
    w.gauges(
        "clustermesh_remote_cluster_nodes",
        "Nodes of each remote cluster",
        each(|r| r.nodes as i64),
    )?;
    w.gauges(
        "clustermesh_remote_cluster_endpoints",
        "Addresses of each remote cluster",
        each(|r| r.endpoints as i64),
    )?;
    w.gauges(
        "clustermesh_remote_cluster_identities",
        "Identities of each remote cluster",
        each(|r| r.identities as i64),
    )?;
    w.gauges(
        "clustermesh_remote_cluster_refused_rows",
        "Rows of each remote cluster that are refused now",
        each(|r| r.refused_rows as i64),
    )?;
    w.gauges(
        "clustermesh_remote_cluster_failures",
        "Reconnections to each remote cluster",
        each(|r| r.failures as i64),
    )?;
    w.gauges(
        "clustermesh_remote_cluster_last_failure_ts",
        "Second of the last failure, 0 without",
        each(|r| {
            let since = r
                .last_failure
                .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
            since.map_or(0, |since| since.as_secs() as i64)
        }),
    )?;
    w.gauges(
        "clustermesh_remote_cluster_readiness_status",
        "1 while a remote cluster is ready",
        each(|r| i64::from(r.ready)),
    )
}
