// SPDX-License-Identifier: Apache-2.0
//! All state machines and all rows, without I/O: inputs in, what the driver has to do out.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use kvstore::LeaseId;
use model::{ClusterId, ClusterName, IdentityScheme};

use crate::link::Row;
use crate::persist::{Restored, Snapshot};
use crate::{Ids, Input, Kind, Output, Remote, RemoteStatus, Room, Rows, Session, Watch};

/// What the driver has to do for a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Todo {
    Connect(ClusterName, Session),
    Close(ClusterName, Session),
    Watch(ClusterName, Session, Watch, bool),
    /// Find out whether a lease lives.
    Ask(ClusterName, LeaseId),
    /// The rows on disk are of an id that it does not have any more.
    Forget(ClusterName),
    Removed(ClusterName),
}

#[derive(Debug)]
pub(crate) struct Core {
    ids: Ids,
    pub(crate) rows: Rows,
    remotes: BTreeMap<ClusterName, Remote>,
    /// Files that belong to no remote, and why.
    unusable: BTreeMap<String, (Duration, String)>,
    /// What is wrong with a cluster's file of rows.
    pub(crate) disk_errors: BTreeMap<String, String>,
    /// Clusters whose rows or configuration changed since they were saved.
    pub(crate) dirty: BTreeSet<ClusterName>,
    seed: u64,
}

impl Core {
    pub(crate) fn new(id: ClusterId, scheme: IdentityScheme, own: &[IpNet], room: Room) -> Self {
        let mut rows = Rows::new(scheme, own);
        rows.set_room(room);
        Self {
            ids: Ids::new(id, scheme),
            rows,
            remotes: BTreeMap::new(),
            unusable: BTreeMap::new(),
            disk_errors: BTreeMap::new(),
            dirty: BTreeSet::new(),
            seed: rand::random(),
        }
    }

    /// The file of `name` is usable. `restored`: rows of the disk, if the cluster is new here.
    pub(crate) fn configured(
        &mut self,
        now: Duration,
        name: &ClusterName,
        endpoints: Vec<String>,
        restored: Option<Restored>,
    ) -> Vec<Todo> {
        self.unusable.remove(name.as_str());
        self.add(now, name, restored);
        self.input(now, name, Input::Configured { endpoints })
    }

    fn add(&mut self, now: Duration, name: &ClusterName, restored: Option<Restored>) {
        if !self.remotes.contains_key(name) {
            let mut hasher = DefaultHasher::new();
            name.hash(&mut hasher);
            let remote = Remote::new(now, name.clone(), self.seed ^ hasher.finish());
            self.remotes.insert(name.clone(), remote);
        }
        if let Some(restored) = restored {
            self.restore(now, name, restored);
        }
    }

    fn restore(&mut self, now: Duration, name: &ClusterName, restored: Restored) {
        self.input(now, name, Input::Restored(restored.config));
        if !self.remotes.get(name).is_some_and(Remote::is_served) {
            return;
        }
        let mut kinds: [Vec<_>; 3] = Default::default();
        for (kind, key, value, lease) in restored.rows {
            kinds[kind as usize].push((key, value, lease));
        }
        for (kind, rows) in Kind::ALL.into_iter().zip(kinds) {
            self.rows.begin(name, kind);
            for (key, value, lease) in rows {
                self.rows.put(now, name, kind, &key, value, lease);
            }
            self.rows.listed(now, name, kind, true);
        }
    }

    /// The file is there but cannot be used. `restored` as in [`Core::configured`].
    pub(crate) fn unusable(
        &mut self,
        now: Duration,
        name: &str,
        reason: String,
        restored: Option<Restored>,
    ) -> Vec<Todo> {
        let cluster = ClusterName::new(name).ok();
        if let (Some(name), Some(_)) = (&cluster, &restored) {
            self.add(now, name, restored);
        }
        match cluster.filter(|name| self.remotes.contains_key(name)) {
            Some(name) => self.input(now, &name, Input::Unusable(reason)),
            None => {
                self.unusable.insert(name.to_owned(), (now, reason));
                Vec::new()
            }
        }
    }

    /// The file is gone.
    pub(crate) fn removed(&mut self, now: Duration, name: &str) -> Vec<Todo> {
        self.unusable.remove(name);
        let Ok(name) = ClusterName::new(name) else {
            return Vec::new();
        };
        let todo = self.input(now, &name, Input::Removed);
        self.remotes.remove(&name);
        self.dirty.remove(&name);
        self.disk_errors.remove(name.as_str());
        todo
    }

    pub(crate) fn input(&mut self, now: Duration, name: &ClusterName, input: Input) -> Vec<Todo> {
        let mut todo = Vec::new();
        let mut inputs = vec![(name.clone(), input)];
        while let Some((name, input)) = inputs.pop() {
            let Some(remote) = self.remotes.get_mut(&name) else {
                continue;
            };
            for output in remote.handle(now, input, &mut self.ids) {
                match output {
                    Output::Connect(session) => todo.push(Todo::Connect(name.clone(), session)),
                    Output::Close(session) => {
                        self.rows.forget_questions(&name);
                        todo.push(Todo::Close(name.clone(), session));
                    }
                    Output::Watch {
                        session,
                        watch,
                        cached,
                    } => {
                        todo.push(Todo::Watch(name.clone(), session, watch, cached));
                    }
                    Output::Open(id) => self.rows.open(&name, id),
                    Output::Drain => {
                        self.rows.drain(&name);
                        todo.push(Todo::Forget(name.clone()));
                    }
                    Output::Remove => {
                        self.rows.remove(&name);
                        todo.push(Todo::Removed(name.clone()));
                    }
                    Output::IdReleased => {
                        let others = self.remotes.keys().filter(|other| **other != name);
                        inputs.extend(others.map(|other| (other.clone(), Input::IdsChanged)));
                    }
                    Output::Synced => {
                        self.dirty.insert(name.clone());
                    }
                }
            }
        }
        todo
    }

