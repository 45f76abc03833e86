// SPDX-License-Identifier: Apache-2.0
//! Certificates for tests.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};

/// A CA.
pub(crate) struct Authority {
    pem: String,
    key: String,
}

/// What a leaf certificate says.
pub(crate) struct Leaf {
    pub(crate) name: &'static str,
    pub(crate) hosts: Vec<String>,
    pub(crate) usage: ExtendedKeyUsagePurpose,
    pub(crate) expired: bool,
}

impl Leaf {
    pub(crate) fn client(name: &'static str) -> Self {
        Self {
            name,
            hosts: Vec::new(),
            usage: ExtendedKeyUsagePurpose::ClientAuth,
            expired: false,
        }
    }

    pub(crate) fn server() -> Self {
        Self {
            name: "etcd",
            hosts: ["127.0.0.1", "cluster5.mesh.cilium.io"]
                .map(str::to_owned)
                .into(),
            usage: ExtendedKeyUsagePurpose::ServerAuth,
            expired: false,
        }
    }

    pub(crate) fn expired(mut self) -> Self {
        self.expired = true;
        self
    }

    pub(crate) fn hosts(mut self, hosts: &[&str]) -> Self {
        self.hosts = hosts.iter().map(|&host| host.to_owned()).collect();
        self
    }
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    pub(crate) fn write(&self, path: &Path) {
        std::fs::write(path, &self.pem).unwrap();
    }

    /// Keeps certificate and key, so that a test can issue more.
    pub(crate) fn keep(&self, dir: &Path) {
        std::fs::write(dir.join("authority.crt"), &self.pem).unwrap();
        std::fs::write(dir.join("authority.key"), &self.key).unwrap();
    }

    pub(crate) fn kept(dir: &Path) -> Self {
        Self {
            pem: std::fs::read_to_string(dir.join("authority.crt")).unwrap(),
            key: std::fs::read_to_string(dir.join("authority.key")).unwrap(),
        }
    }

    /// Writes `<path>.crt` and `<path>.key`.
    pub(crate) fn issue(&self, leaf: Leaf, path: &Path) {
        let issuer_key = KeyPair::from_pem(&self.key).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&self.pem, issuer_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(leaf.hosts).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, leaf.name);
        params.extended_key_usages = vec![leaf.usage];
        if leaf.expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 1, 2);
        }
        let certificate = params.signed_by(&key, &issuer).unwrap();
        std::fs::write(path.with_extension("crt"), certificate.pem()).unwrap();
        std::fs::write(path.with_extension("key"), key.serialize_pem()).unwrap();
    }
}
