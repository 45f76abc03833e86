// SPDX-License-Identifier: Apache-2.0
//! Messages of nf_tables (linux/netfilter/nf_tables.h): a batch of changes, and requests for lists.
//! Numbers in attributes are big-endian; registers are filled in host byte order.

use super::program::{Hook, MetaKey, Step};
use crate::transport::{HEADER, Until};

pub(super) const SUBSYSTEM: u16 = 10;
pub(super) const FAMILY_INET: u8 = 1;
/// Size of the header that follows netlink's.
pub(super) const GENERIC_HEADER: usize = 4;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
pub(super) const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
pub(super) const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;

/// `NFT_REG_1`: sixteen bytes, room for an IPv6 address or a device name.
const REGISTER: u32 = 1;
/// `NF_INET_POST_ROUTING` and the priority of source translation.
const HOOK_POSTROUTING: u32 = 4;
const PRIORITY_SOURCE_NAT: i32 = 100;
/// `NF_INET_PRE_ROUTING`, `NF_INET_LOCAL_OUT`, and the priority ahead of connection tracking.
const HOOK_PREROUTING: u32 = 0;
const HOOK_OUTPUT: u32 = 3;
const PRIORITY_RAW: i32 = -300;
/// `NF_INET_LOCAL_IN`, `NF_INET_FORWARD`, and the priority of filters.
const HOOK_INPUT: u32 = 1;
const HOOK_FORWARD: u32 = 2;
const PRIORITY_FILTER: i32 = 0;
/// `NFT_CT_STATUS`.
const CT_STATUS: u32 = 2;
const VERDICT_DROP: u32 = 0;
const VERDICT_ACCEPT: u32 = 1;

/// A transaction being written.
pub(super) struct Batch {
    bytes: Vec<u8>,
    first: u32,
    sequence: u32,
    last_message: usize,
}

impl Batch {
    pub(super) fn begin(sequence: u32) -> Self {
        let mut batch = Self {
            bytes: Vec::new(),
            first: sequence,
            sequence,
            last_message: 0,
        };
        let start = start(
            &mut batch.bytes,
            BATCH_BEGIN,
            REQUEST,
            sequence,
            0,
            SUBSYSTEM,
        );
        finish(&mut batch.bytes, start);
        batch
    }

    /// The bytes, and the answer that ends it: the last change is acknowledged if all are made.
    pub(super) fn finish(mut self) -> (Vec<u8>, Until) {
        let last = self.sequence;
        let flags = self.last_message + 6;
        let now = u16::from_ne_bytes([self.bytes[flags], self.bytes[flags + 1]]);
        self.bytes[flags..flags + 2].copy_from_slice(&(now | ACK).to_ne_bytes());
        let start = start(&mut self.bytes, BATCH_END, REQUEST, last + 1, 0, SUBSYSTEM);
        finish(&mut self.bytes, start);
        (
            self.bytes,
            Until::Ack {
                first: self.first,
                last,
            },
        )
    }

    pub(super) fn new_table(&mut self, name: &str) {
        self.message(NEW_TABLE, CREATE, |b| {
            text(b, 1, name);
            number(b, 2, 0);
        });
    }

    pub(super) fn delete_table(&mut self, name: &str) {
        self.message(DELETE_TABLE, 0, |b| text(b, 1, name));
    }

    pub(super) fn nat_postrouting_chain(&mut self, table: &str, chain: &str) {
        self.base_chain(table, chain, "nat", (HOOK_POSTROUTING, PRIORITY_SOURCE_NAT));
    }

    /// Makes the chain there.
    pub(super) fn filter_chain(&mut self, table: &str, hook: Hook) {
        let place = match hook {
            Hook::Prerouting => (HOOK_PREROUTING, PRIORITY_RAW),
            Hook::Output => (HOOK_OUTPUT, PRIORITY_RAW),
            Hook::Input => (HOOK_INPUT, PRIORITY_FILTER),
            Hook::Forward => (HOOK_FORWARD, PRIORITY_FILTER),
        };
        self.base_chain(table, hook.chain(), "filter", place);
    }

    fn base_chain(&mut self, table: &str, chain: &str, kind: &str, (hook, priority): (u32, i32)) {
        self.message(NEW_CHAIN, CREATE, |b| {
            text(b, 1, table);
            text(b, 3, chain);
            nested(b, 4, |b| {
                number(b, 1, hook);
                number(b, 2, priority as u32);
            });
            number(b, 5, VERDICT_ACCEPT);
            text(b, 7, kind);
        });
    }

    pub(super) fn rule(&mut self, table: &str, chain: &str, steps: &[Step]) {
        self.message(NEW_RULE, CREATE | APPEND, |b| {
            text(b, 1, table);
            text(b, 2, chain);
            nested(b, 4, |b| {
                for step in steps {
                    nested(b, 1, |b| expression(b, step));
                }
            });
        });
    }

