// SPDX-License-Identifier: Apache-2.0
//! The task that drives the mesh: waits for whatever comes first, asks the core, does what it says.

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kvstore::Store;
use kvstore::config::Config;
use model::ClusterName;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::Instrument;

use super::Shared;
use super::core::Todo;
use super::keeper::Keeper;
use crate::link::{self, Reports, Row, Seen, Wanted};
use crate::persist::Restored;
use crate::{ConfigChange, ConfigDir, Input, Kind, MeshEvent, Session};

/// How often the directory is read although nothing told of a change.
const POLL: Duration = Duration::from_secs(5);
/// Changes in the directory come in bursts.
const BURST: Duration = Duration::from_millis(50);
/// Batches that wait for the core.
const WAITING: usize = 64;
/// Events that are sent without looking at anything else.
const AT_ONCE: usize = 4096;

/// A link that ends with its owner.
struct Link {
    session: Session,
    wanted: mpsc::UnboundedSender<Wanted>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) struct Driver<C> {
    shared: Arc<Shared>,
    connector: C,
    events: mpsc::Sender<MeshEvent>,
    configs: HashMap<ClusterName, Config>,
    links: HashMap<ClusterName, Link>,
    keeper: Keeper,
    reports: Reports,
    seen: mpsc::Receiver<(ClusterName, Session, Seen)>,
    rows: mpsc::Receiver<(ClusterName, Session, Kind, Vec<Row>)>,
    /// Clusters known at the start that nobody waited long enough for.
    awaited: Vec<ClusterName>,
}

