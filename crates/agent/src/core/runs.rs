// SPDX-License-Identifier: Apache-2.0
//! How the agent's repeated work fares: what status calls controllers. Counted where its outcome is noted.

use std::collections::BTreeMap;
use std::time::SystemTime;

/// Subjects of notes that are repeated work, and what each does.
const REPEATED: &[(&str, &str)] = &[
    ("address maps", "write-addresses"),
    ("conntrack", "collect-expired-flows"),
    ("freed addresses on disk", "save-freed-addresses"),
    ("held addresses on disk", "save-held-addresses"),
    ("last good rows of this cluster", "save-own-cluster"),
    ("node addresses", "write-node-addresses"),
    ("policy", "write-policy"),
    ("policy maps", "prune-policy"),
    ("prefixes", "rejudge-flows-of-prefixes"),
    ("routes", "ensure-routes"),
    ("services", "write-services"),
    ("unused identities", "collect-identities"),
];

/// The runs of one piece of work.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Runs {
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    /// Failures since the last success.
    pub(crate) failing: u64,
    pub(crate) last_success: Option<SystemTime>,
    pub(crate) last_failure: Option<SystemTime>,
    /// Why the last one failed.
    pub(crate) error: String,
}

impl Runs {
    /// Counts a run.
    pub(crate) fn ended(&mut self, now: SystemTime, error: Option<&str>) {
        match error {
            None => {
                self.succeeded += 1;
                self.failing = 0;
                self.last_success = Some(now);
            }
            Some(error) => {
                self.failed += 1;
                self.failing += 1;
                self.last_failure = Some(now);
                error.clone_into(&mut self.error);
            }
        }
    }
}

/// All of them, by what each does.
#[derive(Debug, Default)]
pub(crate) struct AllRuns(BTreeMap<&'static str, Runs>);

impl AllRuns {
    /// Counts a run of the work whose outcome is noted under `subject`, if it is repeated.
    pub(super) fn ended(&mut self, subject: &str, error: Option<&str>) {
        let Some((_, name)) = REPEATED.iter().find(|(known, _)| *known == subject) else {
            return;
        };
        let runs = self.0.entry(name).or_default();
        runs.ended(SystemTime::now(), error);
    }

    /// Name and runs.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &Runs)> {
        self.0.iter().map(|(name, runs)| (*name, runs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_ends_a_row_of_failures_and_is_counted() {
        let mut all = AllRuns::default();
        for error in [None, Some("no room"), Some("no room"), None, Some("full")] {
            all.ended("routes", error);
        }
        all.ended("endpoint 7", Some("of no interest"));
        let (name, runs) = all.iter().next().expect("one");
        assert_eq!((name, all.iter().count()), ("ensure-routes", 1));
        assert_eq!((runs.succeeded, runs.failed, runs.failing), (2, 3, 1));
        assert_eq!(runs.error, "full");
        assert!(runs.last_success.is_some() && runs.last_failure.is_some());
    }
}
