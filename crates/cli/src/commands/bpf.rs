// SPDX-License-Identifier: Apache-2.0
//! `bpf ipcache|ct|endpoint|lb|metrics list`. The agent reads the maps, so this works from anywhere that reaches its socket.

use std::collections::BTreeMap;

use api::Client;
use api::models::{BpfEndpoint as Endpoint, BpfIpcacheEntry, BpfService, FlowEntry, Metric};

use super::bpf_policy;
use crate::args::{Bpf, BpfCt, BpfEndpoint, BpfIpcache, BpfLb, BpfMetrics};
use crate::table::align;
use crate::text::{clean, clean_all, endpoint};
use crate::{Error, output};

pub(super) async fn run(client: &Client, command: Bpf) -> Result<(), Error> {
    match command {
        Bpf::Ipcache(BpfIpcache::List(args)) => {
            let mut entries = client.bpf_ipcache().await?.collect().await?;
            entries.sort_by(|a, b| a.cidr.cmp(&b.cidr));
            let values = entries.iter().map(|e| (e.cidr.clone(), vec![address(e)]));
            let map: BTreeMap<String, Vec<String>> = values.collect();
            output::answer(args.output.as_ref(), &map, |_| ipcache(&entries))
        }
        Bpf::Ct(BpfCt::List {
            which,
            time_diff,
            output,
        }) => ct(client, &which, time_diff, output.output.as_ref()).await,
        Bpf::Endpoint(BpfEndpoint::List(args)) => {
            let endpoints = client.bpf_endpoints().await?;
            output::answer(args.output.as_ref(), &endpoints, |list| {
                self::endpoints(list)
            })
        }
        Bpf::Lb(BpfLb::List(args)) => {
            let services = client.bpf_services().await?;
            let map: BTreeMap<_, _> = services.iter().flat_map(slots).collect();
            output::answer(args.output.as_ref(), &map, |_| lb(&services))
        }
        Bpf::Policy(command) => bpf_policy::run(client, command).await,
        Bpf::Metrics(BpfMetrics::List(args)) => {
            let metrics = client.metrics().await?;
            output::answer(args.output.as_ref(), &metrics, |list| self::metrics(list))
        }
    }
}

/// Flows are printed as they come: there may be hundreds of thousands.
async fn ct(
    client: &Client,
    which: &str,
    time_diff: bool,
    format: Option<&output::Format>,
) -> Result<(), Error> {
    let only = match which {
        "global" => None,
        id => Some(id.parse::<u16>().map_err(|_| Error::Argument {
            argument: id.into(),
            why: "global or the number of an endpoint is expected".into(),
        })?),
    };
    let mut flows = client.flows().await?;
    let mut kept = Vec::new();
    while let Some(flow) = flows.next().await? {
        if only.is_some_and(|id| id != flow.endpoint) {
            continue;
        }
        match format {
            Some(_) => kept.push(flow),
            None => output::print(&self::flow(&flow, time_diff))?,
        }
    }
    match format {
        Some(format) => output::print(&format.text(&kept)?),
        None => Ok(()),
    }
}

/// The table, in the given order.
pub(super) fn ipcache(entries: &[BpfIpcacheEntry]) -> String {
    let rows = entries
        .iter()
        .map(|e| format!("{}\t{}\t\n", clean(&e.cidr), address(e)));
    align(&("IP PREFIX/ADDRESS\tIDENTITY\n".to_owned() + &rows.collect::<String>()))
}

fn address(entry: &BpfIpcacheEntry) -> String {
    let node = match entry.tunnel_endpoint.as_str() {
        "" => "0.0.0.0".to_owned(),
        node => clean(node),
    };
    let flags = match clean_all(&entry.flags).join(",") {
        none if none.is_empty() => "<none>".into(),
        flags => flags,
    };
    let (identity, key) = (entry.identity, entry.encrypt_key);
    format!("identity={identity} encryptkey={key} tunnelendpoint={node} flags={flags}")
}

fn protocol(number: u8) -> String {
    match number {
        1 => "ICMP".into(),
        6 => "TCP".into(),
        17 => "UDP".into(),
        58 => "ICMPv6".into(),
        132 => "SCTP".into(),
        other => other.to_string(),
    }
}

