// SPDX-License-Identifier: Apache-2.0
//! Option values → one typed configuration, checked as a whole: a start names everything that is wrong at once.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use model::{ClusterId, ClusterName, IdentityScheme, LabelFilter};
use policy::EnforcementMode;

use crate::options::Values;

/// How packets of the tunnel whose outer source is no node of the claimed cluster are treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OuterSourceCheck {
    /// Dropped.
    Strict,
    /// Counted and reported.
    Audit,
    /// Trusted.
    Off,
}

/// Where this cluster's etcd is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum KvstoreSource {
    /// An etcd client configuration file.
    File(PathBuf),
    /// A URL without TLS.
    Address(String),
}

/// This cluster's etcd.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct KvstoreConfig {
    /// Where it is.
    pub(crate) source: KvstoreSource,
    /// Life of this node's keys.
    pub(crate) lease_ttl: Duration,
    /// Writes per second.
    pub(crate) qps: u32,
}

/// Timeouts of conntrack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Timeouts {
    /// TCP.
    pub(crate) tcp: Duration,
    /// TCP, only a SYN seen.
    pub(crate) syn: Duration,
    /// TCP, both sides closed.
    pub(crate) fin: Duration,
    /// Others.
    pub(crate) any: Duration,
}

/// The agent's configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Name of the cluster.
    pub(crate) cluster: ClusterName,
    /// Number of the cluster.
    pub(crate) cluster_id: ClusterId,
    /// Layout of identities.
    pub(crate) scheme: IdentityScheme,
    /// Name of this node.
    pub(crate) node: Arc<str>,
    /// Directory of remote clusters.
    pub(crate) mesh_dir: Option<PathBuf>,
    /// Longest wait for them at start.
    pub(crate) sync_timeout: Duration,
    /// This cluster's etcd.
    pub(crate) kvstore: Option<KvstoreConfig>,
    /// IPv4 pods.
    pub(crate) ipv4: bool,
    /// IPv6 pods.
    pub(crate) ipv6: bool,
    /// Pods' IPv4 network; `None`: derived from the node's address.
    pub(crate) ipv4_range: Option<Ipv4Net>,
    /// Pods' IPv6 network; `None`: derived from the node's address.
    pub(crate) ipv6_range: Option<Ipv6Net>,
    /// Underlay address; `None`: of the first device.
    pub(crate) ipv4_node: Option<Ipv4Addr>,
    /// Underlay address; `None`: of the first device, if any.
    pub(crate) ipv6_node: Option<Ipv6Addr>,
    /// Underlay devices; empty: of the default route.
    pub(crate) devices: Vec<String>,
    /// Which labels make up an identity.
    pub(crate) labels: LabelFilter,
    /// When policy is enforced.
    pub(crate) policy_mode: EnforcementMode,
    /// This node may reach its pods.
    pub(crate) allow_localhost: bool,
    /// Peers are pods of this cluster.
    pub(crate) default_local_cluster: bool,
    /// UDP port of the tunnel.
    pub(crate) tunnel_port: u16,
    /// MTU of the underlay; `None`: of the first device.
    pub(crate) mtu: Option<u32>,
    /// Masquerade IPv4, IPv6.
    pub(crate) masquerade: (bool, bool),
    /// Check of the outer source.
    pub(crate) outer_source_check: OuterSourceCheck,
    /// Conntrack entries.
    pub(crate) flows_max: u32,
    /// Per cent of them that an endpoint may hold.
    pub(crate) flow_share: u32,
    /// Addresses.
    pub(crate) ipcache_max: u32,
    /// Conntrack timeouts.
    pub(crate) timeouts: Timeouts,
    /// Drop events per second and CPU.
    pub(crate) event_rate: u32,
    /// Manifest directory.
    pub(crate) manifests: Option<PathBuf>,
    /// What survives a restart.
    pub(crate) state_dir: PathBuf,
    /// API socket.
    pub(crate) socket: PathBuf,
    /// bpffs.
    pub(crate) bpf_root: PathBuf,
    /// Log directives.
    pub(crate) log_level: String,
}

/// Everything that is wrong with the options.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ConfigErrors(pub Vec<String>);

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

/// Reads values and gathers errors.
struct Reader<'a> {
    values: &'a Values,
    errors: Vec<String>,
}

