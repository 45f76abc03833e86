// SPDX-License-Identifier: Apache-2.0
//! Rows that several tests use.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::net::IpAddr;

use abi::{Addr, Flow, FlowKey};
use datapath::{EndpointRow, IpRow, addr};
use ipnet::IpNet;
use model::{EndpointId, NumericIdentity};
use policy::{Action, Direction, Op, RowMatch, RowVerdict, kind};

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(crate) fn map_addr(text: &str) -> Addr {
    addr(ip(text))
}

pub(crate) fn ip_row(identity: u32, tunnel: Option<&str>) -> IpRow {
    IpRow {
        identity: NumericIdentity(identity),
        tunnel: tunnel.map(|node| node.parse().expect("an IPv4 address")),
        remote_cluster: false,
    }
}

pub(crate) fn endpoint(id: u16, ifindex: u32, ipv4: &str) -> EndpointRow {
    EndpointRow {
        other_router: false,
        id: EndpointId(id),
        ifindex,
        device: format!("lxc{id}"),
        ipv4: Some(ipv4.parse().expect("an IPv4 address")),
        ipv6: None,
        mac: [2, 0, 0, 0, 0, id as u8],
        host_mac: [2, 0, 0, 0, 1, id as u8],
        identity: NumericIdentity(70000),
    }
}

/// What an engine asks for a policy that allows everything, up to the flip.
pub(crate) fn allow_all(policy: u32, endpoint: u16) -> Vec<Op> {
    let mut ops = Vec::new();
    for direction in [Direction::Ingress, Direction::Egress] {
        ops.push(Op::PutRow {
            row: policy,
            matching: RowMatch {
                direction,
                proto: None,
                port: 0,
                port_bits: 0,
            },
            verdict: RowVerdict {
                action: Action::Allow,
                rule: 7,
            },
        });
    }
    ops.extend(kind::ALL.map(|class| Op::PutPolicy {
        policy,
        class,
        row: policy,
    }));
    ops.push(Op::SetEndpointPolicy {
        endpoint: EndpointId(endpoint),
        policy,
    });
    ops
}

pub(crate) fn flow(
    endpoint: u16,
    local: &str,
    remote: &str,
    port: u16,
    expires: u32,
) -> (FlowKey, Flow) {
    let key = FlowKey {
        local: map_addr(local),
        remote: map_addr(remote),
        local_port: port.to_be_bytes(),
        remote_port: [0, 80],
        proto: 6,
        pad: [0; 3],
    };
    (
        key,
        Flow {
            expires,
            endpoint,
            addr_bucket: abi::addr_bucket(&key.remote),
            ..Flow::default()
        },
    )
}
