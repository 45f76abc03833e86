// SPDX-License-Identifier: Apache-2.0
//! Takes away what a node wrote that is gone for good. Its agent cannot, and its lease may last for a quarter of an hour.

use std::net::IpAddr;

use model::Node;

use crate::schema::{decode_ip, encode_node, keys};
use crate::store::{Compare, LeaseId, Op, Result, Store};

/// Deletes the key of `node` and the addresses behind `hosts`, its underlay addresses; whether the node's key was there.
///
/// Readers keep the rows of a key that went with its lease: its node may only have lost its etcd. So the node's key is
/// first put on `lease`, which has to live: then they see a deletion, and also let go of what an ended lease left them.
/// Whoever writes a key meanwhile keeps it.
pub async fn forget_node<S: Store>(
    store: &S,
    lease: LeaseId,
    node: &Node,
    hosts: &[IpAddr],
) -> Result<bool> {
    forget_addresses(store, hosts).await?;
    let key = keys::node(node.name.cluster.as_str(), &node.name.name);
    let found = store.get(&key).await?;
    let (compare, value) = match &found {
        Some(kv) => (
            Compare::ModifiedAt(key.clone(), kv.mod_revision),
            kv.value.clone(),
        ),
        None => (Compare::Absent(key.clone()), encode_node(node)),
    };
    let put = Op::Put {
        key: key.clone(),
        value,
        lease: Some(lease),
    };
    let put = store.txn(vec![compare], vec![put]).await?;
    if put.succeeded {
        store.delete_if_mod_revision(&key, put.revision).await?;
    }
    Ok(found.is_some())
}

async fn forget_addresses<S: Store>(store: &S, hosts: &[IpAddr]) -> Result<()> {
    let mut token = None;
    loop {
        let page = store.list_page(&keys::under(keys::IPS), token).await?;
        for kv in page.listing.kvs {
            let entry = decode_ip(&kv.key, &kv.value);
            let host = entry.ok().and_then(|entry| entry.host);
            if host.is_some_and(|host| hosts.contains(&host)) {
                store
                    .delete_if_mod_revision(&kv.key, kv.mod_revision)
                    .await?;
            }
        }
        token = page.next;
        if token.is_none() {
            return Ok(());
        }
    }
}