impl Reader<'_> {
    fn text(&self, name: &str) -> &str {
        self.values.get(name)
    }

    fn fail(&mut self, name: &str, problem: impl fmt::Display) {
        self.errors
            .push(format!("--{name}={}: {problem}", self.values.get(name)));
    }

    fn bool(&mut self, name: &str) -> bool {
        match self.text(name).trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "enabled" => true,
            "false" | "0" | "disabled" | "" => false,
            _ => {
                self.fail(name, "expected true or false");
                false
            }
        }
    }

    fn number(&mut self, name: &str, low: u32, high: u32) -> u32 {
        match self.text(name).trim().parse::<u32>() {
            Ok(number) if (low..=high).contains(&number) => number,
            _ => {
                self.fail(name, format!("expected a number of {low} to {high}"));
                low
            }
        }
    }

    fn duration(&mut self, name: &str, low: Duration, high: Duration) -> Duration {
        match parse_duration(self.text(name)) {
            Some(duration) if (low..=high).contains(&duration) => duration,
            Some(_) => {
                self.fail(
                    name,
                    format!("expected {}s to {}s", low.as_secs(), high.as_secs()),
                );
                low
            }
            None => {
                self.fail(name, "expected a duration such as 30s, 15m or 1h30m");
                low
            }
        }
    }

    /// `None` if the value is empty or `auto`.
    fn parsed<T: FromStr>(&mut self, name: &str, expected: &str) -> Option<T> {
        let text = self.text(name).trim().to_owned();
        if text.is_empty() || text == "auto" {
            return None;
        }
        text.parse()
            .map_err(|_| self.fail(name, format!("expected {expected}")))
            .ok()
    }

    fn choice<T: Copy>(&mut self, name: &str, choices: &[(&str, T)]) -> T {
        let text = self.text(name).trim().to_ascii_lowercase();
        match choices.iter().find(|(word, _)| *word == text) {
            Some((_, choice)) => *choice,
            None => {
                let words = choices
                    .iter()
                    .map(|(word, _)| *word)
                    .collect::<Vec<_>>()
                    .join(", ");
                self.fail(name, format!("expected one of: {words}"));
                choices[0].1
            }
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        let text = self.text(name).trim();
        (!text.is_empty()).then(|| PathBuf::from(text))
    }
}

/// Go's duration notation, or a bare number of seconds.
fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_len = rest[digits..]
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len() - digits);
        let unit = match &rest[digits..digits + unit_len] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(number * unit).ok()?;
        rest = &rest[digits + unit_len..];
    }
    (!text.is_empty()).then_some(total)
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

