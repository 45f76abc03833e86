// SPDX-License-Identifier: Apache-2.0
//! Service and EndpointSlice, trimmed to what a proxy needs.

use std::net::IpAddr;
use std::sync::Arc;

use model::{
    EndpointSlice, Family, NamespacedName, Protocol, Service, ServicePort, SliceEndpoint, SlicePort,
};

use crate::field::Field;
use crate::{FieldError, object};

/// Whose endpoints a slice tells.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Another proxy serves this.
pub(crate) const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// The controller's mark on what belongs to a service without a ClusterIP.
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";
/// Most ports of a service or slice.
const MAX_PORTS: usize = 4096;
/// Most endpoints of a slice, as API servers have it.
const MAX_ENDPOINTS: usize = 1000;
/// Seconds of affinity if nothing else is said, and the most, as API servers have it.
const AFFINITY: u32 = 10_800;
const MAX_AFFINITY: u64 = 86_400;

pub(crate) fn service(root: &Field<'_>) -> Result<Service, FieldError> {
    let metadata = object::metadata(root)?;
    let spec = root
        .get("spec")
        .ok_or_else(|| root.error("spec is missing"))?;
    let is_external = match spec.get("type") {
        Some(kind) => kind.text()? == "ExternalName",
        None => false,
    };
    let is_ours = !is_external && label(&metadata, PROXY_NAME)?.is_none();
    let local_only = match spec.get("internalTrafficPolicy") {
        None => false,
        Some(policy) => match policy.text()? {
            "Cluster" => false,
            "Local" => true,
            other => {
                return Err(policy.error(format!("{other:?} is unknown; known: Cluster, Local")));
            }
        },
    };
    Ok(Service {
        key: key(&metadata)?,
        cluster_ips: if is_ours {
            cluster_ips(&spec)?
        } else {
            Vec::new()
        },
        ports: list(&spec, "ports", MAX_PORTS, |port| {
            Ok(ServicePort {
                name: name(&port)?,
                port: number(&port)?.ok_or_else(|| port.error("port is missing"))?,
                proto: protocol(&port)?,
            })
        })?,
        affinity: affinity(&spec)?,
        local_only,
    })
}

/// The ClusterIPs; older objects have one only. `None` says that the service is headless.
fn cluster_ips(spec: &Field<'_>) -> Result<Vec<IpAddr>, FieldError> {
    let read = |field: Field<'_>| match field.text()? {
        "" | "None" => Ok(None),
        _ => addr(&field).map(Some),
    };
    let several = list(spec, "clusterIPs", 2, read)?;
    let single = spec.get("clusterIP").filter(|_| several.is_empty());
    let single = single.map(read).transpose()?;
    Ok(several.into_iter().chain(single).flatten().collect())
}

/// Seconds; 0: none.
fn affinity(spec: &Field<'_>) -> Result<u32, FieldError> {
    match spec.get("sessionAffinity") {
        None => return Ok(0),
        Some(kind) => match kind.text()? {
            "None" | "" => return Ok(0),
            "ClientIP" => {}
            other => {
                return Err(kind.error(format!("{other:?} is unknown; known: None, ClientIP")));
            }
        },
    }
    let config = spec.get("sessionAffinityConfig");
    let client = config.and_then(|config| config.get("clientIP"));
    let Some(timeout) = client.and_then(|client| client.get("timeoutSeconds")) else {
        return Ok(AFFINITY);
    };
    let seconds = timeout.value.as_u64();
    let seconds = seconds.filter(|seconds| (1..=MAX_AFFINITY).contains(seconds));
    seconds
        .map(|seconds| seconds as u32)
        .ok_or_else(|| timeout.error(format!("expected 1 to {MAX_AFFINITY} seconds")))
}

pub(crate) fn slice(root: &Field<'_>) -> Result<EndpointSlice, FieldError> {
    let metadata = object::metadata(root)?;
    let family = root
        .get("addressType")
        .ok_or_else(|| root.error("addressType is missing"))?;
    let (family, is_of_names) = match family.text()? {
        "IPv4" => (Family::Ipv4, false),
        "IPv6" => (Family::Ipv6, false),
        "FQDN" => (Family::Ipv4, true),
        other => {
            return Err(family.error(format!("{other:?} is unknown; known: IPv4, IPv6, FQDN")));
        }
    };
    Ok(EndpointSlice {
        key: key(&metadata)?,
        service: label(&metadata, SERVICE_NAME)?.unwrap_or_default().into(),
        family,
        ports: list(root, "ports", MAX_PORTS, |port| {
            Ok(SlicePort {
                name: name(&port)?,
                port: number(&port)?,
                proto: protocol(&port)?,
            })
        })?,
        endpoints: if is_of_names {
            Vec::new()
        } else {
            list(root, "endpoints", MAX_ENDPOINTS, |field| endpoint(&field))?
        },
    })
}

/// An endpoint by its first address: all of them are the same to whoever asks.
fn endpoint(field: &Field<'_>) -> Result<SliceEndpoint, FieldError> {
    let missing = || field.error("addresses is missing or empty");
    let addresses = field.get("addresses").ok_or_else(missing)?.list()?;
    let conditions = field.get("conditions");
    let condition = |name: &str| {
        let conditions = conditions.as_ref();
        let condition = conditions.and_then(|conditions| conditions.get(name));
        condition.map(|condition| condition.bool()).transpose()
    };
    let ready = condition("ready")?.unwrap_or(true);
    let node = field.get("nodeName").map(|node| node.text()).transpose()?;
    Ok(SliceEndpoint {
        addr: addr(addresses.first().ok_or_else(missing)?)?,
        node: node.unwrap_or_default().into(),
        ready,
        serving: condition("serving")?.unwrap_or(ready),
        terminating: condition("terminating")?.unwrap_or(false),
    })
}

fn key(metadata: &Field<'_>) -> Result<NamespacedName, FieldError> {
    Ok(NamespacedName {
        namespace: object::namespace(metadata)?.into(),
        name: object::name(metadata)?.into(),
    })
}

fn label<'a>(metadata: &Field<'a>, key: &str) -> Result<Option<&'a str>, FieldError> {
    let labels = metadata.get("labels");
    let label = labels.and_then(|labels| labels.get(key));
    label.map(|label| label.label()).transpose()
}

/// The list at `key`, empty if it is absent.
fn list<T>(
    field: &Field<'_>,
    key: &str,
    most: usize,
    read: impl Fn(Field<'_>) -> Result<T, FieldError>,
) -> Result<Vec<T>, FieldError> {
    if let Some(items) = field.get(key) {
        let count = items.list()?.len();
        if count > most {
            return Err(items.error(format!("{count} {key}, at most {most} are allowed")));
        }
    }
    Ok(field.list_of(key, read)?.unwrap_or_default())
}

fn addr(field: &Field<'_>) -> Result<IpAddr, FieldError> {
    let text = field.text()?;
    text.parse()
        .map_err(|_| field.error(format!("{text:?} is not an address")))
}

fn name(port: &Field<'_>) -> Result<Arc<str>, FieldError> {
    let name = port.get("name").map(|name| name.text()).transpose()?;
    Ok(name.unwrap_or_default().into())
}

fn number(port: &Field<'_>) -> Result<Option<u16>, FieldError> {
    port.get("port").map(|number| number.port()).transpose()
}

fn protocol(port: &Field<'_>) -> Result<Protocol, FieldError> {
    port.get("protocol")
        .map_or(Ok(Protocol::Tcp), |protocol| protocol.protocol())
}
