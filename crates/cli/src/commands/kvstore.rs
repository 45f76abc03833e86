// SPDX-License-Identifier: Apache-2.0
//! `kvstore get`: keys of this cluster's etcd, by way of the agent.

use std::collections::BTreeMap;

use api::Client;
use api::models::KvstoreEntry;

use crate::args::Kvstore;
use crate::text::clean;
use crate::{Error, output};

pub(super) async fn run(client: &Client, command: Kvstore) -> Result<(), Error> {
    let Kvstore::Get {
        key,
        recursive,
        output: format,
    } = command;
    let mut entries = client.kvstore(&key, recursive).await?;
    let mut kept = BTreeMap::new();
    while let Some(entry) = entries.next().await? {
        if !entry.error.is_empty() {
            return Err(Error::Argument {
                argument: key,
                why: format!("the list broke off: {}", clean(&entry.error)),
            });
        }
        match format.output {
            Some(_) => drop(kept.insert(entry.key, entry.value)),
            None => output::print(&line(&entry))?,
        }
    }
    match format.output {
        Some(format) => output::print(&format.text(&kept)?),
        None => Ok(()),
    }
}

fn line(entry: &KvstoreEntry) -> String {
    format!("{} => {}\n", clean(&entry.key), clean(&entry.value))
}
