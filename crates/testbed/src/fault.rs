// SPDX-License-Identifier: Apache-2.0
//! A host on the underlay that belongs to no cluster and sends what it likes.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use crate::error::{Doing, Result};
use crate::namespace::Place;
use crate::underlay::Underlay;

/// Where agents listen for tunnel packets.
const VXLAN_PORT: u16 = 8472;

/// The attacker.
#[derive(Debug)]
pub struct Intruder(Place);

/// A UDP datagram inside an Ethernet frame inside VXLAN.
#[derive(Debug, Clone, Copy)]
pub struct Forged {
    /// Outer source address; any.
    pub from_node: Ipv4Addr,
    /// Outer destination.
    pub to_node: Ipv4Addr,
    /// VNI: the identity that the sender claims.
    pub identity: u32,
    /// Inner source.
    pub from: SocketAddrV4,
    /// Inner destination.
    pub to: SocketAddrV4,
}

impl Intruder {
    /// A new host at 172.31.250.`number`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(underlay: &Underlay, number: u8) -> Result<Self> {
        underlay
            .host(
                &format!("intruder{number}"),
                &format!("intruder{number}"),
                250,
                number,
            )
            .map(Self)
    }

    /// Its namespace.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.0
    }

    /// Sends a forged packet.
    ///
    /// # Errors
    /// It cannot be sent.
    pub fn send(&self, forged: &Forged, payload: &[u8]) -> Result<()> {
        // The address is on loopback, so the owner's own traffic is not disturbed by ARP from here.
        self.0
            .ip(&format!("addr replace {}/32 dev lo", forged.from_node))?;
        let frame = forged.frame(payload);
        let sent = self.0.within(|| {
            let socket = UdpSocket::bind((forged.from_node, 0))?;
            socket.send_to(&frame, (forged.to_node, VXLAN_PORT))
        })?;
        sent.map(drop)
            .doing("send a forged packet to", forged.to_node.to_string())
    }
}

impl Forged {
    /// VXLAN header, Ethernet, IPv4, UDP and `payload`.
    #[must_use]
    pub fn frame(&self, payload: &[u8]) -> Vec<u8> {
        let short = |length: usize| {
            u16::try_from(length)
                .expect("a short payload")
                .to_be_bytes()
        };
        let mut frame = vec![0x08, 0, 0, 0];
        frame.extend((self.identity << 8).to_be_bytes());
        frame.extend([0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x08, 0x00]);
        let mut ip = vec![0x45, 0];
        ip.extend(short(28 + payload.len()));
        ip.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
        ip.extend(self.from.ip().octets());
        ip.extend(self.to.ip().octets());
        let sum = checksum(&ip).to_be_bytes();
        ip[10..12].copy_from_slice(&sum);
        frame.extend(ip);
        frame.extend(self.from.port().to_be_bytes());
        frame.extend(self.to.port().to_be_bytes());
        frame.extend(short(8 + payload.len()));
        // IPv4 allows a UDP checksum of zero.
        frame.extend([0, 0]);
        frame.extend(payload);
        frame
    }
}

fn checksum(header: &[u8]) -> u16 {
    let words = header
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded to 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_its_checksum_sums_to_zero() {
        let forged = Forged {
            from_node: Ipv4Addr::new(172, 31, 5, 1),
            to_node: Ipv4Addr::new(172, 31, 7, 1),
            identity: 0x05_1234,
            from: "10.5.1.2:1000".parse().expect("literal"),
            to: "10.7.1.2:9".parse().expect("literal"),
        };
        let frame = forged.frame(b"hello");
        assert_eq!(frame[4..8], [0x05, 0x12, 0x34, 0]);
        assert_eq!(checksum(&frame[22..42]), 0);
        assert_eq!(frame.len(), 8 + 14 + 20 + 8 + 5);
    }
}
