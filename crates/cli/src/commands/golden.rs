// SPDX-License-Identifier: Apache-2.0
//! Our text against what a real Cilium printed for the same answers of its agent, byte for byte.

use std::collections::BTreeMap;

use api::models::*;
use serde::de::DeserializeOwned;

use super::{bpf, bpf_policy, endpoint, identity, ip, node, status};
use crate::output::Format;

macro_rules! answer {
    ($name:literal) => {
        parse(include_str!(concat!(
            "../../../api/tests/golden/",
            $name,
            ".json"
        )))
    };
}

macro_rules! text {
    ($name:literal) => {
        include_str!(concat!("../../tests/golden/", $name))
    };
}

fn parse<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).expect("an answer of the agent")
}

#[test]
fn node_list() {
    let nodes: Vec<NodeElement> = answer!("node-list");
    assert_eq!(node::list(&nodes), text!("node-list.txt"));
}

#[test]
fn endpoint_list() {
    let endpoints: Vec<Endpoint> = answer!("endpoint-list");
    assert_eq!(endpoint::list(&endpoints), text!("endpoint-list.txt"));
}

#[test]
fn identity_list() {
    let identities: Vec<Identity> = answer!("identity-list");
    assert_eq!(identity::list(&identities), text!("identity-list.txt"));
}

#[test]
fn ip_list() {
    let mut entries: Vec<IpListEntry> = answer!("ip-list");
    entries.sort_by_key(ip::order);
    let identities: Vec<Identity> = answer!("identity-list");
    let labels: BTreeMap<_, _> = identities.into_iter().map(|i| (i.id, i.labels)).collect();
    assert_eq!(
        ip::list(&entries, &labels, false, false),
        text!("ip-list.txt")
    );
    let verbose = ip::list(&entries, &labels, true, true);
    assert!(
        verbose
            .starts_with("IP                IDENTITY   SOURCE        HOST         ENCRYPT_KEY\n")
    );
    assert!(verbose.contains("10.2.101.100/32   135833     clustermesh   172.30.0.2   0\n"));
}

#[test]
fn json() {
    let status: StatusResponse = answer!("status");
    let ours = Format::Json.text(&status).expect("JSON");
    let theirs = include_str!("../../../api/tests/golden/status.json");
    assert_eq!(ours, theirs);
}

#[test]
fn status_short() {
    let answer: StatusResponse = answer!("status");
    let detail = status::Detail {
        clusters: true,
        ..Default::default()
    };
    let now = parse("\"2026-11-23T14:33:51.600Z\"");
    let ours = status::full(&answer, &status::Own::default(), detail, now);
    assert_eq!(ours, text!("status.txt"));
}

#[test]
fn status_verbose() {
    let answer: StatusResponse = answer!("status");
    let detail = status::Detail {
        clusters: true,
        addresses: true,
        controllers: true,
        verbose: true,
    };
    let now = parse("\"2026-11-23T14:33:51.600Z\"");
    let ours = status::full(&answer, &status::Own::default(), detail, now);
    // The details of kube-proxy's replacement are not ours to tell.
    let theirs = text!("status-verbose.txt");
    let (before, after) = theirs
        .split_once("KubeProxyReplacement Details:\n")
        .expect("a block");
    let (_, maps) = after.split_once("BPF Maps:").expect("a block");
    assert_eq!(ours, format!("{before}BPF Maps:{maps}"));
}

#[test]
fn status_of_ours() {
    let now = parse("\"2026-05-04T10:00:00Z\"");
    let mut answer = StatusResponse {
        cilium: Some(Status::new(State::Ok, "0.1.0")),
        ..Default::default()
    };
    let own = status::Own {
        mesh: None,
        warnings: vec![
            Warning {
                text: "unknown option cluster-nam: did you mean cluster-name?".into(),
                since: parse("\"2026-05-04T09:59:00Z\""),
            },
            Warning {
                text: "map ist_flows is full".into(),
                since: api::Timestamp::NEVER,
            },
        ],
        pressure: vec![
            Pressure {
                name: "ist_flows".into(),
                entries: 95,
                capacity: 100,
                ..Default::default()
            },
            Pressure {
                name: "ist_ipcache".into(),
                entries: 5,
                capacity: 100,
                ..Default::default()
            },
        ],
    };
    assert_eq!(
        status::full(&answer, &own, status::Detail::default(), now),
        "\
Cilium:                  Ok   0.1.0
NodeMonitor:             Disabled
Proxy Status:            No managed proxy redirect
Global Identity Range:   Unknown
Cluster health:          Probe disabled
Map pressure:            ist_flows: 95 of 100 entries, 0 evicted, 0 refused because it was full
Warnings:                2
  - unknown option cluster-nam: did you mean cluster-name? (1m0s ago)
  - map ist_flows is full
"
    );
    assert_eq!(status::brief(&answer), "OK\n");
    answer.kvstore = Some(Status::new(State::Failure, "no quorum"));
    assert_eq!(status::brief(&answer), "error in kvstore: no quorum\n");
}

fn without(text: &str, fields: &[&str]) -> String {
    let keep = |word: &&str| !fields.iter().any(|field| word.starts_with(field));
    let words = text.split_inclusive(' ').filter(keep);
    words.collect()
}

