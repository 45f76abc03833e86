// SPDX-License-Identifier: Apache-2.0
//! Nodes: JSON with Go field names, all fields always written (Cilium's `pkg/node/types`, `Node`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use ipnet::IpNet;
use model::{AddressType, ClusterId, ClusterName, Node, NodeAddress, NodeName};
use serde::{Deserialize, Serialize};

use super::address::{WireNet, address, network, optional};
use super::{DecodeError, MAX_NAME, MAX_OBJECT, count, json, name, printable, text, to_json};

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct WireAddress {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "IP")]
    ip: String,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Wire {
    name: String,
    cluster: String,
    #[serde(rename = "IPAddresses")]
    addresses: Option<Vec<WireAddress>>,
    #[serde(rename = "IPv4AllocCIDR")]
    ipv4_alloc: Option<WireNet>,
    #[serde(rename = "IPv4SecondaryAllocCIDRs")]
    ipv4_secondary: Option<Vec<WireNet>>,
    #[serde(rename = "IPv6AllocCIDR")]
    ipv6_alloc: Option<WireNet>,
    #[serde(rename = "IPv6SecondaryAllocCIDRs")]
    ipv6_secondary: Option<Vec<WireNet>>,
    #[serde(rename = "IPv4HealthIP")]
    ipv4_health: String,
    #[serde(rename = "IPv6HealthIP")]
    ipv6_health: String,
    #[serde(rename = "IPv4IngressIP")]
    ipv4_ingress: String,
    #[serde(rename = "IPv6IngressIP")]
    ipv6_ingress: String,
    #[serde(rename = "ClusterID")]
    cluster_id: u32,
    source: String,
    encryption_key: u8,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    wireguard_pub_key: String,
    #[serde(rename = "BootID")]
    boot_id: String,
}

const TYPES: [(AddressType, &str); 6] = [
    (AddressType::Hostname, "Hostname"),
    (AddressType::ExternalIp, "ExternalIP"),
    (AddressType::InternalIp, "InternalIP"),
    (AddressType::ExternalDns, "ExternalDNS"),
    (AddressType::InternalDns, "InternalDNS"),
    (AddressType::CiliumInternalIp, "CiliumInternalIP"),
];

/// The value of a node's key.
pub fn encode_node(node: &Node) -> Bytes {
    let addresses = node.addresses.iter().map(|a| WireAddress {
        kind: type_name(a.kind).to_owned(),
        ip: a.ip.to_string(),
    });
    let secondary = |v4: bool| {
        let nets = node.secondary_alloc.iter();
        let nets: Vec<WireNet> = nets
            .filter(|net| net.addr().is_ipv4() == v4)
            .map(WireNet::from)
            .collect();
        (!nets.is_empty()).then_some(nets)
    };
    to_json(&Wire {
        name: node.name.name.to_string(),
        cluster: node.name.cluster.to_string(),
        addresses: Some(addresses.collect()),
        ipv4_alloc: node.ipv4_alloc.as_ref().map(WireNet::from),
        ipv4_secondary: secondary(true),
        ipv6_alloc: node.ipv6_alloc.as_ref().map(WireNet::from),
        ipv6_secondary: secondary(false),
        ipv4_health: of_family(&node.health, true),
        ipv6_health: of_family(&node.health, false),
        ipv4_ingress: of_family(&node.ingress, true),
        ipv6_ingress: of_family(&node.ingress, false),
        cluster_id: node.cluster_id.0.into(),
        source: "local".to_owned(),
        encryption_key: node.encryption_key,
        labels: Some(node.labels.clone()),
        annotations: Some(node.annotations.clone()),
        wireguard_pub_key: node.wireguard_pub_key.clone(),
        boot_id: node.boot_id.clone(),
    })
}

fn type_name(kind: AddressType) -> &'static str {
    TYPES
        .iter()
        .find(|(k, _)| *k == kind)
        .map_or("", |(_, name)| name)
}

fn of_family(addresses: &[IpAddr], v4: bool) -> String {
    let mut addresses = addresses.iter();
    addresses
        .find(|ip| ip.is_ipv4() == v4)
        .map_or_else(String::new, IpAddr::to_string)
}

