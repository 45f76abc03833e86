// SPDX-License-Identifier: Apache-2.0
//! Kernel switches that forwarding needs (`Documentation/networking/ip-sysctl.rst` of the kernel).

use std::net::IpAddr;

use crate::Result;

/// Which families the pods have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

impl Families {
    /// The families of these addresses.
    pub fn of(addresses: &[IpAddr]) -> Self {
        Self {
            v4: addresses.iter().any(IpAddr::is_ipv4),
            v6: addresses.iter().any(IpAddr::is_ipv6),
        }
    }
}

const NODE_V4: [(&str, &str); 2] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
];
const NODE_V6: [(&str, &str); 2] = [
    ("net/ipv6/conf/all/disable_ipv6", "0"),
    ("net/ipv6/conf/all/forwarding", "1"),
];

/// Last part of `net/ipv4/conf/<device>/…`. A pod answers to its own address on a device that has another
/// (`accept_local`), and its packets come back by another device than they left by (`rp_filter`).
const DEVICE_V4: [(&str, &str); 4] = [
    ("forwarding", "1"),
    ("rp_filter", "0"),
    ("accept_local", "1"),
    ("send_redirects", "0"),
];
/// Pods are hostile: no router advertisement of theirs may change the node.
const DEVICE_V6: [(&str, &str); 4] = [
    ("disable_ipv6", "0"),
    ("forwarding", "1"),
    ("accept_ra", "0"),
    ("accept_dad", "0"),
];

/// The switches of the node.
pub fn ensure_node_switches(families: Families) -> Result<()> {
    if families.v4 {
        set(&NODE_V4, |key| key.to_owned())?;
    }
    if families.v6 {
        set(&NODE_V6, |key| key.to_owned())?;
    }
    Ok(())
}

/// The switches of a device of ours.
pub fn ensure_device_switches(device: &str, families: Families) -> Result<()> {
    if families.v4 {
        set(&DEVICE_V4, |key| format!("net/ipv4/conf/{device}/{key}"))?;
    }
    if families.v6 {
        set(&DEVICE_V6, |key| format!("net/ipv6/conf/{device}/{key}"))?;
    }
    Ok(())
}

fn set(switches: &[(&str, &str)], key: impl Fn(&str) -> String) -> Result<()> {
    for (name, value) in switches {
        netlink::sysctl::ensure(&key(name), value)?;
    }
    Ok(())
}
