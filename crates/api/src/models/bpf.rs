// SPDX-License-Identifier: Apache-2.0
//! Contents of the kernel's maps, read by the agent: `/map` and, ours, `/isthmus/bpf/*`, flows, metrics, pressure.

use super::*;

model! {
    /// Answer of `GET /map`.
    "kebab-case" BpfMapList { maps: Vec<BpfMap>, }
}
model! {
    /// One map. `cache` is `None` for a map whose contents the agent does not keep.
    "kebab-case" BpfMap { path: String, cache: Option<Vec<BpfMapEntry>>, }
}
model! {
    /// One entry, as the agent wants it.
    "kebab-case" BpfMapEntry { key: String, value: String, desired_action: String, last_error: String, }
}
model! {
    /// One entry of the address map.
    "kebab-case" BpfIpcacheEntry {
        identity: u32,
        encrypt_key: u8,
        /// Underlay address of the node behind it, empty if none.
        tunnel_endpoint: String,
        /// `skiptunnel`, `hastunnel`, `ipv6tunnel`, `remotecluster`.
        flags: Vec<String>,
    } always {
        /// Prefix, with its length.
        cidr: String,
    }
}
model! {
    /// One entry of the endpoint map.
    "kebab-case" BpfEndpoint {
        ip: String,
        /// An address of the node itself: nothing but `ip` has a meaning.
        localhost: bool,
        id: u16,
        sec_id: u32,
        flags: u32,
        ifindex: u32,
        mac: String,
        nodemac: String,
        parent_ifindex: u32,
        /// Id of the policy in force.
        policy: u32,
    }
}
model! {
    /// One service, as the programs translate it.
    "kebab-case" BpfService {
        id: u32,
        /// `TCP`, `UDP`.
        protocol: String,
        /// How long a client keeps its backend, seconds; 0: every flow chooses anew.
        affinity: u32,
    } always {
        /// Address and port, IPv6 in brackets.
        frontend: String,
        /// The same, of those that new flows choose from, by slot.
        backends: Vec<String>,
    }
}
model! {
    /// What the kernel holds for an endpoint's policy.
    "kebab-case" BpfPolicy {
        endpoint: u16,
        path: String,
        entries: Vec<BpfPolicyEntry>,
    }
}
model! {
    /// One verdict.
    "kebab-case" BpfPolicyEntry {
        deny: bool,
        /// `Ingress` or `Egress`.
        direction: String,
        /// Peers that share this entry; 0 is any.
        identity: u32,
        /// Their labels, or words for a class of them.
        labels: Vec<String>,
        /// 0: any.
        port: u16,
        /// Last port of a range, else 0.
        port_end: u16,
        /// `TCP`, `UDP`, …; empty: any.
        protocol: String,
        /// `None`: not counted.
        bytes: Option<u64>,
        /// `None`: not counted.
        packets: Option<u64>,
        /// Number of the rule that decides.
        cookie: u32,
        /// Its text.
        rule: String,
    }
}
model! {
    /// One entry of connection tracking, from its local endpoint's point of view.
    "kebab-case" FlowEntry {
        protocol: u8,
        endpoint: u16,
        local: String,
        local_port: u16,
        remote: String,
        remote_port: u16,
        /// The local endpoint sent the first packet.
        outgoing: bool,
        /// Seconds of the kernel's clock.
        expires: u64,
        /// Seconds until then; negative: expired.
        remaining: i64,
        /// Second in which it was made.
        created: u64,
        tx_flags: u8,
        rx_flags: u8,
        /// `RxClosing`, `TxClosing`, `SeenNonSyn`, `FromTunnel`, …
        flags: Vec<String>,
        flags_raw: u16,
        /// What stands in place of the remote side: the backend, or the service; empty without.
        nat: String,
        remote_identity: u32,
        source_identity: u32,
        /// Where packets of the local endpoint go: `stack`, `local`, `tunnel`.
        next_hop: String,
        /// Underlay address of the peer node.
        node: String,
        /// The rule that allowed it.
        rule: String,
        /// The decision is still current: the next packet will use it.
        current: bool,
    }
}
model! {
    /// Packets per reason and direction.
    "kebab-case" Metric {
        /// Text of the reason, as in drops.
        reason: String,
        code: u8,
        /// `INGRESS`, `EGRESS`, or empty.
        direction: String,
        packets: u64,
        bytes: u64,
        line: u16,
        file: String,
    }
}
model! {
    /// How full a map is.
    "kebab-case" Pressure {
        name: String,
        entries: u64,
        capacity: u64,
        /// Entries taken out to make room.
        evictions: u64,
        /// Insertions that failed because it was full.
        failures: u64,
    }
}
