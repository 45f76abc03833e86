// SPDX-License-Identifier: Apache-2.0
//! Addresses and prefixes of the model and of the maps.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use abi::{Addr, PrefixKey};
use ipnet::IpNet;

/// Where IPv4 prefixes begin in [`PrefixKey::prefixlen`].
const V4_OFFSET: u32 = 96;

/// The map form of an address.
pub fn addr(ip: IpAddr) -> Addr {
    match ip {
        IpAddr::V4(v4) => Addr::v4(v4.octets()),
        IpAddr::V6(v6) => Addr::v6(v6.octets()),
    }
}

/// The address; `None` for [`Addr::NONE`].
pub fn ip_addr(addr: &Addr) -> Option<IpAddr> {
    if *addr == Addr::NONE {
        None
    } else if addr.is_v4() {
        Some(IpAddr::V4(Ipv4Addr::from(addr.octets4())))
    } else {
        Some(IpAddr::V6(Ipv6Addr::from(addr.0)))
    }
}

/// The map form of a prefix, bits beyond its length zero.
pub fn prefix_key(net: &IpNet) -> PrefixKey {
    let net = net.trunc();
    let length = u32::from(net.prefix_len());
    match net {
        IpNet::V4(v4) => PrefixKey {
            prefixlen: V4_OFFSET + length,
            addr: Addr::v4(v4.network().octets()),
        },
        IpNet::V6(v6) => PrefixKey {
            prefixlen: length,
            addr: Addr::v6(v6.network().octets()),
        },
    }
}

/// The prefix; `None` for a length above 128.
pub fn prefix_net(key: &PrefixKey) -> Option<IpNet> {
    let length = u8::try_from(key.prefixlen).ok()?;
    if key.addr.is_v4() && key.prefixlen >= V4_OFFSET {
        let ip = IpAddr::V4(Ipv4Addr::from(key.addr.octets4()));
        IpNet::new(ip, length - V4_OFFSET as u8).ok()
    } else {
        IpNet::new(IpAddr::V6(Ipv6Addr::from(key.addr.0)), length).ok()
    }
}

fn mask(length: u32) -> u128 {
    u128::MAX.checked_shl(128 - length.min(128)).unwrap_or(0)
}

/// The first `length` bits of `addr`.
pub(crate) fn truncate(addr: &Addr, length: u32) -> Addr {
    Addr((u128::from_be_bytes(addr.0) & mask(length)).to_be_bytes())
}

/// Whether `prefix` covers `addr`.
pub(crate) fn covers(prefix: &PrefixKey, addr: &Addr) -> bool {
    truncate(addr, prefix.prefixlen) == truncate(&prefix.addr, prefix.prefixlen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_round_trip() {
        for text in [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.2.3/32",
            "::/0",
            "fd00::/64",
            "fd00::1/128",
        ] {
            let net: IpNet = text.parse().expect("valid");
            assert_eq!(prefix_net(&prefix_key(&net)), Some(net));
        }
        let long = PrefixKey {
            prefixlen: 300,
            ..PrefixKey::default()
        };
        assert_eq!(prefix_net(&long), None);
    }

    #[test]
    fn covering() {
        let inside = |prefix: &str, ip: &str| {
            let prefix: IpNet = prefix.parse().expect("valid");
            covers(&prefix_key(&prefix), &addr(ip.parse().expect("valid")))
        };
        assert!(inside("10.0.0.0/8", "10.255.0.1"));
        assert!(!inside("10.0.0.0/8", "11.0.0.1"));
        assert!(inside("0.0.0.0/0", "1.2.3.4"));
        assert!(!inside("0.0.0.0/0", "fd00::1"));
        assert!(inside("::/0", "fd00::1"));
    }
}
