// SPDX-License-Identifier: Apache-2.0
//! The official etcd client configuration file (etcd's Go package `client/v3/yaml`), with Cilium's extension
//! `cilium-host-aliases`.
//!
//! `insecure-skip-tls-verify: true` and `token` are refused: the first would let anybody on the way rewrite a
//! cluster's identities, the second has no use in etcd v3 (certificates or user and password do).

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 256 * 1024;
/// Most endpoints, aliases and addresses per alias.
const MAX_ENTRIES: usize = 64;

/// Why a configuration is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the etcd configuration {path:?}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Not YAML, or a field of another type.
    #[error("the etcd configuration is not valid YAML: {reason}")]
    Yaml {
        /// Where and why.
        reason: String,
    },
    /// No endpoint.
    #[error(
        "the etcd configuration has no endpoints: add \"endpoints:\" with at least one \"- https://host:2379\""
    )]
    NoEndpoints,
    /// An endpoint that is no etcd address.
    #[error("endpoint {endpoint:?}: {reason}")]
    Endpoint {
        /// The endpoint, cut to 256 characters.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// A field that has no acceptable meaning.
    #[error("{field}: {reason}")]
    Field {
        /// The field.
        field: &'static str,
        /// Why, and what to do.
        reason: String,
    },
}

/// Where an endpoint is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Endpoint {
    /// TLS or not.
    pub tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Endpoint {
    /// Host and port, for messages.
    pub(crate) fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// A name that is resolved without DNS.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct HostAlias {
    /// The name.
    pub hostname: String,
    /// Its addresses.
    #[serde(default)]
    pub ips: Vec<IpAddr>,
}

/// How to reach an etcd.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Config {
    /// The endpoints, at least one.
    pub endpoints: Vec<Endpoint>,
    /// Certificates of the CAs that the server may be signed by; `None` trusts nobody over TLS.
    pub trusted_ca_file: Option<PathBuf>,
    /// Client certificate.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// User and password, if the server wants them.
    pub user: Option<(String, String)>,
    /// Names that are resolved without DNS.
    pub host_aliases: Vec<HostAlias>,
    /// What is odd about the file but no reason to refuse it, for the status.
    pub warnings: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Wire {
    endpoints: Option<Vec<String>>,
    trusted_ca_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    insecure_transport: bool,
    insecure_skip_tls_verify: bool,
    username: Option<String>,
    password: Option<String>,
    token: Option<String>,
    cilium_host_aliases: Option<Vec<HostAlias>>,
    #[serde(flatten)]
    others: BTreeMap<String, serde_json::Value>,
}

/// Fields of the official file that this client has its own values for.
const WITHOUT_EFFECT: &[&str] = &[
    "dial-timeout",
    "keepalive-time",
    "keepalive-timeout",
    "dial-keep-alive-time",
    "dial-keep-alive-timeout",
    "auto-sync-interval",
    "max-call-send-msg-size",
    "max-call-recv-msg-size",
    "reject-old-cluster",
    "permit-without-stream",
    "log-level",
    "log-outputs",
];

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let refuse = |reason: String| ConfigError::Read {
            path: path.to_owned(),
            reason,
        };
        let meta = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?;
        if !meta.is_file() {
            return Err(refuse("it is not a file".into()));
        }
        if meta.len() > MAX_FILE {
            return Err(refuse(format!("{} bytes, at most {MAX_FILE}", meta.len())));
        }
        let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        Self::parse(&text)
    }

    /// Checks the text of a file. Certificates are read later, at every handshake.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        if text.len() as u64 > MAX_FILE {
            let reason = format!("{} bytes, at most {MAX_FILE}", text.len());
            return Err(ConfigError::Yaml { reason });
        }
        let wire: Wire = serde_saphyr::from_str(text).map_err(|error| ConfigError::Yaml {
            reason: crate::error::cut(error.to_string().lines().next().unwrap_or("?"), 512),
        })?;
        wire.check()
    }
}

