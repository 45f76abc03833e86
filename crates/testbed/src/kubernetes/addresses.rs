// SPDX-License-Identifier: Apache-2.0
//! Which addresses a cluster has: everything follows from its id.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::underlay::{address_v4, address_v6};

/// Host number of the control plane in the cluster's block of the underlay; its etcd for Isthmus has 100.
pub(super) const CONTROL_PLANE: u8 = 101;
/// The largest id: services are at 10.`id + 100`.0.0.
pub(super) const MAX_ID: u8 = 99;

/// The addresses of the cluster with an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    pub(super) id: u8,
}

impl Addresses {
    /// Where the API server listens.
    #[must_use]
    pub fn control_plane(self) -> [IpAddr; 2] {
        self.host(CONTROL_PLANE)
    }

    /// Both underlay addresses of node `number`.
    #[must_use]
    pub fn host(self, number: u8) -> [IpAddr; 2] {
        let (v4, v6) = (address_v4(self.id, number), address_v6(self.id, number));
        [v4.into(), v6.into()]
    }

    /// The prefixes of all pods; a node has a /24 and a /112 of them.
    #[must_use]
    pub fn pods(self) -> [String; 2] {
        [
            format!("10.{}.0.0/16", self.id),
            format!("{}/96", v6(0xfd10, self.id, 0)),
        ]
    }

    /// The prefixes of all services.
    #[must_use]
    pub fn services(self) -> [String; 2] {
        [
            format!("10.{}.0.0/16", self.id + 100),
            format!("{}/112", v6(0xfd20, self.id, 0)),
        ]
    }

    /// The cluster's name servers.
    #[must_use]
    pub fn name_servers(self) -> [IpAddr; 2] {
        self.service(10)
    }

    /// The addresses of service number `number`; 1 is the API server.
    #[must_use]
    pub fn service(self, number: u8) -> [IpAddr; 2] {
        [
            Ipv4Addr::new(10, self.id + 100, 0, number).into(),
            v6(0xfd20, self.id, number.into()).into(),
        ]
    }
}

fn v6(block: u16, id: u8, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(block, id.into(), 0, 0, 0, 0, 0, host)
}

/// Both as one argument.
pub(super) fn comma<T: ToString>(pair: &[T; 2]) -> String {
    format!("{},{}", pair[0].to_string(), pair[1].to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_go_together() {
        let five = Addresses { id: 5 };
        assert_eq!(comma(&five.pods()), "10.5.0.0/16,fd10:5::/96");
        assert_eq!(comma(&five.services()), "10.105.0.0/16,fd20:5::/112");
        assert_eq!(comma(&five.name_servers()), "10.105.0.10,fd20:5::a");
        assert_eq!(comma(&five.host(2)), "172.31.5.2,fd00:31::5:2");
        assert_eq!(comma(&five.control_plane()), "172.31.5.101,fd00:31::5:65");
    }
}
