// SPDX-License-Identifier: Apache-2.0
//! `node list`.

use api::Client;
use api::models::{NodeAddressingElement, NodeElement};

use crate::args::Node;
use crate::table::align;
use crate::text::clean;
use crate::{Error, output};

pub(super) async fn run(client: &Client, command: Node) -> Result<(), Error> {
    let Node::List(args) = command;
    let nodes = client.nodes(None).await?.nodes_added;
    output::answer(args.output.as_ref(), &nodes, |nodes| list(nodes))
}

/// The table, sorted by line.
pub(super) fn list(nodes: &[NodeElement]) -> String {
    let mut lines: Vec<String> = nodes.iter().map(line).collect();
    lines.sort();
    let head = "Name\tIPv4 Address\tEndpoint CIDR\tIPv6 Address\tEndpoint CIDR\tSource\n";
    align(&(head.to_owned() + &lines.concat()))
}

fn line(node: &NodeElement) -> String {
    let primary = node.primary_address.clone().unwrap_or_default();
    let pair = |address: Option<NodeAddressingElement>| {
        let address = address.unwrap_or_default();
        format!("{}\t{}", clean(&address.ip), clean(&address.alloc_range))
    };
    let (v4, v6) = (pair(primary.ipv4), pair(primary.ipv6));
    format!("{}\t{v4}\t{v6}\t{}\n", clean(&node.name), node.source)
}
