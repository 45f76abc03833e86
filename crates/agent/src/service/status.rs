// SPDX-License-Identifier: Apache-2.0
//! `/healthz`, `/cluster/nodes`, `/config` and what else tells how the agent is.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use api::models::*;
use api::{API_VERSION, StatusQuery, Timestamp};
use ipnet::IpNet;
use model::Node;

use super::Service;

/// A client of `/cluster/nodes` that does not ask again for so long is forgotten.
const CLIENT_LIFE: Duration = Duration::from_secs(900);
/// Most clients that are remembered.
const MAX_CLIENTS: usize = 1024;

/// Clients of `/cluster/nodes` and the nodes that each was told.
#[derive(Default)]
pub(crate) struct NodeClients {
    known: HashMap<i64, (Instant, BTreeMap<String, NodeElement>)>,
    next: i64,
}

/// The version, as everything prints it.
pub(crate) fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

impl Service {
    pub(super) fn status_response(&self, query: StatusQuery) -> StatusResponse {
        let kvstore = self.kvstore_status();
        let core = self.core();
        let problem = core.notes.values().map(|note| note.text.clone()).next();
        let cilium = match (&kvstore, core.ready, problem) {
            (_, false, _) => Status::new(State::Warning, "starting: waiting for the first lists"),
            (
                Status {
                    state: State::Failure,
                    msg,
                    ..
                },
                ..,
            ) => Status::new(
                State::Failure,
                format!("{}    Kvstore service is not ready: {msg}", version()),
            ),
            (_, true, Some(problem)) => Status::new(State::Warning, problem),
            (_, true, None) => Status::new(State::Ok, format!("{0} (v{0})", version())),
        };
        let cluster = Some(ClusterStatus {
            own_name: core.node.name.to_string(),
            cilium_health: None,
            ..Default::default()
        });
        if query.brief {
            return StatusResponse {
                cilium: Some(cilium),
                cluster,
                ..Default::default()
            };
        }
        let range = core.config.scheme.range(core.config.cluster_id);
        let ipam = self.ipam_status(&core);
        let (v4, v6) = core.config.masquerade;
        let masquerading = Masquerading {
            enabled: v4 || v6,
            mode: "nftables".into(),
            enabled_protocols: Some(EnabledProtocols {
                ipv4: v4 && core.config.ipv4,
                ipv6: v6 && core.config.ipv6,
            }),
            snat_exclusion_cidr_v4: core
                .node
                .pods4
                .map(|net| net.to_string())
                .unwrap_or_default(),
            snat_exclusion_cidr_v6: core
                .node
                .pods6
                .map(|net| net.to_string())
                .unwrap_or_default(),
            ..Default::default()
        };
        let maps = core
            .dp
            .map_pressure()
            .into_iter()
            .map(|(name, _, size)| BpfMapSize {
                name: name.into(),
                size: size.into(),
            });
        let bpf_maps = Some(BpfMapStatus {
            dynamic_size_ratio: 0.0,
            maps: maps.collect(),
        });
        drop(core);
        StatusResponse {
            cilium: Some(cilium),
            kvstore: Some(kvstore),
            kubernetes: Some(K8sStatus {
                state: State::Disabled,
                ..Default::default()
            }),
            host_firewall: Some(HostFirewall {
                mode: "Disabled".into(),
                devices: Vec::new(),
            }),
            cni_chaining: Some(Mode {
                mode: "none".into(),
            }),
            cluster,
            cluster_mesh: self.mesh.as_ref().map(|mesh| ClusterMeshStatus {
                clusters: mesh.status().iter().map(remote_cluster).collect(),
            }),
            ipam: Some(ipam),
            identity_range: Some(IdentityRange {
                min_identity: *range.start(),
                max_identity: *range.end(),
            }),
            routing: Some(Routing {
                inter_host_routing_mode: "Tunnel".into(),
                intra_host_routing_mode: "BPF".into(),
                tunnel_protocol: "vxlan".into(),
            }),
            masquerading: Some(masquerading),
            encryption: Some(EncryptionStatus {
                mode: "Disabled".into(),
                msg: String::new(),
            }),
            bpf_maps,
            clock_source: Some(ClockSource {
                mode: "ktime".into(),
                hertz: 0,
            }),
            attach_mode: "tcx".into(),
            datapath_mode: "veth".into(),
            ..Default::default()
        }
    }

    fn kvstore_status(&self) -> Status {
        let (Some(own), Some(publisher)) = (&self.own, &self.publisher) else {
            return Status::new(State::Disabled, "");
        };
        own.status(&publisher.status())
    }

