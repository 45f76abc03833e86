// SPDX-License-Identifier: Apache-2.0
//! The connection to one remote cluster as a state machine without I/O: inputs and a time in, outputs
//! out. What a peer sees is as with Cilium's `pkg/clustermesh/common/remote_cluster.go`.
//!
//! connecting → first answer (heartbeats listed) → cluster configuration accepted, id reserved → watching → synced. Any
//! failure goes back to connecting and takes nothing away; only removal and a change of id do.

mod io;
mod report;

use std::time::Duration;

use model::{ClusterConfig, ClusterName};

use crate::{IdError, Ids, Kind, State};
pub use io::{Input, Output, Session, Watch};

/// Longest wait for the first answer of an attempt.
pub(crate) const ANSWER: Duration = Duration::from_secs(15);
/// Longest silence of the heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(120);
/// Attempt n comes after n of these, at most [`MOST_STEPS`].
const STEP: Duration = Duration::from_secs(1);
const MOST_STEPS: u32 = 5;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Its file was never usable.
    Idle,
    /// The next attempt comes then.
    Waiting { until: Duration },
    /// An attempt is under way and must answer until then.
    Connecting { until: Duration },
    /// It answers, but what it says about itself is absent or refused.
    Config,
    /// Its rows are followed.
    Watching,
    /// Its file is gone.
    Removed,
}

/// One remote cluster.
#[derive(Clone, Debug)]
pub struct Remote {
    name: ClusterName,
    seed: u64,
    phase: Phase,
    session: u64,
    endpoints: Vec<String>,
    /// Failed attempts in a row.
    attempts: u32,
    failures: u64,
    last_failure: Option<(Duration, String)>,
    /// Why the file as it is now cannot be used.
    unusable: Option<String>,
    etcd_id: Option<u64>,
    heartbeat: Option<Duration>,
    answer: Option<Duration>,
    /// Last answer over an earlier connection.
    heard: Option<Duration>,
    /// What it said last; and why it is not accepted.
    offered: Option<ClusterConfig>,
    refusal: Option<String>,
    accepted: Option<ClusterConfig>,
    canaries: [bool; 3],
    started: [bool; 3],
    synced: [bool; 3],
    /// There are rows of an earlier connection or of the disk.
    has_rows: bool,
    from_disk: bool,
    state: State,
    since: Duration,
}

impl Remote {
    /// A remote without a file. `seed` spreads its attempts.
    pub fn new(now: Duration, name: ClusterName, seed: u64) -> Self {
        Self {
            name,
            seed,
            phase: Phase::Idle,
            session: 0,
            endpoints: Vec::new(),
            attempts: 0,
            failures: 0,
            last_failure: None,
            unusable: None,
            etcd_id: None,
            heartbeat: None,
            answer: None,
            heard: None,
            offered: None,
            refusal: None,
            accepted: None,
            canaries: [false; 3],
            started: [false; 3],
            synced: [false; 3],
            has_rows: false,
            from_disk: false,
            state: State::Misconfigured,
            since: now,
        }
    }

    /// Takes an input; answers what is to be done.
    pub fn handle(&mut self, now: Duration, input: Input, ids: &mut Ids) -> Vec<Output> {
        let mut out = Vec::new();
        if self.phase != Phase::Removed {
            self.step(now, input, ids, &mut out);
            let state = self.current_state();
            if state != self.state {
                (self.state, self.since) = (state, now);
            }
        }
        out
    }

    /// When to call with [`Input::Tick`] at the latest.
    pub fn deadline(&self) -> Option<Duration> {
        match self.phase {
            Phase::Waiting { until } | Phase::Connecting { until } => Some(until),
            Phase::Config | Phase::Watching => self.heartbeat.map(|at| at + HEARTBEAT),
            Phase::Idle | Phase::Removed => None,
        }
    }

    /// Whether rows of this session are to be applied.
    pub fn accepts(&self, session: Session) -> bool {
        self.phase == Phase::Watching && self.session == session.0
    }

