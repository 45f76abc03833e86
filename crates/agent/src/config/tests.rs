// SPDX-License-Identifier: Apache-2.0
//! Options in, configuration or complaints out.

use super::reader::parse_duration;
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
