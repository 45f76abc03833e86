// SPDX-License-Identifier: Apache-2.0
//! What the kernel's maps hold, for `bpf … list`.

use std::net::SocketAddr;

use api::models::*;
use api::{Answer, ApiError, Feed, StatusCode};
use datapath::ip_addr;
use futures::StreamExt;
use model::{EndpointId, NumericIdentity};

use super::{Service, failed};

/// Most entries of a map in one answer: it is made as a whole, and all else waits for it.
const MOST_ROWS: u32 = 16_384;

impl Service {
    pub(super) fn flow_feed(&self) -> Answer<Feed<FlowEntry>> {
        let core = self.core();
        let now = now_seconds();
        let rows = core.dp.flows().map_err(failed)?;
        let current: Result<Vec<bool>, _> = rows
            .iter()
            .map(|(_, flow)| core.dp.is_current(flow))
            .collect();
        let current = current.map_err(failed)?;
        let texts: std::collections::HashMap<u32, String> = rows
            .iter()
            .map(|(_, flow)| flow.rule)
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .filter_map(|rule| Some((rule, core.engine.rule(rule)?.text)))
            .collect();
        let identities: std::collections::HashMap<u16, u32> = core
            .endpoints
            .iter()
            .map(|(id, e)| (id.0, e.identity.0))
            .collect();
        drop(core);
        let entry = move |((key, flow), current): ((abi::FlowKey, abi::Flow), bool)| {
            let outgoing = flow.flags & abi::flow_flags::OPENED_BY_LOCAL != 0;
            let node = match flow.node {
                [0, 0, 0, 0] => abi::Addr::NONE,
                node => abi::Addr::v4(node),
            };
            let own = identities.get(&flow.endpoint).copied().unwrap_or_default();
            FlowEntry {
                protocol: key.proto,
                endpoint: flow.endpoint,
                local: ip_addr(&key.local)
                    .map(|ip| ip.to_string())
                    .unwrap_or_default(),
                local_port: u16::from_be_bytes(key.local_port),
                remote: ip_addr(&key.remote)
                    .map(|ip| ip.to_string())
                    .unwrap_or_default(),
                remote_port: u16::from_be_bytes(key.remote_port),
                outgoing,
                expires: flow.expires.into(),
                remaining: i64::from(flow.expires) - i64::from(now),
                created: flow.created.into(),
                tx_flags: flow.tx_flags,
                rx_flags: flow.rx_flags,
                flags: flag_words(flow.flags),
                flags_raw: flow.flags,
                nat: ip_addr(&flow.nat)
                    .map(|ip| SocketAddr::new(ip, u16::from_be_bytes(flow.nat_port)).to_string())
                    .unwrap_or_default(),
                remote_identity: flow.remote_identity,
                source_identity: if outgoing { own } else { flow.remote_identity },
                next_hop: ["stack", "local", "tunnel"]
                    .get(usize::from(flow.next_hop))
                    .copied()
                    .unwrap_or("?")
                    .into(),
                node: ip_addr(&node).map(|ip| ip.to_string()).unwrap_or_default(),
                rule: texts.get(&flow.rule).cloned().unwrap_or_default(),
                current,
            }
        };
        Ok(futures::stream::iter(rows.into_iter().zip(current))
            .map(entry)
            .boxed())
    }

    pub(super) fn ipcache_feed(&self) -> Answer<Feed<BpfIpcacheEntry>> {
        let core = self.core();
        let mut rows = core.dp.ips().map_err(failed)?;
        let local = core
            .endpoints
            .values()
            .flat_map(|e| e.attachment.ips().map(|ip| (ip, e.identity)));
        let host = core
            .node
            .routers()
            .chain(core.node.underlay())
            .map(|ip| (ip, model::reserved::HOST));
        let own: Vec<_> = local.chain(host).collect();
        drop(core);
        rows.extend(own.into_iter().map(|(ip, identity)| {
            (
                ip.into(),
                datapath::IpRow {
                    identity,
                    tunnel: None,
                    remote_cluster: false,
                },
            )
        }));
        let entry = |(prefix, row): (ipnet::IpNet, datapath::IpRow)| {
            let mut flags = Vec::new();
            for (on, word) in [
                (row.tunnel.is_some(), "hastunnel"),
                (row.remote_cluster, "remotecluster"),
            ] {
                if on {
                    flags.push(word.to_owned());
                }
            }
            BpfIpcacheEntry {
                cidr: prefix.to_string(),
                identity: row.identity.0,
                encrypt_key: 0,
                tunnel_endpoint: row
                    .tunnel
                    .map_or_else(|| "0.0.0.0".into(), |ip| ip.to_string()),
                flags,
            }
        };
        Ok(futures::stream::iter(rows).map(entry).boxed())
    }