impl Wire {
    fn check(mut self) -> Result<Config, ConfigError> {
        for file in [
            &mut self.trusted_ca_file,
            &mut self.ca_file,
            &mut self.cert_file,
            &mut self.key_file,
        ] {
            file.take_if(|file| file.as_os_str().is_empty());
        }
        if self.username.as_deref() == Some("") && self.password.as_deref() == Some("") {
            (self.username, self.password) = (None, None);
        }
        let field = |field, reason: &str| {
            let reason = reason.to_owned();
            Err(ConfigError::Field { field, reason })
        };
        if self.insecure_skip_tls_verify {
            return field(
                "insecure-skip-tls-verify",
                "is not supported: name the server's CA in trusted-ca-file instead",
            );
        }
        if self.token.is_some_and(|token| !token.is_empty()) {
            return field(
                "token",
                "is not supported: use a client certificate, or username and password",
            );
        }
        match (&self.cert_file, &self.key_file) {
            (Some(_), None) => {
                return field("cert-file", "is given without key-file: both are needed");
            }
            (None, Some(_)) => {
                return field("key-file", "is given without cert-file: both are needed");
            }
            _ => {}
        }
        let user = match (self.username, self.password) {
            (Some(name), Some(password)) => Some((name, password)),
            (None, None) => None,
            _ => return field("username", "and password are only useful together"),
        };
        let endpoints = endpoints(&self.endpoints.unwrap_or_default(), self.insecure_transport)?;
        let trusted_ca_file = self.trusted_ca_file.or(self.ca_file.clone());
        let tls = endpoints.iter().any(|endpoint| endpoint.tls);
        if tls && trusted_ca_file.is_none() {
            return field(
                "trusted-ca-file",
                "is missing: name the CA that signed the server's certificate",
            );
        }
        let mut warnings = unknown(&self.others);
        if self.ca_file.is_some() {
            warnings.push("ca-file is deprecated: call it trusted-ca-file".to_owned());
        }
        if !tls {
            warnings.push("the connection is not encrypted: anybody on the way can read and change it; use https".to_owned());
        }
        Ok(Config {
            endpoints,
            trusted_ca_file,
            cert_file: self.cert_file,
            key_file: self.key_file,
            user,
            host_aliases: aliases(self.cilium_host_aliases.unwrap_or_default())?,
            warnings,
        })
    }
}

fn unknown(others: &BTreeMap<String, serde_json::Value>) -> Vec<String> {
    let word = |name: &String| match WITHOUT_EFFECT.contains(&name.as_str()) {
        true => format!("{name} has no effect: this client has its own time-outs and limits"),
        false => format!("unknown field {:?} is ignored", crate::error::cut(name, 64)),
    };
    others.keys().take(MAX_ENTRIES).map(word).collect()
}

fn endpoints(texts: &[String], insecure: bool) -> Result<Vec<Endpoint>, ConfigError> {
    if texts.is_empty() {
        return Err(ConfigError::NoEndpoints);
    }
    if texts.len() > MAX_ENTRIES {
        let reason = format!("{} entries, at most {MAX_ENTRIES}", texts.len());
        let field = "endpoints";
        return Err(ConfigError::Field { field, reason });
    }
    texts.iter().map(|text| endpoint(text, insecure)).collect()
}

fn endpoint(text: &str, insecure: bool) -> Result<Endpoint, ConfigError> {
    let refuse = |reason: &str| ConfigError::Endpoint {
        endpoint: crate::error::cut(text, 256),
        reason: reason.to_owned(),
    };
    let (tls, rest) = match text.split_once("://") {
        Some(("https", _)) if insecure => {
            return Err(refuse(
                "insecure-transport contradicts https: remove one of them",
            ));
        }
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        Some(("consul", _)) => return Err(refuse("names a Consul: only etcd is supported")),
        Some(("unix" | "unixs", _)) => {
            return Err(refuse(
                "sockets of this machine are not supported: use https://host:port",
            ));
        }
        Some(_) => return Err(refuse("the scheme is neither https nor http")),
        None => (!insecure, text),
    };
    let authority: http::uri::Authority = rest
        .trim_end_matches('/')
        .parse()
        .map_err(|_| refuse("is not https://host:port"))?;
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    if host.is_empty() || authority.as_str().contains('@') {
        return Err(refuse("is not https://host:port"));
    }
    let port = match authority.port_u16() {
        Some(8500 | 8501) => {
            return Err(refuse("names a Consul (its port): only etcd is supported"));
        }
        Some(0) => return Err(refuse("port 0 is no port")),
        Some(port) => port,
        None if authority.as_str() != authority.host() => {
            return Err(refuse("the port is not a number up to 65535"));
        }
        None if tls => 443,
        None => 80,
    };
    Ok(Endpoint { tls, host, port })
}

fn aliases(aliases: Vec<HostAlias>) -> Result<Vec<HostAlias>, ConfigError> {
    let mut seen = HashSet::new();
    let reason = aliases.iter().find_map(|alias| match alias {
        HostAlias { hostname, .. } if hostname.is_empty() => {
            Some("an alias has no hostname".into())
        }
        HostAlias { hostname, .. } if !seen.insert(hostname) => {
            Some(format!("{hostname:?} is named twice"))
        }
        HostAlias { hostname, ips } if ips.is_empty() => Some(format!("{hostname:?} has no ips")),
        HostAlias { hostname, ips } if ips.len() > MAX_ENTRIES => {
            Some(format!("{hostname:?} has more than {MAX_ENTRIES} ips"))
        }
        _ => None,
    });
    match reason {
        Some(reason) => Err(ConfigError::Field {
            field: "cilium-host-aliases",
            reason,
        }),
        None => Ok(aliases),
    }
}
