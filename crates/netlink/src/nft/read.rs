// SPDX-License-Identifier: Apache-2.0
//! What the kernel says about a table.

use super::encode::{GENERIC_HEADER, NEW_CHAIN, NEW_RULE, SUBSYSTEM};
use crate::transport::HEADER;

/// Kind bits of an attribute, without its flags.
const KIND: u16 = 0x3fff;

/// A chain as the kernel has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChainState {
    /// Name.
    pub name: String,
    /// Number of rules.
    pub rules: usize,
    /// Packets seen by its counters: first packets of flows, in a chain of translations.
    pub packets: u64,
}

/// A table as the kernel has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableState {
    /// Its chains, in the kernel's order.
    pub chains: Vec<ChainState>,
}

/// Makes a state of listed chains and rules. A table without chains is told as absent.
pub(super) fn table(name: &str, chains: &[Vec<u8>], rules: &[Vec<u8>]) -> Option<TableState> {
    let mut state = TableState { chains: Vec::new() };
    for body in chains.iter().filter_map(|m| body(m, NEW_CHAIN)) {
        if text(body, 1) == Some(name) {
            let name = text(body, 3).unwrap_or_default().to_owned();
            state.chains.push(ChainState {
                name,
                rules: 0,
                packets: 0,
            });
        }
    }
    for body in rules.iter().filter_map(|m| body(m, NEW_RULE)) {
        let chain = state
            .chains
            .iter_mut()
            .find(|c| Some(c.name.as_str()) == text(body, 2));
        if let (Some(chain), Some(true)) = (chain, text(body, 1).map(|t| t == name)) {
            chain.rules += 1;
            chain.packets += find(body, 4).map_or(0, counted);
        }
    }
    (!state.chains.is_empty()).then_some(state)
}

/// The packets of the counters among a rule's expressions.
fn counted(expressions: &[u8]) -> u64 {
    attributes(expressions)
        .filter(|(_, expression)| text(expression, 1) == Some("counter"))
        .filter_map(|(_, expression)| find(find(expression, 2)?, 2))
        .filter_map(|packets| packets.try_into().ok().map(u64::from_be_bytes))
        .sum()
}

/// The attributes of a message of `kind`.
fn body(message: &[u8], kind: u16) -> Option<&[u8]> {
    let found = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
    if found == SUBSYSTEM << 8 | kind {
        message.get(HEADER + GENERIC_HEADER..)
    } else {
        None
    }
}

fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(k, _)| *k == kind)
        .map(|(_, value)| value)
}

fn text(bytes: &[u8], kind: u16) -> Option<&str> {
    let value = find(bytes, kind)?;
    std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok()
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & KIND;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}