    pub(super) fn endpoint_map(&self) -> Vec<BpfEndpoint> {
        let core = self.core();
        let mut list = Vec::new();
        for (id, slot) in core.dp.endpoints().filter(|(_, slot)| slot.ifindex != 0) {
            for ip in [slot.ipv4, slot.ipv6]
                .iter()
                .filter(|ip| **ip != abi::Addr::NONE)
                .filter_map(ip_addr)
            {
                list.push(BpfEndpoint {
                    ip: ip.to_string(),
                    id: id.0,
                    sec_id: slot.identity,
                    flags: 0,
                    ifindex: slot.ifindex,
                    mac: mac(slot.mac),
                    nodemac: mac(slot.host_mac),
                    policy: slot.policy,
                    ..Default::default()
                });
            }
        }
        for ip in core.node.routers().chain(core.node.underlay()) {
            list.push(BpfEndpoint {
                ip: ip.to_string(),
                localhost: true,
                ..Default::default()
            });
        }
        list
    }

    pub(super) fn policy_map(&self, wanted: Option<u16>) -> Answer<Vec<BpfPolicy>> {
        let core = self.core();
        if wanted.is_some_and(|id| !core.endpoints.contains_key(&EndpointId(id))) {
            return Err(ApiError::not_found(""));
        }
        let ids = core
            .endpoints
            .keys()
            .filter(|id| wanted.is_none_or(|wanted| id.0 == wanted));
        Ok(ids
            .map(|id| BpfPolicy {
                endpoint: id.0,
                path: abi::MAP_ROWS.into(),
                entries: self.policy_entries(&core, *id),
            })
            .collect())
    }

    fn policy_entries(
        &self,
        core: &crate::core::Core<datapath::Linux>,
        id: EndpointId,
    ) -> Vec<BpfPolicyEntry> {
        let mut entries = Vec::new();
        for row in core.engine.rows_of(id) {
            let info = core.engine.rule(row.verdict.rule);
            let span = u16::MAX
                .checked_shr(row.matching.port_bits.into())
                .unwrap_or(0);
            let protocol = match row.matching.proto {
                None => "ANY".into(),
                Some(number) => protocol(number),
            };
            entries.push(BpfPolicyEntry {
                deny: row.verdict.action != policy::Action::Allow,
                direction: match row.matching.direction {
                    policy::Direction::Ingress => "Ingress".into(),
                    policy::Direction::Egress => "Egress".into(),
                },
                identity: row.identities.first().map_or(0, |id| id.0),
                labels: describe(row.class, &row.identities),
                port: row.matching.port,
                port_end: if row.matching.port_bits == 0 {
                    0
                } else {
                    row.matching.port | span
                },
                protocol,
                cookie: row.verdict.rule,
                rule: info.map(|info| info.text).unwrap_or_default(),
                ..Default::default()
            });
        }
        entries
    }

    pub(crate) fn metric_list(&self) -> Answer<Vec<Metric>> {
        let core = self.core();
        let metrics = core.dp.metrics().map_err(failed)?;
        let of = |metric: datapath::Metric| Metric {
            reason: abi::DropReason::from_number(metric.reason)
                .map_or("Success", abi::DropReason::text)
                .into(),
            code: metric.reason,
            direction: match metric.direction {
                1 => "INGRESS",
                2 => "EGRESS",
                _ => "",
            }
            .into(),
            packets: metric.counter.packets,
            bytes: metric.counter.bytes,
            ..Default::default()
        };
        Ok(metrics.into_iter().map(of).collect())
    }

