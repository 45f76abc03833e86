// SPDX-License-Identifier: Apache-2.0
//! One try of everything that lies between this node and an etcd, step by step, for people who look for what is wrong:
//! names, TCP, TLS with all certificates, and what the server says about itself.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use rustls_pki_types::CertificateDer;
use tokio::time::timeout;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use super::connector::{Connector, LastFailure, Purpose, Target};
use super::{ClientOptions, Etcd, tls};
use crate::config::{Config, Endpoint};
use crate::error::{Error, cut};
use crate::schema::keys;
use crate::store::Store as _;

/// Longest text of a certificate that is kept, bytes.
const MAX_TEXT: usize = 256;
/// Most names of a certificate that are kept.
const MAX_NAMES: usize = 32;

/// What was found. Every step says itself why it failed; a step behind a failed one is `None`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnosis {
    /// Of the CAs, if the configuration names a file.
    pub ca: Option<Certificates>,
    /// Of this client.
    pub client: Option<Certificates>,
    /// The endpoints, in the order of the configuration.
    pub endpoints: Vec<EndpointDiagnosis>,
    /// The etcd as a whole, over whichever endpoint answers.
    pub server: Result<ServerDiagnosis, Error>,
}

/// A file of certificates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificates {
    /// The file.
    pub file: PathBuf,
    /// What is in it.
    pub found: Result<Vec<Certificate>, Error>,
}

/// What a certificate says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// Serial number, hexadecimal with colons.
    pub serial: String,
    /// Whose it is.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Names and addresses that it is for.
    pub names: Vec<String>,
    /// Valid from here on.
    pub not_before: SystemTime,
    /// Valid until here.
    pub not_after: SystemTime,
}

/// One endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointDiagnosis {
    /// As a URL.
    pub url: String,
    /// Its addresses.
    pub addresses: Result<Vec<IpAddr>, Error>,
    /// The connection: who answered.
    pub tcp: Option<Result<SocketAddr, Error>>,
    /// The handshake; `None` also if the endpoint has no TLS.
    pub tls: Option<Result<TlsDiagnosis, Error>>,
}

/// A handshake that succeeded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsDiagnosis {
    /// `TLSv1_3`.
    pub version: String,
    /// `TLS13_AES_256_GCM_SHA384`.
    pub cipher: String,
    /// The server's certificates, its own first.
    pub chain: Vec<Certificate>,
}

/// What the etcd says about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerDiagnosis {
    /// Number of the etcd cluster.
    pub cluster_id: u64,
    /// Release of the server; empty if this client may not ask.
    pub version: String,
    /// Whether it knows a leader; `None` if this client may not ask.
    pub has_leader: Option<bool>,
    /// Value of the heartbeat key, the time at which it was written; `None` if there is none.
    pub heartbeat: Option<String>,
}

/// Tries everything once; each step takes at most `limit`.
pub async fn diagnose(config: &Config, limit: Duration) -> Diagnosis {
    let connector = Connector {
        purpose: Purpose::Work,
        target: Target::default(),
        config: Arc::new(config.clone()),
        dial_timeout: limit,
        failure: LastFailure::default(),
    };
    let endpoints = config
        .endpoints
        .iter()
        .map(|one| endpoint(&connector, one, limit));
    let (ca, client, endpoints, server) = tokio::join!(
        certificates(&config.trusted_ca_file, "CA file"),
        certificates(&config.cert_file, "client certificate"),
        join_all(endpoints),
        server(config, limit),
    );
    Diagnosis {
        ca,
        client,
        endpoints,
        server,
    }
}

async fn certificates(file: &Option<PathBuf>, what: &str) -> Option<Certificates> {
    let file = file.clone()?;
    let found = tls::certificates(&file, what).await;
    let found = found.and_then(|chain| {
        let read = chain.iter().map(certificate).collect::<Option<Vec<_>>>();
        read.ok_or_else(|| Error::Tls {
            reason: format!("the {what} {} holds no X.509 certificate", file.display()),
        })
    });
    Some(Certificates { file, found })
}

