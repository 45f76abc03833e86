// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! The layouts of keys and values as data: an agent of another version reads them, and takes the maps over field by field.
//!
//! A field is known by its name. Whoever changes what a field means gives it another name.

use crate::{
    Addr, Affinity, AffinityKey, Backend, BackendKey, Classes, Counter, DropEvent, Endpoint, Flow,
    FlowKey, FragKey, FragPorts, IpInfo, Local, MemberKey, NodeConfig, NodeKey, PolicyKey,
    PrefixKey, RowKey, RowVerdict, Service, ServiceKey,
};

/// A field of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name; `""` for what has no fields.
    pub name: &'static str,
    /// Where it begins, bytes.
    pub offset: usize,
    /// How long it is, bytes.
    pub size: usize,
}

/// A key or value of a map.
pub trait Record {
    /// Its fields, without those that are always zero.
    const FIELDS: &'static [Field];
}

const fn size_of_field<R, F>(_: fn(&R) -> &F) -> usize {
    size_of::<F>()
}

/// Every field has to be named, those that are always zero behind the bar.
macro_rules! records {
    ($($record:ident { $($field:ident),* $(| $($zero:ident),*)? })*) => {
        $(impl Record for $record {
            const FIELDS: &'static [Field] = &[$(Field {
                name: stringify!($field),
                offset: core::mem::offset_of!($record, $field),
                size: size_of_field(|record: &$record| &record.$field),
            },)*];
        }

        const _: fn($record) = |record| {
            let $record { $($field: _,)* $($($zero: _,)*)? } = record;
        };)*
    };
}

macro_rules! whole {
    ($($type:ty)*) => {
        $(impl Record for $type {
            const FIELDS: &'static [Field] = &[Field { name: "", offset: 0, size: size_of::<$type>() }];
        })*
    };
}

whole! { u32 Addr }

impl Record for () {
    const FIELDS: &'static [Field] = &[];
}

records! {
    NodeConfig {
        flags, vxlan_ifindex, tunnel_mtu, cluster_id, cluster_shift, flow_share, flow_room, node, router4, router6,
        timeout_tcp, timeout_syn, timeout_fin, timeout_any, world4, world6, clock, event_rate, tunnel_port
    }
    Endpoint { policy, epoch, ifindex, identity, ipv4, ipv6, mac, host_mac, flags, id | reserved }
    Local { endpoint }
    IpInfo { identity, flags, node }
    PrefixKey { prefixlen, addr }
    NodeKey { cluster, addr }
    Classes { slot }
    PolicyKey { policy, class }
    RowKey { prefixlen, row, direction, proto, port }
    RowVerdict { action, rule }
    FlowKey { local, remote, local_port, remote_port, proto | pad }
    Flow {
        expires, remote_identity, epoch, addr_bucket, identity_bucket, rule, flags,
        endpoint, next_hop, tx_flags, rx_flags, node, nat, nat_port, peer_endpoint, created | pad
    }
    FragKey { src, dst, id, proto | pad }
    FragPorts { src, dst }
    ServiceKey { addr, port, proto | pad }
    Service { id, count, affinity, few }
    BackendKey { service, index }
    Backend { addr, port | pad }
    MemberKey { addr, service, port | pad }
    AffinityKey { client, service }
    Affinity { addr, port, seen | pad }
    Counter { packets, bytes }
}

/// Events are read once, and never taken over.
impl Record for DropEvent {
    const FIELDS: &'static [Field] = &[];
}
