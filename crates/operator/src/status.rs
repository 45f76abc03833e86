// SPDX-License-Identifier: Apache-2.0
//! How the operator is: for the kubelet's probes, for Prometheus, and for who reads its log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// A server that did not answer for so long is away.
const SILENT: Duration = Duration::from_secs(30);

/// A look at the identities.
pub(crate) struct Round {
    /// Those that there are afterwards.
    pub(crate) alive: usize,
    /// Those that were deleted.
    pub(crate) deleted: usize,
    /// How long it took.
    pub(crate) took: Duration,
}

type Labels = Vec<(&'static str, &'static str)>;

/// Where identities are.
const KIND: (&str, &str) = ("identity_type", "kvstore");

/// What is known of the operator's work.
#[derive(Default)]
pub(crate) struct Status {
    /// When the API server answered last.
    answered: Mutex<Option<Instant>>,
    /// What does not succeed, and why.
    problems: Mutex<BTreeMap<&'static str, String>>,
    leads: Gauge,
    failing: Gauge,
    entries: Family<Labels, Gauge>,
    runs: Family<Labels, Gauge>,
    latency: Family<Labels, Gauge<f64, std::sync::atomic::AtomicU64>>,
}

impl Status {
    /// The API server said yes, or why not.
    pub(crate) fn server(&self, answer: Result<(), String>) {
        if answer.is_ok() {
            *locked(&self.answered) = Some(Instant::now());
        }
        self.note("the leader's Lease", answer.err());
    }

    /// Whether the API server answers.
    pub(crate) fn answers(&self) -> bool {
        let answered = locked(&self.answered);
        answered.is_some_and(|at| at.elapsed() < SILENT)
    }

    /// Says how a piece of work went: in the log when that changes.
    pub(crate) fn note(&self, subject: &'static str, problem: Option<impl std::fmt::Display>) {
        let problem = problem.map(|problem| problem.to_string());
        let mut problems = locked(&self.problems);
        match problem {
            Some(problem) if problems.get(subject) != Some(&problem) => {
                tracing::warn!(problem, "{subject}");
                problems.insert(subject, problem);
            }
            None if problems.remove(subject).is_some() => tracing::info!("{subject}: well again"),
            _ => {}
        }
        self.failing.set(problems.len() as i64);
    }

    /// Whether this replica works.
    pub(crate) fn leads(&self, leads: bool) {
        self.leads.set(leads.into());
    }

    /// How a round went, or how long it took to fail.
    pub(crate) fn identities(&self, round: Result<Round, Duration>) {
        let (outcome, took) = match &round {
            Ok(round) => (("outcome", "success"), round.took),
            Err(took) => (("outcome", "fail"), *took),
        };
        let labels = vec![outcome, KIND];
        self.runs.get_or_create(&labels).inc();
        self.latency.get_or_create(&labels).set(took.as_secs_f64());
        if let Ok(round) = round {
            for (status, count) in [("alive", round.alive), ("deleted", round.deleted)] {
                let labels = vec![("status", status), KIND];
                self.entries.get_or_create(&labels).set(count as i64);
            }
        }
    }

    /// Writes the metrics, under Cilium's names where they mean the same.
    pub(crate) fn renderer(self: Arc<Self>) -> impl Fn() -> String + Send + Sync + 'static {
        let mut registry = Registry::with_prefix("cilium_operator");
        let status = &self;
        registry.register("leader", "Whether this replica leads", status.leads.clone());
        registry.register(
            "failing",
            "Pieces of work that do not succeed; the log names them",
            status.failing.clone(),
        );
        registry.register(
            "identity_gc_entries",
            "Identities that the last round found alive, and deleted",
            status.entries.clone(),
        );
        registry.register(
            "identity_gc_runs",
            "Rounds in which unused identities were looked for",
            status.runs.clone(),
        );
        registry.register(
            "identity_gc_latency",
            "Seconds that the last round took",
            status.latency.clone(),
        );
        move || {
            let mut text = String::new();
            encode(&mut text, &registry).expect("a string takes everything");
            text
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