    fn ipam_status(&self, core: &crate::core::Core<datapath::Linux>) -> IpamStatus {
        let mut status = IpamStatus::default();
        for (name, pool) in [("IPv4", &core.pool4), ("IPv6", &core.pool6)] {
            let Some(pool) = pool else { continue };
            status.status.push_str(&format!(
                "{name}: {}/{} allocated from {}, ",
                pool.used(),
                pool.capacity(),
                pool.range()
            ));
            for (ip, owner) in pool.iter() {
                status.allocations.insert(ip.to_string(), owner.to_owned());
                if ip.is_ipv4() {
                    status.ipv4.push(ip.to_string())
                } else {
                    status.ipv6.push(ip.to_string())
                }
            }
        }
        status
    }

    pub(super) fn node_status(&self, client: Option<i64>) -> ClusterNodeStatus {
        let core = self.core();
        let own = node_element(&core.node.published(&core.config), "local");
        let others = core
            .nodes
            .values()
            .map(|known| node_element(&known.node, known.source.as_str()));
        let now: BTreeMap<String, NodeElement> = std::iter::once(own)
            .chain(others)
            .map(|e| (e.name.clone(), e))
            .collect();
        let own_name = core.node.name.to_string();
        drop(core);
        let Some(client) = client else {
            return ClusterNodeStatus {
                own_name,
                nodes_added: now.into_values().collect(),
                ..Default::default()
            };
        };
        let mut clients = self
            .clients
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let time = Instant::now();
        clients
            .known
            .retain(|_, (asked, _)| asked.elapsed() < CLIENT_LIFE);
        let (id, before) = match clients.known.remove(&client) {
            Some((_, before)) => (client, before),
            None => {
                clients.next += 1;
                (clients.next, BTreeMap::new())
            }
        };
        if clients.known.len() >= MAX_CLIENTS {
            let oldest = clients
                .known
                .iter()
                .min_by_key(|(_, (asked, _))| *asked)
                .map(|(id, _)| *id);
            oldest.and_then(|id| clients.known.remove(&id));
        }
        let added = now
            .iter()
            .filter(|(name, node)| before.get(*name) != Some(node))
            .map(|(_, node)| node.clone())
            .collect();
        let removed = before
            .iter()
            .filter(|(name, _)| !now.contains_key(*name))
            .map(|(_, node)| node.clone())
            .collect();
        clients.known.insert(id, (time, now));
        ClusterNodeStatus {
            client_id: id,
            own_name,
            nodes_added: added,
            nodes_removed: removed,
        }
    }

    pub(super) fn daemon_configuration(&self) -> DaemonConfiguration {
        let core = self.core();
        let mut map = serde_json::Map::new();
        for (name, value) in self.values.iter() {
            map.insert(camel_case(name), value.into());
        }
        let spec = DaemonConfigurationSpec {
            policy_enforcement: self.values.get("enable-policy").to_owned(),
            ..Default::default()
        };
        let mtu = i64::from(core.node.pod_mtu());
        DaemonConfiguration {
            spec: Some(spec.clone()),
            status: Some(DaemonConfigurationStatus {
                realized: Some(spec),
                addressing: Some(self.host_addressing(&core)),
                device_mtu: mtu,
                route_mtu: mtu,
                datapath_mode: "veth".into(),
                configured_datapath_mode: "veth".into(),
                ipam_mode: "cluster-pool".into(),
                masquerade: core.config.masquerade.0 || core.config.masquerade.1,
                daemon_configuration_map: map,
                ..Default::default()
            }),
        }
    }

    pub(super) fn debug_info(&self) -> DebugInfo {
        let all = StatusQuery {
            brief: false,
            require_k8s_connectivity: false,
        };
        DebugInfo {
            cilium_version: format!(
                "{} isthmus {} rust version {} linux/{}",
                version(),
                Timestamp::from(self.started).seconds(),
                env!("CARGO_PKG_RUST_VERSION"),
                std::env::consts::ARCH
            ),
            kernel_version: nix::sys::utsname::uname()
                .map(|u| u.release().to_string_lossy().into_owned())
                .unwrap_or_default(),
            cilium_status: Some(self.status_response(all)),
            endpoint_list: self.endpoint_list(&[]).unwrap_or_default(),
            policy: Some(self.policy_text()),
            ..Default::default()
        }
    }

    pub(super) fn version_model(&self) -> Version {
        Version {
            version: version(),
            api: API_VERSION,
            abi: abi::VERSION,
            node: self.core().node.name.to_string(),
            started: self.started.into(),
        }
    }

