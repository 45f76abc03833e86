// SPDX-License-Identifier: Apache-2.0
//! How the connection to this cluster's etcd is.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use api::Timestamp;
use api::models::{State, Status};
use kvstore::{Etcd, PublisherStatus, Store as _};
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
    runs: Runs,
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
    pub(crate) fn status(&self, publisher: &PublisherStatus) -> Status {
        let connection = self.connection();
        let total = self.endpoints.len().max(1);
        let rows = self.remarks().clone();
        let since = Timestamp::from(connection.since).seconds();
        if let Some(reason) = &connection.failing {
            return Status::new(
                State::Failure,
                format!(
                    "etcd: 0/{total} connected since {since}: {reason}; {} keys wait to be written{rows}",
                    publisher.pending
                ),
            );
        }
        let quorum = connection
            .quorum
            .map_or("unknown".to_owned(), |quorum| quorum.to_string());
        let waiting = match publisher.pending {
            0 => String::new(),
            count => format!(", {count} keys wait to be written"),
        };
        let contested = publisher
            .contested
            .as_ref()
            .map(|key| format!(", somebody else writes {key:?} too"))
            .unwrap_or_default();
        Status::new(
            State::Ok,
            format!(
                "etcd: 1/{total} connected, has-quorum={quorum}: {}{waiting}{contested}{rows}",
                connection.server
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
                    drop(connection);
                    self.heard(None);
                }
                Err(error) => self.heard(Some(error.to_string())),
            }
            tokio::time::sleep(PROBE / if self.is_away() { 6 } else { 1 }).await;
        }
    }
}
