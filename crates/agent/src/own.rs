// SPDX-License-Identifier: Apache-2.0
//! This cluster's etcd as a source: its nodes, addresses and identities, and how the connection is.

mod status;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use datapath::Linux;
use futures::StreamExt;
use ipnet::IpNet;
use kvstore::{Etcd, KeyValue, Update, schema};
use model::{IpEntry, Labels, Node, NumericIdentity};
use tables::{Change, Event, Store};

use crate::addresses::Source;
use crate::core::Core;
use crate::own_file;

pub(crate) use status::OwnStatus;

/// How often changed rows are written to disk.
const SAVE: Duration = Duration::from_secs(2);

/// Which lists are complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Synced {
    nodes: bool,
    ips: bool,
    identities: bool,
}

impl Synced {
    pub(crate) fn all(self) -> bool {
        self.nodes && self.ips && self.identities
    }
}

/// Rows of this cluster, for the disk.
#[derive(Default)]
pub(crate) struct OwnRows {
    nodes: Store<String, Arc<Node>>,
    ips: Store<IpNet, IpEntry>,
    identities: Store<NumericIdentity, Labels>,
    changed: bool,
}

/// Follows this cluster's etcd.
#[derive(Clone)]
pub(crate) struct Follower {
    pub(crate) core: Arc<Mutex<Core<Linux>>>,
    pub(crate) status: Arc<OwnStatus>,
    pub(crate) rows: Arc<Mutex<OwnRows>>,
}

impl Follower {
    fn core(&self) -> MutexGuard<'_, Core<Linux>> {
        self.core
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn rows(&self) -> MutexGuard<'_, OwnRows> {
        self.rows
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Nodes, for ever.
    pub(crate) async fn nodes(self, store: Etcd) {
        let cluster = self.core().config.cluster.clone();
        let prefix = format!("{}/{cluster}/", schema::keys::NODES);
        let mut updates = Box::pin(kvstore::reflect(store, prefix.clone()));
        while let Some(update) = updates.next().await {
            let Some(event) = self.event(
                update,
                |key, kv: KeyValue| {
                    let node = schema::decode_node(key, &kv.value).map_err(|e| e.to_string())?;
                    let name = key.strip_prefix(&prefix).unwrap_or(key);
                    if node.name.cluster != cluster || *node.name.name != *name {
                        return Err(format!(
                            "{key}: names node {}, not the one of its key",
                            node.name
                        ));
                    }
                    Ok((name.to_owned(), Arc::new(node)))
                },
                |key| Some(key.strip_prefix(&prefix)?.to_owned()),
            ) else {
                continue;
            };
            self.take_node(event);
        }
    }

    fn take_node(&self, event: Event<String, Arc<Node>>) {
        let done = event == Event::InitDone;
        let changes = {
            let mut rows = self.rows();
            rows.changed = true;
            rows.nodes.apply(event)
        };
        for change in changes {
            match change {
                Change::Upsert { new, .. } => self.core().set_node(Source::Kvstore, new),
                Change::Delete { old, .. } => self.core().drop_node(&Source::Kvstore, &old.name),
            }
        }
        if done {
            self.status.synced.send_modify(|synced| synced.nodes = true);
        }
    }

    /// Addresses, for ever.
    pub(crate) async fn ips(self, store: Etcd) {
        let prefix = format!("{}/", schema::keys::IPS);
        let mut updates = Box::pin(kvstore::reflect(store, prefix.clone()));
        while let Some(update) = updates.next().await {
            let decode = |key: &str, kv: KeyValue| {
                let entry = schema::decode_ip(key, &kv.value).map_err(|e| e.to_string())?;
                match schema::ip_of_key(&prefix, key) {
                    Ok(net) if net == entry.prefix => Ok((net, entry)),
                    Ok(net) => Err(format!(
                        "{key}: the value is about {}, the key about {net}",
                        entry.prefix
                    )),
                    Err(error) => Err(error.to_string()),
                }
            };
            let Some(event) =
                self.event(update, decode, |key| schema::ip_of_key(&prefix, key).ok())
            else {
                continue;
            };
            self.take_ip(event);
        }
    }

