// SPDX-License-Identifier: Apache-2.0
//! Options in, configuration or complaints out.

use super::reader::parse_duration;
use super::*;

fn config(args: &[&str]) -> Result<Config, ConfigErrors> {
    let values =
        Values::read(Process::Agent, args.iter().map(Into::into), []).expect("known options");
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
    let dir = tempfile::tempdir().expect("temp dir");
    std::fs::write(dir.path().join("cluster7"), "endpoints: [http://e]").expect("write");
    let option = format!("--clustermesh-config={}", dir.path().display());
    let errors = config(&[&option]).expect_err("invalid").to_string();
    for part in ["(cluster7)", "--cluster-id is 0", "--kvstore=etcd"] {
        assert!(errors.contains(part), "{part} in {errors}");
    }
    let errors = config(&["--kvstore=consul"])
        .expect_err("invalid")
        .to_string();
    assert!(errors.contains("etcd"), "{errors}");
}

#[test]
fn a_cluster_in_no_mesh_may_have_an_empty_mesh_directory() {
    let dir = tempfile::tempdir().expect("temp dir");
    std::fs::write(dir.path().join("ca.crt"), "-----BEGIN CERTIFICATE-----").expect("write");
    std::fs::write(dir.path().join("default"), "endpoints: [http://e]").expect("write");
    for dir in [dir.path().to_owned(), dir.path().join("absent")] {
        let option = format!("--clustermesh-config={}", dir.display());
        assert_eq!(config(&[&option]).expect("valid").mesh_dir, None);
        let named = config(&[
            "--cluster-id=1",
            "--kvstore=etcd",
            "--kvstore-opt=etcd.config=/e",
            &option,
        ]);
        assert_eq!(named.expect("valid").mesh_dir, Some(dir));
    }
}

