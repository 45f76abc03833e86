// SPDX-License-Identifier: Apache-2.0
//! What to compare with: two more hosts on the same underlay, each with a bridge, a kernel VXLAN device
//! and a pod on it (the shape of a plain overlay network).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::Result;
use crate::lab::Lab;
use crate::namespace::Place;
use crate::underlay::{address_v4, address_v6};

use super::load;

/// Block of the underlay for the baseline's hosts.
const BLOCK: u8 = 240;

/// Two hosts, two pods.
pub(super) struct Baseline {
    pub(super) hosts: [Place; 2],
    pub(super) pods: [Place; 2],
    /// The second host, IPv4 and IPv6.
    pub(super) host_addresses: [IpAddr; 2],
    /// The second pod, IPv4 and IPv6.
    pub(super) pod_addresses: [IpAddr; 2],
}

impl Baseline {
    pub(super) fn create(lab: &Lab) -> Result<Self> {
        let first = node(lab, 1, 2)?;
        let second = node(lab, 2, 1)?;
        load::serve(lab, "host", &second.0)?;
        load::serve(lab, "bridge", &second.1)?;
        Ok(Self {
            hosts: [first.0, second.0],
            pods: [first.1, second.1],
            host_addresses: [address_v4(BLOCK, 2).into(), address_v6(BLOCK, 2).into()],
            pod_addresses: [
                Ipv4Addr::new(10, 240, 0, 2).into(),
                Ipv6Addr::new(0xfd00, 0x240, 0, 0, 0, 0, 0, 2).into(),
            ],
        })
    }
}

/// A host and its pod.
fn node(lab: &Lab, own: u8, peer: u8) -> Result<(Place, Place)> {
    let host = lab
        .underlay
        .host(&format!("baseline{own}"), &format!("base{own}"), BLOCK, own)?;
    let pod = Place::create(&lab.layout().netns(&format!("baseline{own}/pod")))?;
    let (local, remote, netns) = (
        address_v4(BLOCK, own),
        address_v4(BLOCK, peer),
        pod.netns.display(),
    );
    host.ip(&format!(
        "link add br0 type bridge\n\
         link add vxlan0 type vxlan id 42 local {local} remote {remote} dstport 4789 dev eth0\n\
         link set vxlan0 master br0 up\n\
         link add pod type veth peer name eth0 netns {netns}\n\
         link set pod master br0 mtu 1450 up\n\
         link set br0 up"
    ))?;
    pod.ip(&format!(
        "link set eth0 mtu 1450 up\naddr add 10.240.0.{own}/24 dev eth0\naddr add fd00:240::{own}/64 dev eth0 nodad"
    ))?;
    Ok((host, pod))
}
