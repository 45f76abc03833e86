// SPDX-License-Identifier: Apache-2.0
//! What a remote's state machine has to say to operators.

use std::time::{Duration, SystemTime};

use model::{ClusterConfig, ClusterName};

use super::{Phase, Remote, Session};
use crate::{EtcdStatus, RemoteStatus, State, Synced};

impl Remote {
    /// Its name.
    pub fn name(&self) -> &ClusterName {
        &self.name
    }

    /// What it says about itself, as far as accepted.
    pub fn accepted(&self) -> Option<&ClusterConfig> {
        self.accepted.as_ref()
    }

    /// The present connection.
    pub fn session(&self) -> Session {
        Session(self.session)
    }

    /// The connection over which every kind of rows was listed and is followed, and whether below `cilium/cache`.
    pub(crate) fn followed(&self) -> Option<(Session, bool)> {
        let config = self.accepted.as_ref()?;
        let all = self.phase == Phase::Watching && self.synced().all();
        all.then_some((Session(self.session), config.cached))
    }

    /// Whether nobody needs to wait for it: all read, or served from the last good state.
    pub fn is_served(&self) -> bool {
        self.has_rows
    }

    /// Whether waiting does not help: somebody has to change something first.
    pub fn is_hopeless(&self) -> bool {
        matches!(self.state, State::Refused | State::Misconfigured)
    }

    pub(super) fn synced(&self) -> Synced {
        let [nodes, identities, endpoints] = self.synced;
        Synced {
            nodes,
            endpoints,
            identities,
        }
    }

    pub(super) fn current_state(&self) -> State {
        match self.phase {
            Phase::Watching if self.synced().all() => State::Ready,
            Phase::Watching => State::Synchronizing,
            Phase::Config if self.refusal.is_some() => State::Refused,
            Phase::Config => State::WaitingForConfig,
            _ if self.has_rows => State::Stale,
            Phase::Idle | Phase::Removed => State::Misconfigured,
            Phase::Waiting { .. } | Phase::Connecting { .. } => State::Connecting,
        }
    }

    fn reason(&self) -> String {
        let mut parts = Vec::new();
        match self.state {
            // Nobody was asked without a usable configuration.
            State::Stale | State::Connecting if self.session == 0 => {}
            State::Stale | State::Connecting => {
                let last = self.last_failure.as_ref().map(|(_, reason)| reason.as_str());
                parts.push(last.unwrap_or("no answer yet").to_owned());
            }
            State::WaitingForConfig => parts.push(format!(
                "cilium/cluster-config/{0} not found in its etcd: is the file named after the cluster, \
                 and does cluster {0} publish its configuration?",
                self.name
            )),
            State::Synchronizing => parts.push(format!("waiting for {}", self.missing())),
            State::Misconfigured | State::Refused | State::Ready => {}
        }
        parts.extend(self.refusal.clone());
        if let Some(reason) = &self.unusable {
            let stays = "; the last good configuration stays in force";
            parts.push(format!(
                "{reason}{}",
                if self.session > 0 { stays } else { "" }
            ));
        }
        let live = matches!(self.state, State::Ready | State::Synchronizing);
        if self.has_rows && !live {
            parts.push("the last good state stays in force".to_owned());
        }
        parts.join("; ")
    }

    fn missing(&self) -> String {
        let names = ["nodes", "identities", "endpoints"].iter().enumerate();
        let missing = names.filter(|(kind, _)| !self.synced[*kind]);
        let words = missing.map(|(kind, name)| match self.canaries[kind] {
            true => (*name).to_owned(),
            false => format!("{name} (not announced as complete)"),
        });
        words.collect::<Vec<_>>().join(", ")
    }

    /// Its status, without what [`crate::Rows`] knows. `wall` turns times of this machine into those of a clock.
    pub fn status(&self, wall: impl Fn(Duration) -> SystemTime) -> RemoteStatus {
        let name = self.name.as_str();
        let mut status = RemoteStatus::misconfigured(name, wall(self.since), self.reason());
        status.state = self.state;
        status.ready = self.state == State::Ready;
        status.connected = self.connected();
        status.failures = self.failures;
        status.last_failure = self.last_failure.as_ref().map(|(at, _)| wall(*at));
        if let Some((_, reason)) = &self.last_failure {
            status.last_error.clone_from(reason);
        }
        status.failing = match self.connected() {
            true => 0,
            false => self.attempts.into(),
        };
        status.config = self.accepted.clone();
        status.synced = self.synced();
        status.served_from_disk = self.from_disk;
        status.etcd = EtcdStatus {
            endpoints: self.endpoints.clone(),
            cluster_id: self.etcd_id.map(|id| format!("{id:x}")).unwrap_or_default(),
            last_heartbeat: self.heartbeat.map(&wall),
            last_answer: self.answer.or(self.heard).map(&wall),
        };
        status
    }
}
