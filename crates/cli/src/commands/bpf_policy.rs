// SPDX-License-Identifier: Apache-2.0
//! `bpf policy get`.

use api::Client;
use api::models::{BpfPolicy as Policy, BpfPolicyEntry};

use crate::args::BpfPolicy;
use crate::table::{align, tall_row};
use crate::text::{clean, identity, sorted};
use crate::{Error, output};

pub(super) async fn run(client: &Client, command: BpfPolicy) -> Result<(), Error> {
    let BpfPolicy::Get {
        endpoint,
        all,
        numeric,
        output: format,
    } = command;
    if endpoint.is_none() && !all {
        return Err(Error::Argument {
            argument: "bpf policy get".into(),
            why: "the number of an endpoint, or --all, is expected".into(),
        });
    }
    let mut policies = client.bpf_policies(endpoint).await?;
    policies.sort_by_key(|policy| policy.endpoint);
    output::answer(format.output.as_ref(), &policies, |policies| {
        let tables = policies.iter().map(|policy| one(policy, numeric, all));
        tables.collect()
    })
}

/// One endpoint; `named`: with its number and the map's path.
pub(super) fn one(policy: &Policy, numeric: bool, named: bool) -> String {
    let peers = if numeric {
        "IDENTITY"
    } else {
        "LABELS (source:key[=value])"
    };
    let mut text = format!(
        "POLICY\tDIRECTION\t{peers}\tPORT/PROTO\tPROXY PORT\tAUTH TYPE\tBYTES\tPACKETS\tPREFIX\tCOOKIE\n"
    );
    let mut entries: Vec<&BpfPolicyEntry> = policy.entries.iter().collect();
    entries.sort_by_key(|entry| !entry.deny);
    for entry in entries {
        text += &row(entry, numeric);
    }
    let table = align(&text);
    if named {
        let (id, path) = (policy.endpoint, clean(&policy.path));
        format!("Endpoint ID: {id}\nPath: {path}\n\n{table}\n\n")
    } else {
        table
    }
}

fn row(entry: &BpfPolicyEntry, numeric: bool) -> String {
    let verdict = if entry.deny { "Deny" } else { "Allow" };
    let labels = match entry.identity {
        id if numeric => vec![id.to_string()],
        0 if entry.labels.is_empty() => vec!["ANY".into()],
        id if entry.labels.is_empty() => vec![identity(id, false)],
        _ => sorted(&entry.labels),
    };
    let protocol = match entry.protocol.as_str() {
        "" => "ANY".to_owned(),
        name => clean(name),
    };
    let (port, prefix) = match (entry.port, entry.port_end) {
        (0, _) if entry.protocol.is_empty() => (protocol, "0"),
        (0, _) => (protocol, "8"),
        (port, 0) => (format!("{port}/{protocol}"), "24"),
        (first, last) => (format!("{first}-{last}/{protocol}"), "24"),
    };
    let count = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
    let (bytes, packets) = (count(entry.bytes), count(entry.packets));
    let cookie = entry.cookie.to_string();
    let cells = [
        verdict,
        &entry.direction,
        "",
        &port,
        "NONE",
        "disabled",
        &bytes,
        &packets,
        prefix,
        &cookie,
    ];
    tall_row(&cells, 2, &labels, false)
}
