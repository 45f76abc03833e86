// SPDX-License-Identifier: Apache-2.0
//! A certificate authority per cluster, and certificates for etcd and its clients.
//!
//! rcgen, because it makes them in process in a millisecond and needs no openssl on the machine.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

use crate::error::{Doing, LabError, Result};

/// An authority that signs for one cluster.
pub struct Authority {
    name: String,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Certificate, key and authority as files.
#[derive(Debug, Clone)]
pub struct Files {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Who presents a certificate.
#[derive(Debug, Clone, Copy)]
pub enum Role<'a> {
    /// A server at these addresses.
    Server(&'a [IpAddr]),
    /// A server at these addresses and names.
    NamedServer(&'a [IpAddr], &'a [&'a str]),
    /// A client.
    Client,
    /// A client that is this user, and of this group if one is named.
    User {
        /// The common name.
        name: &'a str,
        /// The organisation.
        group: Option<&'a str>,
    },
    /// A client whose certificate ended in 2000.
    ExpiredClient,
}

impl Authority {
    /// A new authority with a key of its own.
    ///
    /// # Errors
    /// No randomness, in practice.
    pub fn new(name: &str) -> Result<Self> {
        let failed = |source| LabError::Certificate {
            subject: name.to_owned(),
            source,
        };
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(failed)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(failed)?;
        Ok(Self {
            name: name.to_owned(),
            issuer,
        })
    }

    /// Signs a certificate and writes `<stem>-ca.crt`, `<stem>.crt` and `<stem>.key` into `dir`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn issue(&self, dir: &Path, stem: &str, role: Role<'_>) -> Result<Files> {
        let subject = format!("{stem} of {}", self.name);
        let failed = |source| LabError::Certificate {
            subject: subject.clone(),
            source,
        };
        let mut params = named(stem);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        match role {
            Role::Client => {}
            Role::ExpiredClient => params.not_after = rcgen::date_time_ymd(2000, 1, 1),
            Role::Server(addresses) => {
                // etcd connects to itself with its server certificate.
                params
                    .extended_key_usages
                    .push(ExtendedKeyUsagePurpose::ServerAuth);
                params.subject_alt_names =
                    addresses.iter().copied().map(SanType::IpAddress).collect();
            }
            Role::NamedServer(addresses, names) => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                let addresses = addresses.iter().copied().map(SanType::IpAddress);
                params.subject_alt_names = addresses.collect();
                for name in names {
                    let name = (*name).try_into().map_err(failed)?;
                    params.subject_alt_names.push(SanType::DnsName(name));
                }
            }
            Role::User { name, group } => {
                let subject = &mut params.distinguished_name;
                subject.push(DnType::CommonName, name);
                if let Some(group) = group {
                    subject.push(DnType::OrganizationName, group);
                }
            }
        }
        let key = KeyPair::generate().map_err(failed)?;
        let cert = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let files = Files {
            ca: dir.join(format!("{stem}-ca.crt")),
            cert: dir.join(format!("{stem}.crt")),
            key: dir.join(format!("{stem}.key")),
        };
        let texts = [
            (&files.ca, self.issuer.pem()),
            (&files.cert, cert.pem()),
            (&files.key, key.serialize_pem()),
        ];
        for (path, text) in texts {
            fs::write(path, text).doing("write", path)?;
        }
        Ok(files)
    }

    /// Writes the authority's own certificate and key as `<stem>.crt` and `<stem>.key` into `dir`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, dir: &Path, stem: &str) -> Result<()> {
        let texts = [
            ("crt", self.issuer.pem()),
            ("key", self.issuer.key().serialize_pem()),
        ];
        for (extension, text) in texts {
            let path = dir.join(stem).with_extension(extension);
            fs::write(&path, text).doing("write", &path)?;
        }
        Ok(())
    }
}

fn named(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params
}

impl Files {
    /// The official etcd client configuration file for `endpoint` with these certificates.
    #[must_use]
    pub fn client_configuration(&self, endpoint: &str) -> String {
        format!(
            "endpoints:\n- {endpoint}\ntrusted-ca-file: {}\ncert-file: {}\nkey-file: {}\n",
            self.ca.display(),
            self.cert.display(),
            self.key.display()
        )
    }
}
