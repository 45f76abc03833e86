// SPDX-License-Identifier: Apache-2.0
//! Options → one typed configuration, checked as a whole: a start names everything that is wrong at once. Agent and operator
//! of a cluster share it, as they share its ConfigMap.
#![forbid(unsafe_code)]

mod command;
pub mod fuzzing;
pub mod options;
mod parts;
mod reader;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};
use model::{ClusterId, ClusterName, IdentityScheme, LabelFilter};
use policy::EnforcementMode;

pub use command::{Process, begin, end};

use options::Values;
use parts::{
    check_sizes, cluster, cni_file, kubernetes, kvstore, listen_addresses, log_level, mesh_dir,
    node_name, timeouts,
};
use reader::Reader;

/// How packets of the tunnel whose outer source is no node of the claimed cluster are treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OuterSourceCheck {
    /// Dropped.
    Strict,
    /// Counted and reported.
    Audit,
    /// Trusted.
    Off,
}

/// Where this cluster's etcd is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KvstoreSource {
    /// An etcd client configuration file.
    File(PathBuf),
    /// A URL without TLS.
    Address(String),
}

/// This cluster's etcd.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KvstoreConfig {
    /// Where it is.
    pub source: KvstoreSource,
    /// Life of this node's keys.
    pub lease_ttl: Duration,
    /// How often unused identities are looked for; `None`: never.
    pub identity_gc: Option<Duration>,
    /// Writes per second.
    pub qps: u32,
}

impl KvstoreConfig {
    /// How to reach it.
    ///
    /// # Errors
    /// What is wrong with the option or its file.
    pub fn client(&self) -> Result<kvstore::Config, String> {
        match &self.source {
            KvstoreSource::File(file) => kvstore::Config::load(file)
                .map_err(|error| format!("--kvstore-opt etcd.config={}: {error}", file.display())),
            KvstoreSource::Address(url) => {
                kvstore::Config::parse(&format!("endpoints: [{url:?}]\n"))
                    .map_err(|error| format!("--kvstore-opt etcd.address: {error}"))
            }
        }
    }
}

/// Kubernetes as the source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KubernetesConfig {
    /// Where and who.
    pub settings: kubernetes::api::Settings,
    /// Who gives this node its pod networks.
    pub ipam: kubernetes::api::Ipam,
}

impl KubernetesConfig {
    /// Whether options say where the API server is; otherwise only a pod's environment can.
    pub fn is_explicit(&self) -> bool {
        self.settings.kubeconfig.is_some() || !self.settings.servers.is_empty()
    }

    /// The pools that this node's networks are of.
    pub fn pools(&self) -> Option<&kubernetes::api::Pools> {
        match &self.ipam {
            kubernetes::api::Ipam::ClusterPool(pools) => Some(pools),
            kubernetes::api::Ipam::Kubernetes => None,
        }
    }
}

/// What is written where for the container runtime.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CniFile {
    /// The file, `…/net.d/05-cilium.conflist`.
    pub path: PathBuf,
    /// Others' files are set aside.
    pub exclusive: bool,
    /// The plugin's log.
    pub log_file: String,
    /// Container ports are mapped to the host by the `portmap` plugin behind ours.
    pub portmap: bool,
}

/// Timeouts of conntrack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// TCP.
    pub tcp: Duration,
    /// TCP, only a SYN seen.
    pub syn: Duration,
    /// TCP, both sides closed.
    pub fin: Duration,
    /// Others.
    pub any: Duration,
}