    pub(super) fn mesh_report(&self) -> MeshReport {
        let clusters = self
            .mesh
            .as_ref()
            .map(|mesh| mesh.status())
            .unwrap_or_default();
        let core = self.core();
        MeshReport {
            cluster: core.config.cluster.to_string(),
            cluster_id: core.config.cluster_id.0.into(),
            clusters: clusters.iter().map(mesh_cluster).collect(),
        }
    }

    pub(super) fn warning_list(&self) -> Vec<Warning> {
        let core = self.core();
        let since = Timestamp::from(self.started);
        let options = self.values.warnings.iter().map(|text| Warning {
            since,
            text: text.clone(),
        });
        let problems = core.problems.iter().map(|problem| Warning {
            since: Timestamp::NEVER,
            text: problem.to_string(),
        });
        let notes = core.notes.values().map(|note| Warning {
            since: note.since.into(),
            text: note.text.clone(),
        });
        let full = core.dp.full_maps().into_iter().map(|name| Warning {
            since: Timestamp::NEVER,
            text: format!("map {name} is full: rows are missing in the datapath; raise its limit"),
        });
        options.chain(problems).chain(notes).chain(full).collect()
    }
}

fn remote_cluster(remote: &clustermesh::RemoteStatus) -> RemoteCluster {
    let config = remote.config.as_ref();
    RemoteCluster {
        name: remote.name.clone(),
        ready: remote.ready,
        connected: remote.connected,
        status: remote_text(remote),
        config: Some(RemoteClusterConfig {
            required: true,
            retrieved: config.is_some(),
            cluster_id: config.map_or(0, |config| config.id.0.into()),
            kvstoremesh: config.is_some_and(|config| config.cached),
            sync_canaries: config.is_some_and(|config| config.synced_canaries),
            service_exports_enabled: config.and_then(|config| config.service_exports_enabled),
            endpoint_slices_export_mode: match config
                .map(|config| config.endpoint_slices_export_mode)
            {
                Some(model::ExportMode::ServicesAndEndpointSlices) => {
                    "services-and-endpointslices".into()
                }
                Some(model::ExportMode::EndpointSlicesOnly) => "endpointslices-only".into(),
                _ => String::new(),
            },
        }),
        synced: Some(RemoteClusterSynced {
            nodes: remote.synced.nodes,
            endpoints: remote.synced.endpoints,
            identities: remote.synced.identities,
            services: remote.synced.all(),
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
    format!("{counts}, has-quorum={}{id}{reason}", remote.connected)
}

fn mesh_cluster(remote: &clustermesh::RemoteStatus) -> MeshCluster {
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
                ..Default::default()
            })
            .collect(),
        failures: remote.failures,
        last_failure_msg: remote.disk_error.clone(),
        since: remote.since.into(),
        last_heard: time(remote.etcd.last_answer),
        last_failure: time(remote.last_failure),
        ..Default::default()
    }
}

fn node_element(node: &Node, source: &str) -> NodeElement {
    let element = |v4: bool, alloc: Option<IpNet>| {
        let Some(ip) = node.underlay(v4) else {
            return NodeAddressingElement {
                alloc_range: alloc.map(|net| net.to_string()).unwrap_or_default(),
                ..Default::default()
            };
        };
        NodeAddressingElement {
            enabled: true,
            ip: ip.to_string(),
            alloc_range: alloc.map(|net| net.to_string()).unwrap_or_default(),
            address_type: "InternalIP".into(),
        }
    };
    NodeElement {
        name: node.name.to_string(),
        source: source.to_owned(),
        primary_address: Some(NodeAddressing {
            ipv4: Some(element(true, node.ipv4_alloc)),
            ipv6: Some(element(false, node.ipv6_alloc)),
        }),
        secondary_addresses: node
            .routers()
            .map(|ip| NodeAddressingElement {
                enabled: true,
                ip: ip.to_string(),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

/// `cluster-name` → `ClusterName`.
fn camel_case(name: &str) -> String {
    let word = |word: &str| {
        let mut chars = word.chars();
        let first = chars.next().map(|c| c.to_ascii_uppercase());
        first.into_iter().chain(chars).collect::<String>()
    };
    name.split('-')
        .map(|part| match part {
            "id" | "ip" | "mtu" => part.to_ascii_uppercase(),
            "ipv4" => "IPv4".into(),
            "ipv6" => "IPv6".into(),
            part => word(part),
        })
        .collect()
}
