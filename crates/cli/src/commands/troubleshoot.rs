// SPDX-License-Identifier: Apache-2.0
//! `troubleshoot clustermesh`: what the agent found when it tried the way to remote etcds just now.

use std::process::ExitCode;
use std::time::Duration;

use api::models::*;
use api::{Client, Timestamp};

use crate::args::TroubleshootArgs;
use crate::text::{ago, clean, clean_all};
use crate::{Error, output};

/// Longest answer: the steps come one after the other.
const PATIENCE: Duration = Duration::from_secs(70);

pub(super) async fn run(client: Client, args: TroubleshootArgs) -> Result<ExitCode, Error> {
    let client = client.with_timeout(PATIENCE);
    let report = client.troubleshoot(&args.clusters, args.timeout).await?;
    output::answer(args.output.output.as_ref(), &report, |report| {
        text(report, Timestamp::now())
    })?;
    Ok(match report.clusters.iter().all(is_well) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Whether every step succeeded.
fn is_well(cluster: &ClusterCheck) -> bool {
    let endpoint = |e: &EndpointCheck| {
        [&e.resolve_error, &e.tcp_error, &e.tls_error]
            .iter()
            .all(|error| error.is_empty())
    };
    let etcd = |etcd: &EtcdCheck| {
        etcd.error.is_empty() && !etcd.heartbeat.is_empty() && etcd.has_leader != Some(false)
    };
    cluster.config_error.is_empty()
        && cluster.endpoints.iter().all(endpoint)
        && cluster.etcd.as_ref().is_some_and(etcd)
}

/// The report.
fn text(report: &Troubleshoot, now: Timestamp) -> String {
    if report.directory.is_empty() {
        return "Unable to retrieve cluster configurations: the agent has no --clustermesh-config\n\
                This is expected when Cluster Mesh is disabled\n"
            .into();
    }
    let count = report.clusters.len();
    let mut text = format!(
        "Found {count} cluster configuration{} in {}\n",
        if count == 1 { "" } else { "s" },
        clean(&report.directory)
    );
    for cluster in &report.clusters {
        text += &one(cluster, now);
    }
    text
}

fn one(cluster: &ClusterCheck, now: Timestamp) -> String {
    let (name, path) = (clean(&cluster.name), clean(&cluster.path));
    let mut text = format!("\nCluster {name:?}:\n📄 Configuration path: {path}\n");
    if !cluster.config_error.is_empty() {
        text += &format!("   ❌ {}\n", clean(&cluster.config_error));
        return text + &state(cluster);
    }
    for warning in clean_all(&cluster.config_warnings) {
        text += &format!("   ⚠️  {warning}\n");
    }
    text += "\n🔌 Endpoints:\n";
    for endpoint in &cluster.endpoints {
        text += &self::endpoint(endpoint, now);
    }
    text += "\n🔑 Digital certificates:\n";
    text += &file("TLS Root CA certificates", cluster.ca.as_ref(), now);
    text += &file("TLS client certificates", cluster.client.as_ref(), now);
    text += "\n⚙️  Etcd client:\n";
    if let Some(etcd) = &cluster.etcd {
        text += &self::etcd(etcd);
    }
    text + &state(cluster)
}

fn state(cluster: &ClusterCheck) -> String {
    let reason = match clean(&cluster.reason) {
        none if none.is_empty() => String::new(),
        reason => format!(": {reason}"),
    };
    format!(
        "\n🔭 The agent's own connection: {}{reason}\n",
        clean(&cluster.state)
    )
}

fn endpoint(endpoint: &EndpointCheck, now: Timestamp) -> String {
    let mut text = format!("   - {}\n", clean(&endpoint.url));
    let mut step = |error: &str, good: String| {
        if !error.is_empty() {
            text += &format!("     ❌ {}\n", clean(error));
        } else if !good.is_empty() {
            text += &format!("     ✅ {}\n", clean(&good));
        }
    };
    let addresses = endpoint.addresses.join(", ");
    step(
        &endpoint.resolve_error,
        format!("Hostname resolved to: {addresses}"),
    );
    let peer = &endpoint.tcp;
    let said = |words: &str, there: bool| {
        if there {
            words.to_owned()
        } else {
            String::new()
        }
    };
    let tcp = format!("TCP connection successfully established to {peer}");
    step(&endpoint.tcp_error, said(&tcp, !peer.is_empty()));
    let has_tls = !endpoint.tls_version.is_empty();
    let tls = format!("TLS connection successfully established to {peer}");
    step(&endpoint.tls_error, said(&tls, has_tls));
    if has_tls {
        let (version, cipher) = (clean(&endpoint.tls_version), clean(&endpoint.tls_cipher));
        text += &format!("     ℹ️  Negotiated TLS version: {version}, ciphersuite {cipher}\n");
        text += "     ℹ️  Server certificates:\n";
        for certificate in &endpoint.chain {
            text += &self::certificate(certificate, "        ", now);
        }
    } else if endpoint.tls_error.is_empty() && !peer.is_empty() {
        text += "     ⚠️  No TLS: anybody on the way can read and change what is said\n";
    }
    text
}

fn file(title: &str, file: Option<&CertificateFile>, now: Timestamp) -> String {
    let Some(file) = file else {
        return format!("   ℹ️  {title}: none configured\n");
    };
    let path = clean(&file.file);
    if !file.error.is_empty() {
        return format!("   ❌ {title}: {}\n", clean(&file.error));
    }
    let mut text = format!("   ✅ {title}: {path}\n");
    for certificate in &file.certificates {
        text += &self::certificate(certificate, "      ", now);
    }
    text
}

fn certificate(certificate: &CertificateInfo, indent: &str, now: Timestamp) -> String {
    let serial = clean(&certificate.serial);
    let mut text = format!("{indent}- Serial number:  {serial}\n");
    let mut line = |name: &str, value: String| text += &format!("{indent}  {name:<15} {value}\n");
    line("Subject:", clean(&certificate.subject));
    line("Issuer:", clean(&certificate.issuer));
    if !certificate.names.is_empty() {
        line("Valid for:", clean_all(&certificate.names).join(", "));
    }
    line("Not before:", certificate.not_before.seconds());
    line("Not after:", certificate.not_after.seconds());
    if certificate.not_after < now {
        let since = ago(certificate.not_after, now);
        text += &format!("{indent}  ❌ It has expired {since}\n");
    } else if certificate.not_before > now {
        text += &format!("{indent}  ❌ It is not valid yet: check the clocks\n");
    }
    text
}

fn etcd(etcd: &EtcdCheck) -> String {
    if !etcd.error.is_empty() {
        return format!("   ❌ {}\n", clean(&etcd.error));
    }
    let mut text = "   ✅ Etcd connection successfully established\n".to_owned();
    text += &format!("   ℹ️  Etcd cluster ID: {}\n", clean(&etcd.cluster_id));
    if !etcd.version.is_empty() {
        text += &format!("   ℹ️  Etcd server version: {}\n", clean(&etcd.version));
    }
    if etcd.has_leader == Some(false) {
        text += "   ❌ The server knows no leader: its cluster has no quorum\n";
    }
    match clean(&etcd.heartbeat) {
        none if none.is_empty() => {
            text += "   ❌ No heartbeat: nothing writes cilium/.heartbeat there; does an operator or agent of that cluster run?\n";
        }
        written => text += &format!("   ✅ Heartbeat of {written}\n"),
    }
    text
}

#[cfg(test)]
#[path = "troubleshoot_tests.rs"]
mod tests;