/// One line, with those of Cilium's fields that an entry has: packets, bytes and reports are not counted.
pub(super) fn flow(flow: &FlowEntry, time_diff: bool) -> String {
    let local = endpoint(&flow.local, flow.local_port);
    let remote = endpoint(&flow.remote, flow.remote_port);
    let way = if flow.outgoing {
        format!("OUT {local} -> {remote}")
    } else {
        format!("IN {remote} -> {local}")
    };
    let remaining = match (time_diff, flow.remaining) {
        (false, _) => String::new(),
        (true, left) if left < 0 => format!(" (expired {} sec(s) ago)", -left),
        (true, left) => format!(" (remaining: {left} sec(s))"),
    };
    let names: String = clean_all(&flow.flags)
        .iter()
        .map(|f| format!("{f} "))
        .collect();
    let nat = match flow.nat.as_str() {
        "" => String::new(),
        nat => format!("NAT={} ", clean(nat)),
    };
    // Entries hold addresses, no numbers of services and backends.
    format!(
        "{} {way} expires={}{remaining} RxFlagsSeen={:#04x} TxFlagsSeen={:#04x} Flags={:#06x} [ {names}] \
         RevNAT=0 SourceSecurityID={} BackendID=0 {nat}\n",
        protocol(flow.protocol),
        flow.expires,
        flow.rx_flags,
        flow.tx_flags,
        flow.flags_raw,
        flow.source_identity,
    )
}

/// The table, in the given order.
pub(super) fn endpoints(list: &[Endpoint]) -> String {
    let mut text = "IP ADDRESS\tLOCAL ENDPOINT INFO\n".to_owned();
    for e in list {
        let ip = if e.ip.contains(':') {
            format!("[{}]", clean(&e.ip))
        } else {
            clean(&e.ip)
        };
        if e.localhost {
            text += &format!("{ip}:0\t(localhost)\t\n");
            continue;
        }
        let (mac, nodemac) = (
            clean(&e.mac).to_uppercase(),
            clean(&e.nodemac).to_uppercase(),
        );
        text += &format!(
            "{ip}:0\tid={:<5} sec_id={:<5} flags=0x{:04X} ifindex={:<3} mac={mac} nodemac={nodemac} parent_ifindex={:<3} rt_info:0\t\n",
            e.id, e.sec_id, e.flags, e.ifindex, e.parent_ifindex,
        );
    }
    align(&text)
}

/// The table, in the given order; services are told apart by address, port and protocol.
pub(super) fn lb(services: &[BpfService]) -> String {
    let mut text = "SERVICE ADDRESS\tBACKEND ADDRESS (REVNAT_ID) (SLOT)\n".to_owned();
    for (slot, [backend]) in services.iter().flat_map(slots) {
        text += &format!("{slot}\t{backend}\n");
    }
    align(&text)
}

/// Slot 0 is the service itself, the others are its backends.
fn slots(service: &BpfService) -> Vec<(String, [String; 1])> {
    let (frontend, protocol) = (clean(&service.frontend), clean(&service.protocol));
    let id = service.id;
    let affinity = match service.affinity {
        0 => "",
        _ => "sessionAffinity, ",
    };
    let none = match frontend.starts_with('[') {
        true => "[::]:0",
        false => "0.0.0.0:0",
    };
    let mut slots = vec![format!(
        "{none} ({id}) (0) [ClusterIP, {affinity}non-routable]"
    )];
    for (index, backend) in service.backends.iter().enumerate() {
        let (backend, slot) = (clean(backend), index + 1);
        slots.push(format!("{backend}/{protocol} ({id}) ({slot})"));
    }
    let key = |slot| format!("{frontend}/{protocol} ({slot})");
    let rows = slots.into_iter().enumerate();
    rows.map(|(slot, text)| (key(slot), [text])).collect()
}

/// The table, sorted by line.
pub(super) fn metrics(list: &[Metric]) -> String {
    let mut rows: Vec<String> = list
        .iter()
        .map(|m| {
            let (reason, file) = (clean(&m.reason), clean(&m.file));
            let (direction, packets, bytes, line) = (&m.direction, m.packets, m.bytes, m.line);
            format!("{reason}\t{direction}\t{packets}\t{bytes}\t{line}\t{file}\n")
        })
        .collect();
    rows.sort();
    align(&("REASON\tDIRECTION\tPACKETS\tBYTES\tLINE\tFILE\n".to_owned() + &rows.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_per_slot() {
        let service = |id, frontend: &str, affinity, backends: &[&str]| BpfService {
            id,
            protocol: "TCP".into(),
            affinity,
            frontend: frontend.into(),
            backends: backends.iter().map(ToString::to_string).collect(),
        };
        let text = lb(&[
            service(7, "10.96.12.9:8080", 0, &["10.1.1.73:80", "10.1.1.74:80"]),
            service(9, "[fd00::9]:53", 60, &[]),
        ]);
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                "SERVICE ADDRESS           BACKEND ADDRESS (REVNAT_ID) (SLOT)",
                "10.96.12.9:8080/TCP (0)   0.0.0.0:0 (7) (0) [ClusterIP, non-routable]",
                "10.96.12.9:8080/TCP (1)   10.1.1.73:80/TCP (7) (1)",
                "10.96.12.9:8080/TCP (2)   10.1.1.74:80/TCP (7) (2)",
                "[fd00::9]:53/TCP (0)      [::]:0 (9) (0) [ClusterIP, sessionAffinity, non-routable]",
            ]
        );
    }
}
