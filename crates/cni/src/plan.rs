// SPDX-License-Identifier: Apache-2.0
//! What ADD is going to make, worked out before anything is touched. Pure.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use api::models::{
    AddressPair, DaemonConfigurationStatus, EndpointChangeRequest, EndpointState, IpamAddress,
    IpamResponse, NodeAddressingElement,
};
use ipnet::IpNet;
use netlink::Mac;

use crate::Error;
use crate::input::Add;
use crate::names::host_device;
use crate::result::{Interface, Ip, Made, PodRoute};

/// Smallest MTU of IPv6, bytes.
const IPV6_MTU_MIN: u32 = 1280;
/// Smallest and largest MTU that the agent may say, bytes.
const MTU_RANGE: std::ops::RangeInclusive<i64> = 576..=65_535;

/// Everything that ADD makes.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Plan {
    pub(crate) host_device: String,
    pub(crate) host_mac: Mac,
    pub(crate) pod_device: String,
    pub(crate) pod_mac: Mac,
    /// Of both ends, bytes.
    pub(crate) mtu: u32,
    /// GSO and GRO limits, bytes, if the agent has any.
    pub(crate) offload: Option<(u32, u32)>,
    /// In the order IPv4, IPv6.
    pub(crate) ips: Vec<Ip>,
    /// In the order in which they can be made.
    pub(crate) routes: Vec<PodRoute>,
    /// Switches of the pod's namespace.
    pub(crate) switches: Vec<(String, String)>,
    sandbox: String,
    change: EndpointChangeRequest,
}

/// Plans ADD for the addresses that the agent gave.
pub(crate) fn plan(
    add: &Add,
    wished_mtu: u32,
    config: &DaemonConfigurationStatus,
    ipam: &IpamResponse,
    [host_mac, pod_mac]: [Mac; 2],
) -> Result<Plan, Error> {
    let ips = addresses(ipam)?;
    let mtu = mtu(wished_mtu, config)?;
    let route_mtu = route_mtu(config, mtu);
    check_ipv6(route_mtu.unwrap_or(mtu), &ips)?;
    let sandbox = add.netns.display().to_string();
    let host_device = host_device(&add.container, &add.interface);
    let change = EndpointChangeRequest {
        state: EndpointState::WaitingForIdentity,
        container_id: add.container.clone(),
        container_netns_path: sandbox.clone(),
        container_interface_name: add.interface.clone(),
        interface_name: host_device.clone(),
        mac: pod_mac.to_string(),
        host_mac: host_mac.to_string(),
        addressing: Some(pair(ipam)),
        k8s_pod_name: add.pod.name.clone(),
        k8s_namespace: add.pod.namespace.clone(),
        k8s_uid: add.pod.uid.clone(),
        sync_build_endpoint: true,
        ..EndpointChangeRequest::default()
    };
    Ok(Plan {
        host_device,
        host_mac,
        pod_device: add.interface.clone(),
        pod_mac,
        mtu,
        offload: offload(config),
        routes: routes(&ips, route_mtu),
        switches: switches(config, &ips),
        ips,
        sandbox,
        change,
    })
}

impl Plan {
    /// What the agent is asked, once the device exists.
    pub(crate) fn change(&self, index: u32, cookie: u64) -> EndpointChangeRequest {
        EndpointChangeRequest {
            interface_index: index.into(),
            netns_cookie: cookie.to_string(),
            ..self.change.clone()
        }
    }

    /// What the runtime is told.
    pub(crate) fn made(&self, pod_mac: Mac) -> Made {
        let interface = |name: &str, mac: Mac| Interface {
            name: name.to_owned(),
            mac: mac.to_string(),
        };
        Made {
            host: interface(&self.host_device, self.host_mac),
            pod: interface(&self.pod_device, pod_mac),
            sandbox: self.sandbox.clone(),
            mtu: self.mtu,
            ips: self.ips.clone(),
            routes: self.routes.clone(),
        }
    }
}

/// The allocated addresses that can be read, for giving them back.
pub(crate) fn allocated(ipam: &IpamResponse) -> Vec<IpAddr> {
    [&ipam.address.ipv4, &ipam.address.ipv6]
        .iter()
        .filter_map(|ip| ip.parse().ok())
        .collect()
}

