// SPDX-License-Identifier: Apache-2.0
//! Gives identities back that nobody uses any more.
//!
//! Master keys have no lease, so an identity outlives its last pod. One that was unused in two rounds, and whose master
//! key did not change between them, is deleted under the lock of its labels: nobody can take it into use meanwhile. The
//! rule is that of Cilium's operator, but for the lock, which is there one that allocation does not know.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use model::{ClusterId, IdentityScheme, Labels, NumericIdentity};

use crate::schema::{decode_identity, decode_identity_number, decode_ip, keys};
use crate::store::{Compare, KeyValue, Op, Result, Store};

/// Pause after a deletion: 2,500 in a minute, as Cilium's operator by default.
const PAUSE: Duration = Duration::from_millis(24);

/// What a round did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Collected {
    /// Identities that the cluster has, without those that were deleted.
    pub known: HashSet<NumericIdentity>,
    /// Those that nobody uses, without those that were deleted.
    pub unused: usize,
    /// Deleted ones.
    pub deleted: usize,
}

/// Collects unused identities of one cluster; to be run by one node at a time.
#[derive(Debug)]
pub struct Collector<S: Store> {
    store: S,
    range: std::ops::RangeInclusive<u32>,
    /// Unused in the last round, with the revision of the master key.
    suspects: BTreeMap<NumericIdentity, i64>,
}

struct Master {
    id: NumericIdentity,
    labels: Labels,
    revision: i64,
}

impl<S: Store> Collector<S> {
    /// For the identities of `cluster`.
    pub fn new(store: S, cluster: ClusterId, scheme: IdentityScheme) -> Self {
        Self {
            store,
            range: scheme.range(cluster),
            suspects: BTreeMap::new(),
        }
    }

    /// Looks once. `in_use` are uses that have no key, such as addresses of a node whose lease ended.
    pub async fn round(&mut self, in_use: &HashSet<NumericIdentity>) -> Result<Collected> {
        let mut used = self.uses().await?;
        used.extend(in_use);
        let (known, unused) = self.masters(&used).await?;
        let mut collected = Collected {
            known,
            ..Collected::default()
        };
        let before = std::mem::take(&mut self.suspects);
        for master in unused {
            let again = before.get(&master.id) == Some(&master.revision);
            if again && self.delete(&master).await? {
                tracing::info!(id = %master.id, labels = %master.labels.canonical(), "identity is not used any more");
                collected.deleted += 1;
                collected.known.remove(&master.id);
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            collected.unused += 1;
            self.suspects.insert(master.id, master.revision);
        }
        Ok(collected)
    }

    /// All identities of this cluster's range, and the master keys of those that are not `used`; what cannot be read is
    /// left alone.
    async fn masters(
        &self,
        used: &HashSet<NumericIdentity>,
    ) -> Result<(HashSet<NumericIdentity>, Vec<Master>)> {
        let (mut known, mut unused) = (HashSet::new(), Vec::new());
        self.each(keys::IDENTITY_IDS, |kv| {
            let id = keys::identity_of(&kv.key).filter(|id| self.range.contains(&id.0));
            if let (Some(id), Ok(labels)) = (id, decode_identity(&kv.key, &kv.value)) {
                known.insert(id);
                if !used.contains(&id) {
                    unused.push(Master {
                        id,
                        labels,
                        revision: kv.mod_revision,
                    });
                }
            }
        })
        .await?;
        Ok((known, unused))
    }

    /// Numbers that any node has a key for.
    async fn uses(&self) -> Result<HashSet<NumericIdentity>> {
        let mut used = HashSet::new();
        self.each(keys::IDENTITY_VALUES, |kv| {
            used.extend(decode_identity_number(&kv.key, &kv.value));
        })
        .await?;
        Ok(used)
    }

    /// Identities of the addresses that have a key.
    pub async fn of_addresses(&self) -> Result<HashSet<NumericIdentity>> {
        let mut used = HashSet::new();
        self.each(keys::IPS, |kv| {
            used.extend(decode_ip(&kv.key, &kv.value).map(|entry| entry.identity));
        })
        .await?;
        Ok(used)
    }

    async fn each(&self, prefix: &str, mut take: impl FnMut(KeyValue) + Send) -> Result<()> {
        let prefix = keys::under(prefix);
        let mut token = None;
        loop {
            let page = self.store.list_page(&prefix, token).await?;
            page.listing.kvs.into_iter().for_each(&mut take);
            token = page.next;
            if token.is_none() {
                return Ok(());
            }
        }
    }

    /// Deletes an identity if still nobody uses it; whether it did.
    async fn delete(&self, master: &Master) -> Result<bool> {
        let key = keys::identity(master.id);
        let guard = self
            .store
            .lock(&keys::identity_lock(&master.labels))
            .await?;
        let uses = keys::identity_uses(&master.labels);
        let listing = self.store.list(&keys::under(&uses)).await;
        let result = match listing {
            Ok(listing) if listing.kvs.iter().any(|kv| keys::is_use_of(&uses, &kv.key)) => {
                Ok(false)
            }
            Ok(_) => {
                let compare = vec![
                    guard.compare(),
                    Compare::ModifiedAt(key.clone(), master.revision),
                ];
                let delete = self.store.txn(compare, vec![Op::Delete { key }]).await;
                delete.map(|done| done.succeeded)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = guard.release().await {
            tracing::debug!(%error, "an identity lock is left to its lease");
        }
        result
    }
}
