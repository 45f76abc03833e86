// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! Header layouts and numbers of the protocols that are read here. Multi-byte fields hold network byte order;
//! they are plain integers because naturally aligned loads are what the BPF target does best.

use abi::Addr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, transmute};

/// Length of an Ethernet header; where the network header begins.
pub(crate) const ETH_LEN: usize = 14;
/// Where an IPv4 header without options, and an IPv6 header, end.
pub(crate) const V4_END: usize = ETH_LEN + 20;
pub(crate) const V6_END: usize = ETH_LEN + 40;

pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHERTYPE_ARP: u16 = 0x0806;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Smallest number that is an ethertype and no 802.3 length.
pub(crate) const ETHERTYPE_MIN: u16 = 0x0600;

pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const AUTHENTICATION: u8 = 51;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const NO_NEXT_HEADER: u8 = 59;
pub(crate) const DESTINATION_OPTIONS: u8 = 60;

pub(crate) const TCP_FIN: u8 = 1;
pub(crate) const TCP_SYN: u8 = 2;
pub(crate) const TCP_RST: u8 = 4;
pub(crate) const TCP_ACK: u8 = 16;

pub(crate) const ECHO_REQUEST: u8 = 8;
pub(crate) const ECHO_REPLY: u8 = 0;
pub(crate) const ECHO_REQUEST6: u8 = 128;
pub(crate) const ECHO_REPLY6: u8 = 129;
pub(crate) const NEIGHBOUR_SOLICITATION: u8 = 135;
pub(crate) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// The IPv4-mapped form of an address as an IPv4 header holds it; whole words, because the target is slow with
/// single bytes.
#[inline(always)]
pub(crate) fn mapped(raw: u32) -> Addr {
    transmute!([0u32, 0, 0xffffu32.to_be(), raw])
}

/// An IPv4 header without its options.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Ipv4 {
    pub(crate) version_ihl: u8,
    pub(crate) tos: u8,
    pub(crate) len: u16,
    pub(crate) id: u16,
    pub(crate) fragment: u16,
    pub(crate) ttl: u8,
    pub(crate) proto: u8,
    pub(crate) checksum: u16,
    pub(crate) src: u32,
    pub(crate) dst: u32,
}

/// An IPv6 header.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Ipv6 {
    pub(crate) version: u8,
    pub(crate) label: [u8; 3],
    pub(crate) len: u16,
    pub(crate) next: u8,
    pub(crate) hops: u8,
    pub(crate) src: Addr,
    pub(crate) dst: Addr,
}

/// A TCP header without its options.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Tcp {
    pub(crate) src: u16,
    pub(crate) dst: u16,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) offset: u8,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) checksum: u16,
    pub(crate) urgent: u16,
}

/// What UDP begins with, and 4 bytes more.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Ports {
    pub(crate) src: u16,
    pub(crate) dst: u16,
    pub(crate) rest: u32,
}

/// An ICMP or ICMPv6 header; `id` has a meaning for echo only.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Icmp {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) checksum: u16,
    pub(crate) id: u16,
    pub(crate) seq: u16,
}

/// The first 8 bytes of every IPv6 extension header, read as a fragment header.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Extension {
    pub(crate) next: u8,
    pub(crate) len: u8,
    pub(crate) offset: u16,
    pub(crate) id: u32,
}

/// ARP for IPv4 over Ethernet. 28 bytes.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Arp {
    pub(crate) hardware: u16,
    pub(crate) protocol: u16,
    pub(crate) lengths: u16,
    pub(crate) operation: u16,
    pub(crate) sender_mac: [u8; 6],
    pub(crate) sender: [u8; 4],
    pub(crate) target_mac: [u8; 6],
    pub(crate) target: [u8; 4],
}

const _: () = assert!(size_of::<Ipv4>() == 20);
const _: () = assert!(size_of::<Ipv6>() == 40);
const _: () = assert!(size_of::<Tcp>() == 20);
const _: () = assert!(size_of::<Arp>() == 28);
