// SPDX-License-Identifier: Apache-2.0
//! Permanent neighbour entries.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteType;

use crate::address::family;
use crate::error::absent_ok;
use crate::transport::About;
use crate::{Mac, Result, Socket};

impl Socket {
    /// Makes `ip` a permanent neighbour on a device (an index), or changes its Ethernet address.
    pub fn ensure_neighbour(&self, link: u32, ip: IpAddr, mac: Mac) -> Result<()> {
        let mut message = message(link, ip);
        message.header.state = NeighbourState::Permanent;
        message
            .attributes
            .push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        let object = format!("neighbour {ip} on device {link}");
        let about = About {
            operation: "add",
            object: &object,
        };
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.change(about, RouteNetlinkMessage::NewNeighbour(message), flags)
    }

    /// Removes a neighbour of a device (an index). Absent is fine.
    pub fn delete_neighbour(&self, link: u32, ip: IpAddr) -> Result<()> {
        let object = format!("neighbour {ip} of device {link}");
        let about = About {
            operation: "delete",
            object: &object,
        };
        absent_ok(self.change(
            about,
            RouteNetlinkMessage::DelNeighbour(message(link, ip)),
            0,
        ))
    }
}

fn message(link: u32, ip: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(ip);
    message.header.ifindex = link;
    message.header.kind = RouteType::Unicast;
    message
        .attributes
        .push(NeighbourAttribute::Destination(match ip {
            IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
            IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
        }));
    message
}
