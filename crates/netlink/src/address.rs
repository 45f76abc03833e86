// SPDX-License-Identifier: Apache-2.0
//! Addresses of devices.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::error::absent_ok;
use crate::transport::About;
use crate::{Result, Socket};

/// How far an address or a route reaches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub enum Scope {
    /// Everywhere.
    #[default]
    Global,
    /// The devices' own wire.
    Link,
    /// This host.
    Host,
}

/// Whether the kernel asks the wire before it uses an IPv6 address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dad {
    /// Duplicate address detection, as by default; the address is tentative at first.
    Run,
    /// None: the address is usable at once.
    Skip,
}

/// An address of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// Index of the device.
    pub link: u32,
    /// The address and the length of its prefix.
    pub net: IpNet,
    /// How far it reaches.
    pub scope: Scope,
    /// Not usable yet: duplicate address detection runs.
    pub tentative: bool,
}

impl Socket {
    /// All addresses of the namespace.
    pub fn addresses(&self) -> Result<Vec<Address>> {
        let about = About {
            operation: "list",
            object: &"addresses",
        };
        let answers = self.list(
            about,
            RouteNetlinkMessage::GetAddress(AddressMessage::default()),
        )?;
        Ok(answers
            .iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewAddress(message) => parse(message),
                _ => None,
            })
            .collect())
    }

    /// The addresses of one device (an index).
    pub fn addresses_of(&self, link: u32) -> Result<Vec<Address>> {
        let mut addresses = self.addresses()?;
        addresses.retain(|address| address.link == link);
        Ok(addresses)
    }

    /// Gives a device (an index) an address. One that it already has is fine.
    pub fn ensure_address(&self, link: u32, net: IpNet, scope: Scope, dad: Dad) -> Result<()> {
        let mut message = message(link, net);
        message.header.scope = scope.into();
        if dad == Dad::Skip && net.addr().is_ipv6() {
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        let object = format!("address {net} on device {link}");
        let about = About {
            operation: "add",
            object: &object,
        };
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.change(about, RouteNetlinkMessage::NewAddress(message), flags)
    }

    /// Takes an address from a device (an index). Absent is fine.
    pub fn delete_address(&self, link: u32, net: IpNet) -> Result<()> {
        let object = format!("address {net} of device {link}");
        let about = About {
            operation: "delete",
            object: &object,
        };
        absent_ok(self.change(
            about,
            RouteNetlinkMessage::DelAddress(message(link, net)),
            0,
        ))
    }
}

fn message(link: u32, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(net.addr());
    message.header.prefix_len = net.prefix_len();
    message.header.index = link;
    message.attributes.push(AddressAttribute::Local(net.addr()));
    message
        .attributes
        .push(AddressAttribute::Address(net.addr()));
    message
}

pub(crate) fn parse(message: &AddressMessage) -> Option<Address> {
    // On a point-to-point device ADDRESS is the peer's; LOCAL, where present, is ours.
    let mut local = None;
    let mut address = None;
    let mut tentative = false;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Flags(flags) => tentative = flags.contains(AddressFlags::Tentative),
            _ => {}
        }
    }
    let net = IpNet::new(local.or(address)?, message.header.prefix_len).ok()?;
    Some(Address {
        link: message.header.index,
        net,
        scope: message.header.scope.into(),
        tentative,
    })
}

pub(crate) fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

impl From<Scope> for AddressScope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Global => AddressScope::Universe,
            Scope::Link => AddressScope::Link,
            Scope::Host => AddressScope::Host,
        }
    }
}

impl From<AddressScope> for Scope {
    fn from(scope: AddressScope) -> Self {
        match scope {
            AddressScope::Link => Scope::Link,
            AddressScope::Host => Scope::Host,
            _ => Scope::Global,
        }
    }
}
