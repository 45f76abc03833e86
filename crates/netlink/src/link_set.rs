// SPDX-License-Identifier: Apache-2.0
//! Changing and removing devices.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, Prop};

use crate::error::absent_ok;
use crate::link::name_attribute;
use crate::transport::About;
use crate::{Error, LinkRef, Mac, NetNs, Result, Socket};

impl Socket {
    /// Sets a device up.
    pub fn set_up<'a>(&self, which: impl Into<LinkRef<'a>>) -> Result<()> {
        self.set_flags("set up", which.into(), LinkFlags::Up, LinkFlags::Up)
    }

    /// Sets a device down.
    pub fn set_down<'a>(&self, which: impl Into<LinkRef<'a>>) -> Result<()> {
        self.set_flags("set down", which.into(), LinkFlags::empty(), LinkFlags::Up)
    }

    /// Takes a device out of neighbour resolution.
    pub fn set_noarp<'a>(&self, which: impl Into<LinkRef<'a>>) -> Result<()> {
        self.set_flags(
            "switch off neighbours of",
            which.into(),
            LinkFlags::Noarp,
            LinkFlags::Noarp,
        )
    }

    /// Sets the MTU, in bytes.
    pub fn set_mtu<'a>(&self, which: impl Into<LinkRef<'a>>, mtu: u32) -> Result<()> {
        self.set("set the MTU of", which.into(), LinkAttribute::Mtu(mtu))
    }

    /// Sets the Ethernet address.
    pub fn set_mac<'a>(&self, which: impl Into<LinkRef<'a>>, mac: Mac) -> Result<()> {
        self.set(
            "set the address of",
            which.into(),
            LinkAttribute::Address(mac.0.to_vec()),
        )
    }

    /// Sets the largest packet that is built for and taken from a device (GSO and GRO), in bytes.
    pub fn set_offload_limits<'a>(
        &self,
        which: impl Into<LinkRef<'a>>,
        gso: u32,
        gro: u32,
    ) -> Result<()> {
        let which = which.into();
        self.set(
            "set the GSO limit of",
            which,
            LinkAttribute::GsoMaxSize(gso),
        )?;
        self.set(
            "set the GRO limit of",
            which,
            LinkAttribute::GroMaxSize(gro),
        )
    }

    /// Renames a device.
    pub fn rename<'a>(&self, which: impl Into<LinkRef<'a>>, name: &str) -> Result<()> {
        let which = which.into();
        let index = self.index(which, "rename")?;
        self.set("rename", LinkRef::Index(index), name_attribute(name)?)
            .map_err(|error| named(error, &format!("{which} to {name}")))
    }

    /// Gives a device a further name, of up to 127 bytes. A name that it already has is fine.
    pub fn add_altname<'a>(&self, which: impl Into<LinkRef<'a>>, name: &str) -> Result<()> {
        let which = which.into();
        let mut message = which.message()?;
        message
            .attributes
            .push(LinkAttribute::PropList(vec![Prop::AltIfName(
                name.to_owned(),
            )]));
        let about = About {
            operation: "add an alternative name to",
            object: &which,
        };
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        match self.change(about, RouteNetlinkMessage::NewLinkProp(message), flags) {
            Err(error) if error.is_present() => match self.link(which)? {
                Some(link) if link.altnames.iter().any(|n| n == name) => Ok(()),
                _ => Err(error),
            },
            other => other,
        }
    }

    /// Moves a device into another namespace.
    pub fn move_to<'a>(&self, which: impl Into<LinkRef<'a>>, netns: &NetNs) -> Result<()> {
        let fd = netns.as_fd().as_raw_fd();
        self.set(
            "move to another namespace",
            which.into(),
            LinkAttribute::NetNsFd(fd),
        )
    }

    /// Makes a device a port of `master` (an index), or of nothing.
    pub fn set_master<'a>(&self, which: impl Into<LinkRef<'a>>, master: Option<u32>) -> Result<()> {
        let master = LinkAttribute::Controller(master.unwrap_or(0));
        self.set("set the master of", which.into(), master)
    }

    /// Deletes a device. Absent is fine.
    pub fn delete_link<'a>(&self, which: impl Into<LinkRef<'a>>) -> Result<()> {
        let which = which.into();
        let about = About {
            operation: "delete",
            object: &which,
        };
        absent_ok(self.change(about, RouteNetlinkMessage::DelLink(which.message()?), 0))
    }

    fn index(&self, which: LinkRef<'_>, operation: &'static str) -> Result<u32> {
        match which {
            LinkRef::Index(index) => Ok(index),
            LinkRef::Name(name) => match self.link(name)? {
                Some(link) => Ok(link.index),
                None => Err(Error::Missing {
                    operation,
                    object: which.to_string(),
                    kind: "device",
                }),
            },
        }
    }

    fn set(&self, operation: &'static str, which: LinkRef<'_>, what: LinkAttribute) -> Result<()> {
        let mut message = which.message()?;
        message.attributes.push(what);
        let about = About {
            operation,
            object: &which,
        };
        self.change(about, RouteNetlinkMessage::SetLink(message), 0)
    }

    fn set_flags(
        &self,
        operation: &'static str,
        which: LinkRef<'_>,
        flags: LinkFlags,
        mask: LinkFlags,
    ) -> Result<()> {
        let mut message = which.message()?;
        message.header.flags = flags;
        message.header.change_mask = mask;
        let about = About {
            operation,
            object: &which,
        };
        self.change(about, RouteNetlinkMessage::SetLink(message), 0)
    }
}

/// The same refusal with a better name of its object.
fn named(error: Error, name: &str) -> Error {
    match error {
        Error::Refused {
            operation,
            source,
            detail,
            ..
        } => Error::Refused {
            operation,
            object: name.to_owned(),
            source,
            detail,
        },
        other => other,
    }
}
