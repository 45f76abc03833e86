// SPDX-License-Identifier: Apache-2.0
//! Bringing the node up: programs and maps adopted, devices and routes ensured, endpoints of before taken back.
//! Every step is idempotent; nothing that forwards packets is taken down on the way.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use datapath::devices::{self, Families, MasqueradeSpec, OverlaySpec, RoutePlan};
use datapath::{Datapath, EventReader, Linux, Settings};
use ipnet::IpNet;
use netlink::{Socket, nft::Nft};

use crate::core::{Core, row_subject};
use crate::endpoint;
use crate::node::{LocalNode, NodeError};
use config::Config;

/// The tunnel's device.
const OVERLAY: &str = "cilium_vxlan";
/// Under what it is noted that the kernel cannot have the rules about the tunnel.
const TUNNEL_RULES: &str = "connection tracking of the tunnel";

/// Why a node cannot be brought up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The node itself.
    #[error("{0}")]
    Node(#[from] NodeError),
    /// Programs, maps, devices.
    #[error("datapath: {0}")]
    Datapath(#[from] datapath::Error),
    /// Sockets of the kernel.
    #[error("kernel: {0}")]
    Netlink(#[from] netlink::Error),
    /// The files of endpoints.
    #[error(
        "cannot read the endpoints in {dir}: {source}; the node forwards as before until an agent can"
    )]
    Endpoints {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A node that forwards.
pub(crate) struct Started {
    pub(crate) core: Core<Linux>,
    pub(crate) events: EventReader,
}

/// Brings the node up.
pub(crate) fn start(config: Arc<Config>, socket: &Socket) -> Result<Started, StartError> {
    let node = Arc::new(LocalNode::detect(&config, socket)?);
    let linux = Linux::open(&Settings {
        bpf_root: config.bpf_root.clone(),
        flows_max: config.flows_max,
        ipcache_max: config.ipcache_max,
        services_max: config.services_max,
        ..Settings::default()
    })?;
    let events = linux.events()?;
    let mut core = Core::new(config.clone(), node, Datapath::new(linux)?);
    // Without it the node serves all the same, and only an uninstallation would leave the switches as they are.
    let remembered = devices::remember_node_switches(&core.config.state_dir);
    core.note("switches before", remembered.err());
    ensure_switches(&core)?;
    ensure_tunnel(&mut core, socket, true)?;
    refresh_host_addresses(&mut core, socket)?;
    ensure_masquerade(&mut core)?;
    restore_endpoints(&mut core, socket)?;
    // Every device has this version's programs now.
    match core.dp.kernel().remove_old_versions() {
        Ok(removed) if removed.is_empty() => {}
        Ok(removed) => tracing::info!(?removed, "maps of other layouts are taken over"),
        Err(error) => core.note("maps of other layouts", Some(error)),
    }
    Ok(Started { core, events })
}

/// The node forwards.
pub(crate) fn ensure_switches(core: &Core<Linux>) -> Result<(), datapath::Error> {
    devices::ensure_node_switches(Families {
        v4: core.config.ipv4,
        v6: core.config.ipv6,
    })
}

/// The tunnel's device as this node needs it, with its programs: those of before are replaced if `replace` says so.
pub(crate) fn ensure_tunnel(
    core: &mut Core<Linux>,
    socket: &Socket,
    replace: bool,
) -> Result<(), StartError> {
    let overlay = devices::ensure_overlay(
        socket,
        &OverlaySpec {
            device: OVERLAY,
            port: core.config.tunnel_port,
            mtu: core.node.pod_mtu(),
            routers: core.node.routers().collect(),
        },
    )?;
    let is_new = overlay.ifindex != core.overlay();
    if is_new || replace {
        core.dp.set_config(core.node_config(overlay.ifindex))?;
        core.dp.attach_overlay(OVERLAY, overlay.ifindex)?;
    }
    if is_new {
        core.routes_changed.notify_one();
    }
    Ok(())
}

/// Translation, without which pods reach nothing outside; and what it costs the tunnel, which is only told.
pub(crate) fn ensure_masquerade(core: &mut Core<Linux>) -> Result<(), StartError> {
    let (v4, v6) = core.config.masquerade;
    let mut pods: BTreeSet<IpNet> = core.node.pod_cidrs().into_iter().collect();
    pods.retain(|net| if net.addr().is_ipv4() { v4 } else { v6 });
    let nft = Nft::open()?;
    if pods.is_empty() {
        return Ok(devices::remove_masquerade(&nft)?);
    }
    let spec = MasqueradeSpec {
        native: pods.clone(),
        pods,
        overlay: OVERLAY.into(),
    };
    devices::ensure_masquerade(&nft, &spec)?;
    let tunnel = (core.node.ipv4, core.config.tunnel_port).into();
    let rules = devices::ensure_tunnel_rules(&nft, tunnel);
    let problem = rules.err().map(|error| {
        format!(
            "{error}; the kernel makes an entry for every flow in the tunnel, and services may lead to its port; the module nft_ct would prevent both"
        )
    });
    core.note(TUNNEL_RULES, problem);
    Ok(())
}

/// Translation again, if somebody flushed it.
pub(crate) fn restore_masquerade(core: &mut Core<Linux>) -> Result<(), StartError> {
    let (v4, v6) = core.config.masquerade;
    if !(v4 || v6) {
        return Ok(());
    }
    let nft = Nft::open()?;
    // A kernel that cannot have the second is known by its note.
    let is_whole = devices::has_masquerade(&nft)?
        && (core.notes.contains_key(TUNNEL_RULES) || devices::has_tunnel_rules(&nft)?);
    if !is_whole {
        tracing::warn!("translation of what leaves the mesh, or the tunnel's rules, were gone");
        ensure_masquerade(core)?;
    }
    Ok(())
}

/// The programs of pods again, where they are missing: of the devices that `suspects` has the index of.
pub(crate) fn restore_programs(
    core: &mut Core<Linux>,
    socket: &Socket,
    suspects: &dyn Fn(u32) -> bool,
) -> Result<(), StartError> {
    let devices: Vec<_> = core
        .endpoints
        .values()
        .map(|endpoint| &endpoint.attachment)
        .filter(|attachment| suspects(attachment.ifindex))
        .map(|attachment| (attachment.interface.clone(), attachment.ifindex))
        .collect();
    for (device, ifindex) in devices {
        let is_there = socket
            .link(ifindex)?
            .is_some_and(|link| link.name == device);
        if is_there && !devices::missing_filters(socket, ifindex)?.is_empty() {
            tracing::warn!(device, "programs of a pod's device were gone");
            core.dp.attach_pod(&device, ifindex)?;
        }
    }
    Ok(())
}

/// Takes back the endpoints whose devices are still there; the others are forgotten.
fn restore_endpoints(core: &mut Core<Linux>, socket: &Socket) -> Result<(), StartError> {
    let endpoints = endpoint::restore(&core.endpoint_dir);
    let (endpoints, damaged) = endpoints.map_err(|source| StartError::Endpoints {
        dir: core.endpoint_dir.clone(),
        source,
    })?;
    let links = socket.links()?;
    let mut gone = Vec::new();
    for endpoint in endpoints {
        let a = &endpoint.attachment;
        let present = links
            .iter()
            .any(|link| link.index == a.ifindex && link.name == a.interface);
        let id = a.id;
        if !present {
            tracing::info!(endpoint = %id, pod = %a.pod, "the pod is gone: its endpoint is not restored");
            gone.extend(a.ips());
            if let Err(error) = endpoint::forget(&core.endpoint_dir, id) {
                tracing::warn!(endpoint = %id, %error, "cannot remove the file of an endpoint that is gone");
            }
            continue;
        }
        if let Err(error) = core.restore_endpoint(endpoint) {
            core.note(&row_subject(id), Some(error));
        }
    }
    core.restore_held(damaged, &links);
    core.restore_in_force();
    if !gone.is_empty() {
        // They were in use a moment ago.
        core.restore_freed(&gone);
        core.save_freed();
    }
    let known: BTreeSet<_> = core.endpoints.keys().copied().collect();
    core.dp.prune_endpoints(&|id| known.contains(&id))?;
    core.dp.prune_links(&|device| device == OVERLAY)?;
    Ok(())
}

/// The addresses that are this node's own change rarely and by other hands.
pub(crate) fn refresh_host_addresses(
    core: &mut Core<Linux>,
    socket: &Socket,
) -> Result<(), StartError> {
    let all = socket
        .addresses()?
        .into_iter()
        .map(|address| address.net.addr());
    let own: BTreeSet<IpAddr> = all
        .filter(|ip| !ip.is_loopback())
        .chain(core.node.underlay())
        .collect();
    core.dp.set_host_addresses(&own)?;
    Ok(())
}

/// Routes to pods of other nodes and of this one.
pub(crate) fn ensure_routes(core: &mut Core<Linux>, socket: &Socket) {
    let node = core.node.clone();
    let own: BTreeSet<IpNet> = node.pod_cidrs().into_iter().collect();
    let inside = |net: &IpNet| {
        if net.addr().is_ipv4() {
            core.config.ipv4
        } else {
            core.config.ipv6
        }
    };
    let remote = core
        .nodes
        .values()
        .flat_map(|known| known.node.pod_cidrs())
        .filter(inside);
    let mut remote: BTreeSet<IpNet> = remote.filter(|net| !own.contains(net)).collect();
    if !core.is_swept()
        && let Ok(rows) = core.dp.ips()
    {
        // Nodes of before this start that are not known yet.
        let networks = rows
            .into_iter()
            .filter(|(net, row)| net.prefix_len() < net.max_prefix_len() && row.tunnel.is_some());
        remote.extend(networks.map(|(net, _)| net));
    }
    let plan = RoutePlan {
        overlay: core.overlay(),
        mtu: node.pod_mtu(),
        router4: node.router4,
        router6: node.router6,
        remote,
        own: own.clone(),
        pods: core
            .endpoints
            .values()
            .flat_map(|e| {
                e.attachment
                    .ips()
                    .map(|ip| (ip, e.attachment.ifindex))
                    .collect::<Vec<_>>()
            })
            .collect(),
    };
    match devices::ensure_routes(socket, &plan) {
        Ok(foreign) if foreign.is_empty() => core.note("routes", None::<String>),
        Ok(foreign) => {
            let list = foreign
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ");
            core.note("routes", Some(format!("other routes lead to pod networks: {list}; remove them, or give the pods other networks")));
        }
        Err(error) => core.note("routes", Some(error)),
    }
}
