// SPDX-License-Identifier: Apache-2.0
//! `/isthmus/troubleshoot`: the way to the etcds of remote clusters, tried from this node.

use std::path::Path;
use std::time::Duration;

use api::models::*;
use api::{Answer, ApiError, Timestamp};
use clustermesh::RemoteStatus;
use futures::future::join_all;
use kvstore::{Certificate, Certificates, Diagnosis, EndpointDiagnosis};

use super::Service;

impl Service {
    pub(super) async fn trouble(&self, wanted: &[String], seconds: u64) -> Answer<Troubleshoot> {
        let directory = self.core().config.mesh_dir.clone();
        let (Some(mesh), Some(directory)) = (&self.mesh, directory) else {
            return Ok(Troubleshoot::default());
        };
        let remotes = mesh.status();
        let known = |name: &String| remotes.iter().any(|remote| remote.name == *name);
        if let Some(name) = wanted.iter().find(|name| !known(name)) {
            let names: Vec<_> = remotes.iter().map(|remote| remote.name.as_str()).collect();
            return Err(ApiError::not_found(format!(
                "no remote cluster {name:?}; configured: {}",
                names.join(", ")
            )));
        }
        let limit = Duration::from_secs(seconds);
        let chosen = remotes
            .iter()
            .filter(|remote| wanted.is_empty() || wanted.contains(&remote.name));
        let checks = chosen.map(|remote| check(&directory, remote, limit));
        Ok(Troubleshoot {
            directory: directory.display().to_string(),
            clusters: join_all(checks).await,
        })
    }
}

async fn check(directory: &Path, remote: &RemoteStatus, limit: Duration) -> ClusterCheck {
    let path = directory.join(&remote.name);
    let mut check = ClusterCheck {
        name: remote.name.clone(),
        path: path.display().to_string(),
        state: remote.state.to_string(),
        reason: remote.reason.clone(),
        ..Default::default()
    };
    let config = match kvstore::Config::load(&path) {
        Ok(config) => config,
        Err(error) => {
            check.config_error = error.to_string();
            return check;
        }
    };
    check.config_warnings.clone_from(&config.warnings);
    let found: Diagnosis = kvstore::diagnose(&config, limit).await;
    check.endpoints = found.endpoints.into_iter().map(endpoint).collect();
    check.ca = found.ca.map(file);
    check.client = found.client.map(file);
    check.etcd = Some(match found.server {
        Ok(server) => EtcdCheck {
            cluster_id: format!("{:x}", server.cluster_id),
            version: server.version,
            has_leader: server.has_leader,
            heartbeat: server.heartbeat.unwrap_or_default(),
            ..Default::default()
        },
        Err(error) => EtcdCheck {
            error: error.to_string(),
            ..Default::default()
        },
    });
    check
}

fn endpoint(found: EndpointDiagnosis) -> EndpointCheck {
    let mut check = EndpointCheck {
        url: found.url,
        ..Default::default()
    };
    match found.addresses {
        Ok(addresses) => check.addresses = addresses.iter().map(ToString::to_string).collect(),
        Err(error) => check.resolve_error = error.to_string(),
    }
    match found.tcp {
        Some(Ok(peer)) => check.tcp = peer.to_string(),
        Some(Err(error)) => check.tcp_error = error.to_string(),
        None => {}
    }
    match found.tls {
        Some(Ok(tls)) => {
            (check.tls_version, check.tls_cipher) = (tls.version, tls.cipher);
            check.chain = tls.chain.iter().map(certificate).collect();
        }
        Some(Err(error)) => check.tls_error = error.to_string(),
        None => {}
    }
    check
}

fn file(found: Certificates) -> CertificateFile {
    let mut check = CertificateFile {
        file: found.file.display().to_string(),
        ..Default::default()
    };
    match found.found {
        Ok(chain) => check.certificates = chain.iter().map(certificate).collect(),
        Err(error) => check.error = error.to_string(),
    }
    check
}

fn certificate(found: &Certificate) -> CertificateInfo {
    CertificateInfo {
        serial: found.serial.clone(),
        subject: found.subject.clone(),
        issuer: found.issuer.clone(),
        names: found.names.clone(),
        not_before: Timestamp::from(found.not_before),
        not_after: Timestamp::from(found.not_after),
    }
}
