// SPDX-License-Identifier: Apache-2.0
//! One netlink socket: requests out, whole answers in, errors with the kernel's words.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use netlink_packet_core::{NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NetlinkBuffer};
use netlink_sys::{Socket as Raw, SocketAddr};

use crate::{Error, Result};

/// Room for one read. The kernel's largest answer to a dump is 32 KiB, to a request of ours 64 KiB.
const READ: usize = 128 * 1024;
/// Size of a netlink header.
pub(crate) const HEADER: usize = 16;
const ATTR_MESSAGE: u16 = 1;
const ATTRIBUTE_HEADER: usize = 4;

/// What a request is about, for its error.
#[derive(Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) operation: &'static str,
    pub(crate) object: &'a dyn std::fmt::Display,
}

impl About<'_> {
    pub(crate) fn answer(&self, detail: impl Into<String>) -> Error {
        let object = self.object.to_string();
        Error::Answer {
            operation: self.operation,
            object,
            detail: detail.into(),
        }
    }

    pub(crate) fn transport(&self, source: io::Error) -> Error {
        Error::Transport {
            operation: self.operation,
            object: self.object.to_string(),
            source,
        }
    }

    fn refused(&self, errno: i32, detail: String) -> Error {
        let source = io::Error::from_raw_os_error(errno);
        Error::Refused {
            operation: self.operation,
            object: self.object.to_string(),
            source,
            detail,
        }
    }
}

/// When an answer is complete.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// The last of these sequence numbers was acknowledged; a refusal of any of them ends it.
    Ack {
        /// First message of the request.
        first: u32,
        /// Last message of the request, the one that asks for the acknowledgement.
        last: u32,
    },
    /// The end of a list.
    Done(u32),
}

impl Until {
    fn covers(self, sequence: u32) -> bool {
        match self {
            Until::Ack { first, last } => (first..=last).contains(&sequence),
            Until::Done(own) => sequence == own,
        }
    }

    fn ends_with_ack_of(self, sequence: u32) -> bool {
        matches!(self, Until::Ack { last, .. } if last == sequence)
    }
}

/// What came back for one request.
pub(crate) struct Answer {
    /// Whole messages, headers included.
    pub(crate) messages: Vec<Vec<u8>>,
    /// The list changed while it was read: it may be incomplete.
    pub(crate) interrupted: bool,
}

pub(crate) struct Transport {
    inner: Mutex<Inner>,
}

pub(crate) struct Inner {
    raw: Raw,
    sequence: u32,
}

impl Transport {
    /// Opens a socket of `protocol` (`NETLINK_…`) in the namespace of the calling thread.
    pub(crate) fn open(protocol: isize, family: &'static str) -> Result<Self> {
        let failed = |source| Error::Open { family, source };
        let mut raw = Raw::new(protocol).map_err(failed)?;
        raw.bind_auto().map_err(failed)?;
        raw.set_ext_ack(true).map_err(failed)?;
        raw.set_cap_ack(true).map_err(failed)?;
        Ok(Self {
            inner: Mutex::new(Inner { raw, sequence: 0 }),
        })
    }

    /// The socket for one exchange: nobody else's answer comes in between.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing is left half done in there: an interrupted exchange is drained by sequence number.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// A sequence number that was not used before.
    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.sequence
    }

    /// Takes the numbers up to `sequence` for used: a batch numbers its own messages.
    pub(crate) fn skip_to(&mut self, sequence: u32) {
        self.sequence = sequence;
    }

    /// Sends `bytes` and reads until the answer is complete or the kernel refuses.
    pub(crate) fn exchange(&self, about: About<'_>, bytes: &[u8], until: Until) -> Result<Answer> {
        let kernel = SocketAddr::new(0, 0);
        self.raw
            .send_to(bytes, &kernel, 0)
            .map_err(|e| about.transport(e))?;
        let mut answer = Answer {
            messages: Vec::new(),
            interrupted: false,
        };
        let mut buffer: Vec<u8> = Vec::with_capacity(READ);
        loop {
            buffer.clear();
            match self.raw.recv_from(&mut buffer, libc::MSG_TRUNC) {
                Ok((length, _)) if length > buffer.len() => {
                    return Err(about.answer(format!("{length} bytes at once")));
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(about.transport(e)),
            }
            if take(about, &buffer, until, &mut answer)? {
                return Ok(answer);
            }
        }
    }
}

/// Takes the messages of one read; true when the answer is complete.
fn take(about: About<'_>, mut bytes: &[u8], until: Until, answer: &mut Answer) -> Result<bool> {
    while !bytes.is_empty() {
        let message = first_message(bytes).ok_or_else(|| about.answer("a message is cut off"))?;
        bytes = bytes
            .get(message.len().next_multiple_of(4)..)
            .unwrap_or_default();
        let header = NetlinkBuffer::new(message);
        let sequence = header.sequence_number();
        if !until.covers(sequence) {
            // The rest of an earlier answer whose reader gave up at an error.
            continue;
        }
        let payload = message.get(HEADER..).unwrap_or_default();
        match header.message_type() {
            NLMSG_NOOP => {}
            NLMSG_ERROR => match code(payload) {
                Some(0) if until.ends_with_ack_of(sequence) => return Ok(true),
                Some(0) => {}
                Some(code) => return Err(about.refused(code, kernel_words(payload))),
                None => return Err(about.answer("an error message is cut off")),
            },
            NLMSG_DONE => match code(payload) {
                Some(code) if code > 0 => return Err(about.refused(code, String::new())),
                _ => return Ok(true),
            },
            _ => {
                answer.interrupted |= header.flags() & NLM_F_DUMP_INTR != 0;
                answer.messages.push(message.to_vec());
            }
        }
    }
    Ok(false)
}

/// The first message of `bytes`, if it is whole.
pub(crate) fn first_message(bytes: &[u8]) -> Option<&[u8]> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    if length < HEADER {
        None
    } else {
        bytes.get(..length)
    }
}

/// The errno of an error or an end of list; 0 is none. The wire has it negated.
fn code(payload: &[u8]) -> Option<i32> {
    let negated = i32::from_ne_bytes(payload.get(..4)?.try_into().ok()?);
    Some(negated.wrapping_neg())
}

/// The text that the kernel added to a refusal, in brackets, or nothing.
fn kernel_words(payload: &[u8]) -> String {
    let mut rest = payload.get(4 + HEADER..).unwrap_or_default();
    while rest.len() > ATTRIBUTE_HEADER {
        let length = u16::from_ne_bytes([rest[0], rest[1]]) as usize;
        let kind = u16::from_ne_bytes([rest[2], rest[3]]);
        let Some(value) = rest.get(ATTRIBUTE_HEADER..length) else {
            break;
        };
        if kind == ATTR_MESSAGE {
            let text = String::from_utf8_lossy(value);
            return format!(" ({})", text.trim_end_matches('\0'));
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    String::new()
}
