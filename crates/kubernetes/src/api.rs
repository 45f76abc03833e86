// SPDX-License-Identifier: Apache-2.0
//! The API server as a source: lists and watches become updates like those of a manifest directory, by the same
//! conversion. What was known stays while the server is away, and is on disk for a start without it.

mod client;
mod definitions;
mod events;
mod in_use;
mod kind;
mod leader;
mod lost_node;
mod networks;
mod node_names;
mod objects;
mod own_networks;
mod own_node;
mod pool;
mod prune;
mod publish;
mod trim;
mod turn;
mod verdicts;
mod watches;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tables::Tasks;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::{ObjectEvent, Problem, Update, disk};
pub use client::{ConnectError, Settings, connect, is_in_pod, server_version};
pub use definitions::keep_definitions;
pub use events::{Events, Subject};
pub use in_use::endpoint_identities;
pub use kind::Kind;
pub use kube::Client;
pub use leader::Leader;
pub use lost_node::lost_node;
pub use networks::{Ipam, PodNetworks, pod_networks};
pub use node_names::node_names;
use objects::Objects;
pub use own_networks::keep_networks;
pub use own_node::keep_open;
pub use pool::{Pool, Pools};
pub use prune::prune_identities;
pub use publish::{Body, Publication, Published, ResourceKey};
pub use verdicts::Verdicts;
use watches::Notice;

/// How long a start waits for the server if the last good state is on disk.
const PATIENCE: Duration = Duration::from_secs(3);
/// Changes that come together are one write.
const SAVE_AFTER: Duration = Duration::from_secs(1);
/// A large state is written less often: of the time since the last write one part in so many goes into writing.
const SAVE_SHARE: u32 = 20;
/// Notices taken in one go.
const BATCH: usize = 512;
/// What problems of this source are filed under.
pub const SERVER: &str = "Kubernetes API";

/// The objects of a cluster, followed at its API server.
#[derive(Debug)]
pub struct Source {
    objects: Objects,
    notices: mpsc::Receiver<(Kind, Notice)>,
    /// Kinds that cannot be followed now, and why.
    away: BTreeMap<Kind, String>,
    file: Option<PathBuf>,
    file_problem: Option<String>,
    save_at: Option<Instant>,
    save_after: Duration,
    /// Until when a start waits; `None`: it is over.
    starting: Option<Instant>,
    /// The state on disk is whole.
    restored: bool,
    pending: Vec<ObjectEvent>,
    told: Vec<Problem>,
    /// Aborted with their owner.
    _tasks: Tasks,
}

impl Source {
    /// Begins to follow what the node called `node` needs. `file` holds the last good state; without one a start waits
    /// for the server.
    pub fn new(client: &Client, node: &str, file: Option<PathBuf>) -> Self {
        let (tx, notices) = mpsc::channel(BATCH);
        let mut tasks = Tasks::default();
        for kind in Kind::ALL {
            tasks.spawn(
                "watch",
                watches::follow(client.clone(), kind, node.to_owned(), tx.clone()),
            );
        }
        let mut source = Self {
            objects: Objects::new(node),
            notices,
            away: BTreeMap::new(),
            file,
            file_problem: None,
            save_at: None,
            save_after: SAVE_AFTER,
            starting: Some(Instant::now() + PATIENCE),
            restored: false,
            pending: Vec::new(),
            told: Vec::new(),
            _tasks: tasks,
        };
        source.restore();
        source
    }

    fn restore(&mut self) {
        let Some(file) = &self.file else { return };
        match disk::read(file) {
            Ok(Some(saved)) => {
                if let Some(events) = self.objects.restore(saved) {
                    self.pending = events;
                    self.restored = true;
                }
            }
            Ok(None) => {}
            Err(reason) => self.file_problem = Some(reason),
        }
    }

    /// Waits for the next change; the first answer is the whole state. Cancel safe.
    pub async fn next(&mut self) -> Update {
        loop {
            let is_over = self.may_start();
            let problems = self.problems();
            if is_over
                && (!self.pending.is_empty() || self.starting.is_some() || problems != self.told)
            {
                self.starting = None;
                self.told.clone_from(&problems);
                let mut events = std::mem::take(&mut self.pending);
                // As with a directory: an object that moved is not gone.
                events.sort_by_key(|event| !event.is_gone());
                return Update { events, problems };
            }
            self.wait().await;
        }
    }

    /// Whether what is known is a whole state.
    fn may_start(&self) -> bool {
        let Some(deadline) = self.starting else {
            return true;
        };
        if self.objects.is_complete() {
            return true;
        }
        self.restored && (!self.away.is_empty() || Instant::now() >= deadline)
    }

    /// Takes what comes next: notices of the watches, or a time.
    async fn wait(&mut self) {
        let patience = self
            .starting
            .filter(|at| self.restored && *at > Instant::now());
        let wake = [self.save_at, patience].into_iter().flatten().min();
        let timer = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            notice = self.notices.recv() => match notice {
                Some((kind, notice)) => {
                    self.take(kind, notice);
                    while let Ok((kind, notice)) = self.notices.try_recv() {
                        self.take(kind, notice);
                    }
                }
                // The watches ended, which only a panic does.
                None => std::future::pending().await,
            },
            () = timer => {}
        }
        if self.save_at.is_some_and(|at| at <= Instant::now()) {
            self.save_at = None;
            self.save();
        }
    }

    fn take(&mut self, kind: Kind, notice: Notice) {
        match notice {
            Notice::Event(event) => {
                self.away.remove(&kind);
                let (events, is_changed) = self.objects.take(kind, event);
                self.pending.extend(events);
                if is_changed && self.file.is_some() {
                    self.save_at.get_or_insert(Instant::now() + self.save_after);
                }
            }
            Notice::Failed(reason) => drop(self.away.insert(kind, reason)),
            Notice::NotServed(reason) => {
                self.objects.not_served(kind);
                self.away.insert(kind, reason);
            }
        }
    }

    /// Writes the last good state, once there is a whole one.
    fn save(&mut self) {
        if let Some(file) = &self.file
            && self.objects.is_complete()
        {
            let begun = Instant::now();
            self.file_problem = disk::write(file, &self.objects.saved()).err();
            self.save_after = SAVE_AFTER.max(begun.elapsed() * SAVE_SHARE);
            if self.file_problem.is_some() {
                self.save_at = Some(Instant::now() + self.save_after);
            }
        }
    }

    fn problems(&self) -> Vec<Problem> {
        let away = self.away.iter().map(|(kind, reason)| {
            let reason = format!("{}: {reason}", kind.plural());
            Problem::of_file(SERVER, reason, self.objects.is_known(*kind))
        });
        let file = self.file_problem.iter().map(|reason| {
            let name = self.file.as_ref().map(|file| file.display().to_string());
            Problem::of_file(&name.unwrap_or_default(), reason.clone(), false)
        });
        away.chain(file)
            .chain(self.objects.problems(SERVER))
            .collect()
    }
}