/// The agent's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the cluster.
    pub cluster: ClusterName,
    /// Number of the cluster.
    pub cluster_id: ClusterId,
    /// Layout of identities.
    pub scheme: IdentityScheme,
    /// Name of this node.
    pub node: Arc<str>,
    /// Directory of remote clusters.
    pub mesh_dir: Option<PathBuf>,
    /// Longest wait for them at start.
    pub sync_timeout: Duration,
    /// How long a pod keeps its identity where its labels have one that is new in the cluster.
    pub identity_grace: Duration,
    /// This cluster's etcd.
    pub kvstore: Option<KvstoreConfig>,
    /// IPv4 pods.
    pub ipv4: bool,
    /// IPv6 pods.
    pub ipv6: bool,
    /// Pods' IPv4 network; `None`: derived from the node's address.
    pub ipv4_range: Option<Ipv4Net>,
    /// Pods' IPv6 network; `None`: derived from the node's address.
    pub ipv6_range: Option<Ipv6Net>,
    /// Underlay address; `None`: of the first device.
    pub ipv4_node: Option<Ipv4Addr>,
    /// Underlay address; `None`: of the first device, if any.
    pub ipv6_node: Option<Ipv6Addr>,
    /// Underlay devices; empty: of the default route.
    pub devices: Vec<String>,
    /// Which labels make up an identity.
    pub labels: LabelFilter,
    /// When policy is enforced.
    pub policy_mode: EnforcementMode,
    /// This node may reach its pods.
    pub allow_localhost: bool,
    /// Peers are pods of this cluster.
    pub default_local_cluster: bool,
    /// UDP port of the tunnel.
    pub tunnel_port: u16,
    /// MTU of the underlay; `None`: of the first device.
    pub mtu: Option<u32>,
    /// Masquerade IPv4, IPv6.
    pub masquerade: (bool, bool),
    /// Packets of pods to other nodes go through this node's stack.
    pub legacy_routing: bool,
    /// Check of the outer source.
    pub outer_source_check: OuterSourceCheck,
    /// Conntrack entries.
    pub flows_max: u32,
    /// Per cent of them that an endpoint may hold.
    pub flow_share: u32,
    /// Addresses.
    pub ipcache_max: u32,
    /// Services, and backends.
    pub services_max: u32,
    /// Conntrack timeouts.
    pub timeouts: Timeouts,
    /// Drop events per second and CPU.
    pub event_rate: u32,
    /// Whether NetworkPolicy of Kubernetes is enforced.
    pub network_policy: bool,
    /// Manifest directory.
    pub manifests: Option<PathBuf>,
    /// Kubernetes as the source; `None`: switched off, or `manifests` is it.
    pub kubernetes: Option<KubernetesConfig>,
    /// What survives a restart.
    pub state_dir: PathBuf,
    /// API socket.
    pub socket: PathBuf,
    /// bpffs.
    pub bpf_root: PathBuf,
    /// Port of the probes; `None`: none.
    pub health_port: Option<u16>,
    /// Where metrics are served: the first that can be had; empty: nowhere.
    pub metrics: Vec<SocketAddr>,
    /// Where the operator is asked whether it is well.
    pub operator_probes: Vec<SocketAddr>,
    /// Where the operator's metrics are served, as [`Config::metrics`].
    pub operator_metrics: Vec<SocketAddr>,
    /// Network configuration for the container runtime.
    pub cni_file: Option<CniFile>,
    /// Log directives.
    pub log_level: String,
    /// What is odd about it but no reason not to start.
    pub warnings: Vec<String>,
}

/// Everything that is wrong with the options.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigErrors(pub Vec<String>);

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// Longest time that a pod keeps the identity of labels that it had.
const GRACE: Duration = Duration::from_secs(600);
const DAY: Duration = Duration::from_secs(86_400);

