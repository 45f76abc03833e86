// SPDX-License-Identifier: Apache-2.0
//! What changes in a namespace: devices and addresses, as the kernel tells it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket as Raw, SocketAddr};

use crate::transport::first_message;
use crate::{Address, Error, Link, NetNs, Result, address, link};

const GROUP_LINK: u32 = 1;
const GROUP_IPV4_ADDRESS: u32 = 5;
const GROUP_IPV6_ADDRESS: u32 = 9;
const READ: usize = 64 * 1024;
/// What was asked, for errors.
const OPERATION: &str = "watch";
const OBJECT: &str = "devices and addresses";

/// One change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// A device is new or changed.
    Link(Link),
    /// A device is gone.
    LinkGone(Link),
    /// An address is new or changed.
    Address(Address),
    /// An address is gone.
    AddressGone(Address),
    /// Changes were lost because nobody read them in time: list everything again.
    Lost,
}

/// A subscription to the changes of a namespace. It never blocks; wait for its descriptor to be readable.
pub struct Monitor {
    raw: Raw,
}

impl Monitor {
    /// Subscribes in the namespace of the calling thread.
    pub fn open() -> Result<Self> {
        let failed = |source| Error::Open {
            family: "route",
            source,
        };
        let mut raw = Raw::new(libc::NETLINK_ROUTE as isize).map_err(failed)?;
        raw.bind(&SocketAddr::new(0, 0)).map_err(failed)?;
        raw.set_non_blocking(true).map_err(failed)?;
        for group in [GROUP_LINK, GROUP_IPV4_ADDRESS, GROUP_IPV6_ADDRESS] {
            raw.add_membership(group).map_err(failed)?;
        }
        Ok(Self { raw })
    }

    /// Subscribes in `netns`.
    pub fn open_in(netns: &NetNs) -> Result<Self> {
        netns.run(Self::open)?
    }

    /// The changes that came since the last call; empty if there are none.
    pub fn read(&self) -> Result<Vec<Notice>> {
        let mut buffer: Vec<u8> = Vec::with_capacity(READ);
        let received = self.raw.recv_from(&mut buffer, 0);
        match received {
            Ok(_) => notices(&buffer),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Vec::new()),
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => Ok(vec![Notice::Lost]),
            Err(source) => Err(Error::Transport {
                operation: OPERATION,
                object: OBJECT.into(),
                source,
            }),
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to `self.raw`, which lives as long as the borrow of `self`.
        unsafe { BorrowedFd::borrow_raw(self.raw.as_raw_fd()) }
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.raw.as_raw_fd()
    }
}

fn notices(mut bytes: &[u8]) -> Result<Vec<Notice>> {
    let bad = |detail: String| Error::Answer {
        operation: OPERATION,
        object: OBJECT.into(),
        detail,
    };
    let mut notices = Vec::new();
    while !bytes.is_empty() {
        let message = first_message(bytes).ok_or_else(|| bad("a message is cut off".into()))?;
        bytes = bytes
            .get(message.len().next_multiple_of(4)..)
            .unwrap_or_default();
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message)
            .map_err(|e| bad(e.to_string()))?;
        let NetlinkPayload::InnerMessage(inner) = message.payload else {
            continue;
        };
        notices.extend(match inner {
            RouteNetlinkMessage::NewLink(m) => Some(Notice::Link(link::parse(&m))),
            RouteNetlinkMessage::DelLink(m) => Some(Notice::LinkGone(link::parse(&m))),
            RouteNetlinkMessage::NewAddress(m) => address::parse(&m).map(Notice::Address),
            RouteNetlinkMessage::DelAddress(m) => address::parse(&m).map(Notice::AddressGone),
            _ => None,
        });
    }
    Ok(notices)
}
