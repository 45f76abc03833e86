// SPDX-License-Identifier: Apache-2.0
//! Parts of the configuration that are made of several options.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use clustermesh::{ConfigChange, ConfigDir};
use ipnet::IpNet;
use kubernetes::api::{Ipam, Pool, Pools};
use model::{ClusterId, ClusterName, IdentityScheme};

use super::reader::Reader;
use super::{
    CniFile, Config, DAY, KubernetesConfig, KvstoreConfig, KvstoreSource, SECOND, Timeouts,
};

pub(super) fn cluster(r: &mut Reader<'_>) -> (ClusterName, ClusterId, IdentityScheme) {
    let max = r.text("max-connected-clusters").trim().parse().ok();
    let scheme = max.and_then(|max| IdentityScheme::new(max).ok());
    let scheme = scheme.unwrap_or_else(|| {
        r.fail(
            "max-connected-clusters",
            "expected 255 or 511, the same in every cluster of the mesh",
        );
        IdentityScheme::default()
    });
    let most = scheme.max_clusters();
    let id = match r.text("cluster-id").trim().parse::<u32>() {
        Ok(id) if id <= most.into() => id,
        Ok(256..=511) => {
            r.fail("cluster-id", "expected 0 (in no mesh) to 255; up to 511 with max-connected-clusters=511 in every cluster of the mesh");
            0
        }
        _ => {
            let expected = format!("expected a number of 0 (in no mesh) to {most}");
            r.fail("cluster-id", expected);
            0
        }
    };
    let text = r.text("cluster-name").trim().to_owned();
    let name = ClusterName::new(&text).unwrap_or_else(|error| {
        r.fail("cluster-name", error);
        ClusterName::new(ClusterName::DEFAULT).expect("the default name is valid")
    });
    if id != 0 && name.as_str() == ClusterName::DEFAULT {
        r.warnings.push(format!(
            "cluster-name is {0:?} and cluster-id {id}: {0:?} is the name of a cluster that nobody named, and a peer that runs Cilium 1.17 or newer refuses it; give the cluster a name of its own",
            ClusterName::DEFAULT
        ));
    }
    (name, ClusterId(id as u16), scheme)
}

/// The mesh directory. A cluster in no mesh has none: installations name a directory before it holds anything.
pub(super) fn mesh_dir(r: &mut Reader<'_>, own: &ClusterName, id: ClusterId) -> Option<PathBuf> {
    let dir = r.path("clustermesh-config")?;
    if id.0 != 0 {
        return Some(dir);
    }
    let name = |change| match change {
        ConfigChange::Usable(cluster, _) => cluster.to_string(),
        ConfigChange::Unusable { name, .. } | ConfigChange::Removed { name } => name,
    };
    let names: Vec<String> = match ConfigDir::new(&dir, own.clone()).scan() {
        Ok(found) => found.into_iter().map(name).collect(),
        Err(_) if !dir.exists() => Vec::new(),
        Err(error) => {
            r.fail("clustermesh-config", error);
            Vec::new()
        }
    };
    if names.is_empty() {
        return None;
    }
    r.errors.push(format!(
        "--clustermesh-config={} names clusters ({}) but --cluster-id is 0, which is a cluster in no mesh: give every cluster of the mesh a unique id of 1 to 255 (or 511), or leave the directory out",
        dir.display(),
        names.join(", ")
    ));
    Some(dir)
}

pub(super) fn node_name(r: &mut Reader<'_>, host: &str) -> Arc<str> {
    let given = r.text("node-name").trim();
    let name = if given.is_empty() { host } else { given }.to_owned();
    let valid = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'.';
    if name.is_empty() || name.len() > 253 || !name.bytes().all(valid) {
        r.errors.push(format!("node name {name:?} is not a name of 1 to 253 characters of a-z, 0-9, '-', '.': set K8S_NODE_NAME or --node-name"));
    }
    name.into()
}

/// `:9962` is every address of the node, of both families or, where there is no IPv6, of one.
pub(super) fn listen_addresses(r: &mut Reader<'_>, name: &str) -> Vec<SocketAddr> {
    let text = r.text(name).trim().to_owned();
    if text.is_empty() {
        return Vec::new();
    }
    let addresses = match text.strip_prefix(':') {
        Some(port) => port.parse::<u16>().ok().map(|port| {
            let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
            vec![both, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))]
        }),
        None => text.parse().ok().map(|address| vec![address]),
    };
    addresses.unwrap_or_else(|| {
        r.fail(
            name,
            "expected an address with a port, such as :9962 or 127.0.0.1:9962",
        );
        Vec::new()
    })
}

pub(super) fn kubernetes(r: &mut Reader<'_>) -> Option<KubernetesConfig> {
    let list = |text: &str| -> Vec<String> {
        let urls = text.split([',', ' ']).filter(|url| !url.is_empty());
        urls.map(str::to_owned).collect()
    };
    let urls = list(r.text("k8s-api-server-urls"));
    let config = KubernetesConfig {
        settings: kubernetes::api::Settings {
            servers: if urls.is_empty() {
                list(r.text("k8s-api-server"))
            } else {
                urls
            },
            kubeconfig: r.path("k8s-kubeconfig-path"),
            qps: r.number("k8s-client-qps", 1, 100_000),
            burst: r.number("k8s-client-burst", 1, 100_000),
        },
        ipam: if r.choice("ipam", &[("cluster-pool", true), ("kubernetes", false)]) {
            Ipam::ClusterPool(pools(r))
        } else {
            Ipam::Kubernetes
        },
    };
    if !r.bool("enable-k8s") {
        return None;
    }
    if r.path("manifests").is_some() {
        if config.is_explicit() {
            r.fail("manifests", "this directory and Kubernetes (--k8s-api-server-urls, --k8s-kubeconfig-path) are alternatives: give one of them");
        }
        return None;
    }
    Some(config)
}