    fn step(&mut self, now: Duration, input: Input, ids: &mut Ids, out: &mut Vec<Output>) {
        match input {
            Input::Restored(config) => self.restored(config, ids, out),
            Input::Configured { endpoints } => {
                (self.endpoints, self.unusable) = (endpoints, None);
                self.attempts = 0;
                self.reconnect(now, out);
            }
            Input::Unusable(reason) => self.unusable = Some(reason),
            Input::Removed => self.removed(ids, out),
            Input::IdsChanged => {
                if let (Phase::Config, Some(config)) = (self.phase, self.offered.clone()) {
                    self.consider(now, config, ids, out);
                }
            }
            Input::Tick => self.tick(now, out),
            Input::Failed(s, reason) if s.0 == self.session => self.failed(now, reason, out),
            Input::Failed(..) => {}
            Input::Answered(s, id) if s.0 == self.session => self.answered(now, id, out),
            Input::Answered(..) => {}
            Input::Heartbeat(s) => self.of(s, now, |remote| remote.heartbeat = Some(now)),
            Input::Config(s, config) if s.0 == self.session => self.config(now, config, ids, out),
            Input::Config(..) => {}
            Input::Canary(s, kind) => {
                self.of(s, now, |remote| remote.canaries[kind as usize] = true);
                self.start(out);
            }
            Input::Listed(s, kind) if self.accepts(s) => self.listed(now, kind, out),
            Input::Listed(..) => {}
        }
    }

    fn of(&mut self, session: Session, now: Duration, then: impl FnOnce(&mut Self)) {
        if session.0 == self.session && self.answer.is_some() {
            self.answer = Some(now);
            then(self);
        }
    }

    fn restored(&mut self, config: ClusterConfig, ids: &mut Ids, out: &mut Vec<Output>) {
        if self.accepted.is_none() && ids.reserve(&self.name, &config).is_ok() {
            out.push(Output::Open(config.id));
            self.accepted = Some(config);
            (self.has_rows, self.from_disk) = (true, true);
        }
    }

    fn connected(&self) -> bool {
        matches!(self.phase, Phase::Config | Phase::Watching)
    }

    /// Ends what there is of a connection.
    fn close(&mut self, out: &mut Vec<Output>) {
        if self.connected() || matches!(self.phase, Phase::Connecting { .. }) {
            out.push(Output::Close(Session(self.session)));
        }
        (self.canaries, self.started, self.synced) = Default::default();
        (self.offered, self.refusal) = (None, None);
        self.heard = self.answer.or(self.heard);
        (self.etcd_id, self.heartbeat, self.answer) = (None, None, None);
    }

    fn reconnect(&mut self, now: Duration, out: &mut Vec<Output>) {
        self.close(out);
        self.session += 1;
        self.phase = Phase::Connecting {
            until: now + ANSWER,
        };
        out.push(Output::Connect(Session(self.session)));
    }

    fn failed(&mut self, now: Duration, reason: String, out: &mut Vec<Output>) {
        if !self.connected() && !matches!(self.phase, Phase::Connecting { .. }) {
            return;
        }
        self.close(out);
        self.attempts = self.attempts.saturating_add(1);
        self.failures += 1;
        self.last_failure = Some((now, reason));
        let pause = STEP * self.attempts.min(MOST_STEPS);
        self.phase = Phase::Waiting {
            until: now + pause.mul_f64(1.0 - 0.25 * self.spread()),
        };
    }

