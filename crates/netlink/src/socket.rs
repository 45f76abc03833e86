// SPDX-License-Identifier: Apache-2.0
//! The socket to the routing tables of one namespace.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;

use crate::transport::{About, Answer, Transport, Until};
use crate::{NetNs, Result};

/// How often a list that changed while it was read is read again.
const LIST_TRIES: usize = 16;

/// A `NETLINK_ROUTE` socket of one network namespace. It stays in the namespace in which it was opened,
/// whatever thread uses it.
pub struct Socket {
    transport: Transport,
}

impl Socket {
    /// Opens a socket in the namespace of the calling thread.
    pub fn open() -> Result<Self> {
        Ok(Self {
            transport: Transport::open(libc::NETLINK_ROUTE as isize, "route")?,
        })
    }

    /// Opens a socket in `netns`. A thread of its own enters the namespace, opens it, and ends.
    pub fn open_in(netns: &NetNs) -> Result<Self> {
        netns.run(Self::open)?
    }

    /// Sends a request that changes something and waits for the acknowledgement.
    pub(crate) fn change(
        &self,
        about: About<'_>,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<()> {
        self.request(about, message, flags | NLM_F_ACK, acknowledged)
            .map(drop)
    }

    /// Sends a request for one object.
    pub(crate) fn get(
        &self,
        about: About<'_>,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        let answer = self.request(about, message, NLM_F_ACK, acknowledged)?;
        decode(about, &answer)
    }

    /// Reads a whole list, again if it changed meanwhile.
    pub(crate) fn list(
        &self,
        about: About<'_>,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        for _ in 0..LIST_TRIES {
            let answer = self.request(about, message.clone(), NLM_F_DUMP, Until::Done)?;
            if !answer.interrupted {
                return decode(about, &answer);
            }
        }
        Err(about.answer(format!(
            "the list changed during each of {LIST_TRIES} reads"
        )))
    }

    fn request(
        &self,
        about: About<'_>,
        message: RouteNetlinkMessage,
        flags: u16,
        until: fn(u32) -> Until,
    ) -> Result<Answer> {
        let mut inner = self.transport.lock();
        let sequence = inner.next_sequence();
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        inner.exchange(about, &bytes, until(sequence))
    }
}

fn acknowledged(sequence: u32) -> Until {
    Until::Ack {
        first: sequence,
        last: sequence,
    }
}

fn decode(about: About<'_>, answer: &Answer) -> Result<Vec<RouteNetlinkMessage>> {
    let mut messages = Vec::with_capacity(answer.messages.len());
    for bytes in &answer.messages {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes)
            .map_err(|e| about.answer(e.to_string()))?;
        if let NetlinkPayload::InnerMessage(inner) = message.payload {
            messages.push(inner);
        }
    }
    Ok(messages)
}
