// SPDX-License-Identifier: Apache-2.0
//! `status`.

use std::process::ExitCode;

use api::models::*;
use api::{Client, StatusQuery, Timestamp};

use super::{clusters, datapath};
use crate::args::StatusArgs;
use crate::table::align;
use crate::text::{ago, clean, clean_all};
use crate::{Error, output};

/// Map fill, percent, from which on it is shown.
const PRESSURE_SHOWN: u64 = 90;

/// What our agent knows beyond Cilium's model.
#[derive(Default)]
pub(super) struct Own {
    pub(super) mesh: Option<MeshReport>,
    pub(super) warnings: Vec<Warning>,
    pub(super) pressure: Vec<Pressure>,
}

/// What is shown in full.
#[derive(Default, Clone, Copy)]
pub(super) struct Detail {
    pub(super) clusters: bool,
    pub(super) addresses: bool,
    pub(super) controllers: bool,
    pub(super) verbose: bool,
}

pub(super) async fn run(client: Client, args: StatusArgs) -> Result<ExitCode, Error> {
    let client = client.with_timeout(args.timeout);
    let query = StatusQuery {
        brief: args.brief,
        require_k8s_connectivity: args.require_k8s_connectivity,
    };
    let status = client.status(query).await?;
    if let Some(format) = &args.output.output {
        output::print(&format.text(&status)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = if args.brief {
        brief(&status)
    } else {
        let own = Own {
            mesh: Some(client.mesh().await?),
            warnings: client.warnings().await?,
            pressure: client.pressure().await?,
        };
        let detail = Detail {
            clusters: args.all_clusters || args.verbose,
            addresses: args.all_addresses || args.verbose,
            controllers: args.all_controllers || args.verbose,
            verbose: args.verbose,
        };
        full(&status, &own, detail, Timestamp::now())
    };
    output::print(&text)?;
    Ok(match status.cilium.map(|cilium| cilium.state) {
        Some(State::Ok | State::Disabled) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// `OK`, or the first thing that fails.
pub(super) fn brief(status: &StatusResponse) -> String {
    let kubernetes = status.kubernetes.as_ref();
    let kubernetes = kubernetes.map(|k| Status::new(k.state, k.msg.clone()));
    let health = status
        .cluster
        .as_ref()
        .and_then(|c| c.cilium_health.clone());
    let parts = [
        ("kvstore", status.kvstore.clone()),
        ("kubernetes", kubernetes),
        ("cilium", status.cilium.clone()),
        ("cilium-health", health),
    ];
    for (name, part) in parts {
        if let Some(part) = part.filter(|p| !matches!(p.state, State::Ok | State::Disabled)) {
            return format!("error in {name}: {}\n", clean(&part.msg));
        }
    }
    let failing = status.controllers.iter().find(|c| is_failing(c));
    match failing {
        Some(controller) => {
            let runs = controller.status.clone().unwrap_or_default();
            let (name, why) = (clean(&controller.name), clean(&runs.last_failure_msg));
            format!("error in controller {name}: {why}\n")
        }
        None => "OK\n".into(),
    }
}

fn is_failing(controller: &ControllerStatus) -> bool {
    let runs = controller.status.as_ref();
    runs.is_some_and(|runs| runs.consecutive_failure_count > 0)
}

/// The table.
pub(super) fn full(status: &StatusResponse, own: &Own, detail: Detail, now: Timestamp) -> String {
    let mut text = head(status, now);
    text += &addresses(status, detail.addresses);
    if let Some(mesh) = &status.cluster_mesh {
        text += &clusters::lines(mesh, own.mesh.as_ref(), detail.clusters, now);
    }
    text += &datapath::lines(status, detail.verbose);
    text += &controllers(&status.controllers, detail.controllers, now);
    text += &tail(status);
    if detail.verbose {
        text += &datapath::maps(status);
    }
    if let Some(encryption) = &status.encryption {
        let (mode, msg) = (clean(&encryption.mode), clean(&encryption.msg));
        text += &format!("Encryption:\t{mode}\t{msg}\n");
    }
    text += "Cluster health:\tProbe disabled\n";
    text += &ours(own, now);
    align(&text)
}

fn head(status: &StatusResponse, now: Timestamp) -> String {
    let mut text = String::new();
    let mut line = |label: &str, cells: String| text += &format!("{label}:\t{cells}\n");
    let pair = |part: &Status| format!("{}\t{}", part.state.as_str(), clean(&part.msg));
    if let Some(kvstore) = &status.kvstore {
        line("KVStore", pair(kvstore));
    }
    if let Some(k8s) = &status.kubernetes {
        line(
            "Kubernetes",
            format!("{}\t{}", k8s.state.as_str(), clean(&k8s.msg)),
        );
        if k8s.state != State::Disabled {
            let mut apis = clean_all(&k8s.k8s_api_versions);
            apis.sort();
            line("Kubernetes APIs", format!("{apis:?}"));
        }
    }
    if let Some(kpr) = &status.kube_proxy_replacement {
        line(
            "KubeProxyReplacement",
            format!("{}\t{}", clean(&kpr.mode), devices(kpr)),
        );
    }
    if let Some(firewall) = &status.host_firewall {
        let devices = clean_all(&firewall.devices).join(", ");
        match firewall.mode.as_str() {
            "Enabled" => line("Host firewall", format!("Enabled\t[{devices}]")),
            mode => line("Host firewall", clean(mode)),
        }
    }
    if let Some(srv6) = &status.srv6 {
        match srv6.enabled {
            true => line("SRv6", format!("Enabled\t[{}]", clean(&srv6.encap_mode))),
            false => line("SRv6", "Disabled".into()),
        }
    }
    if let Some(chaining) = &status.cni_chaining {
        line("CNI Chaining", clean(&chaining.mode));
    }
    if let Some(file) = &status.cni_file {
        line("CNI Config file", clean(&file.msg));
    }
    if let Some(cilium) = &status.cilium {
        line(
            "Cilium",
            format!("{}   {}", cilium.state.as_str(), clean(&cilium.msg)),
        );
    }
    if !status.stale.is_empty() {
        let probes = status.stale.iter();
        let probes = probes.map(|(name, since)| format!("{} ({})", clean(name), ago(*since, now)));
        line("Stale status", probes.collect::<Vec<_>>().join(", "));
    }
    line("NodeMonitor", monitor(status.node_monitor.as_ref()));
    let health = status
        .cluster
        .as_ref()
        .and_then(|c| c.cilium_health.as_ref());
    if let Some(health) = health {
        line("Cilium health daemon", pair(health));
    }
    text
}

fn devices(kpr: &KubeProxyReplacement) -> String {
    if kpr.mode == "False" {
        return String::new();
    }
    let devices = kpr.device_list.iter().map(|device| {
        let addresses = clean_all(&device.ip);
        let addresses = addresses.iter().filter(|ip| !ip.is_empty());
        let words = std::iter::once(clean(&device.name)).chain(addresses.cloned());
        let text = words.collect::<Vec<_>>().join(" ");
        let direct = device.name == kpr.direct_routing_device;
        text + if direct { " (Direct Routing)" } else { "" }
    });
    format!("[{}]", devices.collect::<Vec<_>>().join(", "))
}

fn monitor(monitor: Option<&MonitorStatus>) -> String {
    let Some(m) = monitor else {
        return "Disabled".into();
    };
    let mut text = format!(
        "Listening for events on {} CPUs with {}x{} of shared memory",
        m.cpus, m.npages, m.pagesize
    );
    if m.lost + m.unknown > 0 {
        text += &format!(
            "\n\t{} events lost, {} unknown notifications",
            m.lost, m.unknown
        );
    }
    text
}

fn addresses(status: &StatusResponse, all: bool) -> String {
    let Some(ipam) = &status.ipam else {
        return String::new();
    };
    let mut text = format!("IPAM:\t{}\n", clean(&ipam.status));
    if all {
        text += "Allocated addresses:\n";
        for (ip, owner) in &ipam.allocations {
            text += &format!("  {} ({})\n", clean(ip), clean(owner));
        }
    }
    text
}

fn controllers(controllers: &[ControllerStatus], all: bool, now: Timestamp) -> String {
    if controllers.is_empty() {
        return String::new();
    }
    let healthy = controllers.iter().filter(|c| !is_failing(c)).count();
    let mut text = format!(
        "Controller Status:\t{healthy}/{} healthy\n",
        controllers.len()
    );
    let mut shown: Vec<_> = controllers
        .iter()
        .filter(|c| all || is_failing(c))
        .collect();
    shown.sort_by(|a, b| a.name.cmp(&b.name));
    if !shown.is_empty() {
        text += "\u{c}  Name\tLast success\tLast error\tCount\tMessage\n";
    }
    let table = !shown.is_empty();
    for controller in shown {
        let runs = controller.status.clone().unwrap_or_default();
        let message = match clean(&runs.last_failure_msg) {
            message if message.is_empty() || runs.consecutive_failure_count == 0 => {
                "no error".into()
            }
            message => message,
        };
        text += &format!(
            "  {}\t{}\t{}\t{}\t{message}\t\n",
            clean(&controller.name),
            ago(runs.last_success_timestamp, now),
            ago(runs.last_failure_timestamp, now),
            runs.consecutive_failure_count,
        );
    }
    if table {
        text.push('\u{c}');
    }
    text
}

fn tail(status: &StatusResponse) -> String {
    let mut text = match &status.proxy {
        Some(p) => format!(
            "Proxy Status:\tOK, ip {}, {} redirects active on ports {}, Envoy: {}\n",
            clean(&p.ip),
            p.total_redirects,
            clean(&p.port_range),
            clean(&p.envoy_deployment_mode)
        ),
        None => "Proxy Status:\tNo managed proxy redirect\n".into(),
    };
    text += &match &status.identity_range {
        Some(r) => format!(
            "Global Identity Range:\tmin {}, max {}\n",
            r.min_identity, r.max_identity
        ),
        None => "Global Identity Range:\tUnknown\n".into(),
    };
    if let Some(hubble) = &status.hubble {
        text += &format!("Hubble:\t{}", hubble.state.as_str());
        if !hubble.msg.is_empty() {
            text += &format!(" {}", clean(&hubble.msg));
        }
        if let Some(metrics) = &status.hubble_metrics {
            text += &format!("\tMetrics: {}", metrics.state.as_str());
        }
        text.push('\n');
    }
    text
}

/// Lines that Cilium does not have; nothing where all is well.
fn ours(own: &Own, now: Timestamp) -> String {
    let mut text = String::new();
    let tight = |map: &&Pressure| {
        map.failures > 0 || map.entries * 100 >= map.capacity.max(1) * PRESSURE_SHOWN
    };
    for map in own.pressure.iter().filter(tight) {
        text += &format!(
            "Map pressure:\t{}: {} of {} entries, {} evicted, {} refused because it was full\n",
            clean(&map.name),
            map.entries,
            map.capacity,
            map.evictions,
            map.failures
        );
    }
    if !own.warnings.is_empty() {
        text += &format!("Warnings:\t{}\n", own.warnings.len());
        for warning in &own.warnings {
            let since = match warning.since.is_never() {
                true => String::new(),
                false => format!(" ({})", ago(warning.since, now)),
            };
            text += &format!("  - {}{since}\n", clean(&warning.text));
        }
    }
    text
}
