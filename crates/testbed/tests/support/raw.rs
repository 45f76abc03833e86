// SPDX-License-Identifier: Apache-2.0
//! Packets made by hand, sent through raw sockets: any source, any protocol, any header.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto,
    socket,
};
use testbed::Place;

/// IP protocol numbers.
pub(crate) const UDP: u8 = 17;
pub(crate) const GRE: u8 = 47;
pub(crate) const SCTP: u8 = 132;

/// A packet of either family; `transport` starts with the first header after the fixed one.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) ttl: u8,
    pub(crate) transport: Vec<u8>,
}

impl Packet {
    /// A datagram.
    pub(crate) fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Self {
        Self {
            from: from.ip(),
            to: to.ip(),
            protocol: UDP,
            ttl: 64,
            transport: datagram(from, to, payload),
        }
    }

    /// With the headers `extensions` (of IPv6) before the transport header; `first` is the number of the first.
    pub(crate) fn extended(mut self, first: u8, extensions: &[u8]) -> Self {
        self.transport = [extensions, &self.transport].concat();
        self.protocol = first;
        self
    }

    /// From the IP header on.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let length = self.transport.len();
        let mut bytes = match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut ip = vec![0x45, 0];
                ip.extend(short(20 + length));
                ip.extend([0, 0, 0x40, 0, self.ttl, self.protocol, 0, 0]);
                ip.extend(from.octets());
                ip.extend(to.octets());
                let sum = checksum(&[&ip]);
                ip[10..12].copy_from_slice(&sum);
                ip
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut ip = vec![0x60, 0, 0, 0];
                ip.extend(short(length));
                ip.extend([self.protocol, self.ttl]);
                ip.extend(from.octets());
                ip.extend(to.octets());
                ip
            }
            _ => panic!("two families in one packet"),
        };
        bytes.extend(&self.transport);
        bytes
    }

    /// In an Ethernet frame behind a VXLAN header that claims `vni`.
    pub(crate) fn in_vxlan(&self, vni: u32) -> Vec<u8> {
        let ethertype = if self.from.is_ipv4() {
            [0x08, 0]
        } else {
            [0x86, 0xdd]
        };
        let mut frame = vec![0x08, 0, 0, 0];
        frame.extend((vni << 8).to_be_bytes());
        frame.extend([0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1]);
        frame.extend(ethertype);
        frame.extend(self.bytes());
        frame
    }

    /// Sends it from a place as it is. A refusal of the kernel there is a failure of the test.
    pub(crate) fn send(&self, place: &Place) {
        let bytes = self.bytes();
        let to = self.to;
        let sent = place.within(move || {
            let family = match to {
                IpAddr::V4(_) => AddressFamily::Inet,
                IpAddr::V6(_) => AddressFamily::Inet6,
            };
            let fd = socket(family, SockType::Raw, SockFlag::empty(), SockProtocol::Raw)?;
            let none = MsgFlags::empty();
            match to {
                IpAddr::V4(to) => {
                    let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
                    sendto(fd.as_raw_fd(), &bytes, &to, none)
                }
                IpAddr::V6(to) => {
                    let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, 0));
                    sendto(fd.as_raw_fd(), &bytes, &to, none)
                }
            }
        });
        sent.expect("a namespace").expect("sent");
    }
}

fn datagram(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = short(8 + payload.len());
    let mut udp = Vec::new();
    udp.extend(from.port().to_be_bytes());
    udp.extend(to.port().to_be_bytes());
    udp.extend(length);
    udp.extend([0, 0]);
    udp.extend(payload);
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let sum = checksum(&[
        &octets(from.ip()),
        &octets(to.ip()),
        &[0, UDP],
        &length,
        &udp,
    ]);
    udp[6..8].copy_from_slice(&sum);
    udp
}

fn short(length: usize) -> [u8; 2] {
    u16::try_from(length).expect("a short packet").to_be_bytes()
}

/// Internet checksum; every part but the last has an even length.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let word = |pair: &[u8]| {
        u32::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]))
    };
    let mut sum: u32 = parts.iter().flat_map(|part| part.chunks(2)).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).expect("folded to 16 bits")).to_be_bytes()
}