impl<S, C, F> Driver<C>
where
    S: Store,
    C: Fn(&ClusterName, &Config) -> F + Send + 'static,
    F: Future<Output = kvstore::Result<S>> + Send + 'static,
{
    pub(super) fn new(
        shared: Arc<Shared>,
        state_dir: Option<PathBuf>,
        connector: C,
        events: mpsc::Sender<MeshEvent>,
    ) -> Self {
        let (seen_tx, seen) = mpsc::channel(1024);
        let (rows_tx, rows) = mpsc::channel(WAITING);
        Self {
            shared,
            connector,
            events,
            configs: HashMap::new(),
            links: HashMap::new(),
            keeper: Keeper::new(state_dir),
            reports: Reports {
                seen: seen_tx,
                rows: rows_tx,
            },
            seen,
            rows,
            awaited: Vec::new(),
        }
    }

    pub(super) async fn run(
        mut self,
        mut dir: ConfigDir,
        changes: Vec<ConfigChange>,
        mut changed: mpsc::Receiver<()>,
        mut stopped: watch::Receiver<bool>,
    ) {
        self.begin(changes).await;
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.check_served();
            let waiting = self.shared.core().rows.has_events();
            let deadline = self.deadline();
            tokio::select! {
                biased;
                () = async { stopped.wait_for(|stopped| *stopped).await.map_or((), drop) } => break,
                room = async { self.events.reserve().await.map(drop) }, if waiting => {
                    if room.is_err() {
                        break; // The agent has gone.
                    }
                    self.send_ready();
                }
                () = self.shared.wake.notified() => {}
                Some(()) = changed.recv() => {
                    tokio::time::sleep(BURST).await;
                    let _ = changed.try_recv();
                    self.scan(&mut dir).await;
                }
                _ = poll.tick() => self.scan(&mut dir).await,
                Some((name, session, seen)) = self.seen.recv() => self.seen(name, session, seen),
                saved = self.keeper.saved() => self.keeper.finish(&mut self.shared.core(), saved),
                () = tokio::time::sleep_until(deadline) => self.tick(),
                // Last: a flood of rows delays nothing else.
                Some((name, session, kind, rows)) = self.rows.recv(), if !waiting => {
                    let now = self.shared.now();
                    let todo = self.shared.core().batch(now, &name, session, kind, rows);
                    self.execute(todo);
                    self.send_ready();
                }
            }
        }
        self.links.clear();
        self.keeper.save_all(&self.shared).await;
    }

    fn deadline(&self) -> tokio::time::Instant {
        let mut core = self.shared.core();
        let now = self.shared.now();
        let soon = [core.deadline(), self.keeper.deadline(&mut core, now)];
        let at = soon.into_iter().flatten().min().unwrap_or(now + POLL);
        self.shared.start + at
    }

    /// Sends events as long as the agent takes them.
    fn send_ready(&mut self) {
        let mut core = self.shared.core();
        for _ in 0..AT_ONCE {
            if !core.rows.has_events() {
                break;
            }
            let Ok(permit) = self.events.try_reserve() else {
                break;
            };
            if let Some(event) = core.rows.pop_event() {
                permit.send(event);
            }
        }
    }

    fn check_served(&mut self) {
        if *self.shared.served.borrow() {
            return;
        }
        let core = self.shared.core();
        self.awaited.retain(|name| !core.is_settled(name));
        let served = self.awaited.is_empty() && !core.rows.has_events();
        drop(core);
        if served {
            self.shared.served.send_replace(true);
        }
    }

    async fn begin(&mut self, changes: Vec<ConfigChange>) {
        let named = |change: &ConfigChange| match change {
            ConfigChange::Usable(name, _) => Some(name.clone()),
            _ => None,
        };
        self.awaited = changes.iter().filter_map(named).collect();
        let names = changes.iter().map(|change| match change {
            ConfigChange::Usable(name, _) => name.as_str(),
            ConfigChange::Unusable { name, .. } | ConfigChange::Removed { name } => name,
        });
        self.keeper
            .forget_others(names.map(str::to_owned).collect())
            .await;
        self.apply(changes).await;
    }

    async fn scan(&mut self, dir: &mut ConfigDir) {
        match dir.scan() {
            Ok(changes) => {
                *self.shared.unread() = None;
                self.apply(changes).await;
            }
            Err(error) => {
                let text = error.to_string();
                let mut unread = self.shared.unread();
                if unread.as_ref().is_none_or(|(_, before)| *before != text) {
                    tracing::warn!(error = text, "the clusters known so far stay");
                    let since = unread.as_ref().map_or_else(SystemTime::now, |(at, _)| *at);
                    *unread = Some((since, text));
                }
            }
        }
    }

    async fn apply(&mut self, changes: Vec<ConfigChange>) {
        for change in changes {
            let todo = match change {
                ConfigChange::Usable(name, config) => self.configured(name, config).await,
                ConfigChange::Unusable { name, reason } => {
                    tracing::warn!(cluster = name, reason, "unusable configuration");
                    let restored = match ClusterName::new(&name) {
                        Ok(name) => self.restored(&name).await,
                        Err(_) => None,
                    };
                    let now = self.shared.now();
                    self.shared.core().unusable(now, &name, reason, restored)
                }
                ConfigChange::Removed { name } => {
                    tracing::info!(cluster = name, "configuration removed");
                    let now = self.shared.now();
                    self.shared.core().removed(now, &name)
                }
            };
            self.execute(todo);
        }
    }

    /// The rows on disk of a cluster that is new here.
    async fn restored(&mut self, name: &ClusterName) -> Option<Restored> {
        let known = self.shared.core().knows(name);
        match known {
            true => None,
            false => self.keeper.load(&self.shared, name).await,
        }
    }

    async fn configured(&mut self, name: ClusterName, config: Config) -> Vec<Todo> {
        let restored = self.restored(&name).await;
        let scheme = |tls| if tls { "https" } else { "http" };
        let endpoint = |e: &kvstore::config::Endpoint| match e.host.contains(':') {
            true => format!("{}://[{}]:{}", scheme(e.tls), e.host, e.port),
            false => format!("{}://{}:{}", scheme(e.tls), e.host, e.port),
        };
        let endpoints = config.endpoints.iter().map(endpoint).collect();
        self.configs.insert(name.clone(), config);
        let now = self.shared.now();
        self.shared
            .core()
            .configured(now, &name, endpoints, restored)
    }

    fn seen(&mut self, name: ClusterName, session: Session, seen: Seen) {
        let input = match seen {
            Seen::Failed(reason) => {
                tracing::warn!(cluster = %name, reason, "connection failed");
                Input::Failed(session, reason)
            }
            Seen::Answered(id) => Input::Answered(session, id),
            Seen::Heartbeat => Input::Heartbeat(session),
            Seen::Config(config) => Input::Config(session, config),
            Seen::Canary(kind) => Input::Canary(session, kind),
            Seen::Lease(lease, left) => {
                let now = self.shared.now();
                return self.shared.core().lease(now, &name, session, lease, left);
            }
        };
        let now = self.shared.now();
        let todo = self.shared.core().input(now, &name, input);
        self.execute(todo);
    }

    fn tick(&mut self) {
        let now = self.shared.now();
        let todo = self.shared.core().tick(now);
        self.execute(todo);
        self.keeper.start_due(&self.shared);
    }

    fn execute(&mut self, todo: Vec<Todo>) {
        for todo in todo {
            match todo {
                Todo::Connect(name, session) => self.connect(name, session),
                Todo::Close(name, session) => {
                    if self
                        .links
                        .get(&name)
                        .is_some_and(|link| link.session == session)
                    {
                        self.links.remove(&name);
                    }
                }
                Todo::Watch(name, session, watch, cached) => {
                    let link = self.links.get(&name).filter(|link| link.session == session);
                    // A link that has ended has reported why.
                    let _ = link.map(|link| link.wanted.send(Wanted::Follow(watch, cached)));
                }
                Todo::Ask(name, lease) => {
                    // Without a link the next list asks again.
                    let link = self.links.get(&name);
                    let _ = link.map(|link| link.wanted.send(Wanted::Lease(lease)));
                }
                Todo::Forget(name) => self.keeper.forget(&name),
                Todo::Removed(name) => {
                    self.links.remove(&name);
                    self.configs.remove(&name);
                    self.keeper.forget(&name);
                }
            }
        }
    }

    fn connect(&mut self, name: ClusterName, session: Session) {
        let Some(config) = self.configs.get(&name) else {
            return;
        };
        let (wanted, wants) = mpsc::unbounded_channel();
        let connect = (self.connector)(&name, config);
        let span = tracing::info_span!("link", cluster = %name, session = session.0);
        let link = link::run(name.clone(), session, connect, wants, self.reports.clone());
        let task = tokio::spawn(link.instrument(span));
        self.links.insert(
            name,
            Link {
                session,
                wanted,
                task,
            },
        );
    }
}
