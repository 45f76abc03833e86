// SPDX-License-Identifier: Apache-2.0
//! The VXLAN device: external mode (the programs set and read the tunnel key), no neighbours, the routers'
//! addresses on it.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink::{Dad, Link, Scope, Socket, VxlanSpec};

use crate::{Error, Result};

/// What the device is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OverlaySpec<'a> {
    /// Its name.
    pub device: &'a str,
    /// UDP port.
    pub port: u16,
    /// Largest inner packet, bytes: the underlay's MTU less 50 (IPv6 underlay: 70).
    pub mtu: u32,
    /// Router addresses of this node in the pods' network.
    pub routers: Vec<IpAddr>,
}

/// What [`ensure_overlay`] found or made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overlay {
    /// Its index.
    pub ifindex: u32,
    /// It was made (anew), so it has no programs yet.
    pub created: bool,
}

/// The kernel does not tell the port of a device cheaply: an alternative name of the device says it.
fn mark(port: u16) -> String {
    format!("ist-vxlan-{port}")
}

/// Makes the device, or keeps the one that fits; sets addresses, MTU and switches; sets it up.
///
/// A VXLAN device of this name that has another port, or that another program made, is replaced: a port takes one
/// external device only. A device of another kind is an error.
pub fn ensure_overlay(socket: &Socket, spec: &OverlaySpec<'_>) -> Result<Overlay> {
    let found = socket.link(spec.device)?;
    if let Some(link) = &found {
        check_kind(link)?;
    }
    let fits = |link: &Link| link.altnames.contains(&mark(spec.port)) && link.noarp;
    let overlay = match found {
        Some(link) if fits(&link) => {
            if link.mtu != spec.mtu {
                socket.set_mtu(link.index, spec.mtu)?;
            }
            Overlay {
                ifindex: link.index,
                created: false,
            }
        }
        Some(link) => {
            socket.delete_link(link.index)?;
            create(socket, spec)?
        }
        None => create(socket, spec)?,
    };
    super::ensure_device_switches(spec.device, super::Families::of(&spec.routers))?;
    socket.set_up(overlay.ifindex)?;
    ensure_addresses(socket, overlay.ifindex, &spec.routers)?;
    Ok(overlay)
}

fn check_kind(link: &Link) -> Result<()> {
    if link.kind == "vxlan" {
        return Ok(());
    }
    Err(Error::ForeignDevice {
        device: link.name.clone(),
        found: format!("a device of kind {:?}", link.kind),
        expected: "a VXLAN device".into(),
    })
}

fn create(socket: &Socket, spec: &OverlaySpec<'_>) -> Result<Overlay> {
    let device = spec.device;
    let vxlan = VxlanSpec {
        name: device,
        port: spec.port,
        mtu: Some(spec.mtu),
        mac: None,
        noarp: true,
    };
    socket.add_vxlan_external(&vxlan)?;
    socket.add_altname(device, &mark(spec.port))?;
    Ok(Overlay {
        ifindex: socket.index_of(device)?,
        created: true,
    })
}

/// The routers' addresses and no others, but for the kernel's link-local ones.
fn ensure_addresses(socket: &Socket, ifindex: u32, routers: &[IpAddr]) -> Result<()> {
    let found = socket.addresses_of(ifindex)?;
    let wanted: Vec<IpNet> = routers.iter().map(|ip| IpNet::from(*ip)).collect();
    for net in &wanted {
        if !found.iter().any(|address| address.net == *net) {
            socket.ensure_address(ifindex, *net, Scope::Global, Dad::Skip)?;
        }
    }
    let stale = found.iter().filter(|address| {
        let link_local = address.net.addr().is_ipv6() && address.scope == Scope::Link;
        !link_local && !wanted.contains(&address.net)
    });
    for address in stale {
        socket.delete_address(ifindex, address.net)?;
    }
    Ok(())
}

/// Removes the device if it is a VXLAN device; absent is fine.
pub fn remove_overlay(socket: &Socket, device: &str) -> Result<()> {
    let Some(link) = socket.link(device)? else {
        return Ok(());
    };
    check_kind(&link)?;
    Ok(socket.delete_link(link.index)?)
}
