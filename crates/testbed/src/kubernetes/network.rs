// SPDX-License-Identifier: Apache-2.0
//! A stand-in for a pod network, for tests of the lab itself: a bridge on each node, and routes between
//! the nodes of one cluster. It knows neither policy nor other clusters.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::machine::Machine;
use crate::error::{LabError, Result};
use crate::namespace::Place;

/// The file that the runtime finds.
const FILE: &str = "etc/cni/net.d/10-stand-in.conflist";

/// Configures the runtime of every node, and routes to the pods of the others and from the control plane
/// to all. `prefixes` are the nodes' pod prefixes, both families.
pub(super) fn install(
    control_plane: &Place,
    machines: &[Machine],
    prefixes: &[Vec<String>],
) -> Result<()> {
    route(control_plane, machines, prefixes)?;
    for (machine, own) in machines.iter().zip(prefixes) {
        for (other, theirs) in machines.iter().zip(prefixes) {
            if other.name != machine.name {
                machine.place.ip(&routes(theirs, &other.addresses))?;
            }
        }
        machine.write(FILE, &configuration(own).to_string())?;
    }
    Ok(())
}

/// Routes from a host to the pods of all nodes.
pub(super) fn route(from: &Place, machines: &[Machine], prefixes: &[Vec<String>]) -> Result<()> {
    for (machine, own) in machines.iter().zip(prefixes) {
        from.ip(&routes(own, &machine.addresses))?;
    }
    Ok(())
}

/// The node's pod prefixes, once the controllers have given it some of each family.
pub(super) fn prefixes(node: &Value) -> Result<Vec<String>> {
    let list = node["spec"]["podCIDRs"].as_array();
    let prefixes: Vec<String> = list
        .into_iter()
        .flatten()
        .filter_map(|prefix| prefix.as_str().map(str::to_owned))
        .collect();
    if prefixes.len() == 2 {
        return Ok(prefixes);
    }
    let name = &node["metadata"]["name"];
    let text = format!("{name} has the pod prefixes {prefixes:?}, not one of each family");
    Err(LabError::Unmet(text))
}

fn configuration(prefixes: &[String]) -> Value {
    let ranges: Vec<_> = prefixes
        .iter()
        .map(|prefix| json!([{"subnet": prefix}]))
        .collect();
    json!({
        "cniVersion": "0.4.0",
        "name": "stand-in",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local", "ranges": ranges, "dataDir": "/run/stand-in",
                    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

fn routes(prefixes: &[String], through: &[IpAddr; 2]) -> String {
    let lines = prefixes
        .iter()
        .zip(through)
        .map(|(prefix, gateway)| format!("route replace {prefix} via {gateway}"));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_keep_to_their_family() {
        let prefixes = ["10.5.1.0/24".to_owned(), "fd10:5::1:0/112".to_owned()];
        let through = [
            "172.31.5.2".parse().expect("v4"),
            "fd00:31::5:2".parse().expect("v6"),
        ];
        assert_eq!(
            routes(&prefixes, &through),
            "route replace 10.5.1.0/24 via 172.31.5.2\nroute replace fd10:5::1:0/112 via fd00:31::5:2"
        );
    }

    #[test]
    fn a_node_without_both_prefixes_is_not_taken() {
        let node = json!({"metadata": {"name": "n"}, "spec": {"podCIDRs": ["10.5.1.0/24"]}});
        prefixes(&node).expect_err("one family");
        prefixes(&json!({})).expect_err("none");
    }
}