/// Reads the value of a node's key. Addresses of unknown type and names in place of addresses are left out.
pub fn decode_node(key: &str, value: &[u8]) -> Result<Node, DecodeError> {
    let wire: Wire = json(key, value, MAX_OBJECT)?;
    name(key, "Name", &wire.name)?;
    let cluster = ClusterName::new(&wire.cluster)
        .map_err(|error| DecodeError::new(key, "Cluster", printable(&error.to_string(), 256)))?;
    let cluster_id = u16::try_from(wire.cluster_id).map_err(|_| {
        DecodeError::new(
            key,
            "ClusterID",
            format!("{} is too large", wire.cluster_id),
        )
    })?;
    text(key, "WireguardPubKey", &wire.wireguard_pub_key, 64)?;
    text(key, "BootID", &wire.boot_id, 64)?;
    let labels = wire.labels.unwrap_or_default();
    let annotations = wire.annotations.unwrap_or_default();
    map(key, "Labels", &labels, 4 * MAX_NAME)?;
    map(key, "Annotations", &annotations, MAX_OBJECT)?;
    let mut secondary_alloc = networks(key, "IPv4SecondaryAllocCIDRs", wire.ipv4_secondary, true)?;
    secondary_alloc.extend(networks(
        key,
        "IPv6SecondaryAllocCIDRs",
        wire.ipv6_secondary,
        false,
    )?);
    Ok(Node {
        name: NodeName {
            cluster,
            name: wire.name.as_str().into(),
        },
        cluster_id: ClusterId(cluster_id),
        addresses: addresses(key, wire.addresses.unwrap_or_default())?,
        ipv4_alloc: alloc(key, "IPv4AllocCIDR", wire.ipv4_alloc, true)?,
        ipv6_alloc: alloc(key, "IPv6AllocCIDR", wire.ipv6_alloc, false)?,
        secondary_alloc,
        health: pair(
            key,
            ["IPv4HealthIP", "IPv6HealthIP"],
            [&wire.ipv4_health, &wire.ipv6_health],
        )?,
        ingress: pair(
            key,
            ["IPv4IngressIP", "IPv6IngressIP"],
            [&wire.ipv4_ingress, &wire.ipv6_ingress],
        )?,
        encryption_key: wire.encryption_key,
        wireguard_pub_key: wire.wireguard_pub_key,
        boot_id: wire.boot_id,
        labels,
        annotations,
    })
}

fn map(
    key: &str,
    field: &'static str,
    map: &BTreeMap<String, String>,
    max: usize,
) -> Result<(), DecodeError> {
    for (k, v) in map {
        text(key, field, k, 2 * MAX_NAME)?;
        if v.len() > max {
            return Err(DecodeError::new(
                key,
                field,
                "holds a value that is too long",
            ));
        }
    }
    Ok(())
}

fn addresses(key: &str, wire: Vec<WireAddress>) -> Result<Vec<NodeAddress>, DecodeError> {
    count(key, "IPAddresses", wire.len())?;
    let mut addresses = Vec::with_capacity(wire.len());
    for WireAddress { kind, ip } in &wire {
        let Some((kind, _)) = TYPES.iter().find(|(_, name)| name == kind) else {
            continue;
        };
        let is_name = !matches!(
            kind,
            AddressType::ExternalIp | AddressType::InternalIp | AddressType::CiliumInternalIp
        );
        match address(key, "IPAddresses", ip) {
            Ok(ip) => addresses.push(NodeAddress { kind: *kind, ip }),
            Err(_) if is_name => {}
            Err(error) => return Err(error),
        }
    }
    Ok(addresses)
}

fn alloc(
    key: &str,
    field: &'static str,
    wire: Option<WireNet>,
    v4: bool,
) -> Result<Option<IpNet>, DecodeError> {
    // A network that is not set may be written as the text of none.
    let unset = |wire: &WireNet| matches!(wire, WireNet::Text(text) if text.is_empty());
    let Some(wire) = wire.filter(|wire| !unset(wire)) else {
        return Ok(None);
    };
    let net = network(key, field, &wire)?;
    if net.addr().is_ipv4() != v4 {
        return Err(DecodeError::new(
            key,
            field,
            format!("{net} is of the other family"),
        ));
    }
    Ok(Some(net))
}

fn networks(
    key: &str,
    field: &'static str,
    wire: Option<Vec<WireNet>>,
    v4: bool,
) -> Result<Vec<IpNet>, DecodeError> {
    let wire = wire.unwrap_or_default();
    count(key, field, wire.len())?;
    let nets = wire.into_iter().map(|net| alloc(key, field, Some(net), v4));
    nets.filter_map(Result::transpose).collect()
}

fn pair(
    key: &str,
    fields: [&'static str; 2],
    texts: [&String; 2],
) -> Result<Vec<IpAddr>, DecodeError> {
    let mut found = Vec::new();
    for (field, text) in fields.into_iter().zip(texts) {
        found.extend(optional(key, field, text)?);
    }
    Ok(found)
}
