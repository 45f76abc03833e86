// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! The layouts are what `abi.layout` says. Pinned maps hold these bytes while agents of other versions come and
//! go: a change here is a change of `abi::VERSION`.

use std::fmt::Write;

use abi::*;

/// Lines `Type.field offset size`, and `Type size`.
macro_rules! layout {
    ($out:expr; $($type:ident { $($field:ident),* $(,)? })*) => { $({
        // A field that is missing here, or too much, does not compile.
        let value: $type = zerocopy::FromZeros::new_zeroed();
        let $type { $($field),* } = value;
        writeln!($out, "{} {}", stringify!($type), size_of::<$type>()).expect("memory");
        $(
            let (offset, size) = (std::mem::offset_of!($type, $field), size_of_val(&$field));
            writeln!($out, "{}.{} {offset} {size}", stringify!($type), stringify!($field)).expect("memory");
        )*
    })* };
}

fn actual() -> String {
    let mut out = String::new();
    writeln!(out, "VERSION {VERSION}").expect("memory");
    layout! { out;
        NodeConfig {
            flags, vxlan_ifindex, tunnel_mtu, cluster_id, cluster_shift, flow_share, flow_room, node, router4,
            router6, timeout_tcp, timeout_syn, timeout_fin, timeout_any, world4, world6, clock, event_rate,
            tunnel_port,
        }
        Endpoint { policy, epoch, ifindex, identity, ipv4, ipv6, mac, host_mac, flags, id, reserved }
        Local { endpoint }
        IpInfo { identity, flags, node }
        PrefixKey { prefixlen, addr }
        NodeKey { cluster, addr }
        Classes { slot }
        PolicyKey { policy, class }
        RowKey { prefixlen, row, direction, proto, port }
        RowVerdict { action, rule }
        Counter { packets, bytes }
        ServiceKey { addr, port, proto, pad }
        Service { id, count, affinity, few }
        BackendKey { service, index }
        Backend { addr, port, pad }
        MemberKey { addr, service, port, pad }
        AffinityKey { client, service }
        Affinity { addr, port, pad, seen }
        FlowKey { local, remote, local_port, remote_port, proto, pad }
        Flow {
            expires, remote_identity, epoch, addr_bucket, identity_bucket, rule, flags, endpoint, next_hop, tx_flags,
            rx_flags, pad, node, nat, nat_port, peer_endpoint, created,
        }
        FragKey { src, dst, id, proto, pad }
        FragPorts { src, dst }
        DropEvent {
            kind, reason, ext, direction, endpoint, audit, proto, src_identity, dst_identity, rule, ifindex, hash,
            len, captured, pad, node, time, capture,
        }
    }
    out
}

#[test]
fn layouts_are_frozen() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/abi.layout");
    let frozen = std::fs::read_to_string(path).expect("abi.layout");
    let actual = actual();
    assert!(
        frozen == actual,
        "the layout changed: raise abi::VERSION and write this to crates/abi/abi.layout:\n{actual}"
    );
}