#[test]
fn store_options_in_both_forms() {
    for text in [
        "etcd.config=/etc/x.yaml",
        r#"{"etcd.config": "/etc/x.yaml"}"#,
    ] {
        let config = config(&["--kvstore=etcd", &format!("--kvstore-opt={text}")]).expect("valid");
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

#[test]
fn names_of_clusters() {
    let long = format!("--cluster-name={}", "a".repeat(33));
    for (option, word) in [
        (long.as_str(), "33 characters"),
        ("--cluster-name=Cluster7", "\"Cluster7\""),
        ("--cluster-name=-x", "\"-x\""),
    ] {
        let errors = config(&[option]).expect_err("invalid").to_string();
        assert!(errors.contains(word), "{errors}");
    }
    let limit = format!("--cluster-name={}", "a".repeat(32));
    assert!(config(&[&limit]).is_ok());
}

#[test]
fn the_default_name_in_a_mesh_is_accepted_with_a_warning() {
    let mesh = config(&["--cluster-id=1"]).expect("the name of the guide");
    assert_eq!(mesh.warnings.len(), 1, "{:?}", mesh.warnings);
    assert!(
        mesh.warnings[0].contains("Cilium 1.17"),
        "{:?}",
        mesh.warnings
    );
    let named = config(&["--cluster-id=1", "--cluster-name=west"]).expect("valid");
    assert!(named.warnings.is_empty() && config(&[]).expect("valid").warnings.is_empty());
}

#[test]
fn ids_by_the_size_of_the_mesh() {
    let valid = |args: &[&str]| config(args).map(|config| config.cluster_id.0);
    let large = "--max-connected-clusters=511";
    assert_eq!(
        valid(&["--cluster-id=511", "--cluster-name=x", large]),
        Ok(511)
    );
    assert_eq!(valid(&["--cluster-id=255", "--cluster-name=x"]), Ok(255));
    for (args, word) in [
        (&["--cluster-id=256"][..], "max-connected-clusters=511"),
        (&["--cluster-id=512", large], "0 (in no mesh) to 511"),
        (&["--cluster-id=-1"], "0 (in no mesh) to 255"),
        (&["--cluster-id=x"], "--cluster-id=x: expected a number"),
        (
            &["--max-connected-clusters=300"],
            "=300: expected 255 or 511",
        ),
        (&["--max-connected-clusters=x"], "expected 255 or 511"),
    ] {
        let errors = valid(args).expect_err("invalid").to_string();
        assert!(errors.contains(word), "{word} in {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

#[test]
fn complaints_name_option_value_and_what_is_valid() {
    for (option, word) in [
        ("--mtu=1000", "1330 to 65535"),
        ("--log-level=inf", "--log-level=inf: expected error, warn"),
        ("--log-level=info,a=b", "expected error, warn"),
        ("--kvstore-lease-ttl=1s", "expected 25s to 24h"),
        (
            "--kvstore-lease-ttl=9999999999999999999999h",
            "expected a duration",
        ),
        ("--ipv4-range=127.0.0.0/8", "not a network for pods"),
        ("--ipv6-range=fe80::/64", "not a network for pods"),
        ("--ipv6-range=::ffff:10.5.0.0/112", "not a network for pods"),
        (
            "--ipv6-range=10.0.0.0/8",
            "a network such as fd00:5:1::/112",
        ),
        ("--tunnel-port=65536", "a number of 0 to 65535"),
        ("--enable-ipv4=maybe", "true or false"),
        ("--enable-polcy=always", "did you mean --enable-policy?"),
    ] {
        let errors = config(&[option]).expect_err("invalid").to_string();
        assert!(errors.contains(word), "{word} in {errors}");
    }
    assert!(config(&["--log-level=warn,clustermesh=debug"]).is_ok());
    assert_eq!(
        config(&["--tunnel-port=0"]).expect("valid").tunnel_port,
        8472
    );
    assert!(config(&["--mtu=1000", "--enable-ipv6=false"]).is_ok());
}

#[test]
fn a_complaint_names_where_the_value_came_from() {
    let env = [("CILIUM_MTU".into(), "x".into())];
    let values = Values::read(Process::Agent, [], env).expect("no help");
    let errors = Config::new(&values, "n1").expect_err("invalid").to_string();
    assert!(errors.starts_with("CILIUM_MTU=x: expected"), "{errors}");
}

#[test]
fn kubernetes_and_a_directory_are_alternatives() {
    let kubernetes = |args: &[&str]| config(args).expect("valid").kubernetes;
    let plain = kubernetes(&[]).expect("where a pod's environment says so");
    assert!(!plain.is_explicit());
    assert_eq!((plain.settings.qps, plain.settings.burst), (10, 20));
    let urls = kubernetes(&[
        "--k8s-api-server=https://c",
        "--k8s-api-server-urls=https://a,https://b",
        "--ipam=kubernetes",
    ]);
    let urls = urls.expect("given");
    assert_eq!(urls.settings.servers, ["https://a", "https://b"]);
    assert_eq!(urls.ipam, kubernetes::api::Ipam::Kubernetes);
    let pool = kubernetes(&[
        "--cluster-pool-ipv4-cidr=10.0.0.0/8,172.16.0.0/16",
        "--cluster-pool-ipv6-cidr=fd00::/104",
    ]);
    let kubernetes::api::Ipam::ClusterPool(pools) = pool.expect("given").ipam else {
        panic!("cluster-pool is the default");
    };
    assert_eq!(pools.namespace, "kube-system");
    let (v4, v6) = (pools.v4.expect("given"), pools.v6.expect("given"));
    assert_eq!((v4.cidrs.len(), v4.mask, v6.mask), (2, 24, 120));
    let elsewhere = kubernetes(&["--k8s-namespace=network"])
        .expect("given")
        .ipam;
    assert!(
        matches!(elsewhere, kubernetes::api::Ipam::ClusterPool(pools) if pools.namespace == "network")
    );
    let wrong = [
        "--cluster-pool-ipv4-cidr=10.0.0.0/25,fd00::/64,10.1.0.0/16,10.1.2.0/24,x",
        "--cluster-pool-ipv6-mask-size=129",
    ];
    let errors = config(&wrong).expect_err("invalid").to_string();
    for part in [
        "10.0.0.0/25 holds no network of /24",
        "fd00::/64 is of the other family",
        "10.1.2.0/24 is in the list twice",
        "\"x\" is not a prefix",
        "mask-size",
    ] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
    assert!(kubernetes(&["--enable-k8s=false"]).is_none());
    assert!(kubernetes(&["--manifests=/m"]).is_none());
    let errors = config(&["--manifests=/m", "--k8s-kubeconfig-path=/k", "--ipam=eni"]);
    let errors = errors.expect_err("invalid").to_string();
    assert!(
        errors.contains("alternatives") && errors.contains("kubernetes"),
        "{errors}"
    );
}
