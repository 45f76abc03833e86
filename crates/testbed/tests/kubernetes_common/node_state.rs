// SPDX-License-Identifier: Apache-2.0
//! What a network leaves on a node, to be compared before it came and after it went.

use std::collections::{BTreeMap, BTreeSet};

use testbed::kubernetes::Machine;

/// (what, a script that lists it line by line). Numbers of devices and times change by themselves and are cut off.
const LISTS: [(&str, &str); 11] = [
    ("devices", "ip -o link | sed 's/^[0-9]*: //; s/ .*//'"),
    (
        "addresses",
        r"ip -o address | sed 's/^[0-9]*: //; s/ valid_lft.*//; s/\\.*//'",
    ),
    (
        "routes",
        "ip -4 route show table all; ip -6 route show table all | sed 's/ expires [^ ]*//'",
    ),
    ("rules", "ip -4 rule; ip -6 rule"),
    ("nft tables", "nft list tables"),
    // Chains of no pod are portmap's own, which it leaves.
    (
        "iptables",
        "(iptables-save -t nat; ip6tables-save -t nat) | sed '/^#/d; /CNI-HOSTPORT/d'",
    ),
    (
        "filters",
        "tc qdisc show; tc filter show dev eth0 ingress; tc filter show dev eth0 egress",
    ),
    ("pins", "find /sys/fs/bpf"),
    (
        "files",
        "find /etc/cni /opt/cni /run/cilium /var/run/cilium /var/lib/cilium 2>/dev/null || true",
    ),
    (
        "switches",
        "cd /proc/sys/net; grep -H . ipv4/ip_forward ipv4/conf/all/rp_filter ipv6/conf/all/forwarding ipv6/conf/all/disable_ipv6",
    ),
    ("mounts", "grep -c bpf /proc/1/mounts"),
];

/// Everything by kind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NodeState(BTreeMap<&'static str, BTreeSet<String>>);

impl NodeState {
    pub(crate) fn of(machine: &Machine) -> Self {
        let list = |(what, script): (&'static str, &str)| {
            let text = machine.run("sh", &["-c", script]).expect("listed");
            let lines = text.lines().map(|line| line.trim_end().to_owned());
            (what, lines.collect())
        };
        Self(LISTS.into_iter().map(list).collect())
    }

    /// What came since `before`, and what went, line by line.
    pub(crate) fn since(&self, before: &Self) -> Vec<String> {
        let all = self.0.iter().zip(&before.0);
        let differs = all.flat_map(|((what, now), (_, then))| {
            let new = now
                .difference(then)
                .map(move |line| format!("{what}: + {line}"));
            let gone = then
                .difference(now)
                .map(move |line| format!("{what}: - {line}"));
            new.chain(gone)
        });
        differs.collect()
    }
}
