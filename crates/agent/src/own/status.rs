// SPDX-License-Identifier: Apache-2.0
//! How the connection to this cluster's etcd is.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use api::Timestamp;
use api::models::{State, Status};
use kvstore::{Etcd, Store as _};
use tokio::sync::watch;

use super::Synced;
use crate::core::Runs;

/// How often the server is asked about itself.
const PROBE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Connection {
    /// The newest failure, gone with the next success.
    failing: Option<String>,
    since: SystemTime,
    server: String,
    /// Whether the server knows a leader; `None` before it was asked.
    quorum: Option<bool>,
    /// Its database is full.
    full: bool,
    runs: Runs,
}

/// How writing to this cluster's etcd goes, and what is asked of it besides nodes and addresses.
#[derive(Default)]
pub(crate) struct Writing {
    /// Keys that wait to be written or deleted.
    pub(crate) pending: usize,
    /// A key that somebody else writes too.
    pub(crate) contested: Option<String>,
    /// Why the last attempt failed, if it did.
    pub(crate) problem: Option<String>,
    /// Why identities cannot be followed, if they cannot.
    pub(crate) identities: Option<String>,
}

impl Writing {
    /// For the line of `status`, behind a comma; empty if all is written.
    fn remark(&self) -> String {
        let waiting = match (self.pending, &self.problem) {
            (0, None) => String::new(),
            (0, Some(problem)) => format!(", writing fails: {problem}"),
            (count, None) => format!(", {count} keys wait to be written"),
            (count, Some(problem)) => format!(", {count} keys wait to be written: {problem}"),
        };
        let contested = self.contested.as_ref();
        let contested = contested.map(|key| format!(", somebody else writes {key:?} too"));
        let unread = self.identities.as_ref();
        let unread = unread.map(|reason| format!(", identities cannot be followed: {reason}"));
        waiting + &contested.unwrap_or_default() + &unread.unwrap_or_default()
    }
}

/// How this cluster's etcd is.
pub(crate) struct OwnStatus {
    endpoints: Vec<String>,
    connection: Mutex<Connection>,
    /// What is remarkable about the rows, for the line of `status`.
    remarks: Mutex<String>,
    pub(crate) synced: watch::Sender<Synced>,
}

impl OwnStatus {
    pub(crate) fn new(endpoints: Vec<String>) -> Arc<Self> {
        let connection = Connection {
            failing: Some("no answer yet".into()),
            since: SystemTime::now(),
            server: String::new(),
            quorum: None,
            full: false,
            runs: Runs::default(),
        };
        Arc::new(Self {
            endpoints,
            connection: Mutex::new(connection),
            remarks: Mutex::default(),
            synced: watch::Sender::new(Synced::default()),
        })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What is remarkable about the rows.
    pub(super) fn remarks(&self) -> MutexGuard<'_, String> {
        self.remarks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn heard(&self, failure: Option<String>) {
        let mut connection = self.connection();
        if connection.failing.is_some() != failure.is_some() {
            connection.since = SystemTime::now();
            match &failure {
                Some(reason) => tracing::warn!(reason, "this cluster's etcd is away"),
                None => tracing::info!("this cluster's etcd answers"),
            }
        }
        connection.runs.ended(SystemTime::now(), failure.as_deref());
        connection.failing = failure;
    }

    /// How often it was heard, and how often it was not.
    pub(crate) fn runs(&self) -> Runs {
        self.connection().runs.clone()
    }

    /// Whether it does not answer.
    pub(crate) fn is_away(&self) -> bool {
        self.connection().failing.is_some()
    }

    /// The line of `status`.
    pub(crate) fn status(&self, writing: &Writing) -> Status {
        let connection = self.connection();
        let total = self.endpoints.len().max(1);
        let rows = self.remarks().clone();
        let since = Timestamp::from(connection.since).seconds();
        if let Some(reason) = &connection.failing {
            return Status::new(
                State::Failure,
                format!(
                    "etcd: 0/{total} connected since {since}: {reason}; {} keys wait to be written{rows}",
                    writing.pending
                ),
            );
        }
        let quorum = connection
            .quorum
            .map_or("unknown".to_owned(), |quorum| quorum.to_string());
        // Who has nothing to write has no problem of its own.
        let full = match (connection.full, &writing.problem) {
            (true, None) => ", its database is full (alarm NOSPACE): nothing new can be written",
            _ => "",
        };
        let state = match (
            connection.full,
            writing.problem.as_ref().or(writing.identities.as_ref()),
        ) {
            (false, None) => State::Ok,
            _ => State::Warning,
        };
        Status::new(
            state,
            format!(
                "etcd: 1/{total} connected, has-quorum={quorum}: {}{full}{}{rows}",
                connection.server,
                writing.remark()
            ),
        )
    }

    /// Asks the server about itself for ever.
    pub(crate) async fn probe(self: Arc<Self>, store: Etcd) {
        loop {
            match store.status().await {
                Ok(status) => {
                    let mut connection = self.connection();
                    connection.server = match self.endpoints.as_slice() {
                        [one] => format!("{one} - {}", status.version),
                        all => format!("one of {} - {}", all.join(", "), status.version),
                    };
                    connection.quorum = Some(status.has_leader);
                    connection.full = status.full;
                    drop(connection);
                    self.heard(None);
                }
                Err(error) => self.heard(Some(error.to_string())),
            }
            let often = self.is_away() || self.connection().full;
            tokio::time::sleep(PROBE / if often { 6 } else { 1 }).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etcd_that_answers_and_takes_nothing_is_no_good_one() {
        let own = OwnStatus::new(vec!["https://a:2379".into()]);
        own.heard(None);
        let good = own.status(&Writing::default());
        assert_eq!(good.state, State::Ok);
        let full = own.status(&Writing {
            pending: 3,
            problem: Some("etcd is full".into()),
            ..Writing::default()
        });
        assert_eq!(full.state, State::Warning);
        let says = full
            .msg
            .contains(", 3 keys wait to be written: etcd is full");
        assert!(says, "{}", full.msg);
        let unread = own.status(&Writing {
            identities: Some("etcd refuses list".into()),
            ..Writing::default()
        });
        assert_eq!(unread.state, State::Warning);
        let says = unread
            .msg
            .ends_with("identities cannot be followed: etcd refuses list");
        assert!(says, "{}", unread.msg);
        own.connection().full = true;
        let idle = own.status(&Writing::default());
        assert_eq!(idle.state, State::Warning, "it has nothing to write");
        assert!(idle.msg.contains("NOSPACE"), "{}", idle.msg);
        own.heard(Some("away".into()));
        assert_eq!(own.status(&Writing::default()).state, State::Failure);
    }
}
