// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Frames as bytes, built by hand: shared by the tests of the pure code and of the programs.
#![allow(dead_code, reason = "each test binary uses a part")]

/// A packet under construction: addresses, then what is inside.
#[derive(Clone, Debug)]
pub(crate) struct Ip {
    pub(crate) src: [u8; 16],
    pub(crate) dst: [u8; 16],
    pub(crate) v4: bool,
    pub(crate) ttl: u8,
    pub(crate) id: u16,
    /// IPv4 flags and offset.
    pub(crate) fragment: u16,
}

impl Ip {
    pub(crate) fn v4(src: [u8; 4], dst: [u8; 4]) -> Ip {
        let map = |a: [u8; 4]| {
            let mut out = [0; 16];
            out[10] = 0xff;
            out[11] = 0xff;
            out[12..].copy_from_slice(&a);
            out
        };
        Ip {
            src: map(src),
            dst: map(dst),
            v4: true,
            ttl: 64,
            id: 7,
            fragment: 0x4000,
        }
    }

    pub(crate) fn v6(src: [u8; 16], dst: [u8; 16]) -> Ip {
        Ip {
            src,
            dst,
            v4: false,
            ttl: 64,
            id: 0,
            fragment: 0,
        }
    }

    pub(crate) fn ttl(mut self, ttl: u8) -> Ip {
        self.ttl = ttl;
        self
    }

    pub(crate) fn fragment(mut self, fragment: u16) -> Ip {
        self.fragment = fragment;
        self
    }

    /// The IP packet with `proto` and `body`.
    pub(crate) fn packet(&self, proto: u8, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        if self.v4 {
            let len = (20 + body.len()) as u16;
            out.extend([0x45, 0]);
            out.extend(len.to_be_bytes());
            out.extend(self.id.to_be_bytes());
            out.extend(self.fragment.to_be_bytes());
            out.extend([self.ttl, proto, 0, 0]);
            out.extend(&self.src[12..]);
            out.extend(&self.dst[12..]);
            let sum = checksum(0, &out);
            out[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            out.extend([0x60, 0, 0, 0]);
            out.extend((body.len() as u16).to_be_bytes());
            out.extend([proto, self.ttl]);
            out.extend(self.src);
            out.extend(self.dst);
        }
        out.extend(body);
        out
    }

    /// The whole frame.
    pub(crate) fn frame(&self, proto: u8, body: &[u8]) -> Vec<u8> {
        let kind = if self.v4 { 0x0800u16 } else { 0x86dd };
        ethernet(kind, &self.packet(proto, body))
    }

    pub(crate) fn tcp(&self, sport: u16, dport: u16, flags: u8) -> Vec<u8> {
        self.frame(6, &tcp(sport, dport, flags, 0))
    }

    pub(crate) fn udp(&self, sport: u16, dport: u16, len: usize) -> Vec<u8> {
        self.frame(17, &udp(sport, dport, len))
    }

    pub(crate) fn icmp(&self, kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Vec<u8> {
        let proto = if self.v4 { 1 } else { 58 };
        self.frame(proto, &icmp(kind, code, rest, body))
    }

    pub(crate) fn echo(&self, request: bool, id: u16) -> Vec<u8> {
        let kind = match (self.v4, request) {
            (true, true) => 8,
            (true, false) => 0,
            (false, true) => 128,
            (false, false) => 129,
        };
        let [a, b] = id.to_be_bytes();
        self.icmp(kind, 0, [a, b, 0, 1], &[0; 16])
    }

    pub(crate) fn reply(&self) -> Ip {
        Ip {
            src: self.dst,
            dst: self.src,
            ..self.clone()
        }
    }
}

pub(crate) fn ethernet(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut out = vec![2, 0, 0, 0, 0, 0xaa, 2, 0, 0, 0, 0, 0xbb];
    out.extend(kind.to_be_bytes());
    out.extend(body);
    out
}

pub(crate) fn tcp(sport: u16, dport: u16, flags: u8, payload: usize) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(sport.to_be_bytes());
    out.extend(dport.to_be_bytes());
    out.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    out.resize(20 + payload, 0);
    out
}

pub(crate) fn udp(sport: u16, dport: u16, payload: usize) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(sport.to_be_bytes());
    out.extend(dport.to_be_bytes());
    out.extend(((8 + payload) as u16).to_be_bytes());
    out.extend([0, 0]);
    out.resize(8 + payload, 0);
    out
}

pub(crate) fn icmp(kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, code, 0, 0];
    out.extend(rest);
    out.extend(body);
    out
}

/// Internet checksum, inverted.
pub(crate) fn checksum(start: u32, bytes: &[u8]) -> u16 {
    let mut sum = start;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Whether the ICMPv6 message of a frame without extension headers has the right checksum.
pub(crate) fn icmp6_is_sound(frame: &[u8]) -> bool {
    let len = u32::from(u16::from_be_bytes([frame[18], frame[19]]));
    checksum(len + 58, &frame[22..54 + len as usize]) == 0
}

/// An ARP request.
pub(crate) fn arp(sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut body = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 0xbb];
    body.extend(sender);
    body.extend([0; 6]);
    body.extend(target);
    let mut frame = ethernet(0x0806, &body);
    frame[..6].fill(0xff);
    frame
}

/// Where the transport checksum of a frame without options and extension headers is, and what its pseudo header sums to.
fn transport(frame: &[u8]) -> (u8, usize, usize, u32) {
    let (proto, l4, addresses) = if frame[12] == 8 {
        (frame[23], 34, &frame[26..34])
    } else {
        (frame[20], 54, &frame[22..54])
    };
    let at = l4
        + match proto {
            6 => 16,
            17 => 6,
            _ => 2,
        };
    let sum = u32::from(!checksum(0, addresses)) + u32::from(proto) + (frame.len() - l4) as u32;
    (proto, l4, at, if proto == 1 { 0 } else { sum })
}

/// Writes the transport checksum of a frame.
pub(crate) fn seal(mut frame: Vec<u8>) -> Vec<u8> {
    let (_, l4, at, pseudo) = transport(&frame);
    frame[at..at + 2].fill(0);
    let sum = checksum(pseudo, &frame[l4..]);
    frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// Writes the sum of the pseudo header, for somebody else to finish; not inverted.
pub(crate) fn half_seal(mut frame: Vec<u8>) -> Vec<u8> {
    let (_, _, at, pseudo) = transport(&frame);
    let sum = !checksum(pseudo, &[]);
    frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// Whether the checksums of a frame are right.
pub(crate) fn is_sound(frame: &[u8]) -> bool {
    let (_, l4, _, pseudo) = transport(frame);
    (frame[12] != 8 || checksum(0, &frame[14..34]) == 0) && checksum(pseudo, &frame[l4..]) == 0
}
