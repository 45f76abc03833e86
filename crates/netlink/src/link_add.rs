// SPDX-License-Identifier: Apache-2.0
//! Making devices.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use crate::link::name_attribute;
use crate::transport::About;
use crate::{LinkRef, Mac, NetNs, Result, Socket};

/// One end of a veth pair.
#[derive(Clone, Copy, Debug)]
pub struct VethEnd<'a> {
    /// Device name.
    pub name: &'a str,
    /// Ethernet address; the kernel draws one if there is none.
    pub mac: Option<Mac>,
    /// Namespace; that of the socket if there is none.
    pub netns: Option<&'a NetNs>,
}

impl<'a> VethEnd<'a> {
    /// An end in the socket's namespace with an address drawn by the kernel.
    pub const fn new(name: &'a str) -> Self {
        Self {
            name,
            mac: None,
            netns: None,
        }
    }

    /// The same end in `netns`.
    pub const fn in_netns(self, netns: &'a NetNs) -> Self {
        Self {
            netns: Some(netns),
            ..self
        }
    }

    /// The same end with the address `mac`.
    pub const fn with_mac(self, mac: Mac) -> Self {
        Self {
            mac: Some(mac),
            ..self
        }
    }

    fn attributes(&self, mtu: Option<u32>) -> Result<Vec<LinkAttribute>> {
        let mut attributes = vec![name_attribute(self.name)?];
        attributes.extend(self.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        attributes.extend(mtu.map(LinkAttribute::Mtu));
        attributes.extend(
            self.netns
                .map(|ns| LinkAttribute::NetNsFd(ns.as_fd().as_raw_fd())),
        );
        Ok(attributes)
    }
}

/// A veth pair to make.
#[derive(Clone, Copy, Debug)]
pub struct VethSpec<'a> {
    /// The near end.
    pub near: VethEnd<'a>,
    /// The far end.
    pub far: VethEnd<'a>,
    /// MTU of both ends in bytes; the kernel's default if there is none.
    pub mtu: Option<u32>,
}

/// A VXLAN device whose tunnel key comes with each packet (external, or collect-metadata, mode).
#[derive(Clone, Copy, Debug)]
pub struct VxlanSpec<'a> {
    /// Device name.
    pub name: &'a str,
    /// UDP port, host byte order.
    pub port: u16,
    /// MTU in bytes; the kernel's default if there is none.
    pub mtu: Option<u32>,
    /// Ethernet address; the kernel draws one if there is none.
    pub mac: Option<Mac>,
    /// Whether to leave neighbour resolution out.
    pub noarp: bool,
}

impl Socket {
    /// Makes a veth pair. An existing device of either name is an error ([`crate::Error::is_present`]).
    pub fn add_veth(&self, spec: &VethSpec<'_>) -> Result<()> {
        let mut peer = LinkMessage::default();
        peer.attributes = spec.far.attributes(spec.mtu)?;
        let mut message = LinkMessage::default();
        message.attributes = spec.near.attributes(spec.mtu)?;
        let data = InfoData::Veth(InfoVeth::Peer(peer));
        message.attributes.push(info(InfoKind::Veth, Some(data)));
        self.add(spec.near.name, message)
    }

    /// Makes an external VXLAN device: no learning, no identifier of its own, and UDP checksums of zero
    /// accepted over IPv6 as well. An existing device of the name is an error.
    pub fn add_vxlan_external(&self, spec: &VxlanSpec<'_>) -> Result<()> {
        let mut message = LinkMessage::default();
        if spec.noarp {
            message.header.flags |= LinkFlags::Noarp;
            message.header.change_mask |= LinkFlags::Noarp;
        }
        message.attributes.push(name_attribute(spec.name)?);
        message
            .attributes
            .extend(spec.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        message.attributes.extend(spec.mtu.map(LinkAttribute::Mtu));
        let data = InfoData::Vxlan(vec![
            InfoVxlan::CollectMetadata(true),
            InfoVxlan::Learning(false),
            InfoVxlan::Port(spec.port),
            InfoVxlan::UDPZeroCsumRX(true),
        ]);
        message.attributes.push(info(InfoKind::Vxlan, Some(data)));
        self.add(spec.name, message)
    }

    /// Makes a bridge. An existing device of the name is an error.
    pub fn add_bridge(&self, name: &str) -> Result<()> {
        let mut message = LinkMessage::default();
        message.attributes.push(name_attribute(name)?);
        message.attributes.push(info(InfoKind::Bridge, None));
        self.add(name, message)
    }

    fn add(&self, name: &str, message: LinkMessage) -> Result<()> {
        let about = About {
            operation: "add",
            object: &LinkRef::Name(name),
        };
        self.change(
            about,
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }
}

fn info(kind: InfoKind, data: Option<InfoData>) -> LinkAttribute {
    let mut infos = vec![LinkInfo::Kind(kind)];
    infos.extend(data.map(LinkInfo::Data));
    LinkAttribute::LinkInfo(infos)
}