#[test]
fn bpf_ct() {
    let flow = FlowEntry {
        protocol: 6,
        outgoing: true,
        local: "10.1.112.131".into(),
        local_port: 33836,
        remote: "10.2.101.100".into(),
        remote_port: 80,
        expires: 1655,
        remaining: 10,
        rx_flags: 0x1b,
        tx_flags: 0x1b,
        flags: ["RxClosing", "TxClosing", "SeenNonSyn"]
            .map(String::from)
            .into(),
        flags_raw: 0x13,
        source_identity: 109_099,
        ..Default::default()
    };
    let theirs = text!("bpf-ct.txt").lines().next().expect("a line");
    // What an entry of ours does not hold is not printed.
    let absent = [
        "Packets",
        "Bytes",
        "LastRxReport",
        "LastTxReport",
        "NatPort",
    ];
    let ours = bpf::flow(&flow, false);
    assert_eq!(ours, without(theirs, &absent) + "\n");
    let v6 = FlowEntry {
        protocol: 58,
        local: "fd00::1".into(),
        remote: "fd00::2".into(),
        remaining: -3,
        ..Default::default()
    };
    let line = bpf::flow(&v6, true);
    assert!(
        line.starts_with("ICMPv6 IN [fd00::2]:0 -> [fd00::1]:0 expires=0 (expired 3 sec(s) ago) ")
    );
    assert!(line.contains("Flags=0x0000 [ ] RevNAT=0"));
    assert!(
        bpf::flow(&flow, true).contains("expires=1655 (remaining: 10 sec(s)) RxFlagsSeen=0x1b")
    );
}

#[test]
fn bpf_ipcache() {
    let theirs = text!("bpf-ipcache.txt");
    let entries = theirs.lines().skip(1).map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let value = |at: usize| words[at].split_once('=').expect("a field").1;
        let flags = value(4).split(',').filter(|flag| *flag != "<none>");
        BpfIpcacheEntry {
            cidr: words[0].into(),
            identity: value(1).parse().expect("a number"),
            encrypt_key: 0,
            tunnel_endpoint: value(3).replace("0.0.0.0", ""),
            flags: flags.map(String::from).collect(),
        }
    });
    assert_eq!(bpf::ipcache(&entries.collect::<Vec<_>>()), theirs);
    let map: BTreeMap<String, Vec<String>> = parse(text!("bpf-ipcache.json"));
    let json = Format::Json.text(&map).expect("JSON");
    assert_eq!(json, text!("bpf-ipcache.json"));
}

#[test]
fn bpf_endpoint() {
    let local = |ip: &str| BpfEndpoint {
        ip: ip.into(),
        localhost: true,
        ..Default::default()
    };
    let pod = |ip: &str, id, sec_id, ifindex, mac: &str, nodemac: &str| BpfEndpoint {
        ip: ip.into(),
        id,
        sec_id,
        ifindex,
        mac: mac.into(),
        nodemac: nodemac.into(),
        ..Default::default()
    };
    let list = [
        local("10.1.90.52"),
        pod(
            "10.1.193.125",
            490,
            107_532,
            12,
            "a2:8f:d5:5e:38:a9",
            "fa:9d:fc:e8:08:a9",
        ),
        pod(
            "10.1.112.131",
            61,
            109_099,
            10,
            "12:09:5b:5e:d0:ba",
            "4e:ed:34:eb:e0:03",
        ),
        local("172.30.0.1"),
    ];
    assert_eq!(bpf::endpoints(&list), text!("bpf-endpoint.txt"));
}

#[test]
fn bpf_metrics() {
    let theirs = text!("bpf-metrics.txt");
    let metrics = theirs.lines().skip(1).map(|line| {
        let cells: Vec<&str> = line
            .split("   ")
            .map(str::trim)
            .filter(|c| !c.is_empty())
            .collect();
        Metric {
            reason: cells[0].into(),
            direction: cells[1].into(),
            packets: cells[2].parse().expect("a number"),
            bytes: cells[3].parse().expect("a number"),
            line: cells[4].parse().expect("a number"),
            file: cells[5].into(),
            ..Default::default()
        }
    });
    assert_eq!(bpf::metrics(&metrics.collect::<Vec<_>>()), theirs);
}

#[test]
fn bpf_policy() {
    let theirs = text!("bpf-policy.txt");
    let entry = |direction: &str, name: &str, count: Option<u64>| BpfPolicyEntry {
        direction: direction.into(),
        labels: if name.is_empty() {
            vec![]
        } else {
            vec![format!("reserved:aggregate-{name}")]
        },
        bytes: count,
        packets: count,
        ..Default::default()
    };
    let peers = ["", "cluster", "cluster-mesh", "world", "remote-node"];
    let all = ["Ingress", "Egress"]
        .iter()
        .flat_map(|way| peers.iter().map(move |peer| entry(way, peer, None)));
    let policy = BpfPolicy {
        endpoint: 133,
        path: "/sys/fs/bpf/tc/globals/cilium_policy_v3_00133".into(),
        entries: all.collect(),
    };
    let ours = bpf_policy::one(&policy, false, true);
    let start = theirs.find("Endpoint ID: 133").expect("that endpoint");
    let end = theirs.find("Endpoint ID: 490").expect("the next");
    assert_eq!(ours, theirs[start..end]);
    let deny = BpfPolicyEntry {
        deny: true,
        direction: "Ingress".into(),
        identity: 6,
        port: 80,
        port_end: 95,
        protocol: "TCP".into(),
        cookie: 7,
        ..Default::default()
    };
    let mixed = BpfPolicy {
        entries: vec![entry("Egress", "", None), deny],
        ..Default::default()
    };
    let text = bpf_policy::one(&mixed, false, false);
    let first = text.lines().nth(1).expect("a row");
    assert!(
        first.starts_with("Deny     Ingress     remote-node"),
        "{text}"
    );
    assert!(first.contains("80-95/TCP"), "{text}");
}