impl Config {
    /// Checks `values` as a whole. `host` is the node's name if no option or environment gives one.
    pub fn new(values: &Values, host: &str) -> Result<Config, ConfigErrors> {
        let mut r = Reader {
            values,
            errors: values.problems.clone(),
            warnings: Vec::new(),
        };
        let (cluster, cluster_id, scheme) = cluster(&mut r);
        let mesh_dir = mesh_dir(&mut r, &cluster, cluster_id);
        let kvstore = kvstore(&mut r);
        if mesh_dir.is_some() && kvstore.is_none() && r.text("kvstore").is_empty() {
            r.errors.push("--clustermesh-config needs a key-value store of this cluster, where it publishes its own pods: set --kvstore=etcd and --kvstore-opt=etcd.config=FILE".into());
        }
        let (ipv4, ipv6) = (r.bool("enable-ipv4"), r.bool("enable-ipv6"));
        if !ipv4 && !ipv6 {
            r.errors.push(
                "--enable-ipv4 and --enable-ipv6 are both false: pods need one of them".into(),
            );
        }
        match r.text("identity-allocation-mode").trim() {
            "kvstore" => {}
            "crd" | "doublewrite-readkvstore" | "doublewrite-readcrd" => r.fail(
                "identity-allocation-mode",
                "identities are allocated through etcd, not in custom resources; set kvstore",
            ),
            _ => r.fail("identity-allocation-mode", "expected kvstore"),
        }
        let config = Config {
            cluster,
            cluster_id,
            scheme,
            node: node_name(&mut r, host),
            mesh_dir,
            sync_timeout: r.duration("clustermesh-sync-timeout", Duration::ZERO, DAY),
            identity_grace: r.duration("identity-change-grace-period", Duration::ZERO, GRACE),
            kvstore,
            ipv4,
            ipv6,
            ipv4_range: r.parsed("ipv4-range", "a network such as 10.5.1.0/24"),
            ipv6_range: r.parsed("ipv6-range", "a network such as fd00:5:1::/112"),
            ipv4_node: r.parsed("ipv4-node", "an IPv4 address"),
            ipv6_node: r.parsed("ipv6-node", "an IPv6 address"),
            devices: r
                .text("devices")
                .split([',', ' '])
                .filter(|d| !d.is_empty())
                .map(str::to_owned)
                .collect(),
            labels: LabelFilter::new(r.text("labels")).unwrap_or_else(|error| {
                r.fail("labels", error);
                LabelFilter::default()
            }),
            policy_mode: r.choice(
                "enable-policy",
                &[
                    ("default", EnforcementMode::Default),
                    ("always", EnforcementMode::Always),
                    ("never", EnforcementMode::Never),
                ],
            ),
            allow_localhost: r.choice(
                "allow-localhost",
                &[("auto", true), ("always", true), ("policy", false)],
            ),
            default_local_cluster: r.bool("policy-default-local-cluster"),
            tunnel_port: match r.number("tunnel-port", 0, 65535) {
                0 => 8472,
                port => port as u16,
            },
            mtu: Some(r.number("mtu", 0, 65535)).filter(|mtu| *mtu != 0),
            masquerade: (
                r.bool("enable-ipv4-masquerade"),
                r.bool("enable-ipv6-masquerade"),
            ),
            legacy_routing: r.bool("enable-host-legacy-routing"),
            outer_source_check: r.choice(
                "outer-source-check",
                &[
                    ("strict", OuterSourceCheck::Strict),
                    ("audit", OuterSourceCheck::Audit),
                    ("off", OuterSourceCheck::Off),
                ],
            ),
            flows_max: r.number("bpf-ct-global-max", 1024, 16_777_216),
            flow_share: r.number("bpf-ct-endpoint-share", 1, 100),
            ipcache_max: r.number("bpf-ipcache-max", 1024, 16_777_216),
            services_max: r.number("bpf-lb-map-max", 1024, 16_777_216),
            timeouts: timeouts(&mut r),
            event_rate: r.number("bpf-events-default-rate-limit", 1, 1_000_000),
            network_policy: r.bool("enable-k8s-networkpolicy"),
            kubernetes: kubernetes(&mut r),
            manifests: r.path("manifests"),
            state_dir: r
                .path("state-dir")
                .unwrap_or_else(|| "/var/run/cilium".into()),
            socket: r
                .path("socket-path")
                .unwrap_or_else(|| "/var/run/cilium/cilium.sock".into()),
            bpf_root: r.path("bpf-root").unwrap_or_else(|| "/sys/fs/bpf".into()),
            health_port: Some(r.number("agent-health-port", 0, 65535) as u16)
                .filter(|port| *port != 0),
            metrics: listen_addresses(&mut r, "prometheus-serve-addr"),
            operator_probes: listen_addresses(&mut r, "operator-api-serve-addr"),
            operator_metrics: listen_addresses(&mut r, "operator-prometheus-serve-addr"),
            cni_file: cni_file(&mut r),
            log_level: log_level(&mut r),
            warnings: Vec::new(),
        };
        check_sizes(&mut r, &config);
        if r.errors.is_empty() {
            let warnings = r.warnings;
            Ok(Config { warnings, ..config })
        } else {
            Err(ConfigErrors(r.errors))
        }
    }

    /// Both families.
    pub fn dual_stack(&self) -> bool {
        self.ipv4 && self.ipv6
    }

    /// The IPv4 pod network on a node with this address.
    pub fn pods4(&self, node: Ipv4Addr) -> Option<Ipv4Net> {
        let derived = || {
            Ipv4Net::new(Ipv4Addr::new(10, node.octets()[3], 0, 0), 16)
                .expect("16 is a prefix length")
        };
        self.ipv4
            .then(|| self.ipv4_range.unwrap_or_else(derived).trunc())
    }

    /// The IPv6 pod network on a node with this address; without an option it is made from the address, as Cilium does.
    pub fn pods6(&self, node: Ipv4Addr) -> Option<Ipv6Net> {
        let derived = || {
            let [a, b, c, d] = node.octets();
            let address = Ipv6Addr::new(
                0xf00d,
                0,
                0,
                0,
                u16::from_be_bytes([a, b]),
                u16::from_be_bytes([c, d]),
                0,
                0,
            );
            Ipv6Net::new(address, 96).expect("96 is a prefix length")
        };
        self.ipv6
            .then(|| self.ipv6_range.unwrap_or_else(derived).trunc())
    }
}
