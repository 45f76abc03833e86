// SPDX-License-Identifier: Apache-2.0
//! When rows are read from and written to the disk: soon after they change, but never most of the time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use model::ClusterName;
use tokio::task::JoinHandle;

use super::Shared;
use super::core::Core;
use crate::Error;
use crate::persist::{self, Restored, Snapshot};

/// Shortest time between a change and its saving, and between two savings of a cluster.
const PAUSE: Duration = Duration::from_secs(3);
/// The same for a cluster that was never saved: a start soon after the first wants to know whose labels are whose.
const FIRST: Duration = Duration::from_millis(250);
/// Share of the time that may go into saving: one part in this many.
const SHARE: u32 = 20;

/// How a saving ended.
pub(super) struct Saved {
    name: ClusterName,
    took: Duration,
    result: Result<(), Error>,
}

pub(super) struct Keeper {
    state_dir: Option<PathBuf>,
    /// The saving under way.
    running: Option<(ClusterName, JoinHandle<Saved>)>,
    /// When a changed cluster is to be saved.
    due: BTreeMap<ClusterName, Duration>,
    /// How long the last saving of a cluster took.
    took: BTreeMap<ClusterName, Duration>,
}

impl Keeper {
    pub(super) fn new(state_dir: Option<PathBuf>) -> Self {
        Self {
            state_dir,
            running: None,
            due: BTreeMap::new(),
            took: BTreeMap::new(),
        }
    }

    /// When [`Keeper::start_due`] has something to do.
    pub(super) fn deadline(&self, core: &mut Core, now: Duration) -> Option<Duration> {
        if self.state_dir.is_none() {
            core.dirty.clear();
            return None;
        }
        if self.running.is_some() {
            return None;
        }
        let soonest = core
            .dirty
            .iter()
            .map(|name| self.due.get(name).copied().unwrap_or(now));
        soonest.min()
    }

    /// Begins to save a cluster that is due.
    pub(super) fn start_due(&mut self, shared: &Shared) {
        let Some(state_dir) = self.state_dir.clone().filter(|_| self.running.is_none()) else {
            return;
        };
        let now = shared.now();
        let mut core = shared.core();
        for name in core.dirty.clone() {
            let took = self.took.get(&name);
            let pause = took.map_or(FIRST, |took| PAUSE.max(*took * SHARE));
            let due = *self.due.entry(name.clone()).or_insert(now + pause);
            if due > now {
                continue;
            }
            let Some(snapshot) = core.snapshot(&name) else {
                // Half a list is worse than none.
                self.due.insert(name, now + pause);
                continue;
            };
            core.dirty.remove(&name);
            self.due.remove(&name);
            let task = tokio::task::spawn_blocking(move || save(&state_dir, snapshot));
            self.running = Some((name, task));
            return;
        }
    }

    /// Waits until the saving under way ends.
    pub(super) async fn saved(&mut self) -> Saved {
        let Some((name, task)) = &mut self.running else {
            return std::future::pending().await;
        };
        let saved = match task.await {
            Ok(saved) => saved,
            Err(error) => {
                let path = persist::path(
                    self.state_dir.as_deref().unwrap_or("".as_ref()),
                    name.as_str(),
                );
                let result = Err(Error::Save {
                    path,
                    reason: error.to_string(),
                });
                Saved {
                    name: name.clone(),
                    took: PAUSE,
                    result,
                }
            }
        };
        self.running = None;
        saved
    }

    pub(super) fn finish(&mut self, core: &mut Core, saved: Saved) {
        if !core.serves(&saved.name) {
            // Its configuration was removed meanwhile, or its rows were drained.
            return self.forget(&saved.name);
        }
        match saved.result {
            Ok(()) => {
                core.disk_errors.remove(saved.name.as_str());
            }
            Err(error) => {
                let reason = error.to_string();
                // It is tried again for as long as the disk is full, which the log may be on.
                if core.disk_errors.get(saved.name.as_str()) != Some(&reason) {
                    tracing::warn!(%error, "rows are not saved");
                }
                core.disk_errors.insert(saved.name.to_string(), reason);
                core.dirty.insert(saved.name.clone());
            }
        }
        self.took.insert(saved.name, saved.took);
    }

    /// The saved rows of a cluster. What is wrong with them goes to its status.
    pub(super) async fn load(&self, shared: &Shared, name: &ClusterName) -> Option<Restored> {
        let state_dir = self.state_dir.clone()?;
        let of = name.clone();
        let loaded = tokio::task::spawn_blocking(move || persist::load(&state_dir, &of))
            .await
            .ok()?;
        loaded.unwrap_or_else(|error| {
            tracing::warn!(%error, cluster = %name, "no rows from the disk");
            shared
                .core()
                .disk_errors
                .insert(name.to_string(), error.to_string());
            None
        })
    }

    pub(super) fn forget(&mut self, name: &ClusterName) {
        self.due.remove(name);
        self.took.remove(name);
        let saving = self
            .running
            .as_ref()
            .is_some_and(|(running, _)| running == name);
        if let Some(state_dir) = self.state_dir.as_ref().filter(|_| !saving)
            && let Err(error) = persist::forget(state_dir, name.as_str())
        {
            tracing::warn!(%error, "rows stay on the disk");
        }
    }

    /// Deletes the rows of clusters that are not configured any more.
    pub(super) async fn forget_others(&self, names: Vec<String>) {
        if let Some(state_dir) = self.state_dir.clone() {
            let keep = move |name: &str| names.iter().any(|known| known == name);
            let done =
                tokio::task::spawn_blocking(move || persist::forget_others(&state_dir, keep));
            if let Err(error) = done.await {
                tracing::warn!(%error, "stale rows stay on the disk");
            }
        }
    }

    /// Saves everything that changed.
    pub(super) async fn save_all(&mut self, shared: &Shared) {
        if self.running.is_some() {
            let saved = self.saved().await;
            self.finish(&mut shared.core(), saved);
        }
        let Some(state_dir) = self.state_dir.clone() else {
            return;
        };
        let snapshots: Vec<Snapshot> = {
            let mut core = shared.core();
            let dirty = std::mem::take(&mut core.dirty);
            dirty
                .iter()
                .filter_map(|name| core.snapshot(name))
                .collect()
        };
        let done = tokio::task::spawn_blocking(move || {
            for snapshot in snapshots {
                if let Err(error) = persist::save(&state_dir, &snapshot) {
                    tracing::warn!(%error, "rows are not saved");
                }
            }
        });
        if let Err(error) = done.await {
            tracing::warn!(%error, "rows are not saved");
        }
    }
}

fn save(state_dir: &std::path::Path, snapshot: Snapshot) -> Saved {
    let start = Instant::now();
    let result = persist::save(state_dir, &snapshot);
    Saved {
        name: snapshot.name,
        took: start.elapsed(),
        result,
    }
}