    /// Applies a batch of rows; answers what follows.
    pub(crate) fn batch(
        &mut self,
        now: Duration,
        name: &ClusterName,
        session: Session,
        kind: Kind,
        rows: Vec<Row>,
    ) -> Vec<Todo> {
        if !self
            .remotes
            .get(name)
            .is_some_and(|remote| remote.accepts(session))
        {
            return Vec::new();
        }
        let mut todo = Vec::new();
        for row in rows {
            match row {
                Row::Begin => self.rows.begin(name, kind),
                Row::Put(key, value, lease) => {
                    if kind == Kind::Identities && value.is_ok() {
                        self.rows.identity_written(name, lease);
                    }
                    self.rows.put(now, name, kind, &key, value, lease);
                }
                Row::Delete(key) => self.rows.delete(now, name, kind, &key),
                Row::Listed => {
                    let remote = self.remotes.get(name).and_then(Remote::accepted);
                    let announced = remote.is_some_and(|config| config.synced_canaries);
                    self.rows.listed(now, name, kind, announced);
                    todo.extend(self.input(now, name, Input::Listed(session, kind)));
                }
            }
        }
        self.dirty.insert(name.clone());
        let asked = std::iter::from_fn(|| self.rows.pop_question());
        todo.extend(asked.map(|(name, lease)| Todo::Ask(name, lease)));
        todo
    }

    /// What is known of a lease that was asked for.
    pub(crate) fn lease(
        &mut self,
        now: Duration,
        name: &ClusterName,
        session: Session,
        lease: LeaseId,
        left: Option<Duration>,
    ) {
        if self
            .remotes
            .get(name)
            .is_some_and(|remote| remote.accepts(session))
        {
            self.rows.lease(now, name, lease, left);
            self.dirty.insert(name.clone());
        }
    }

    pub(crate) fn protect(&mut self, now: Duration, own: &[IpNet]) {
        self.rows.tick(now);
        self.rows.protect(own);
    }

    pub(crate) fn set_room(&mut self, now: Duration, room: Room) {
        self.rows.tick(now);
        self.rows.set_room(room);
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        let remotes = self.remotes.values().filter_map(Remote::deadline).min();
        [remotes, self.rows.deadline()].into_iter().flatten().min()
    }

    pub(crate) fn tick(&mut self, now: Duration) -> Vec<Todo> {
        self.rows.tick(now);
        let mut todo = Vec::new();
        while let Some((name, kind)) = self.rows.pop_list() {
            let followed = self.remotes.get(&name).and_then(Remote::followed);
            // Otherwise a list is under way or will be.
            todo.extend(
                followed
                    .map(|(session, cached)| Todo::Watch(name, session, Watch::Rows(kind), cached)),
            );
        }
        let due = |remote: &&Remote| remote.deadline().is_some_and(|at| at <= now);
        let due: Vec<ClusterName> = self
            .remotes
            .values()
            .filter(due)
            .map(|r| r.name().clone())
            .collect();
        let inputs = due.iter();
        todo.extend(inputs.flat_map(|name| self.input(now, name, Input::Tick)));
        todo
    }

    /// Whether nobody needs to wait for `name`.
    pub(crate) fn is_settled(&self, name: &ClusterName) -> bool {
        self.remotes
            .get(name)
            .is_none_or(|remote| remote.is_served() || remote.is_hopeless())
    }

    /// The rows of `name`, if they are complete enough to be kept.
    pub(crate) fn snapshot(&self, name: &ClusterName) -> Option<Snapshot> {
        let remote = self.remotes.get(name).filter(|remote| remote.is_served())?;
        self.rows.snapshot(name, remote.accepted()?)
    }

    /// Whether rows of `name` are in force.
    pub(crate) fn serves(&self, name: &ClusterName) -> bool {
        self.remotes.get(name).is_some_and(Remote::is_served)
    }

    pub(crate) fn knows(&self, name: &ClusterName) -> bool {
        self.remotes.contains_key(name)
    }

    pub(crate) fn status(&self, now: Duration) -> Vec<RemoteStatus> {
        let clock = SystemTime::now();
        let wall = |at: Duration| clock - now.saturating_sub(at);
        let remotes = self.remotes.values().map(|remote| {
            let mut status = remote.status(wall);
            (status.nodes, status.endpoints, status.identities) = self.rows.counts(remote.name());
            (status.refused_rows, status.refused) = self.rows.refused(remote.name());
            let left_out = self.rows.ports_left_out(remote.name());
            if left_out > 0 {
                let separator = if status.reason.is_empty() { "" } else { "; " };
                status.reason += &format!(
                    "{separator}{left_out} names of ports are not followed: too many names, or numbers of one"
                );
            }
            let (orphans, since) = self.rows.orphans(remote.name());
            (status.orphans, status.orphans_since) = (orphans, since.map(wall));
            status.disk_error = self
                .disk_errors
                .get(&status.name)
                .cloned()
                .unwrap_or_default();
            status
        });
        let files = self.unusable.iter().map(|(name, (since, reason))| {
            RemoteStatus::misconfigured(name, wall(*since), reason.clone())
        });
        let mut all: Vec<RemoteStatus> = remotes.chain(files).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}
