// SPDX-License-Identifier: Apache-2.0
//! Follows this cluster's etcd. Its rows go the way of remote clusters' rows: validated, orphaned, kept on disk.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use clustermesh::{Kind, MeshEvent, Refusal, Rows, Value, persist};
use futures::StreamExt;
use kvstore::{Etcd, Store as _, Update, schema};
use model::{ClusterConfig, ClusterName, Labels, NumericIdentity};
use tables::Event;
use tokio::time::Instant;

use super::OwnStatus;
use crate::addresses::Source;
use crate::shared::Shared;
use config::Config;

/// How often changed rows are written to disk.
const SAVE: Duration = Duration::from_secs(2);
/// How often it is looked at what time asks for.
const TICK: Duration = Duration::from_secs(1);

struct State {
    rows: Rows,
    /// Changed since they were written to disk.
    changed: bool,
}

/// Follows this cluster's etcd.
#[derive(Clone)]
pub(crate) struct Follower {
    core: Arc<Shared>,
    status: Arc<OwnStatus>,
    config: Arc<Config>,
    state: Arc<Mutex<State>>,
    start: Instant,
}

impl Follower {
    pub(crate) fn new(config: Arc<Config>, core: Arc<Shared>, status: Arc<OwnStatus>) -> Self {
        let mut rows = Rows::new(config.scheme, &[]);
        rows.open_own(&config.cluster, config.cluster_id);
        let state = State {
            rows,
            changed: false,
        };
        Self {
            core,
            status,
            config,
            state: Arc::new(Mutex::new(state)),
            start: Instant::now(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn cluster(&self) -> &ClusterName {
        &self.config.cluster
    }

    /// Where the rows are kept.
    pub(crate) fn directory(&self) -> PathBuf {
        self.config.state_dir.join("state/own")
    }

    /// Nodes or addresses, for ever.
    pub(crate) async fn follow(self, store: Etcd, kind: Kind) {
        let prefix = match kind {
            Kind::Nodes => format!("{}/{}/", schema::keys::NODES, self.cluster()),
            _ => format!("{}/", schema::keys::IPS),
        };
        let mut updates = Box::pin(kvstore::reflect(store.clone(), prefix.clone()));
        while let Some(update) = updates.next().await {
            self.status.heard(match &update {
                Update::Failed(error) => Some(error.to_string()),
                _ => None,
            });
            for lease in self.take(kind, &prefix, update) {
                match store.lease_left(lease).await {
                    Ok(left) => {
                        self.change(|rows, now| rows.lease(now, self.cluster(), lease, left))
                    }
                    // The next list asks again.
                    Err(error) => self.status.heard(Some(error.to_string())),
                }
            }
        }
    }

    /// Takes an update; answers the leases to be looked at.
    fn take(&self, kind: Kind, prefix: &str, update: Update) -> Vec<kvstore::LeaseId> {
        let name = self.cluster();
        let put = |key: String, kv: &kvstore::KeyValue| {
            let Some(suffix) = key.strip_prefix(prefix) else {
                return;
            };
            let value = clustermesh::decode(kind, prefix, suffix, &kv.value);
            self.put(kind, suffix, value, kv.lease);
        };
        match update {
            Update::Event(Event::Init) => self.change(|rows, _| {
                rows.forget_questions(name);
                rows.begin(name, kind);
            }),
            Update::Event(Event::InitApply(key, kv) | Event::Apply(key, kv)) => put(key, &kv),
            Update::Event(Event::InitDone) => self.listed(kind),
            Update::Event(Event::Delete(key)) => {
                if let Some(suffix) = key.strip_prefix(prefix) {
                    self.change(|rows, now| rows.delete(now, name, kind, suffix));
                }
            }
            Update::Skipped { key, error } => {
                if let Some(suffix) = key.strip_prefix(prefix) {
                    self.put(
                        kind,
                        suffix,
                        Err(Refusal::Malformed(error.to_string())),
                        None,
                    );
                }
            }
            Update::Failed(_) => {}
        }
        let mut state = self.state();
        std::iter::from_fn(|| state.rows.pop_question())
            .map(|(_, lease)| lease)
            .collect()
    }

    fn put(
        &self,
        kind: Kind,
        suffix: &str,
        value: Result<Value, Refusal>,
        lease: Option<kvstore::LeaseId>,
    ) {
        self.change(|rows, now| rows.put(now, self.cluster(), kind, suffix, value, lease));
    }

    fn listed(&self, kind: Kind) {
        self.change(|rows, now| rows.listed(now, self.cluster(), kind, false));
        self.status.synced.send_modify(|synced| synced.mark(kind));
    }

    /// Identities, for ever.
    pub(crate) async fn identities(
        self,
        events: impl futures::Stream<Item = Event<NumericIdentity, Labels>>,
    ) {
        let kind = Kind::Identities;
        let mut events = Box::pin(events);
        while let Some(event) = events.next().await {
            match event {
                Event::Init => self.change(|rows, _| rows.begin(self.cluster(), kind)),
                Event::InitApply(id, labels) | Event::Apply(id, labels) => {
                    self.put(kind, &id.to_string(), Ok(Value::Identity(labels)), None);
                }
                Event::InitDone => self.listed(kind),
                Event::Delete(id) => self.change(|rows, now| {
                    rows.delete(now, self.cluster(), kind, &id.to_string());
                }),
            }
        }
    }

    /// What time asks for, for ever.
    pub(crate) async fn tick(self) {
        loop {
            tokio::time::sleep(TICK).await;
            let due = self.state().rows.deadline();
            if due.is_some_and(|at| at <= self.start.elapsed()) {
                self.change(|rows, now| rows.tick(now));
            }
            let text = remarks(&self.state().rows, self.cluster());
            *self.status.remarks() = text;
        }
    }

    /// Identities of all addresses of this cluster, also of nodes that are away; `None` before they are listed.
    pub(crate) fn identities_in_use(&self) -> Option<HashSet<NumericIdentity>> {
        if !self.status.synced.borrow().all() {
            return None;
        }
        let mut in_use = HashSet::new();
        self.state().rows.for_each_ip(|_, entry| {
            in_use.insert(entry.identity);
        });
        Some(in_use)
    }

    /// Says how a piece of work went.
    pub(crate) fn note(&self, subject: &str, problem: Option<impl std::fmt::Display>) {
        self.core.lock().note(subject, problem);
    }

    /// Changes the rows, and tells the node's state what follows, in order.
    fn change(&self, change: impl FnOnce(&mut Rows, Duration)) {
        let mut state = self.state();
        change(&mut state.rows, self.start.elapsed());
        state.changed = true;
        if !state.rows.has_events() {
            return;
        }
        let mut core = self.core.lock();
        while let Some(event) = state.rows.pop_event() {
            match event {
                MeshEvent::Node(_, Event::InitApply(_, node) | Event::Apply(_, node)) => {
                    core.set_node(Source::Kvstore, node);
                }
                MeshEvent::Node(_, Event::Delete(name)) => core.drop_node(&Source::Kvstore, &name),
                MeshEvent::Identity(_, Event::InitApply(id, labels) | Event::Apply(id, labels)) => {
                    core.set_identity(id, labels);
                }
                MeshEvent::Identity(_, Event::Delete(id)) => core.drop_identity(id),
                MeshEvent::Ip(_, Event::InitApply(net, _) | Event::Apply(net, _)) => {
                    if let Some((_, entry)) = state.rows.ip(&net) {
                        core.set_own_cluster_ip(&entry);
                    }
                }
                MeshEvent::Ip(_, Event::Delete(net)) => core.drop_own_cluster_ip(&net),
                _ => {}
            }
        }
        core.settle();
    }

    /// Rows of before the restart, in force until the live lists are complete.
    pub(crate) fn restore(&self) {
        let saved = match persist::load(&self.directory(), self.cluster()) {
            Ok(Some(saved)) => saved,
            Ok(None) => return,
            Err(error) => return self.core.lock().note(SUBJECT, Some(error)),
        };
        for kind in Kind::ALL {
            self.change(|rows, _| rows.begin(self.cluster(), kind));
            for (_, suffix, value, lease) in saved.rows.iter().filter(|row| row.0 == kind) {
                self.put(kind, suffix, value.clone(), *lease);
            }
            self.change(|rows, now| rows.listed(now, self.cluster(), kind, true));
        }
    }

    /// Writes changed rows to disk, for ever.
    pub(crate) async fn save(self) {
        loop {
            tokio::time::sleep(SAVE).await;
            self.save_now();
        }
    }

    /// Writes rows to disk if they changed.
    pub(crate) fn save_now(&self) {
        let config = ClusterConfig {
            id: self.config.cluster_id,
            ..ClusterConfig::default()
        };
        let snapshot = {
            let mut state = self.state();
            if !std::mem::take(&mut state.changed) {
                return;
            }
            state.rows.snapshot(self.cluster(), &config)
        };
        let saved = snapshot.map(|snapshot| persist::save(&self.directory(), &snapshot));
        let problem = saved.and_then(Result::err);
        if problem.is_some() {
            self.state().changed = true;
        }
        self.core.lock().note(SUBJECT, problem);
    }
}

const SUBJECT: &str = "last good rows of this cluster";

fn remarks(rows: &Rows, cluster: &ClusterName) -> String {
    let mut text = String::new();
    let (orphans, _) = rows.orphans(cluster);
    if orphans > 0 {
        text += &format!(", {orphans} rows kept whose agents are away");
    }
    let (refused, some) = rows.refused(cluster);
    if let Some(row) = some.first() {
        text += &format!(
            ", {refused} rows refused ({} {}: {})",
            row.kind, row.key, row.reason
        );
    }
    text
}
