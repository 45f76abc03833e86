// SPDX-License-Identifier: Apache-2.0
//! The report as a whole, for a cluster that is well and for one where every step says something.

use super::*;

fn at(text: &str) -> Timestamp {
    serde_json::from_value(text.into()).expect("a time")
}

fn certificate(subject: &str, until: &str) -> CertificateInfo {
    CertificateInfo {
        serial: "0a:ff".into(),
        subject: format!("CN={subject}"),
        issuer: "CN=Cilium CA".into(),
        names: vec!["*.mesh.cilium.io".into(), "172.18.0.6".into()],
        not_before: at("2026-01-01T00:00:00Z"),
        not_after: at(until),
    }
}

fn well() -> ClusterCheck {
    ClusterCheck {
        name: "west".into(),
        path: "/var/lib/cilium/clustermesh/west".into(),
        endpoints: vec![EndpointCheck {
            url: "https://west.mesh.cilium.io:2379".into(),
            addresses: vec!["172.18.0.6".into()],
            tcp: "172.18.0.6:2379".into(),
            tls_version: "TLSv1_3".into(),
            tls_cipher: "TLS13_AES_256_GCM_SHA384".into(),
            chain: vec![certificate("server", "2027-01-01T00:00:00Z")],
            ..Default::default()
        }],
        ca: Some(CertificateFile {
            file: "/tls/ca.crt".into(),
            ..Default::default()
        }),
        etcd: Some(EtcdCheck {
            cluster_id: "1c45a069f3a1d796".into(),
            version: "3.5.16".into(),
            has_leader: Some(true),
            heartbeat: "2026-05-04T10:00:00Z".into(),
            ..Default::default()
        }),
        state: "ready".into(),
        ..Default::default()
    }
}

fn report(clusters: Vec<ClusterCheck>) -> String {
    let report = Troubleshoot {
        directory: "/var/lib/cilium/clustermesh/".into(),
        clusters,
    };
    text(&report, at("2026-05-04T10:00:00Z"))
}

#[test]
fn a_cluster_that_is_well() {
    assert!(is_well(&well()));
    assert_eq!(
        report(vec![well()]),
        "\
Found 1 cluster configuration in /var/lib/cilium/clustermesh/

Cluster \"west\":
📄 Configuration path: /var/lib/cilium/clustermesh/west

🔌 Endpoints:
   - https://west.mesh.cilium.io:2379
     ✅ Hostname resolved to: 172.18.0.6
     ✅ TCP connection successfully established to 172.18.0.6:2379
     ✅ TLS connection successfully established to 172.18.0.6:2379
     ℹ️  Negotiated TLS version: TLSv1_3, ciphersuite TLS13_AES_256_GCM_SHA384
     ℹ️  Server certificates:
        - Serial number:  0a:ff
          Subject:        CN=server
          Issuer:         CN=Cilium CA
          Valid for:      *.mesh.cilium.io, 172.18.0.6
          Not before:     2026-01-01T00:00:00Z
          Not after:      2027-01-01T00:00:00Z

🔑 Digital certificates:
   ✅ TLS Root CA certificates: /tls/ca.crt
   ℹ️  TLS client certificates: none configured

⚙️  Etcd client:
   ✅ Etcd connection successfully established
   ℹ️  Etcd cluster ID: 1c45a069f3a1d796
   ℹ️  Etcd server version: 3.5.16
   ✅ Heartbeat of 2026-05-04T10:00:00Z

🔭 The agent's own connection: ready
"
    );
}

#[test]
fn whatever_fails_is_told_and_makes_the_report_a_failure() {
    let mut cluster = well();
    let endpoint = &mut cluster.endpoints[0];
    (endpoint.tls_version, endpoint.tls_error) =
        (String::new(), "the server certificate has expired".into());
    let unnamed = EndpointCheck {
        url: "https://gone:2379".into(),
        resolve_error: "the name cannot be resolved".into(),
        ..Default::default()
    };
    let plain = EndpointCheck {
        url: "http://10.0.0.1:2379".into(),
        addresses: vec!["10.0.0.1".into()],
        tcp: "10.0.0.1:2379".into(),
        ..Default::default()
    };
    cluster.endpoints.extend([unnamed, plain]);
    cluster.client = Some(CertificateFile {
        file: "/tls/tls.crt".into(),
        certificates: vec![certificate("old", "2026-05-04T09:00:00Z")],
        ..Default::default()
    });
    cluster.etcd = Some(EtcdCheck {
        has_leader: Some(false),
        ..Default::default()
    });
    (cluster.state, cluster.reason) = ("stale".into(), "handshake\x1b[2J failed".into());
    assert!(!is_well(&cluster));
    let text = report(vec![cluster, well()]);
    for line in [
        "Found 2 cluster configurations in",
        "     ❌ the server certificate has expired\n",
        "     ❌ the name cannot be resolved\n",
        "     ⚠️  No TLS: anybody on the way",
        "        ❌ It has expired 1h0m0s ago\n",
        "   ❌ The server knows no leader",
        "   ❌ No heartbeat: nothing writes",
        "connection: stale: handshake\u{fffd}[2J failed\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn files_that_are_no_configuration_and_no_mesh() {
    let mut cluster = ClusterCheck {
        name: "west".into(),
        config_error: "the etcd configuration has no endpoints".into(),
        ..Default::default()
    };
    assert!(!is_well(&cluster));
    let text = report(vec![cluster.clone()]);
    assert!(text.contains("   ❌ the etcd configuration has no endpoints\n"));
    assert!(!text.contains("Endpoints:"), "{text}");
    cluster.config_error.clear();
    assert!(!is_well(&cluster), "nothing was tried");
    let none = super::text(&Troubleshoot::default(), Timestamp::NEVER);
    assert!(none.contains("This is expected when Cluster Mesh is disabled"));
}