impl Config {
    /// Checks `values` as a whole. `host` is the node's name if no option or environment gives one.
    pub(crate) fn new(values: &Values, host: &str) -> Result<Config, ConfigErrors> {
        let mut r = Reader {
            values,
            errors: Vec::new(),
        };
        let (cluster, cluster_id, scheme) = cluster(&mut r);
        let mesh_dir = r.path("clustermesh-config");
        if mesh_dir.is_some() && cluster_id.0 == 0 {
            r.errors.push("--clustermesh-config is set but --cluster-id is 0, which is a cluster in no mesh: give every cluster of the mesh a unique id of 1 to 255".into());
        }
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
            "crd" | "doublewrite-readkvstore" | "doublewrite-readcrd" => r.fail("identity-allocation-mode", "identities in custom resources need Kubernetes as a source, which this version does not have; set kvstore"),
            _ => r.fail("identity-allocation-mode", "expected kvstore"),
        }
        let config = Config {
            cluster,
            cluster_id,
            scheme,
            node: node_name(&mut r, host),
            mesh_dir,
            sync_timeout: r.duration("clustermesh-sync-timeout", Duration::ZERO, DAY),
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
            tunnel_port: r.number("tunnel-port", 1, 65535) as u16,
            mtu: Some(r.number("mtu", 0, 65535)).filter(|mtu| *mtu != 0),
            masquerade: (
                r.bool("enable-ipv4-masquerade"),
                r.bool("enable-ipv6-masquerade"),
            ),
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
            timeouts: timeouts(&mut r),
            event_rate: r.number("bpf-events-default-rate-limit", 1, 1_000_000),
            manifests: r.path("manifests"),
            state_dir: r
                .path("state-dir")
                .unwrap_or_else(|| "/var/run/cilium".into()),
            socket: r
                .path("socket-path")
                .unwrap_or_else(|| "/var/run/cilium/cilium.sock".into()),
            bpf_root: r.path("bpf-root").unwrap_or_else(|| "/sys/fs/bpf".into()),
            log_level: r.text("log-level").to_owned(),
        };
        check_sizes(&mut r, &config);
        if r.errors.is_empty() {
            Ok(config)
        } else {
            Err(ConfigErrors(r.errors))
        }
    }

    /// Both families.
    pub(crate) fn dual_stack(&self) -> bool {
        self.ipv4 && self.ipv6
    }

    /// The IPv4 pod network on a node with this address.
    pub(crate) fn pods4(&self, node: Ipv4Addr) -> Option<Ipv4Net> {
        let derived = || {
            Ipv4Net::new(Ipv4Addr::new(10, node.octets()[3], 0, 0), 16)
                .expect("16 is a prefix length")
        };
        self.ipv4
            .then(|| self.ipv4_range.unwrap_or_else(derived).trunc())
    }

    /// The IPv6 pod network on a node with this address (reference/datapath.md, section 8).
    pub(crate) fn pods6(&self, node: Ipv4Addr) -> Option<Ipv6Net> {
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

fn cluster(r: &mut Reader<'_>) -> (ClusterName, ClusterId, IdentityScheme) {
    let max = r.number("max-connected-clusters", 255, 511);
    let scheme = IdentityScheme::new(max).unwrap_or_else(|error| {
        r.fail("max-connected-clusters", error);
        IdentityScheme::default()
    });
    let id = r.number("cluster-id", 0, scheme.max_clusters().into());
    let text = r.text("cluster-name").trim().to_owned();
    let name = ClusterName::new(&text).unwrap_or_else(|error| {
        r.errors.push(format!("--cluster-name: {error}"));
        ClusterName::new(ClusterName::DEFAULT).expect("the default name is valid")
    });
    (name, ClusterId(id as u16), scheme)
}

fn node_name(r: &mut Reader<'_>, host: &str) -> Arc<str> {
    let given = r.text("node-name").trim();
    let name = if given.is_empty() { host } else { given }.to_owned();
    let valid = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'.';
    if name.is_empty() || name.len() > 253 || !name.bytes().all(valid) {
        r.errors.push(format!("node name {name:?} is not a name of 1 to 253 characters of a-z, 0-9, '-', '.': set K8S_NODE_NAME or --node-name"));
    }
    name.into()
}

fn kvstore(r: &mut Reader<'_>) -> Option<KvstoreConfig> {
    let lease_ttl = r.duration("kvstore-lease-ttl", SECOND * 25, DAY);
    let kind = r.text("kvstore").trim().to_owned();
    if kind.is_empty() {
        return None;
    }
    if let Err(error) = kvstore::check_kind(&kind) {
        r.fail("kvstore", error);
        return None;
    }
    let mut options: BTreeMap<String, String> = BTreeMap::new();
    let text = r.text("kvstore-opt").trim().to_owned();
    // The ConfigMap's form is a JSON object, the flag's is key=value.
    if text.starts_with('{') {
        match serde_json::from_str(&text) {
            Ok(map) => options = map,
            Err(error) => r.fail(
                "kvstore-opt",
                format!("not a JSON object of text to text: {error}"),
            ),
        }
    } else {
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some((key, value)) => drop(options.insert(key.trim().into(), value.trim().into())),
                None => r.fail("kvstore-opt", format!("{pair:?} is not key=value")),
            }
        }
    }
    for key in options.keys() {
        if !["etcd.config", "etcd.address", "etcd.qps", "etcd.operator"].contains(&key.as_str()) {
            r.fail(
                "kvstore-opt",
                format!("unknown key {key:?}; known: etcd.config, etcd.address, etcd.qps"),
            );
        }
    }
    let qps = options
        .get("etcd.qps")
        .map_or(Some(20), |text| text.parse().ok())
        .filter(|qps| *qps > 0);
    let source = match (options.get("etcd.config"), options.get("etcd.address")) {
        (Some(file), None) => KvstoreSource::File(file.into()),
        (None, Some(url)) => KvstoreSource::Address(url.clone()),
        _ => {
            r.fail(
                "kvstore-opt",
                "exactly one of etcd.config=FILE and etcd.address=URL is needed",
            );
            return None;
        }
    };
    let qps = qps.unwrap_or_else(|| {
        r.fail("kvstore-opt", "etcd.qps must be a number above 0");
        20
    });
    Some(KvstoreConfig {
        source,
        lease_ttl,
        qps,
    })
}

