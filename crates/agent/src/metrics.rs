// SPDX-License-Identifier: Apache-2.0
//! Metrics for Prometheus, under the names and labels that Cilium's dashboards and alerts read. Nothing is counted twice:
//! every scrape reads what the kernel's maps, the node's state and the mesh say at that moment.

mod families;
mod process;
mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use api::models::MetricValue;

use crate::listen::listen;
use crate::service::{Service, version};
use families as family;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use writer::Writer;

/// Serves metrics on the first of `addresses` that can be had, for ever.
pub(crate) async fn serve(service: Arc<Service>, addresses: Vec<SocketAddr>) {
    let mut registry = Registry::with_prefix(writer::PREFIX);
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
        write(&service, &mut Writer::Text(encoder))
    }
}

/// The same values as a list.
pub(crate) fn values(service: &Service) -> Result<Vec<MetricValue>, fmt::Error> {
    let mut list = Vec::new();
    write(service, &mut Writer::List(&mut list))?;
    Ok(list)
}

fn write(service: &Service, w: &mut Writer<'_>) -> fmt::Result {
    packets(service, w)?;
    node(service, w)?;
    maps(service, w)?;
    mesh(service, w)?;
    process::write(w)
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
    let drop = dropped
        .iter()
        .map(|m| (vec![m.reason.clone(), m.direction.clone()], m));
    let pass = passed.iter().map(|m| (vec![m.direction.clone()], m));
    let packets = drop.clone().map(|(labels, m)| (labels, m.packets));
    w.counters(&family::DROP_COUNT, packets)?;
    w.counters(
        &family::DROP_BYTES,
        drop.map(|(labels, m)| (labels, m.bytes)),
    )?;
    let packets = pass.clone().map(|(labels, m)| (labels, m.packets));
    w.counters(&family::FORWARD_COUNT, packets)?;
    w.counters(
        &family::FORWARD_BYTES,
        pass.map(|(labels, m)| (labels, m.bytes)),
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
    let one = |values: BTreeMap<&'static str, i64>| {
        values
            .into_iter()
            .map(|(word, n)| (vec![word.to_owned()], n))
    };
    w.gauge(&family::ENDPOINT, count)?;
    w.gauges(&family::ENDPOINT_STATE, one(states))?;
    w.gauges(&family::IDENTITY, one(identities))?;
    w.gauge(&family::POLICY, policies)?;
    w.gauge(&family::POLICY_MAX_REVISION, revision)?;
    w.gauges(&family::POLICY_ENFORCEMENT, one(enforced))?;
    w.gauge(&family::NODES, nodes)?;
    w.gauges(&family::ADDRESSES, one(BTreeMap::from(used)))?;
    let warnings = BTreeMap::from([("problem", notes), ("object", refused)]);
    w.gauges(&family::WARNINGS, one(warnings))?;
    let build = vec![version(), std::env::consts::ARCH.to_owned()];
    w.gauges(&family::VERSION, [(build, 1)])
}

/// How full the kernel's maps are.
fn maps(service: &Service, w: &mut Writer<'_>) -> fmt::Result {
    let all = service.pressure_list();
    let name = |map: &api::models::Pressure| vec![map.name.clone()];
    let share = |entries, capacity| entries as f64 / (capacity as f64).max(1.0);
    w.shares(
        &family::MAP_PRESSURE,
        all.iter()
            .map(|map| (name(map), share(map.entries, map.capacity))),
    )?;
    w.gauges(
        &family::MAP_CAPACITY,
        all.iter().map(|map| (name(map), map.capacity as i64)),
    )?;
    w.gauges(
        &family::MAP_FULL,
        all.iter().map(|map| (name(map), map.failures as i64)),
    )
}

/// Remote clusters.
fn mesh(service: &Service, w: &mut Writer<'_>) -> fmt::Result {
    let Some(mesh) = &service.mesh else {
        return Ok(());
    };
    let all = mesh.status();
    let own = service.core().config.cluster.to_string();
    let mut each = |family, value: fn(&clustermesh::RemoteStatus) -> i64| {
        let lines = all
            .iter()
            .map(|remote| (vec![own.clone(), remote.name.clone()], value(remote)));
        w.gauges(family, lines)
    };
    each(&family::REMOTE_NODES, |r| r.nodes as i64)?;
    each(&family::REMOTE_ENDPOINTS, |r| r.endpoints as i64)?;
    each(&family::REMOTE_IDENTITIES, |r| r.identities as i64)?;
    each(&family::REMOTE_REFUSED, |r| r.refused_rows as i64)?;
    each(&family::REMOTE_FAILURES, |r| r.failures as i64)?;
    each(&family::REMOTE_LAST_FAILURE, |r| {
        let since = r
            .last_failure
            .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        since.map_or(0, |since| since.as_secs() as i64)
    })?;
    each(&family::REMOTE_READY, |r| i64::from(r.ready))?;
    w.gauge(&family::REMOTE_CLUSTERS, all.len() as i64)
}
