// SPDX-License-Identifier: Apache-2.0
//! TLS of one connection: certificates are read from disk for every handshake, so that renewed ones are used without a
//! restart; failures are told in plain words that name the file concerned.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Config;
use crate::error::Error;

/// Largest certificate or key file, in bytes.
const MAX_PEM: u64 = 1024 * 1024;

fn fail(reason: String) -> Error {
    Error::Tls { reason }
}

async fn read(path: &Path, what: &str) -> Result<Vec<u8>, Error> {
    let unreadable = |error| {
        fail(format!(
            "cannot read the {what} {}: {error}",
            path.display()
        ))
    };
    let meta = tokio::fs::metadata(path).await.map_err(unreadable)?;
    if !meta.is_file() {
        // To read a pipe could last for ever, and so could reading a device.
        return Err(fail(format!("the {what} {} is not a file", path.display())));
    }
    if meta.len() > MAX_PEM {
        let size = meta.len();
        return Err(fail(format!(
            "the {what} {} has {size} bytes, at most {MAX_PEM}",
            path.display()
        )));
    }
    tokio::fs::read(path).await.map_err(unreadable)
}

pub(super) async fn certificates(
    path: &Path,
    what: &str,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = read(path, what).await?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(fail(format!(
            "the {what} {} holds no PEM certificate",
            path.display()
        ))),
    }
}

/// What a connection to an endpoint with TLS needs.
pub(super) async fn client_config(config: &Config) -> Result<Arc<ClientConfig>, Error> {
    let missing = || fail("trusted-ca-file is not set".to_owned());
    let ca_file = config.trusted_ca_file.as_deref().ok_or_else(missing)?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_file, "CA file").await? {
        roots.add(certificate).map_err(|error| {
            fail(format!(
                "the CA file {} holds an unusable certificate: {error}",
                ca_file.display()
            ))
        })?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
        .build()
        .map_err(|error| fail(format!("the CA file {}: {error}", ca_file.display())))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fail(error.to_string()))?
        .with_webpki_verifier(verifier);
    let mut tls = match (&config.cert_file, &config.key_file) {
        (Some(cert_file), Some(key_file)) => {
            let chain = certificates(cert_file, "client certificate").await?;
            let pem = read(key_file, "client key").await?;
            let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
                fail(format!(
                    "the client key {} holds no PEM key",
                    key_file.display()
                ))
            })?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                fail(format!(
                    "client certificate {} and key {} do not work together: {error}",
                    cert_file.display(),
                    key_file.display()
                ))
            })?
        }
        _ => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(tls))
}

/// Plain words for a failed handshake, if TLS is the reason.
pub(super) fn explain(error: &std::io::Error, endpoint: &str, config: &Config) -> Option<Error> {
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let shown = |file: &Option<PathBuf>| {
        file.as_deref()
            .map_or_else(|| "(none)".to_owned(), |p| p.display().to_string())
    };
    let ca = shown(&config.trusted_ca_file);
    let reason = match inner {
        rustls::Error::InvalidCertificate(reason) => server_certificate(reason, endpoint, &ca),
        rustls::Error::AlertReceived(alert) => {
            client_certificate(*alert, endpoint, config.cert_file.as_ref())
        }
        rustls::Error::InvalidMessage(_) => {
            format!("{endpoint} does not speak TLS: is it an http:// endpoint?")
        }
        rustls::Error::PeerIncompatible(_) => {
            format!("{endpoint} speaks no TLS 1.2 or newer that this client accepts: {inner}")
        }
        rustls::Error::NoApplicationProtocol => {
            format!("{endpoint} speaks TLS but not HTTP/2: it is no etcd")
        }
        other => format!("handshake with {endpoint} failed: {other}"),
    };
    Some(fail(reason))
}

fn server_certificate(reason: &CertificateError, endpoint: &str, ca: &str) -> String {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!(
                "the server certificate of {endpoint} has expired: renew it there, and check the clocks"
            )
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the server certificate of {endpoint} is not valid yet: check the clocks")
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            format!(
                "the server certificate of {endpoint} is not signed by a CA of {ca}: is it the CA of that cluster?"
            )
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("the server certificate of {endpoint} is for another name: {reason}")
        }
        other => format!("the server certificate of {endpoint} is refused: {other}"),
    }
}

fn client_certificate(alert: AlertDescription, endpoint: &str, file: Option<&PathBuf>) -> String {
    use AlertDescription as A;
    let Some(file) = file else {
        return match alert {
            A::CertificateRequired | A::BadCertificate | A::HandshakeFailure => {
                format!("{endpoint} requires a client certificate and cert-file is not set")
            }
            other => format!("{endpoint} refuses the connection: {other:?}"),
        };
    };
    let file = file.display();
    match alert {
        A::CertificateExpired => {
            format!("{endpoint} refuses the client certificate {file}: it has expired")
        }
        A::UnknownCA => format!(
            "{endpoint} refuses the client certificate {file}: the server does not trust the CA that signed it"
        ),
        A::CertificateRevoked => {
            format!("{endpoint} refuses the client certificate {file}: it is revoked")
        }
        A::BadCertificate
        | A::CertificateUnknown
        | A::UnsupportedCertificate
        | A::AccessDenied
        | A::CertificateRequired => {
            format!(
                "{endpoint} refuses the client certificate {file}: it has expired, or the server does not trust the CA that signed it"
            )
        }
        other => format!("{endpoint} ended the TLS handshake: {other:?}"),
    }
}

/// The server closed right after the handshake, as some do with a client certificate that they refuse.
pub(super) fn closed(endpoint: &str, config: &Config) -> Error {
    fail(match &config.cert_file {
        Some(file) => format!(
            "{endpoint} closed the connection right after the TLS handshake: it probably refuses the client certificate {}",
            file.display()
        ),
        None => format!(
            "{endpoint} closed the connection right after the TLS handshake: it probably requires a client certificate and cert-file is not set"
        ),
    })
}
