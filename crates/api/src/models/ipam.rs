// SPDX-License-Identifier: Apache-2.0
//! `/ipam`: addresses for pods.

use super::*;

model! {
    /// Addresses of both families for one interface.
    "kebab-case" AddressPair {
        ipv4: String,
        ipv4_pool_name: String,
        /// Quoting it keeps an address that was allocated with an expiration.
        ipv4_expiration_uuid: String,
        ipv6: String,
        ipv6_pool_name: String,
        ipv6_expiration_uuid: String,
    }
}
model! {
    /// Answer of `POST /ipam`.
    "kebab-case" IpamResponse { ipv4: Option<IpamAddress>, ipv6: Option<IpamAddress>, } always {
        address: AddressPair,
        /// The router's addresses and the pod networks.
        host_addressing: NodeAddressing,
    }
}
model! {
    /// One allocated address.
    "kebab-case" IpamAddress {
        ip: String,
        gateway: String,
        cidrs: Vec<String>,
        master_mac: String,
        expiration_uuid: String,
        interface_number: String,
        skip_masquerade: bool,
    }
}

/// An address family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What `POST /ipam` asks for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IpamRequest {
    /// `None`: every enabled family.
    pub family: Option<Family>,
    /// `namespace/pod`, or another word.
    pub owner: String,
    /// Empty: the default pool.
    pub pool: String,
    /// Free the address after 10 minutes unless an endpoint quotes the uuid.
    pub expiration: bool,
}
