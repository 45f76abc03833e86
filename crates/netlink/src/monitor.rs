// SPDX-License-Identifier: Apache-2.0
//! What changes in a namespace: devices, addresses, and filters that go, as the kernel tells it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket as Raw, SocketAddr};

use crate::transport::first_message;
use crate::{Address, Error, Link, NetNs, Result, address, link};

const GROUP_LINK: u32 = 1;
const GROUP_TC: u32 = 4;
const GROUP_IPV4_ADDRESS: u32 = 5;
const GROUP_IPV6_ADDRESS: u32 = 9;
const READ: usize = 64 * 1024;
/// What was asked, for errors.
const OPERATION: &str = "watch";
const OBJECT: &str = "devices, addresses and filters";

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
    /// A filter or queueing discipline of a device (its index) is gone.
    FilterGone(u32),
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
        for group in [GROUP_LINK, GROUP_TC, GROUP_IPV4_ADDRESS, GROUP_IPV6_ADDRESS] {
            raw.add_membership(group).map_err(failed)?;
        }
        Ok(Self { raw })
    }

    /// Subscribes in `netns`.
    pub fn open_in(netns: &NetNs) -> Result<Self> {
        netns.run(Self::open)?
    }

    /// The next changes; none of them may be of a kind that is told. `None`: nothing waits.
    pub fn read(&self) -> Result<Option<Vec<Notice>>> {
        let mut buffer: Vec<u8> = Vec::with_capacity(READ);
        let received = self.raw.recv_from(&mut buffer, 0);
        match received {
            Ok(_) => notices(&buffer).map(Some),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => Ok(Some(vec![Notice::Lost])),
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
            RouteNetlinkMessage::DelTrafficFilter(m)
            | RouteNetlinkMessage::DelQueueDiscipline(m) => {
                Some(Notice::FilterGone(m.header.index.cast_unsigned()))
            }
            _ => None,
        });
    }
    Ok(notices)
}