fn certificate(der: &CertificateDer<'_>) -> Option<Certificate> {
    let (_, x509) = parse_x509_certificate(der).ok()?;
    let time = |seconds: i64| {
        let seconds = u64::try_from(seconds).unwrap_or(0);
        UNIX_EPOCH + Duration::from_secs(seconds)
    };
    let alternatives = x509.subject_alternative_name().ok().flatten();
    let names = alternatives.iter().flat_map(|all| &all.value.general_names);
    let names = names.take(MAX_NAMES).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(cut(name, MAX_TEXT)),
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    });
    Some(Certificate {
        serial: cut(&x509.raw_serial_as_string(), MAX_TEXT),
        subject: cut(&x509.subject().to_string(), MAX_TEXT),
        issuer: cut(&x509.issuer().to_string(), MAX_TEXT),
        names: names.collect(),
        not_before: time(x509.validity().not_before.timestamp()),
        not_after: time(x509.validity().not_after.timestamp()),
    })
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let address = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    address.ok().map(|ip| ip.to_string())
}

async fn endpoint(
    connector: &Connector,
    endpoint: &Endpoint,
    limit: Duration,
) -> EndpointDiagnosis {
    let host = match endpoint.host.contains(':') {
        true => format!("[{}]", endpoint.host),
        false => endpoint.host.clone(),
    };
    let name = format!("{host}:{}", endpoint.port);
    let scheme = if endpoint.tls { "https" } else { "http" };
    let addresses = within(limit, &name, connector.addresses(endpoint)).await;
    let mut found = EndpointDiagnosis {
        url: format!("{scheme}://{name}"),
        addresses: addresses.map(|all| all.iter().map(SocketAddr::ip).collect()),
        tcp: None,
        tls: None,
    };
    if found.addresses.is_err() {
        return found;
    }
    let tcp = match within(limit, &name, connector.tcp(endpoint)).await {
        Ok(tcp) => tcp,
        Err(error) => {
            found.tcp = Some(Err(error));
            return found;
        }
    };
    found.tcp = Some(tcp.peer_addr().map_err(|error| Error::Connect {
        reason: format!("{name}: {error}"),
    }));
    if endpoint.tls {
        let handshake = within(limit, &name, connector.handshake(endpoint, &name, tcp)).await;
        found.tls = Some(handshake.map(|(stream, _)| {
            let (_, session) = stream.get_ref();
            let chain = session.peer_certificates().unwrap_or_default();
            TlsDiagnosis {
                version: word(session.protocol_version()),
                cipher: word(session.negotiated_cipher_suite().map(|suite| suite.suite())),
                chain: chain.iter().filter_map(certificate).collect(),
            }
        }));
    }
    found
}

fn word(value: Option<impl std::fmt::Debug>) -> String {
    value.map_or_else(String::new, |value| format!("{value:?}"))
}

async fn within<T>(
    limit: Duration,
    name: &str,
    step: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout(limit, step).await.unwrap_or_else(|_| {
        Err(Error::Connect {
            reason: format!("{name} did not answer within {limit:?}"),
        })
    })
}

async fn server(config: &Config, limit: Duration) -> Result<ServerDiagnosis, Error> {
    let options = ClientOptions {
        dial_timeout: limit,
        request_timeout: limit,
        ..ClientOptions::default()
    };
    let etcd = Etcd::lazy(config.clone(), options);
    let heartbeat = etcd.get(keys::HEARTBEAT).await?;
    // A remote cluster's user may be allowed to read keys and nothing else.
    let status = etcd.status().await.ok();
    Ok(ServerDiagnosis {
        cluster_id: etcd.cluster_id().unwrap_or_default(),
        version: status
            .as_ref()
            .map(|status| status.version.clone())
            .unwrap_or_default(),
        has_leader: status.map(|status| status.has_leader),
        heartbeat: heartbeat.map(|kv| cut(&String::from_utf8_lossy(&kv.value), MAX_TEXT)),
    })
}
