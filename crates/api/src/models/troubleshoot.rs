// SPDX-License-Identifier: Apache-2.0
//! Ours: one try of everything that lies between this node and the etcds of remote clusters, made when it is asked for.

use super::*;
use crate::Timestamp;

model! {
    /// Answer of `GET /isthmus/troubleshoot`.
    "kebab-case" Troubleshoot {
        /// Directory of the remote clusters, empty if there is no mesh.
        directory: String,
        clusters: Vec<ClusterCheck>,
    }
}
model! {
    /// One remote cluster.
    "kebab-case" ClusterCheck {
        name: String,
        /// Its configuration file.
        path: String,
        /// Why the file is of no use; nothing else was tried then.
        config_error: String,
        /// What is odd about the file.
        config_warnings: Vec<String>,
        endpoints: Vec<EndpointCheck>,
        ca: Option<CertificateFile>,
        client: Option<CertificateFile>,
        etcd: Option<EtcdCheck>,
        /// What the agent's own connection is doing, and why.
        state: String,
        reason: String,
    }
}
model! {
    /// One endpoint. A step behind a failed one was not tried.
    "kebab-case" EndpointCheck {
        url: String,
        addresses: Vec<String>,
        resolve_error: String,
        /// The address that answered, with its port.
        tcp: String,
        tcp_error: String,
        tls_version: String,
        tls_cipher: String,
        tls_error: String,
        /// The server's certificates, its own first.
        chain: Vec<CertificateInfo>,
    }
}
model! {
    /// A file of certificates.
    "kebab-case" CertificateFile { file: String, error: String, certificates: Vec<CertificateInfo>, }
}
model! {
    /// What a certificate says.
    "kebab-case" CertificateInfo {
        serial: String,
        subject: String,
        issuer: String,
        /// DNS names and addresses that it is for.
        names: Vec<String>,
    } always {
        not_before: Timestamp,
        not_after: Timestamp,
    }
}
model! {
    /// What the etcd says about itself.
    "kebab-case" EtcdCheck {
        error: String,
        /// Hexadecimal.
        cluster_id: String,
        /// Empty: this client may not ask.
        version: String,
        /// `None`: this client may not ask.
        has_leader: Option<bool>,
        /// Value of the heartbeat key; empty if there is none.
        heartbeat: String,
    }
}
