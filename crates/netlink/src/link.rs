// SPDX-License-Identifier: Apache-2.0
//! Network devices: names, and what the kernel tells about them.

use std::fmt;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage, Prop};

use crate::transport::About;
use crate::{Error, Mac, Result, Socket};

/// Longest device name, without the closing zero.
const NAME_MAX: usize = 15;

/// How a device is named in a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkRef<'a> {
    /// By its index.
    Index(u32),
    /// By its name.
    Name(&'a str),
}

impl From<u32> for LinkRef<'_> {
    fn from(index: u32) -> Self {
        LinkRef::Index(index)
    }
}

impl<'a> From<&'a str> for LinkRef<'a> {
    fn from(name: &'a str) -> Self {
        LinkRef::Name(name)
    }
}

impl<'a> From<&'a String> for LinkRef<'a> {
    fn from(name: &'a String) -> Self {
        LinkRef::Name(name)
    }
}

impl<'a> From<&'a Link> for LinkRef<'a> {
    fn from(link: &'a Link) -> Self {
        LinkRef::Index(link.index)
    }
}

impl fmt::Display for LinkRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkRef::Index(index) => write!(f, "device {index}"),
            LinkRef::Name(name) => write!(f, "device {name}"),
        }
    }
}

impl LinkRef<'_> {
    /// A request about this device and nothing else.
    pub(crate) fn message(self) -> Result<LinkMessage> {
        let mut message = LinkMessage::default();
        match self {
            LinkRef::Index(index) => message.header.index = index,
            LinkRef::Name(name) => message.attributes.push(name_attribute(name)?),
        }
        Ok(message)
    }
}

/// Counters of a device since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LinkStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Received packets dropped.
    pub rx_dropped: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Send errors.
    pub tx_errors: u64,
    /// Packets dropped instead of sent.
    pub tx_dropped: u64,
}

/// A network device as the kernel shows it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Link {
    /// Index, unique in its namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Further names.
    pub altnames: Vec<String>,
    /// Kind (`veth`, `vxlan`, …); empty for physical devices and `lo`.
    pub kind: String,
    /// Ethernet address, if it has one.
    pub mac: Option<Mac>,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Set up by the administrator.
    pub up: bool,
    /// Has a carrier.
    pub carrier: bool,
    /// Takes no part in neighbour resolution.
    pub noarp: bool,
    /// The loopback device.
    pub loopback: bool,
    /// Index of the bridge or bond that it is a port of.
    pub master: Option<u32>,
    /// Index of the device below, or of a veth's other end (perhaps in another namespace).
    pub parent: Option<u32>,
    /// Counters.
    pub stats: LinkStats,
}

impl Socket {
    /// All devices of the namespace.
    pub fn links(&self) -> Result<Vec<Link>> {
        let about = About {
            operation: "list",
            object: &"devices",
        };
        let answers = self.list(about, RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        Ok(answers.iter().filter_map(link_of).collect())
    }

    /// One device, or nothing if there is none.
    pub fn link<'a>(&self, which: impl Into<LinkRef<'a>>) -> Result<Option<Link>> {
        let which = which.into();
        let about = About {
            operation: "look up",
            object: &which,
        };
        match self.get(about, RouteNetlinkMessage::GetLink(which.message()?)) {
            Ok(answers) => Ok(answers.iter().find_map(link_of)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The index of a device that must be there.
    pub fn index_of(&self, name: &str) -> Result<u32> {
        match self.link(name)? {
            Some(link) => Ok(link.index),
            None => Err(Error::Missing {
                operation: "find",
                object: name.into(),
                kind: "device",
            }),
        }
    }
}

/// Checks a device name before the kernel can misunderstand it.
pub(crate) fn check_name(name: &str) -> Result<&str> {
    let good = (1..=NAME_MAX).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name
            .bytes()
            .any(|b| b == b'/' || b == b':' || b == 0 || b.is_ascii_whitespace());
    if good {
        Ok(name)
    } else {
        Err(Error::Name(name.chars().take(64).collect()))
    }
}

pub(crate) fn name_attribute(name: &str) -> Result<LinkAttribute> {
    Ok(LinkAttribute::IfName(check_name(name)?.to_owned()))
}

fn link_of(message: &RouteNetlinkMessage) -> Option<Link> {
    match message {
        RouteNetlinkMessage::NewLink(link) => Some(parse(link)),
        _ => None,
    }
}

pub(crate) fn parse(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        noarp: flags.contains(LinkFlags::Noarp),
        loopback: flags.contains(LinkFlags::Loopback),
        ..Link::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => {
                link.mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac);
            }
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(index) => link.master = Some(*index),
            LinkAttribute::Link(index) => link.parent = Some(*index).filter(|i| *i != 0),
            LinkAttribute::PropList(props) => {
                link.altnames.extend(props.iter().filter_map(altname))
            }
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        link.kind = kind.to_string();
                    }
                }
            }
            LinkAttribute::Stats64(s) => {
                link.stats = LinkStats {
                    rx_packets: s.rx_packets,
                    rx_bytes: s.rx_bytes,
                    rx_errors: s.rx_errors,
                    rx_dropped: s.rx_dropped,
                    tx_packets: s.tx_packets,
                    tx_bytes: s.tx_bytes,
                    tx_errors: s.tx_errors,
                    tx_dropped: s.tx_dropped,
                };
            }
            _ => {}
        }
    }
    link
}

fn altname(prop: &Prop) -> Option<String> {
    match prop {
        Prop::AltIfName(name) => Some(name.clone()),
        _ => None,
    }
}
