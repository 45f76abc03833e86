// SPDX-License-Identifier: Apache-2.0
//! Addresses and the identity behind them: JSON with Go field names (Cilium's `pkg/identity`,
//! `IPIdentityPair`).

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use ipnet::IpNet;
use model::{IpEntry, NamedPort, NumericIdentity, Protocol};
use serde::{Deserialize, Serialize};

use super::address::{address, mask_of, masked, optional};
use super::{DecodeError, MAX_NAME, MAX_OBJECT, count, json, keys, printable, text, to_json};

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct WirePort {
    name: String,
    port: u16,
    protocol: String,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Wire {
    #[serde(rename = "IP")]
    ip: String,
    #[serde(rename = "Mask")]
    mask: Option<String>,
    #[serde(rename = "HostIP")]
    host: Option<String>,
    #[serde(rename = "ID")]
    identity: u32,
    #[serde(rename = "Key")]
    key: u8,
    #[serde(rename = "Metadata")]
    metadata: String,
    #[serde(rename = "K8sNamespace", skip_serializing_if = "String::is_empty")]
    namespace: String,
    #[serde(rename = "K8sPodName", skip_serializing_if = "String::is_empty")]
    pod: String,
    #[serde(rename = "K8sServiceAccount", skip_serializing_if = "String::is_empty")]
    service_account: String,
    #[serde(rename = "NamedPorts", skip_serializing_if = "Option::is_none")]
    named_ports: Option<Vec<WirePort>>,
}

const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

/// Key of an address: the bare address of a host, `address/length` otherwise.
pub fn ip_key(prefix: &IpNet) -> String {
    if prefix.prefix_len() == prefix.max_prefix_len() {
        format!("{}/{}", keys::IPS, prefix.addr())
    } else {
        format!("{}/{prefix}", keys::IPS)
    }
}

/// The address that a key under `prefix` (with or without a slash at its end) names.
pub fn ip_of_key(prefix: &str, key: &str) -> Result<IpNet, DecodeError> {
    let refuse = || DecodeError::new(key, "key", "does not name an IP address or network");
    let rest = key
        .strip_prefix(prefix.trim_end_matches('/'))
        .and_then(|rest| rest.strip_prefix('/'))
        .ok_or_else(refuse)?;
    let parsed = match rest.contains('/') {
        true => rest.parse::<IpNet>().ok(),
        false => rest.parse::<IpAddr>().ok().map(IpNet::from),
    };
    parsed
        .filter(|net| net.addr() == net.network())
        .ok_or_else(refuse)
}

/// The value of an address's key.
pub fn encode_ip(entry: &IpEntry) -> Bytes {
    let host = entry.prefix.prefix_len() == entry.prefix.max_prefix_len();
    let ports = entry.named_ports.iter().map(|port| WirePort {
        name: port.name.to_string(),
        port: port.port,
        protocol: port.protocol.as_str().to_owned(),
    });
    to_json(&Wire {
        ip: entry.prefix.addr().to_string(),
        mask: (!host).then(|| mask_of(&entry.prefix)),
        host: Some(entry.host.map_or_else(String::new, |ip| ip.to_string())),
        identity: entry.identity.0,
        key: entry.key,
        metadata: entry.metadata.to_string(),
        namespace: entry.namespace.to_string(),
        pod: entry.pod.to_string(),
        service_account: entry.service_account.to_string(),
        named_ports: (!entry.named_ports.is_empty()).then(|| ports.collect()),
    })
}

/// Reads the value of an address's key. That the key names the same address is for the caller to check with [`ip_of_key`].
pub fn decode_ip(key: &str, value: &[u8]) -> Result<IpEntry, DecodeError> {
    let wire: Wire = json(key, value, MAX_OBJECT)?;
    let ip = address(key, "IP", &wire.ip)?;
    let prefix = match wire.mask.as_deref() {
        None | Some("") => IpNet::from(ip),
        Some(mask) => masked(key, "Mask", ip, mask)?,
    };
    for (field, value, max) in [
        ("Metadata", &wire.metadata, 4 * MAX_NAME),
        ("K8sNamespace", &wire.namespace, MAX_NAME),
        ("K8sPodName", &wire.pod, MAX_NAME),
        ("K8sServiceAccount", &wire.service_account, MAX_NAME),
    ] {
        text(key, field, value, max)?;
    }
    Ok(IpEntry {
        prefix,
        identity: NumericIdentity(wire.identity),
        host: optional(key, "HostIP", wire.host.as_deref().unwrap_or_default())?,
        key: wire.key,
        namespace: wire.namespace.into(),
        pod: wire.pod.into(),
        service_account: wire.service_account.into(),
        named_ports: ports(key, wire.named_ports.unwrap_or_default())?,
        metadata: wire.metadata.into(),
    })
}

fn ports(key: &str, wire: Vec<WirePort>) -> Result<Arc<[NamedPort]>, DecodeError> {
    count(key, "NamedPorts", wire.len())?;
    let mut ports = Vec::with_capacity(wire.len());
    for port in wire {
        text(key, "NamedPorts", &port.name, 63)?;
        let known = PROTOCOLS.iter().find(|p| p.as_str() == port.protocol);
        let protocol = *known.ok_or_else(|| {
            let reason = format!("unknown protocol {:?}", printable(&port.protocol, 16));
            DecodeError::new(key, "NamedPorts", reason)
        })?;
        ports.push(NamedPort {
            name: port.name.into(),
            port: port.port,
            protocol,
        });
    }
    ports.sort_by(|a, b| (&a.name, a.port).cmp(&(&b.name, b.port)));
    Ok(ports.into())
}
