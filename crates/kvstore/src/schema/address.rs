// SPDX-License-Identifier: Apache-2.0
//! Networks as Go writes them: `{"IP": text, "Mask": base64 of the raw mask}`; plain text is read too.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{DecodeError, printable};

/// A network on the wire.
#[derive(Serialize, Deserialize, Debug)]
#[serde(untagged)]
pub(super) enum WireNet {
    /// What is written today.
    Object {
        #[serde(rename = "IP")]
        ip: String,
        #[serde(rename = "Mask")]
        mask: String,
    },
    /// What newer writers may use.
    Text(String),
}

impl From<&IpNet> for WireNet {
    fn from(net: &IpNet) -> Self {
        WireNet::Object {
            ip: net.network().to_string(),
            mask: mask_of(net),
        }
    }
}

pub(super) fn mask_of(net: &IpNet) -> String {
    match net.netmask() {
        IpAddr::V4(mask) => STANDARD.encode(mask.octets()),
        IpAddr::V6(mask) => STANDARD.encode(mask.octets()),
    }
}

/// An address; IPv4 in IPv6 form becomes IPv4.
pub(super) fn address(key: &str, field: &'static str, text: &str) -> Result<IpAddr, DecodeError> {
    let address: Result<IpAddr, _> = text.parse();
    address.map(|ip| ip.to_canonical()).map_err(|_| {
        let reason = format!("{:?} is not an IP address", printable(text, 64));
        DecodeError::new(key, field, reason)
    })
}

/// `None` for the empty text.
pub(super) fn optional(
    key: &str,
    field: &'static str,
    text: &str,
) -> Result<Option<IpAddr>, DecodeError> {
    match text {
        "" => Ok(None),
        text => address(key, field, text).map(Some),
    }
}

/// Address and base64 mask to a network; bits behind the mask are refused.
pub(super) fn masked(
    key: &str,
    field: &'static str,
    ip: IpAddr,
    mask: &str,
) -> Result<IpNet, DecodeError> {
    let refuse = |reason: &str| DecodeError::new(key, field, reason);
    let bytes = (mask.len() <= 24)
        .then(|| STANDARD.decode(mask).ok())
        .flatten()
        .ok_or_else(|| refuse("the mask is not base64"))?;
    let mask = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => IpAddr::from(four),
        Err(_) => IpAddr::from(
            <[u8; 16]>::try_from(bytes.as_slice())
                .map_err(|_| refuse("the mask has neither 4 nor 16 bytes"))?,
        ),
    };
    let net = IpNet::with_netmask(ip, mask)
        .map_err(|_| refuse("the mask does not fit the address or has holes"))?;
    aligned(key, field, net)
}

fn aligned(key: &str, field: &'static str, net: IpNet) -> Result<IpNet, DecodeError> {
    if net.addr() == net.network() {
        return Ok(net);
    }
    let reason = format!("{net} has bits behind its mask");
    Err(DecodeError::new(key, field, reason))
}

/// A network in either form.
pub(super) fn network(
    key: &str,
    field: &'static str,
    wire: &WireNet,
) -> Result<IpNet, DecodeError> {
    match wire {
        WireNet::Object { ip, mask } => masked(key, field, address(key, field, ip)?, mask),
        WireNet::Text(text) => {
            let net: IpNet = text.parse().map_err(|_| {
                let reason = format!("{:?} is not a network", printable(text, 64));
                DecodeError::new(key, field, reason)
            })?;
            aligned(key, field, net)
        }
    }
}