    fn message(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Vec<u8>)) {
        self.sequence += 1;
        self.last_message = self.bytes.len();
        let kind = SUBSYSTEM << 8 | kind;
        let start = start(
            &mut self.bytes,
            kind,
            REQUEST | flags,
            self.sequence,
            FAMILY_INET,
            0,
        );
        fill(&mut self.bytes);
        finish(&mut self.bytes, start);
    }
}

/// A request for all chains of the family; the table is told apart by the reader.
pub(super) fn list_chains(sequence: u32, _table: &str) -> Vec<u8> {
    list(GET_CHAIN, sequence, |_| {})
}

/// A request for the rules of a table.
pub(super) fn list_rules(sequence: u32, table: &str) -> Vec<u8> {
    list(GET_RULE, sequence, |b| text(b, 1, table))
}

fn list(kind: u16, sequence: u32, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let start = start(
        &mut bytes,
        SUBSYSTEM << 8 | kind,
        REQUEST | DUMP,
        sequence,
        FAMILY_INET,
        0,
    );
    fill(&mut bytes);
    finish(&mut bytes, start);
    bytes
}

fn expression(b: &mut Vec<u8>, step: &Step) {
    match step {
        Step::Meta(key) => named(b, "meta", |b| {
            number(b, 1, REGISTER);
            let key = match key {
                MetaKey::Mark => 3,
                MetaKey::InputName => 6,
                MetaKey::OutputName => 7,
                MetaKey::Family => 15,
                MetaKey::Protocol => 16,
            };
            number(b, 2, key);
        }),
        Step::Network { offset, length } => payload(b, 1, *offset, *length),
        Step::Port => payload(b, 2, 2, 2),
        Step::Mask(mask) => named(b, "bitwise", |b| {
            number(b, 1, REGISTER);
            number(b, 2, REGISTER);
            number(b, 3, mask.len() as u32);
            nested(b, 4, |b| attribute(b, 1, mask));
            nested(b, 5, |b| attribute(b, 1, &vec![0; mask.len()]));
        }),
        Step::Equal(value) => named(b, "cmp", |b| {
            number(b, 1, REGISTER);
            number(b, 2, 0);
            nested(b, 3, |b| attribute(b, 1, value));
        }),
        Step::Tracked => named(b, "ct", |b| {
            number(b, 1, REGISTER);
            number(b, 2, CT_STATUS);
        }),
        Step::Counter => named(b, "counter", |_| {}),
        Step::Accept => verdict(b, VERDICT_ACCEPT),
        Step::Drop => verdict(b, VERDICT_DROP),
        Step::Masquerade => named(b, "masq", |_| {}),
        Step::NoTrack => named(b, "notrack", |_| {}),
    }
}

fn verdict(b: &mut Vec<u8>, verdict: u32) {
    named(b, "immediate", |b| {
        number(b, 1, 0);
        nested(b, 2, |b| nested(b, 2, |b| number(b, 1, verdict)));
    });
}

/// Loads bytes of a header: 1 is the network's, 2 the transport's.
fn payload(b: &mut Vec<u8>, header: u32, offset: u32, length: u32) {
    named(b, "payload", |b| {
        number(b, 1, REGISTER);
        number(b, 2, header);
        number(b, 3, offset);
        number(b, 4, length);
    });
}

fn named(b: &mut Vec<u8>, name: &str, data: impl FnOnce(&mut Vec<u8>)) {
    text(b, 1, name);
    nested(b, 2, data);
}

/// Writes both headers and returns where the message starts.
fn start(
    b: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    family: u8,
    resource: u16,
) -> usize {
    let start = b.len();
    b.extend([0; 4]);
    b.extend(kind.to_ne_bytes());
    b.extend(flags.to_ne_bytes());
    b.extend(sequence.to_ne_bytes());
    b.extend([0; 4]);
    b.extend([family, 0]);
    b.extend(resource.to_be_bytes());
    debug_assert_eq!(b.len() - start, HEADER + GENERIC_HEADER);
    start
}

/// Writes the length of the message that starts at `start`.
fn finish(b: &mut [u8], start: usize) {
    let length = (b.len() - start) as u32;
    b[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

fn attribute(b: &mut Vec<u8>, kind: u16, value: &[u8]) {
    b.extend(((value.len() + 4) as u16).to_ne_bytes());
    b.extend(kind.to_ne_bytes());
    b.extend(value);
    b.resize(b.len().next_multiple_of(4), 0);
}

fn number(b: &mut Vec<u8>, kind: u16, value: u32) {
    attribute(b, kind, &value.to_be_bytes());
}

fn text(b: &mut Vec<u8>, kind: u16, value: &str) {
    let mut bytes = value.as_bytes().to_vec();
    bytes.push(0);
    attribute(b, kind, &bytes);
}

fn nested(b: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = b.len();
    b.extend([0; 2]);
    b.extend((kind | NESTED).to_ne_bytes());
    fill(b);
    let length = (b.len() - start) as u16;
    b[start..start + 2].copy_from_slice(&length.to_ne_bytes());
}
