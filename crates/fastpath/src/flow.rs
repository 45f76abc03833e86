// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Conntrack transitions, as in Cilium's `bpf/lib/conntrack.h`: what a packet does to the entry of its flow. Of a connection that
//! one side resets the entry goes soon, because nothing else takes it out of a full table.

use abi::{Flow, FlowKey, NodeConfig, flow_flags};

use crate::headers::{TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};
use crate::{FlowRef, Layer4, Parsed};

const CLOSING: u16 = flow_flags::TX_CLOSING | flow_flags::RX_CLOSING;

/// State of an entry after a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved {
    /// See [`Flow::flags`].
    pub flags: u16,
    /// See [`Flow::tx_flags`].
    pub tx_flags: u8,
    /// See [`Flow::rx_flags`].
    pub rx_flags: u8,
    /// See [`Flow::expires`].
    pub expires: u32,
}

/// Whether the entry still counts.
#[inline(always)]
pub fn alive(flow: &Flow, now: u32) -> bool {
    now <= flow.expires
}

/// Whether the packet begins a new flow under the key of one that is closing.
#[inline(always)]
pub fn reopens(flow: &Flow, tcp_flags: u8) -> bool {
    tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN && flow.flags & CLOSING != 0
}

/// What a packet makes of the entry. `from_local`: the local endpoint sent it.
#[inline(always)]
pub fn moved(
    flow: &Flow,
    from_local: bool,
    proto: u8,
    tcp_flags: u8,
    now: u32,
    config: &NodeConfig,
) -> Moved {
    let opened_by_local = flow.flags & flow_flags::OPENED_BY_LOCAL != 0;
    let mut flags = flow.flags;
    if opened_by_local != from_local {
        flags |= flow_flags::REPLIED;
    }
    if proto != TCP {
        let expires = now.wrapping_add(config.timeout_any);
        return Moved {
            flags,
            tx_flags: 0,
            rx_flags: 0,
            expires,
        };
    }
    let was_closed = flags & CLOSING == CLOSING;
    if tcp_flags & (TCP_FIN | TCP_RST) != 0 {
        flags |= if from_local {
            flow_flags::TX_CLOSING
        } else {
            flow_flags::RX_CLOSING
        };
        if tcp_flags & TCP_RST != 0 && flow.tx_flags & flow.rx_flags & TCP_SYN == 0 {
            flags |= CLOSING;
        }
    }
    // A later fragment has no flags and says nothing about the handshake.
    if tcp_flags & TCP_SYN == 0 && tcp_flags != 0 {
        flags |= flow_flags::SEEN_NON_SYN;
    }
    let expires = match flags & CLOSING == CLOSING {
        true if was_closed => flow.expires,
        true => now.wrapping_add(config.timeout_fin),
        false if flags & flow_flags::SEEN_NON_SYN == 0 => now.wrapping_add(config.timeout_syn),
        // Nothing follows, unless the reset was nobody's: what goes on makes it a connection again.
        false if tcp_flags & TCP_RST != 0 => now.wrapping_add(config.timeout_syn),
        false => now.wrapping_add(config.timeout_tcp),
    };
    let (tx_flags, rx_flags) = match from_local {
        true => (flow.tx_flags | tcp_flags, flow.rx_flags),
        false => (flow.tx_flags, flow.rx_flags | tcp_flags),
    };
    Moved {
        flags,
        tx_flags,
        rx_flags,
        expires,
    }
}

/// Applies a packet to an entry in place, writing only what changed. True: something did.
#[inline(always)]
pub(crate) fn touch<F: FlowRef>(
    entry: F,
    flow: &Flow,
    from_local: bool,
    packet: &Parsed,
    now: u32,
    config: &NodeConfig,
) -> bool {
    let to = moved(
        flow,
        from_local,
        packet.proto,
        packet.tcp_flags,
        now,
        config,
    );
    let ages = to.expires != flow.expires;
    if ages {
        entry.refresh(to.expires);
    }
    let turns =
        to.flags != flow.flags || to.tx_flags != flow.tx_flags || to.rx_flags != flow.rx_flags;
    if turns {
        entry.transition(to.flags, to.tx_flags, to.rx_flags);
    }
    ages || turns
}

/// Whether a packet of this kind, going this way, belongs to the flow.
#[inline(always)]
pub(crate) fn belongs(flow: &Flow, kind: Layer4, from_local: bool) -> bool {
    let opening = (flow.flags & flow_flags::OPENED_BY_LOCAL != 0) == from_local;
    match kind {
        Layer4::PORTS => true,
        Layer4::ECHO_REQUEST => opening,
        Layer4::ECHO_REPLY => !opening,
        _ => false,
    }
}

/// Whether packets of this kind make an entry.
#[inline(always)]
pub(crate) fn opens(kind: Layer4) -> bool {
    matches!(kind, Layer4::PORTS | Layer4::ECHO_REQUEST)
}

/// Writes the key of the packet's flow from the point of view of its sender (`from_local`) or receiver.
#[inline(always)]
pub(crate) fn write_key(key: &mut FlowKey, packet: &Parsed, from_local: bool) {
    key.proto = packet.proto;
    key.pad = [0; 3];
    if from_local {
        key.local = packet.src;
        key.remote = packet.dst;
        key.local_port = packet.sport;
        key.remote_port = packet.dport;
    } else {
        key.local = packet.dst;
        key.remote = packet.src;
        key.local_port = packet.dport;
        key.remote_port = packet.sport;
    }
}