fn pools(r: &mut Reader<'_>) -> Pools {
    Pools {
        v4: pool(
            r,
            "cluster-pool-ipv4-cidr",
            "cluster-pool-ipv4-mask-size",
            32,
        ),
        v6: pool(
            r,
            "cluster-pool-ipv6-cidr",
            "cluster-pool-ipv6-mask-size",
            128,
        ),
        namespace: r.text("k8s-namespace").to_owned(),
    }
}

fn pool(r: &mut Reader<'_>, name: &str, mask_name: &str, bits: u8) -> Option<Pool> {
    let mask = r.number(mask_name, 1, bits.into()) as u8;
    let words: Vec<String> = r
        .text(name)
        .split([',', ' '])
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    let mut cidrs: Vec<IpNet> = Vec::new();
    for word in words {
        match word.parse::<IpNet>() {
            Ok(net) if net.max_prefix_len() != bits => {
                r.fail(name, format!("{net} is of the other family"));
            }
            Ok(net) if net.prefix_len() > mask => {
                r.fail(
                    name,
                    format!("{net} holds no network of /{mask}, which {mask_name} asks for"),
                );
            }
            Ok(net)
                if cidrs
                    .iter()
                    .any(|other| other.contains(&net) || net.contains(other)) =>
            {
                r.fail(name, format!("{net} is in the list twice"));
            }
            Ok(net) => cidrs.push(net.trunc()),
            Err(_) => r.fail(name, format!("{word:?} is not a prefix such as 10.0.0.0/8")),
        }
    }
    (!cidrs.is_empty()).then_some(Pool { cidrs, mask })
}

pub(super) fn cni_file(r: &mut Reader<'_>) -> Option<CniFile> {
    let exclusive = r.bool("cni-exclusive");
    let portmap = r.choice("cni-chaining-mode", &[("none", false), ("portmap", true)]);
    let path = r.path("write-cni-conf-when-ready")?;
    Some(CniFile {
        path,
        exclusive,
        log_file: r.text("cni-log-file").trim().to_owned(),
        portmap,
    })
}

pub(super) fn kvstore(r: &mut Reader<'_>) -> Option<KvstoreConfig> {
    let lease_ttl = r.duration("kvstore-lease-ttl", SECOND * 25, DAY);
    let identity_gc = r.duration("identity-gc-interval", std::time::Duration::ZERO, DAY);
    if !identity_gc.is_zero() && identity_gc < SECOND {
        r.fail("identity-gc-interval", "expected 0 or 1s to 24h");
    }
    let kind = r.text("kvstore").trim().to_owned();
    if kind.is_empty() {
        if r.values.is_given("kvstore-opt") && !r.text("kvstore-opt").trim().is_empty() {
            r.warnings
                .push("kvstore-opt has no effect: kvstore is not set; set it to etcd".into());
        }
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
        if !["etcd.config", "etcd.address", "etcd.qps"].contains(&key.as_str()) {
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
        identity_gc: Some(identity_gc).filter(|interval| !interval.is_zero()),
        qps,
    })
}

pub(super) fn timeouts(r: &mut Reader<'_>) -> Timeouts {
    let mut of = |name: &str| r.duration(name, SECOND, DAY * 30);
    Timeouts {
        tcp: of("bpf-ct-timeout-regular-tcp"),
        syn: of("bpf-ct-timeout-regular-tcp-syn"),
        fin: of("bpf-ct-timeout-regular-tcp-fin"),
        any: of("bpf-ct-timeout-regular-any"),
    }
}

pub(super) fn check_sizes(r: &mut Reader<'_>, config: &Config) {
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
        if range.is_some_and(|range| !is_for_pods(range.network())) {
            r.fail(
                name,
                "not a network for pods: loopback, link-local, multicast, unspecified or IPv4 within IPv6",
            );
        }
    }
    check_mtu(r, config);
}

fn is_for_pods(network: IpAddr) -> bool {
    let v6 = |ip: std::net::Ipv6Addr| !ip.is_unicast_link_local() && ip.to_ipv4_mapped().is_none();
    let family = match network {
        IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_broadcast(),
        IpAddr::V6(ip) => v6(ip),
    };
    family && !network.is_loopback() && !network.is_multicast() && !network.is_unspecified()
}

/// Pods get 50 bytes less than the underlay, and IPv6 needs 1280.
fn check_mtu(r: &mut Reader<'_>, config: &Config) {
    let least = if config.ipv6 { 1330 } else { 626 };
    if config.mtu.is_some_and(|mtu| mtu < least) {
        r.fail(
            "mtu",
            format!(
                "expected 0 (that of the first device), or {least} to 65535: pods get 50 bytes less"
            ),
        );
    }
}

/// A level, or directives `target=level` separated by commas. A word that is no level would silence everything else.
pub(super) fn log_level(r: &mut Reader<'_>) -> String {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let text = r.text("log-level").trim().to_owned();
    let parsed = text.parse::<tracing_subscriber::EnvFilter>().is_ok();
    let known = |part: &str| {
        let word = part.trim().to_ascii_lowercase();
        part.contains(['=', '[']) || LEVELS.contains(&word.as_str())
    };
    if text.is_empty() || !parsed || !text.split(',').all(known) {
        r.fail("log-level", "expected error, warn, info, debug or trace, or directives such as info,clustermesh=debug");
    }
    text
}
