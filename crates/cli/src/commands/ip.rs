// SPDX-License-Identifier: Apache-2.0
//! `ip list`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use api::models::IpListEntry;
use api::{Client, IpQuery, StatusCode};

use crate::args::Ip;
use crate::table::{align, tall_row};
use crate::text::{clean, identity, sorted};
use crate::{Error, output};

pub(super) async fn run(client: &Client, command: Ip) -> Result<(), Error> {
    let Ip::List {
        verbose,
        numeric,
        cidr,
        output: format,
    } = command;
    let query = IpQuery {
        cidr,
        labels: Vec::new(),
    };
    let mut entries = match client.ips(&query).await {
        Err(error) if error.refused() == Some(StatusCode::NOT_FOUND) => Vec::new(),
        other => other?,
    };
    entries.sort_by_key(order);
    if format.output.is_some() {
        return output::answer(format.output.as_ref(), &entries, |_| String::new());
    }
    let labels = if numeric {
        BTreeMap::new()
    } else {
        labels(client, &entries).await?
    };
    output::print(&list(&entries, &labels, verbose, numeric))
}

/// Labels of all identities in `entries`: one list, and one question for each that is not in it.
async fn labels(
    client: &Client,
    entries: &[IpListEntry],
) -> Result<BTreeMap<i64, Vec<String>>, Error> {
    let known = client.identities(&[]).await?;
    let mut labels: BTreeMap<_, _> = known.into_iter().map(|i| (i.id, i.labels)).collect();
    for entry in entries {
        let Ok(number) = u32::try_from(entry.identity) else {
            continue;
        };
        if let Entry::Vacant(unknown) = labels.entry(entry.identity) {
            let found = match client.identity(number).await {
                Err(error) if error.refused() == Some(StatusCode::NOT_FOUND) => Vec::new(),
                other => other?.labels,
            };
            unknown.insert(found);
        }
    }
    Ok(labels)
}

/// Shorter prefixes first, IPv4 first, then by address.
pub(super) fn order(entry: &IpListEntry) -> (bool, u8, Option<IpAddr>, String) {
    let (address, bits) = entry.cidr.split_once('/').unwrap_or((&entry.cidr, ""));
    let address: Option<IpAddr> = address.parse().ok();
    let v6 = address.is_some_and(|address| address.is_ipv6());
    (v6, bits.parse().unwrap_or(128), address, entry.cidr.clone())
}

/// The table, in the given order.
pub(super) fn list(
    entries: &[IpListEntry],
    labels: &BTreeMap<i64, Vec<String>>,
    verbose: bool,
    numeric: bool,
) -> String {
    let mut text = "IP\tIDENTITY\tSOURCE".to_owned();
    text += if verbose {
        "\tHOST\tENCRYPT_KEY\n"
    } else {
        "\n"
    };
    for entry in entries {
        let names = match labels.get(&entry.identity) {
            Some(labels) if !labels.is_empty() && !numeric => sorted(labels),
            _ => {
                let number = u32::try_from(entry.identity);
                vec![number.map_or("unknown".into(), |id| identity(id, numeric))]
            }
        };
        let source = entry.metadata.as_ref().map(|meta| clean(&meta.source));
        let (cidr, source) = (clean(&entry.cidr), source.unwrap_or_default());
        let (host, key) = (clean(&entry.host_ip), entry.encrypt_key.to_string());
        let mut cells = vec![cidr.as_str(), "", &source];
        if verbose {
            cells.extend([host.as_str(), key.as_str()]);
        }
        text += &tall_row(&cells, 1, &names, false);
    }
    align(&text)
}
