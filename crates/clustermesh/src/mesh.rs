// SPDX-License-Identifier: Apache-2.0
//! The mesh as the agent sees it: one task owns the state machines, the rows and their order; a link per
//! connection does the I/O; this handle asks.

mod core;
mod driver;
mod keeper;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use kvstore::Store;
use kvstore::config::Config;
use model::{ClusterName, IpEntry};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::{ConfigDir, Error, MeshEvent, RemoteStatus, Room, Settings, persist};
use core::Core;
use driver::Driver;

/// Since when the directory cannot be read, and why.
type Unread = (SystemTime, String);

/// What handle and task share.
#[derive(Debug)]
pub(crate) struct Shared {
    core: Mutex<Core>,
    /// All clusters known at the start are served, and the agent has been sent their rows.
    served: watch::Sender<bool>,
    unread: Mutex<Option<Unread>>,
    start: tokio::time::Instant,
    /// The handle changed something.
    wake: tokio::sync::Notify,
}

impl Shared {
    fn core(&self) -> MutexGuard<'_, Core> {
        // A panic under the lock leaves rows that are each valid.
        self.core
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn unread(&self) -> MutexGuard<'_, Option<Unread>> {
        self.unread
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

/// All remote clusters. Dropping it ends every connection; [`Mesh::shutdown`] also saves what is known.
#[derive(Debug)]
pub struct Mesh {
    shared: Arc<Shared>,
    sync_timeout: Duration,
    stop: Option<watch::Sender<bool>>,
    task: Option<JoinHandle<()>>,
}

impl Mesh {
    /// Begins to follow the clusters that `settings` names. `connector` makes a client for a cluster; it is called for
    /// every attempt. Must be called within a tokio runtime. `events` is best bounded to some thousands.
    pub fn start<S, C, F>(
        settings: Settings,
        connector: C,
        events: mpsc::Sender<MeshEvent>,
    ) -> Result<Self, Error>
    where
        S: Store,
        C: Fn(&ClusterName, &Config) -> F + Send + 'static,
        F: Future<Output = kvstore::Result<S>> + Send + 'static,
    {
        check(&settings)?;
        let (changed, told) = mpsc::channel(1);
        let dir = ConfigDir::new(&settings.config_dir, settings.cluster.clone());
        // Watched before it is read, so that no change falls between. Other programs may have taken all watches that a node
        // has (`fs.inotify.max_user_instances`): then the directory is read now and then.
        let watcher = dir.watch(changed).inspect_err(|error| {
            tracing::warn!(%error, "changes in the directory are seen after some seconds");
        });
        Self::begin(settings, dir, connector, events, told, watcher.ok())
    }

    /// The same, told of changes in the directory by `told` instead of the kernel: in virtual time the kernel's notices
    /// come at no particular moment.
    pub fn start_told<S, C, F>(
        settings: Settings,
        connector: C,
        events: mpsc::Sender<MeshEvent>,
        told: mpsc::Receiver<()>,
    ) -> Result<Self, Error>
    where
        S: Store,
        C: Fn(&ClusterName, &Config) -> F + Send + 'static,
        F: Future<Output = kvstore::Result<S>> + Send + 'static,
    {
        check(&settings)?;
        let dir = ConfigDir::new(&settings.config_dir, settings.cluster.clone());
        Self::begin(settings, dir, connector, events, told, ())
    }

    fn begin<S, C, F>(
        settings: Settings,
        mut dir: ConfigDir,
        connector: C,
        events: mpsc::Sender<MeshEvent>,
        told: mpsc::Receiver<()>,
        watcher: impl Send + Sync + 'static,
    ) -> Result<Self, Error>
    where
        S: Store,
        C: Fn(&ClusterName, &Config) -> F + Send + 'static,
        F: Future<Output = kvstore::Result<S>> + Send + 'static,
    {
        if let Some(state_dir) = &settings.state_dir {
            dir = dir.knowing(persist::names(state_dir));
        }
        let changes = dir.scan()?;
        let own = &settings.own_pod_cidrs;
        let core = Core::new(settings.id, settings.scheme, own, settings.room);
        let (served, _) = watch::channel(false);
        let shared = Arc::new(Shared {
            core: Mutex::new(core),
            served,
            unread: Mutex::default(),
            start: tokio::time::Instant::now(),
            wake: tokio::sync::Notify::new(),
        });
        let (stop, stopped) = watch::channel(false);
        let sync_timeout = settings.sync_timeout;
        let driver = Driver::new(shared.clone(), settings.state_dir, connector, events);
        let task = tokio::spawn(async move {
            let _watcher = watcher;
            driver.run(dir, changes, told, stopped).await;
        });
        Ok(Self {
            shared,
            sync_timeout,
            stop: Some(stop),
            task: Some(task),
        })
    }

    /// All remote clusters, sorted by name.
    pub fn status(&self) -> Vec<RemoteStatus> {
        let now = self.shared.now();
        self.shared.core().status(now)
    }

    /// Since when the directory of clusters cannot be read, and why; the clusters known before stay.
    pub fn unread(&self) -> Option<(SystemTime, String)> {
        self.shared.unread().clone()
    }

    /// Waits until every cluster known at the start is synced, served from the last good state, or refused, and the agent
    /// has been sent their rows; at most `sync_timeout`. `false` if it was that.
    pub async fn synced(&self) -> bool {
        let mut served = self.shared.served.subscribe();
        let left =
            (self.shared.start + self.sync_timeout).duration_since(tokio::time::Instant::now());
        let waited = tokio::time::timeout(left, served.wait_for(|served| *served)).await;
        matches!(waited, Ok(Ok(_)))
    }

    /// Replaces what no remote may claim: our pods' networks and nodes' addresses.
    pub fn protect(&self, own: &[IpNet]) {
        let now = self.shared.now();
        self.shared.core().protect(now, own);
        self.shared.wake.notify_one();
    }

    /// Replaces what all remote clusters may have together. Rows that are too many are refused, and taken when there is room.
    pub fn set_room(&self, room: Room) {
        let now = self.shared.now();
        self.shared.core().set_room(now, room);
        self.shared.wake.notify_one();
    }

    /// Everything known about an address, with the names of its pod, and whose it is.
    pub fn ip(&self, net: &IpNet) -> Option<(ClusterName, IpEntry)> {
        self.shared.core().rows.ip(net)
    }

    /// Calls `each` with every address. The mesh stands still meanwhile.
    pub fn for_each_ip(&self, each: impl FnMut(&ClusterName, IpEntry)) {
        self.shared.core().rows.for_each_ip(each);
    }

    /// Ends every connection and saves what is known.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send_replace(true);
        }
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the mesh did not end in order");
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn check(settings: &Settings) -> Result<(), Error> {
    let (id, max) = (settings.id.0, settings.scheme.max_clusters());
    if id == 0 {
        return Err(Error::NoId {
            dir: settings.config_dir.clone(),
            max,
        });
    }
    if id > max {
        return Err(Error::IdTooLarge { id, max });
    }
    Ok(())
}
