// SPDX-License-Identifier: Apache-2.0
//! One of the cluster's operators: the one whose Lease runs.

use std::time::Duration;

use kube::Client;
use tokio::time::{Instant, sleep, timeout};

use super::turn::{NoTurn, Seen, Turn};

const LEASE: &str = "cilium-operator-leader";
/// How often the Lease is renewed or asked for.
const ASK: Duration = Duration::from_secs(2);
/// When a leader that cannot renew its Lease stops, before the others take it for gone.
const DEADLINE: Duration = Duration::from_secs(10);

/// A candidate.
pub struct Leader {
    client: Client,
    namespace: String,
    name: String,
    turn: Option<Turn>,
    seen: Seen,
}

impl Leader {
    /// Contends under `name`, unique among the candidates, for a Lease in `namespace`.
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            turn: None,
            seen: Seen::default(),
        }
    }

    /// Waits for the turn of this candidate. `tell` hears what the server says to each try; that somebody else leads is well.
    pub async fn lead(&mut self, tell: impl Fn(Result<(), String>)) {
        while self.turn.is_none() {
            let (client, namespace) = (&self.client, &self.namespace);
            let take = Turn::take(client, namespace, LEASE, &self.name, &self.seen);
            match timeout(DEADLINE, take).await {
                Ok(Ok(turn)) => {
                    self.turn = Some(turn);
                    return tell(Ok(()));
                }
                Ok(Err(NoTurn::Held(_))) => tell(Ok(())),
                Ok(Err(NoTurn::Failed(reason))) => tell(Err(reason)),
                Err(_) => tell(Err("the API server is silent".to_owned())),
            }
            sleep(ASK).await;
        }
    }

    /// Leads for as long as it can; returns why not longer. `tell` as in [`Leader::lead`].
    pub async fn keep(&mut self, tell: impl Fn(Result<(), String>)) -> String {
        let mut renewed = Instant::now();
        loop {
            sleep(ASK).await;
            let Some(turn) = &mut self.turn else {
                return "it was given back".to_owned();
            };
            let asked = Instant::now();
            let left = (renewed + DEADLINE).saturating_duration_since(asked);
            let result = match timeout(left, turn.renew()).await {
                Ok(result) => result,
                Err(_) => Err("the API server is silent".to_owned()),
            };
            tell(result.clone());
            match result {
                Ok(()) => renewed = asked,
                Err(reason) if renewed.elapsed() >= DEADLINE => {
                    self.turn = None;
                    return reason;
                }
                Err(_) => {}
            }
        }
    }

    /// Lets another lead at once.
    pub async fn resign(&mut self) {
        if let Some(turn) = self.turn.take() {
            turn.end().await;
        }
    }
}
