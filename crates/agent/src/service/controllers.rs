// SPDX-License-Identifier: Apache-2.0
//! Repeated work in the words of the API, where it is called controllers.

use std::time::SystemTime;

use api::Timestamp;
use api::models::*;
use clustermesh::{RemoteStatus, State as Remote};

use super::Service;
use crate::core::Runs;

impl Service {
    /// All of them, by name.
    pub(super) fn controllers(&self, remotes: &[RemoteStatus]) -> Vec<ControllerStatus> {
        let mut list: Vec<_> = {
            let core = self.core();
            let runs = core.runs.iter();
            runs.map(|(name, runs)| controller(name, runs)).collect()
        };
        if let Some(own) = &self.own {
            list.push(controller("kvstore-etcd", &own.runs()));
        }
        list.extend(remotes.iter().map(remote));
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }
}

fn time(at: Option<SystemTime>) -> Timestamp {
    at.map_or(Timestamp::NEVER, Timestamp::from)
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn controller(name: &str, runs: &Runs) -> ControllerStatus {
    ControllerStatus {
        name: name.to_owned(),
        configuration: Some(ControllerConfiguration {
            error_retry: true,
            ..Default::default()
        }),
        status: Some(ControllerRuns {
            success_count: number(runs.succeeded),
            failure_count: number(runs.failed),
            consecutive_failure_count: number(runs.failing),
            last_failure_msg: runs.error.clone(),
            last_success_timestamp: time(runs.last_success),
            last_failure_timestamp: time(runs.last_failure),
        }),
        ..Default::default()
    }
}

/// The connection to a remote cluster. What it heard last is its success; how often it heard something is not counted. One that
/// is not tried fails since it was refused.
fn remote(remote: &RemoteStatus) -> ControllerStatus {
    let mut runs = Runs {
        succeeded: 0,
        failed: remote.failures,
        failing: remote.failing,
        last_success: remote.etcd.last_answer,
        last_failure: remote.last_failure,
        error: remote.last_error.clone(),
    };
    if matches!(remote.state, Remote::Refused | Remote::Misconfigured) {
        (runs.failed, runs.failing) = (runs.failed.max(1), runs.failing.max(1));
        runs.last_failure = Some(remote.since);
        runs.error.clone_from(&remote.reason);
    }
    controller(&format!("remote-etcd-{}", remote.name), &runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_remote_is_a_failing_controller() {
        let mut status = RemoteStatus::misconfigured("west", SystemTime::now(), String::new());
        status.state = Remote::Connecting;
        status.last_error = "connection refused".into();
        (status.failures, status.failing) = (7, 2);
        let lost = remote(&status);
        assert_eq!(lost.name, "remote-etcd-west");
        let runs = lost.status.expect("runs");
        assert_eq!((runs.failure_count, runs.consecutive_failure_count), (7, 2));
        assert_eq!(runs.last_failure_msg, "connection refused");
        assert!(runs.last_success_timestamp.is_never());
    }

    #[test]
    fn a_cluster_that_is_refused_is_a_failing_controller() {
        let (since, why) = (SystemTime::now(), "no endpoints".to_owned());
        let runs = remote(&RemoteStatus::misconfigured("west", since, why)).status;
        let runs = runs.expect("runs");
        assert_eq!((runs.failure_count, runs.consecutive_failure_count), (1, 1));
        assert_eq!(runs.last_failure_msg, "no endpoints");
        assert_eq!(runs.last_failure_timestamp, since.into());
    }
}
