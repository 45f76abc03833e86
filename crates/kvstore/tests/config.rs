// SPDX-License-Identifier: Apache-2.0
//! The client configuration file: what is taken and what is refused in which words.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use kvstore::{Config, check_kind};

const GOOD: &str = "endpoints:
- https://cluster2.mesh.cilium.io:2379
trusted-ca-file: /var/lib/cilium/clustermesh/common-etcd-client-ca.crt
key-file: /var/lib/cilium/clustermesh/common-etcd-client.key
cert-file: /var/lib/cilium/clustermesh/common-etcd-client.crt
cilium-host-aliases:
- hostname: cluster2.mesh.cilium.io
  ips: [192.0.2.10]
";

fn refusal(text: &str) -> String {
    Config::parse(text).unwrap_err().to_string()
}

#[test]
fn the_usual_file() {
    let config = Config::parse(GOOD).unwrap();
    assert_eq!(config.endpoints.len(), 1);
    let endpoint = &config.endpoints[0];
    assert_eq!(
        (endpoint.tls, endpoint.host.as_str(), endpoint.port),
        (true, "cluster2.mesh.cilium.io", 2379)
    );
    assert_eq!(config.host_aliases[0].ips.len(), 1);
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn odd_but_usable() {
    let text = format!(
        "{}dial-timeout: 5000000000\nendpoint: x\n",
        GOOD.replace("trusted-ca-file", "ca-file")
    );
    let config = Config::parse(&text).unwrap();
    assert!(config.trusted_ca_file.is_some());
    let warnings = config.warnings.join("\n");
    for words in [
        "dial-timeout has no effect",
        "\"endpoint\" is ignored",
        "ca-file is deprecated",
    ] {
        assert!(warnings.contains(words), "{warnings}");
    }
    let plain = Config::parse("endpoints: ['http://[::1]:2379']\n").unwrap();
    assert_eq!(
        (plain.endpoints[0].host.as_str(), plain.endpoints[0].tls),
        ("::1", false)
    );
    assert!(plain.warnings[0].contains("not encrypted"));
}

#[test]
fn refused() {
    for (text, words) in [
        ("{", "not valid YAML"),
        ("endpoints: 5", "not valid YAML"),
        ("", "no endpoints"),
        ("endpoints: []", "no endpoints"),
        ("trusted-ca-file: x", "no endpoints"),
        ("endpoints: ['consul://a:8500']", "names a Consul"),
        ("endpoints: ['http://consul:8500']", "names a Consul"),
        ("endpoints: ['ftp://a']", "neither https nor http"),
        ("endpoints: ['https://']", "is not https://host:port"),
        ("endpoints: ['https://a:b']", "the port is not a number"),
        ("endpoints: ['https://a:99999']", "port"),
        ("endpoints: ['https://a:0']", "port 0"),
        ("endpoints: ['https://a:1']", "trusted-ca-file"),
        (
            "endpoints: ['https://a:1']\ninsecure-transport: true",
            "contradicts",
        ),
    ] {
        let refusal = refusal(text);
        assert!(refusal.contains(words), "{text:?}: {refusal}");
    }
    for (from, to, words) in [
        ("key-file", "other", "without key-file"),
        ("cert-file", "other", "without cert-file"),
        (
            "endpoints:",
            "insecure-skip-tls-verify: true\nendpoints:",
            "trusted-ca-file instead",
        ),
        ("endpoints:", "token: t\nendpoints:", "client certificate"),
        ("endpoints:", "username: u\nendpoints:", "together"),
        ("[192.0.2.10]", "[]", "has no ips"),
        ("192.0.2.10", "x", "not valid YAML"),
    ] {
        let refusal = refusal(&GOOD.replacen(from, to, 1));
        assert!(refusal.contains(words), "{to:?}: {refusal}");
    }
}

#[test]
fn unreadable_files() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().join("nothing"), dir.path().to_owned()] {
        let error = Config::load(&path).unwrap_err().to_string();
        assert!(error.contains("cannot read"), "{error}");
    }
    let path = dir.path().join("cluster2");
    std::fs::write(&path, GOOD).unwrap();
    assert!(Config::load(&path).is_ok());
}

#[test]
fn only_etcd() {
    assert!(check_kind("etcd").is_ok());
    let error = check_kind("consul").unwrap_err().to_string();
    assert!(error.contains("\"consul\" is not supported"), "{error}");
}

/// As etcd's own client reads it: what is empty is not given.
#[test]
fn what_is_empty_is_not_given() {
    let text = "endpoints: ['http://a:1']\nusername: ''\npassword: ''\ncert-file: ''\nkey-file: \"\"\n\
                trusted-ca-file: ''\nca-file: ''\n";
    let config = Config::parse(text).unwrap();
    assert_eq!(config.user, None);
    assert_eq!(
        (config.cert_file, config.key_file, config.trusted_ca_file),
        (None, None, None)
    );
    let half = "endpoints: ['http://a:1']\ncert-file: x\nkey-file: ''\n";
    assert!(refusal(half).contains("is given without key-file"));
    let no_ca = "endpoints: ['https://a:1']\ntrusted-ca-file: ''\n";
    assert!(refusal(no_ca).contains("trusted-ca-file: is missing"));
}

#[test]
fn files_of_other_systems() {
    let good = Config::parse(GOOD).unwrap();
    assert_eq!(Config::parse(&GOOD.replace('\n', "\r\n")), Ok(good.clone()));
    assert_eq!(Config::parse(&format!("\u{feff}{GOOD}")), Ok(good));
    let twice = format!("{GOOD}endpoints: ['https://other:2379']\n");
    assert!(refusal(&twice).contains("duplicate mapping key: endpoints"));
}