    fn take_ip(&self, event: Event<IpNet, IpEntry>) {
        let done = event == Event::InitDone;
        let changes = {
            let mut rows = self.rows();
            rows.changed = true;
            rows.ips.apply(event)
        };
        for change in changes {
            match change {
                Change::Upsert { new, .. } => self.core().set_own_cluster_ip(&new),
                Change::Delete { key, .. } => self.core().withdraw(&key, &Source::Kvstore),
            }
        }
        if done {
            self.status.synced.send_modify(|synced| synced.ips = true);
        }
    }

    /// Identities, for ever.
    pub(crate) async fn identities(
        self,
        events: impl futures::Stream<Item = Event<NumericIdentity, Labels>>,
    ) {
        let mut events = Box::pin(events);
        while let Some(event) = events.next().await {
            self.take_identity(event);
        }
    }

    fn take_identity(&self, event: Event<NumericIdentity, Labels>) {
        let done = event == Event::InitDone;
        let changes = {
            let mut rows = self.rows();
            rows.changed = true;
            rows.identities.apply(event)
        };
        let mut core = self.core();
        for change in changes {
            match change {
                Change::Upsert { key, new, .. } => core.set_identity(key, new),
                Change::Delete { key, .. } => core.drop_identity(key),
            }
        }
        core.settle();
        drop(core);
        if done {
            self.status
                .synced
                .send_modify(|synced| synced.identities = true);
        }
    }

    /// Decodes an update; refused rows keep their previous version and are noted.
    fn event<K, V>(
        &self,
        update: Update,
        decode: impl Fn(&str, KeyValue) -> Result<(K, V), String>,
        key_of: impl Fn(&str) -> Option<K>,
    ) -> Option<Event<K, V>> {
        let event = match update {
            Update::Event(event) => {
                self.status.heard(None);
                event
            }
            Update::Skipped { key, error } => {
                tracing::warn!(key, %error, "a row of this cluster's etcd is refused; its previous version stays");
                return None;
            }
            Update::Failed(error) => {
                self.status.heard(Some(error.to_string()));
                return None;
            }
        };
        let decoded = |key: &str, kv: KeyValue| {
            decode(key, kv)
                .inspect_err(|reason| {
                    tracing::warn!(
                        reason,
                        "a row of this cluster's etcd is refused; its previous version stays"
                    )
                })
                .ok()
        };
        Some(match event {
            Event::Init => Event::Init,
            Event::InitDone => Event::InitDone,
            Event::InitApply(key, kv) => decoded(&key, kv).map(|(k, v)| Event::InitApply(k, v))?,
            Event::Apply(key, kv) => decoded(&key, kv).map(|(k, v)| Event::Apply(k, v))?,
            Event::Delete(key) => Event::Delete(key_of(&key)?),
        })
    }

    /// Rows of before the restart, in force until the live lists are complete. Whether there were any.
    pub(crate) fn restore(&self, saved: own_file::Rows) -> bool {
        if saved.nodes.is_empty() && saved.identities.is_empty() {
            return false;
        }
        for (id, labels) in saved.identities {
            self.take_identity(Event::Apply(id, labels));
        }
        for node in saved.nodes {
            self.take_node(Event::Apply(node.name.name.to_string(), Arc::new(node)));
        }
        for entry in saved.ips {
            self.take_ip(Event::Apply(entry.prefix, entry));
        }
        true
    }

    /// Writes changed rows to disk, for ever.
    pub(crate) async fn save(self, path: std::path::PathBuf) {
        loop {
            tokio::time::sleep(SAVE).await;
            self.save_now(&path);
        }
    }

    /// Writes rows to disk if they changed.
    pub(crate) fn save_now(&self, path: &std::path::Path) {
        let saved = {
            let mut rows = self.rows();
            if !std::mem::take(&mut rows.changed) {
                return;
            }
            own_file::Rows {
                nodes: rows
                    .nodes
                    .iter()
                    .map(|(_, node)| (**node).clone())
                    .collect(),
                ips: rows.ips.iter().map(|(_, entry)| entry.clone()).collect(),
                identities: rows
                    .identities
                    .iter()
                    .map(|(id, labels)| (*id, labels.clone()))
                    .collect(),
            }
        };
        let result = own_file::save(path, &saved);
        self.core()
            .note("last good rows of this cluster", result.err());
    }
}

/// The identities that an allocator should know before its etcd answers.
pub(crate) fn known_identities(core: &Core<Linux>) -> Vec<(NumericIdentity, Labels)> {
    core.endpoints
        .values()
        .map(|endpoint| (endpoint.identity, endpoint.labels.clone()))
        .collect()
}
