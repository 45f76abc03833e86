// SPDX-License-Identifier: Apache-2.0
//! The host side of a pod's veth pair, as the stack needs it.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink::{Mac, Route, Scope, Socket};

use super::ROUTE_PROTOCOL;
use crate::Result;
use crate::linux::missing_filters;

/// A pod's device and addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodDevice<'a> {
    /// Name of the host side.
    pub device: &'a str,
    /// Its index.
    pub ifindex: u32,
    /// MAC of the pod's side.
    pub mac: [u8; 6],
    /// Addresses, and for each the router address that the node sends from.
    pub addresses: Vec<(IpAddr, Option<IpAddr>)>,
}

/// Switches, permanent neighbours (the node never asks for a pod's MAC) and routes of one pod; sets its
/// device up.
pub fn ensure_pod_device(socket: &Socket, pod: &PodDevice<'_>) -> Result<()> {
    let ips: Vec<IpAddr> = pod.addresses.iter().map(|(ip, _)| *ip).collect();
    super::ensure_device_switches(pod.device, super::Families::of(&ips))?;
    socket.set_up(pod.ifindex)?;
    for (ip, router) in &pod.addresses {
        socket.ensure_neighbour(pod.ifindex, *ip, Mac(pod.mac))?;
        socket.ensure_route(&route(*ip, *router, pod.ifindex))?;
    }
    Ok(())
}

/// Why a device cannot be a pod's, in words; `None` if it can. On any other device of the node, the programs of pods would
/// cut it off.
pub fn unfit(socket: &Socket, device: &str, ifindex: u32) -> Result<Option<String>> {
    let Some(link) = socket.link(ifindex)? else {
        return Ok(Some(format!("there is no device with the index {ifindex}")));
    };
    Ok(if link.name != device {
        let name = link.name;
        Some(format!(
            "the index {ifindex} is that of {name}, not of {device}"
        ))
    } else if matches!(link.kind.as_str(), "veth" | "netkit") {
        None
    } else {
        Some(format!(
            "{device} is not one end of a pair of devices (veth)"
        ))
    })
}

/// What of a pod's device (its host side) is not as the node needs it, in words.
pub fn defects(socket: &Socket, pod: &PodDevice<'_>) -> Result<Vec<String>> {
    let device = pod.device;
    let found = socket.link(pod.ifindex)?;
    if found.is_none_or(|link| link.name != device) {
        return Ok(vec![format!("device {device} is gone")]);
    }
    let missing = missing_filters(socket, pod.ifindex)?.into_iter();
    let mut defects: Vec<String> = missing
        .map(|program| format!("program {program} is not on device {device}"))
        .collect();
    let routes = socket.routes()?;
    for (ip, _) in &pod.addresses {
        let leads = |route: &Route| {
            route.destination == IpNet::from(*ip) && route.link == Some(pod.ifindex)
        };
        if !routes.iter().any(leads) {
            defects.push(format!("no route leads to {ip} by device {device}"));
        }
    }
    Ok(defects)
}

/// Removes the routes to a pod that is gone; absent is fine.
pub fn remove_pod_routes(socket: &Socket, addresses: &[IpAddr], ifindex: u32) -> Result<()> {
    let results = addresses
        .iter()
        .map(|ip| socket.delete_route(&route(*ip, None, ifindex)));
    let results: Vec<_> = results.collect();
    Ok(results.into_iter().collect::<netlink::Result<()>>()?)
}

fn route(ip: IpAddr, router: Option<IpAddr>, ifindex: u32) -> Route {
    let mut route = Route::new(IpNet::from(ip));
    route.protocol = ROUTE_PROTOCOL;
    route.link = Some(ifindex);
    route.source = router;
    if ip.is_ipv4() {
        route.scope = Scope::Link;
    }
    route
}