fn addresses(ipam: &IpamResponse) -> Result<Vec<Ip>, Error> {
    let hosts = &ipam.host_addressing;
    let families = [
        (&ipam.address.ipv4, &ipam.ipv4, &hosts.ipv4, true),
        (&ipam.address.ipv6, &ipam.ipv6, &hosts.ipv6, false),
    ];
    let mut ips = Vec::new();
    for (text, allocated, router, v4) in families {
        if text.is_empty() {
            continue;
        }
        let ip: IpAddr = parse("address", text)?;
        let gateway: IpAddr = parse("router address", gateway(allocated, router))?;
        if ip.is_ipv4() != v4 || gateway.is_ipv4() != v4 || ip == gateway {
            let problem = format!("{ip} by way of {gateway} cannot be");
            return Err(Error::Answer { problem });
        }
        ips.push(Ip {
            address: IpNet::from(ip),
            gateway,
        });
    }
    if ips.is_empty() {
        return Err(Error::Answer {
            problem: "it allocated no address".into(),
        });
    }
    Ok(ips)
}

/// The router of a family: said with the address, or with the node.
fn gateway<'a>(
    allocated: &'a Option<IpamAddress>,
    router: &'a Option<NodeAddressingElement>,
) -> &'a str {
    let own = allocated
        .as_ref()
        .map(|a| a.gateway.as_str())
        .filter(|g| !g.is_empty());
    own.or(router.as_ref().map(|r| r.ip.as_str()))
        .unwrap_or_default()
}

fn parse<T: FromStr<Err: Display>>(what: &str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|error| {
        let text: String = text.chars().take(64).collect();
        Error::Answer {
            problem: format!("{what} {text:?}: {error}"),
        }
    })
}

fn mtu(wished: u32, config: &DaemonConfigurationStatus) -> Result<u32, Error> {
    let agent = config.device_mtu;
    if !MTU_RANGE.contains(&agent) {
        return Err(Error::Answer {
            problem: format!("deviceMTU {agent} cannot be"),
        });
    }
    let agent = agent as u32;
    // More than the underlay carries would be lost in silence.
    Ok(if wished == 0 {
        agent
    } else {
        wished.min(agent)
    })
}

fn check_ipv6(mtu: u32, ips: &[Ip]) -> Result<(), Error> {
    if mtu < IPV6_MTU_MIN && ips.iter().any(|ip| ip.gateway.is_ipv6()) {
        let problem = format!("IPv6 needs an MTU of {IPV6_MTU_MIN}, this would be {mtu}");
        return Err(Error::Answer { problem });
    }
    Ok(())
}

/// The MTU of the default routes, where it is smaller than the device's.
fn route_mtu(config: &DaemonConfigurationStatus, mtu: u32) -> Option<u32> {
    u32::try_from(config.route_mtu)
        .ok()
        .filter(|route| (1..mtu).contains(route))
}

fn offload(config: &DaemonConfigurationStatus) -> Option<(u32, u32)> {
    let limit = |value: i64| u32::try_from(value).ok().filter(|v| *v > 0);
    Some((limit(config.gso_max_size)?, limit(config.gro_max_size)?))
}

fn routes(ips: &[Ip], mtu: Option<u32>) -> Vec<PodRoute> {
    let mut routes = Vec::new();
    for ip in ips {
        let any = if ip.gateway.is_ipv4() {
            "0.0.0.0/0"
        } else {
            "::/0"
        };
        let destination = IpNet::from(ip.gateway);
        routes.push(PodRoute {
            destination,
            gateway: None,
            mtu: None,
        });
        let destination = any.parse().expect("a default prefix is valid");
        routes.push(PodRoute {
            destination,
            gateway: Some(ip.gateway),
            mtu,
        });
    }
    routes
}

fn switches(config: &DaemonConfigurationStatus, ips: &[Ip]) -> Vec<(String, String)> {
    let mut switches = Vec::new();
    if ips.iter().any(|ip| ip.gateway.is_ipv6()) {
        switches.push(("net/ipv6/conf/all/disable_ipv6".into(), "0".into()));
    }
    if !config.ip_local_reserved_ports.is_empty() {
        let ports = config.ip_local_reserved_ports.clone();
        switches.push(("net/ipv4/ip_local_reserved_ports".into(), ports));
    }
    switches
}

/// What the endpoint quotes, so that the agent keeps the addresses.
fn pair(ipam: &IpamResponse) -> AddressPair {
    let mut pair = ipam.address.clone();
    let uuid = |address: &Option<IpamAddress>| {
        address
            .as_ref()
            .map(|a| a.expiration_uuid.clone())
            .unwrap_or_default()
    };
    if pair.ipv4_expiration_uuid.is_empty() {
        pair.ipv4_expiration_uuid = uuid(&ipam.ipv4);
    }
    if pair.ipv6_expiration_uuid.is_empty() {
        pair.ipv6_expiration_uuid = uuid(&ipam.ipv6);
    }
    pair
}

#[cfg(test)]
mod tests;