    /// 0.0..1.0, another one for every remote and attempt.
    fn spread(&self) -> f64 {
        let mut x = self.seed ^ self.failures.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x >> 40) as f64 / f64::from(1 << 24)
    }

    fn tick(&mut self, now: Duration, out: &mut Vec<Output>) {
        if self.deadline().is_none_or(|at| at > now) {
            return;
        }
        match self.phase {
            Phase::Waiting { .. } => self.reconnect(now, out),
            Phase::Connecting { .. } => {
                let reason = format!("no answer within {} s", ANSWER.as_secs());
                self.failed(now, reason, out);
            }
            Phase::Config | Phase::Watching => {
                let reason = "no heartbeat for 2 min: nothing writes cilium/.heartbeat there; \
                              does an operator or agent of that cluster run?";
                self.failed(now, reason.to_owned(), out);
            }
            Phase::Idle | Phase::Removed => {}
        }
    }

    fn answered(&mut self, now: Duration, id: Option<u64>, out: &mut Vec<Output>) {
        if !matches!(self.phase, Phase::Connecting { .. }) {
            return;
        }
        self.phase = Phase::Config;
        self.etcd_id = id;
        (self.answer, self.heartbeat) = (Some(now), Some(now));
        self.watch(Watch::Config, false, out);
    }

    fn watch(&self, watch: Watch, cached: bool, out: &mut Vec<Output>) {
        out.push(Output::Watch {
            session: Session(self.session),
            watch,
            cached,
        });
    }

    fn config(
        &mut self,
        now: Duration,
        config: Result<Option<ClusterConfig>, String>,
        ids: &mut Ids,
        out: &mut Vec<Output>,
    ) {
        if !self.connected() {
            return;
        }
        self.answer = Some(now);
        match config {
            Ok(Some(config)) => self.consider(now, config, ids, out),
            Err(reason) => self.refusal = Some(reason),
            Ok(None) => {
                (self.offered, self.refusal) = (None, None);
                // A mirror that is told to forget a cluster deletes its configuration first and its rows later.
                if self.phase == Phase::Watching && self.accepted.as_ref().is_some_and(|c| c.cached)
                {
                    self.reconnect(now, out);
                }
            }
        }
    }

    /// The cluster says this about itself.
    fn consider(
        &mut self,
        now: Duration,
        config: ClusterConfig,
        ids: &mut Ids,
        out: &mut Vec<Output>,
    ) {
        self.offered = Some(config.clone());
        self.refusal = None;
        if let Err(refusal) = ids.reserve(&self.name, &config) {
            let left = |before: &mut ClusterConfig| before.id != config.id;
            if matches!(refusal, IdError::Taken { .. })
                && let Some(before) = self.accepted.take_if(left)
            {
                // It has left its id, which may be what the holder of the other waits for.
                self.give_up(&before, ids, out);
            }
            if self.phase == Phase::Watching {
                // Rows would come under an id that is not theirs: stop following.
                self.reconnect(now, out);
            } else {
                self.refusal = Some(refusal.to_string());
            }
            return;
        }
        let before = self.accepted.replace(config.clone());
        if let Some(before) = before.as_ref().filter(|before| before.id != config.id) {
            self.give_up(before, ids, out);
        }
        let shape = |c: &ClusterConfig| (c.id, c.cached, c.synced_canaries);
        if self.phase == Phase::Config {
            self.phase = Phase::Watching;
            out.push(Output::Open(config.id));
            if config.synced_canaries {
                self.watch(Watch::Canaries, config.cached, out);
            } else {
                self.canaries = [true; 3];
            }
            self.start(out);
        } else if before.as_ref().map(shape) != Some(shape(&config)) {
            self.reconnect(now, out);
        }
    }

    /// Its rows go, and the id under which they came is free for others.
    fn give_up(&mut self, before: &ClusterConfig, ids: &mut Ids, out: &mut Vec<Output>) {
        out.push(Output::Drain);
        (self.has_rows, self.from_disk) = (false, false);
        ids.release(&self.name, before.id);
        out.push(Output::IdReleased);
    }

    /// Follows what may be followed: addresses come after the nodes and identities that they need.
    fn start(&mut self, out: &mut Vec<Output>) {
        if self.phase != Phase::Watching {
            return;
        }
        let cached = self.accepted.as_ref().is_some_and(|config| config.cached);
        let [nodes, identities, _] = self.synced;
        for kind in Kind::ALL {
            let turn = kind != Kind::Ips || (nodes && identities);
            if turn && self.canaries[kind as usize] && !self.started[kind as usize] {
                self.started[kind as usize] = true;
                self.watch(Watch::Rows(kind), cached, out);
            }
        }
    }

    fn listed(&mut self, now: Duration, kind: Kind, out: &mut Vec<Output>) {
        self.answer = Some(now);
        let before = self.synced();
        self.synced[kind as usize] = true;
        self.start(out);
        if self.synced().all() && !before.all() {
            self.attempts = 0;
            (self.has_rows, self.from_disk) = (true, false);
            out.push(Output::Synced);
        }
    }

    fn removed(&mut self, ids: &mut Ids, out: &mut Vec<Output>) {
        self.close(out);
        self.phase = Phase::Removed;
        if let Some(config) = self.accepted.take() {
            ids.release(&self.name, config.id);
            out.push(Output::IdReleased);
        }
        out.push(Output::Remove);
    }
}
