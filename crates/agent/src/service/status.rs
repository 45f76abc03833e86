// SPDX-License-Identifier: Apache-2.0
//! `/healthz`, `/cluster/nodes`, `/config` and what else tells how the agent is.

use api::models::*;
use api::{API_VERSION, StatusQuery, Timestamp};

use super::mesh::{mesh_cluster, remote_cluster};
use super::{Service, features, warnings};
use crate::own::Writing;
use config::CniFile;
use config::KvstoreSource;

/// The version, as everything prints it.
pub(crate) fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

impl Service {
    pub(super) fn status_response(&self, query: StatusQuery) -> StatusResponse {
        let kvstore = self.kvstore_status();
        let remotes = self.mesh.as_ref().map(|mesh| mesh.status());
        let controllers = self.controllers(remotes.as_deref().unwrap_or_default());
        let core = self.core();
        let problem = warnings::first(&core, remotes.as_deref().unwrap_or_default());
        let kubernetes = self.kubernetes_status(&core.problems);
        let cilium = match (&kvstore, core.ready, problem) {
            (_, false, _) => Status::new(
                State::Warning,
                format!("{}    starting: waiting for the first lists", version()),
            ),
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
            _ if kubernetes.state == State::Failure => Status::new(
                // As Cilium: who does not require the connection is only warned.
                if query.require_k8s_connectivity {
                    State::Failure
                } else {
                    State::Warning
                },
                format!(
                    "{}    Kubernetes service is not ready: {}",
                    version(),
                    kubernetes.msg
                ),
            ),
            (
                Status {
                    state: State::Warning,
                    msg,
                    ..
                },
                ..,
            ) => Status::new(
                State::Warning,
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
                controllers: controllers
                    .into_iter()
                    .find(is_failing)
                    .into_iter()
                    .collect(),
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
        // Of packets between pods; those to the node and to the world go through the stack in any case.
        let host = match core.bypasses_stack() {
            true => "BPF",
            false => "Legacy",
        };
        let routing = Routing {
            inter_host_routing_mode: "Tunnel".into(),
            intra_host_routing_mode: host.into(),
            tunnel_protocol: "vxlan".into(),
        };
        let cni = core.config.cni_file.as_ref();
        let cni_file = cni.map(|file| {
            let problem = core.notes.get(&crate::cni_file::subject(file));
            cni_status(file, problem.map(|note| note.text.as_str()))
        });
        let cni_chaining = cni.filter(|file| file.portmap).map(|_| Mode {
            mode: "portmap".into(),
        });
        drop(core);
        let fixed = features::fixed();
        StatusResponse {
            cni_file: cni_file.or(fixed.cni_file.clone()),
            cni_chaining: cni_chaining.or(fixed.cni_chaining.clone()),
            cilium: Some(cilium),
            kvstore: Some(kvstore),
            kubernetes: Some(kubernetes),
            cluster,
            cluster_mesh: remotes.map(|remotes| ClusterMeshStatus {
                clusters: remotes.iter().map(remote_cluster).collect(),
            }),
            controllers,
            ipam: Some(ipam),
            identity_range: Some(IdentityRange {
                min_identity: *range.start(),
                max_identity: *range.end(),
            }),
            masquerading: Some(masquerading),
            bpf_maps,
            routing: Some(routing),
            ..fixed
        }
    }

    /// Whether every source has said all that it has; those that are refused have nothing to say.
    pub(crate) fn is_synced(&self) -> bool {
        use clustermesh::State::{Misconfigured, Refused};
        let own = self.own.as_ref();
        let mesh = self
            .mesh
            .as_ref()
            .map(|mesh| mesh.status())
            .unwrap_or_default();
        own.is_none_or(|own| own.synced.borrow().all())
            && mesh
                .iter()
                .all(|remote| remote.ready || matches!(remote.state, Misconfigured | Refused))
    }

    fn kvstore_status(&self) -> Status {
        let (Some(own), Some(publisher)) = (&self.own, &self.publisher) else {
            return Status::new(State::Disabled, "");
        };
        let rows = publisher.status();
        let identities = self.identities.status();
        let uses = identities.publisher;
        let announced = self
            .announcer
            .as_ref()
            .map(|announcer| announcer.status().error);
        let failures = [rows.last_error, uses.last_error];
        let failure = failures
            .into_iter()
            .flatten()
            .next()
            .map(|error| error.to_string());
        own.status(&Writing {
            pending: rows.pending + uses.pending,
            contested: rows.contested,
            problem: failure.or(announced.filter(|error| !error.is_empty())),
            identities: identities.failing.map(|error| error.to_string()),
        })
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
        DaemonConfiguration {
            spec: Some(spec.clone()),
            status: Some(DaemonConfigurationStatus {
                realized: Some(spec),
                addressing: Some(self.host_addressing(&core)),
                // A pod's device takes what the underlay takes, so that a pod that ignores its routes' MTU gets an error
                // that it can learn from; what is lost on the device itself is lost in silence.
                device_mtu: core.node.underlay_mtu.into(),
                route_mtu: core.node.pod_mtu().into(),
                datapath_mode: "veth".into(),
                configured_datapath_mode: "veth".into(),
                ipam_mode: self.values.get("ipam").trim().to_owned(),
                masquerade: core.config.masquerade.0 || core.config.masquerade.1,
                kvstore_configuration: core.config.kvstore.as_ref().map(|own| {
                    let (name, value) = match &own.source {
                        KvstoreSource::File(path) => ("etcd.config", path.display().to_string()),
                        KvstoreSource::Address(url) => ("etcd.address", url.clone()),
                    };
                    KvstoreConfiguration {
                        kind: "etcd".into(),
                        options: [(name.to_owned(), value)].into(),
                    }
                }),
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
            service_list: self.service_list(),
            endpoint_list: self.endpoint_list(&[]).unwrap_or_default(),
            policy: Some(self.policy_text()),
            ..Default::default()
        }
    }

    pub(super) fn version_model(&self) -> Version {
        let core = self.core();
        Version {
            version: version(),
            api: API_VERSION,
            abi: abi::VERSION,
            node: core.node.name.to_string(),
            ready: core.ready,
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
}

/// How the container runtime's file is, in Cilium's words.
fn cni_status(file: &CniFile, problem: Option<&str>) -> Status {
    match problem {
        Some(problem) => Status::new(State::Failure, problem),
        None => Status::new(
            State::Ok,
            format!(
                "successfully wrote CNI configuration file to {}",
                file.path.display()
            ),
        ),
    }
}

fn is_failing(controller: &ControllerStatus) -> bool {
    let runs = controller.status.as_ref();
    runs.is_some_and(|runs| runs.consecutive_failure_count > 0)
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