fn timeouts(r: &mut Reader<'_>) -> Timeouts {
    let mut of = |name: &str| r.duration(name, SECOND, DAY * 30);
    Timeouts {
        tcp: of("bpf-ct-timeout-regular-tcp"),
        syn: of("bpf-ct-timeout-regular-tcp-syn"),
        fin: of("bpf-ct-timeout-regular-tcp-fin"),
        any: of("bpf-ct-timeout-regular-any"),
    }
}

fn check_sizes(r: &mut Reader<'_>, config: &Config) {
    let ranges = [
        config.ipv4_range.map(IpNet::from),
        config.ipv6_range.map(IpNet::from),
    ];
    for (name, range) in ["ipv4-range", "ipv6-range"].into_iter().zip(ranges) {
        if range.is_some_and(|range| range.max_prefix_len() - range.prefix_len() < 2) {
            r.fail(
                name,
                "too small: a node needs room for its router and one pod at least (/30, /126)",
            );
        }
        if range.is_some_and(|range| matches!(range.addr(), IpAddr::V4(a) if a.is_loopback() || a.is_multicast() || a.is_unspecified())) {
            r.fail(name, "not a network for pods");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &[&str]) -> Result<Config, ConfigErrors> {
        let values = Values::read(args.iter().map(Into::into), []).expect("known options");
        Config::new(&values, "n1")
    }

    #[test]
    fn defaults_are_a_cluster_in_no_mesh() {
        let config = config(&[]).expect("valid");
        assert_eq!(config.cluster.as_str(), "default");
        assert_eq!(config.tunnel_port, 8472);
        assert!(config.kvstore.is_none() && config.mesh_dir.is_none());
        let node = Ipv4Addr::new(172, 30, 0, 1);
        assert_eq!(
            config.pods4(node).map(|n| n.to_string()).as_deref(),
            Some("10.1.0.0/16")
        );
        assert_eq!(
            config.pods6(node).map(|n| n.to_string()).as_deref(),
            Some("f00d::ac1e:1:0:0/96")
        );
    }

    #[test]
    fn everything_wrong_is_named_at_once() {
        let errors = config(&[
            "--cluster-name=Über",
            "--cluster-id=256",
            "--kvstore=etcd",
            "--mtu=x",
            "--outer-source-check=maybe",
            "--clustermesh-sync-timeout=soon",
        ])
        .expect_err("invalid")
        .to_string();
        for part in [
            "cluster name",
            "--cluster-id=256",
            "--kvstore-opt",
            "--mtu=x",
            "strict, audit, off",
            "30s, 15m",
        ] {
            assert!(errors.contains(part), "{part} in {errors}");
        }
    }

    #[test]
    fn a_mesh_needs_an_id_and_a_store() {
        let errors = config(&["--clustermesh-config=/x"])
            .expect_err("invalid")
            .to_string();
        assert!(
            errors.contains("--cluster-id is 0") && errors.contains("--kvstore=etcd"),
            "{errors}"
        );
        let errors = config(&["--kvstore=consul"])
            .expect_err("invalid")
            .to_string();
        assert!(errors.contains("etcd"), "{errors}");
    }

    #[test]
    fn store_options_in_both_forms() {
        for text in [
            "etcd.config=/etc/x.yaml",
            r#"{"etcd.config": "/etc/x.yaml"}"#,
        ] {
            let config =
                config(&["--kvstore=etcd", &format!("--kvstore-opt={text}")]).expect("valid");
            assert_eq!(
                config.kvstore.map(|k| k.source),
                Some(KvstoreSource::File("/etc/x.yaml".into()))
            );
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("15"), Some(Duration::from_secs(15)));
        assert_eq!(parse_duration("1x"), None);
        assert_eq!(parse_duration(""), None);
    }
}
