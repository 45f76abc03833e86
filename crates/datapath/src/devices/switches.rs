// SPDX-License-Identifier: Apache-2.0
//! Kernel switches that forwarding needs (`Documentation/networking/ip-sysctl.rst` of the kernel). Those of the whole node
//! are remembered in a file as they were, so that whoever removes the product can set them back; those of a device go with it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::{fs, io};

use crate::{Error, Result};

/// File in the agent's directory: a line `<key>=<value>` for each switch of the node, as it was before the first agent.
const BEFORE: &str = "state/switches";

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

/// Keeps in `state`, the agent's directory, what the switches of the node are, unless it is known what they were before the
/// first agent: to be called before they are set.
pub fn remember_node_switches(state: &Path) -> Result<()> {
    let mut before = read_before(state)?;
    let known = before.len();
    for (key, _) in NODE_V4.iter().chain(&NODE_V6) {
        if !before.contains_key(*key)
            && let Ok(now) = netlink::sysctl::read(key)
        {
            before.insert((*key).to_owned(), now);
        }
    }
    match before.len() > known {
        true => keep_before(state, &before),
        false => Ok(()),
    }
}

/// Sets the switches of the node back to what they were, if nobody else changed them since. Goes on after an error.
pub fn restore_node_switches(state: &Path) -> Result<()> {
    let before = read_before(state)?;
    let mut result = Ok(());
    for (key, value) in NODE_V4.iter().chain(&NODE_V6) {
        let Some(before) = before.get(*key) else {
            continue;
        };
        let ours = netlink::sysctl::read(key).is_ok_and(|now| now == *value);
        if ours && let Err(error) = netlink::sysctl::write(key, before) {
            result = Err(error.into());
        }
    }
    result
}

fn read_before(state: &Path) -> Result<BTreeMap<String, String>> {
    let path = state.join(BEFORE);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text.map_err(|error| Error::Before { path, error })?,
    };
    let lines = text.lines().filter_map(|line| line.split_once('='));
    Ok(lines
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect())
}

fn keep_before(state: &Path, before: &BTreeMap<String, String>) -> Result<()> {
    let lines = before.iter().map(|(key, value)| format!("{key}={value}\n"));
    let path = state.join(BEFORE);
    let new = path.with_extension("new");
    let directory = path.parent().unwrap_or(state);
    let written = fs::create_dir_all(directory)
        .and_then(|()| fs::write(&new, lines.collect::<String>()))
        .and_then(|()| fs::rename(&new, &path));
    written.map_err(|error| Error::Before { path, error })
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
