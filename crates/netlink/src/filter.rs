// SPDX-License-Identifier: Apache-2.0
//! Filters of devices' clsact qdiscs, as the kernel shows them. Making them is for who has the programs.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcHandle, TcMessage};

use crate::transport::About;
use crate::{Result, Socket};

/// Which packets a filter sees.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Side {
    /// Those that arrive by the device.
    Ingress,
    /// Those that leave by it.
    Egress,
}

/// A filter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Filter {
    /// Smaller ones go first.
    pub priority: u16,
    /// Number among those of one priority.
    pub handle: u32,
}

impl Socket {
    /// The filters on one side of a device (an index). A device without a clsact qdisc has none.
    pub fn filters(&self, link: u32, side: Side) -> Result<Vec<Filter>> {
        let object = format!("filters of device {link}");
        let about = About {
            operation: "list",
            object: &object,
        };
        let mut message = TcMessage::with_index(link.cast_signed());
        message.header.parent = TcHandle {
            major: 0xffff,
            minor: match side {
                Side::Ingress => 0xfff2,
                Side::Egress => 0xfff3,
            },
        };
        let answers = self.list(about, RouteNetlinkMessage::GetTrafficFilter(message))?;
        let filters = answers.iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewTrafficFilter(message) => Some(Filter {
                priority: (message.header.info >> 16) as u16,
                handle: message.header.handle.into(),
            }),
            _ => None,
        });
        // Each priority is listed once more without a filter.
        Ok(filters.filter(|filter| filter.handle != 0).collect())
    }
}
