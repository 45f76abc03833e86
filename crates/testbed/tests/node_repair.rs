// SPDX-License-Identifier: Apache-2.0
//! Other hands take away what the agent made on a node, and it comes back without a restart.

mod common;

use std::time::{Duration, Instant};

use common::{Mesh, SPREAD};
use testbed::{Family, eventually};

/// What somebody does on a node, as root, and within which time pods have to be reached again.
const DEEDS: [(&str, &str, Duration); 7] = [
    (
        "the tunnel's device is deleted",
        "ip link del cilium_vxlan",
        Duration::from_secs(2),
    ),
    (
        "the tunnel's device is set down",
        "ip link set cilium_vxlan down",
        Duration::from_secs(2),
    ),
    (
        "the firewall is flushed",
        "nft flush ruleset",
        Duration::from_secs(8),
    ),
    (
        "the tunnel's rules are deleted",
        "nft delete table inet isthmus-tunnel",
        Duration::from_secs(8),
    ),
    (
        "routes of pods are deleted",
        "ip route flush proto 173 && ip -6 route flush proto 173",
        Duration::from_secs(8),
    ),
    (
        "pods' programs are removed",
        "for d in $(ip -o link | grep -o 'lxc[^@:]*'); do tc qdisc del dev $d clsact; done",
        Duration::from_secs(2),
    ),
    (
        "forwarding is switched off",
        "echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding",
        Duration::from_secs(8),
    ),
];

#[test]
fn what_others_take_away_comes_back() {
    let mut mesh = Mesh::start("repair");
    // Told when the routes are looked at before the device is up again.
    mesh.expected_errors.push("Device for nexthop is not up");
    let pairs = [
        ("cluster5/frontend-1", "cluster7/backend-1"),
        ("cluster7/backend-1", "cluster5/frontend-1"),
        ("cluster5/frontend-1", "cluster5/reports-2"),
    ];
    for (from, to) in pairs {
        for family in Family::BOTH {
            mesh.reach(from, to, family);
        }
    }
    for (what, deed, limit) in DEEDS {
        let node = &mesh.lab.cluster("cluster5").nodes[0];
        node.place.run("sh", &["-ec", deed]).expect(what);
        let started = Instant::now();
        eventually(what, SPREAD, || {
            for (from, to) in pairs {
                for family in Family::BOTH {
                    mesh.request(from, to, family, Duration::from_millis(300))?;
                }
            }
            has_tables(&mesh)
        })
        .expect("everything is back");
        let took = started.elapsed();
        println!("{what}: everything is back after {} ms", took.as_millis());
        assert!(took < limit, "{what}: {took:?}");
        // Exit status 1 if anything is wrong.
        node.cli(&["status", "--brief"])
            .expect("nothing is left to tell");
    }
}

fn has_tables(mesh: &Mesh) -> testbed::Result<()> {
    let node = &mesh.lab.cluster("cluster5").nodes[0];
    let list = |table| node.place.run("nft", &["list", "table", "inet", table]);
    list("isthmus")
        .and_then(|_| list("isthmus-tunnel"))
        .map(drop)
}