    pub(crate) fn pressure_list(&self) -> Vec<Pressure> {
        let core = self.core();
        let full = core.dp.full_maps();
        let of = |(name, entries, capacity): (&'static str, u32, u32)| Pressure {
            name: name.into(),
            entries: entries.into(),
            capacity: capacity.into(),
            failures: u64::from(full.contains(&name)),
            ..Default::default()
        };
        core.dp.map_pressure().into_iter().map(of).collect()
    }

    pub(super) fn map_rows(&self, name: &str) -> Answer<BpfMap> {
        let core = self.core();
        let mut sizes = core.dp.map_pressure().into_iter();
        let size = sizes.find(|(known, ..)| *known == name);
        if let Some((_, entries, _)) = size.filter(|(_, entries, _)| *entries > MOST_ROWS) {
            let text = format!(
                "{name} has {entries} entries, and at most {MOST_ROWS} are listed so: ask `bpf ... list`"
            );
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text));
        }
        let rows = core.dp.rows(name, MOST_ROWS as usize).map_err(failed)?;
        let path = path(&core, name);
        drop(core);
        let rows = rows.ok_or_else(|| ApiError::not_found(""))?;
        let entry = |(key, value)| BpfMapEntry {
            key,
            value,
            desired_action: "ok".into(),
            ..Default::default()
        };
        Ok(BpfMap {
            path,
            cache: Some(rows.into_iter().map(entry).collect()),
        })
    }

    pub(super) fn map_list(&self) -> BpfMapList {
        let core = self.core();
        let maps = core.dp.map_pressure().into_iter().map(|(name, ..)| BpfMap {
            path: path(&core, name),
            cache: None,
        });
        BpfMapList {
            maps: maps.collect(),
        }
    }
}

/// Where the map called `name` is pinned.
fn path(core: &crate::core::Core<datapath::Linux>, name: &str) -> String {
    let maps = format!("isthmus/v{}/maps", abi::VERSION);
    let path = core.config.bpf_root.join(maps).join(name);
    path.display().to_string()
}

/// The peers of a line: a kind in words, or the members of a class.
fn describe(class: u32, identities: &[NumericIdentity]) -> Vec<String> {
    let kind = match class {
        policy::kind::OWN_CLUSTER => "reserved:aggregate-cluster",
        policy::kind::OTHER_CLUSTER => "reserved:aggregate-cluster-mesh",
        policy::kind::WORLD => "reserved:aggregate-world",
        policy::kind::REMOTE_NODE => "reserved:aggregate-remote-node",
        policy::kind::OTHER => "reserved:unknown",
        _ => return identities.iter().map(ToString::to_string).collect(),
    };
    vec![kind.to_owned()]
}

/// Protocol by name.
pub(crate) fn protocol(number: u8) -> String {
    match number {
        1 => "ICMP".into(),
        6 => "TCP".into(),
        17 => "UDP".into(),
        58 => "ICMPv6".into(),
        132 => "SCTP".into(),
        other => other.to_string(),
    }
}

fn flag_words(flags: u16) -> Vec<String> {
    use abi::flow_flags as f;
    let words = [
        (f::RX_CLOSING, "RxClosing"),
        (f::TX_CLOSING, "TxClosing"),
        (f::SEEN_NON_SYN, "SeenNonSyn"),
        (f::FROM_TUNNEL, "FromTunnel"),
        (f::HOST, "Host"),
        (f::REPLIED, "Replied"),
        (f::TRANSLATED, "Translated"),
        (f::SERVICE, "Service"),
        (f::BACKEND, "Backend"),
        (f::LOOPED, "Looped"),
    ];
    words
        .iter()
        .filter(|(bit, _)| flags & bit != 0)
        .map(|(_, word)| (*word).to_owned())
        .collect()
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02X}")).join(":")
}

/// The clock of conntrack: `ktime >> 30`.
pub(crate) fn now_seconds() -> u32 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map(std::time::Duration::from)
        .unwrap_or_default();
    (now.as_nanos() >> 30) as u32
}
