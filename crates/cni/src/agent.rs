// SPDX-License-Identifier: Apache-2.0
//! Reaching the agent: a bounded wait for it, and its configuration as the proof that it answers.

use std::time::{Duration, Instant};

use api::models::DaemonConfigurationStatus;
use api::{Client, StatusCode};

use crate::Error;
use crate::error::is_away;
use crate::input::Request;

/// Pause between two attempts.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);
/// Longest time for one attempt.
const ATTEMPT: Duration = Duration::from_secs(5);
/// Longest time for one answer once it is known to answer. The agent bounds its own waits below this.
const ANSWER: Duration = Duration::from_secs(60);

/// Asks again while the agent says that it is not ready, or busy, until `deadline`. Other failures end it at once: what
/// became of a request whose answer is missing is not known.
pub(crate) async fn patiently<T>(
    deadline: Instant,
    mut ask: impl AsyncFnMut() -> Result<T, api::Error>,
) -> Result<T, api::Error> {
    loop {
        match ask().await {
            Err(error) if is_busy(&error) && Instant::now() + PAUSE < deadline => {
                tokio::time::sleep(PAUSE).await;
            }
            result => return result,
        }
    }
}

/// Whether the agent refused without doing anything, because it starts or has too much to do.
pub(crate) fn is_busy(error: &api::Error) -> bool {
    let code = error.refused();
    code == Some(StatusCode::SERVICE_UNAVAILABLE) || code == Some(StatusCode::TOO_MANY_REQUESTS)
}

/// A client of the agent that the request names.
pub(crate) fn client(request: &Request) -> Client {
    Client::new(&request.socket).with_timeout(ANSWER)
}

/// Waits until the agent answers, at most for `limit`, and returns its configuration. At least one attempt is made.
pub(crate) async fn connect(
    client: &Client,
    limit: Duration,
) -> Result<DaemonConfigurationStatus, Error> {
    let start = Instant::now();
    loop {
        let left = limit.saturating_sub(start.elapsed());
        let attempt = client.clone().with_timeout(left.clamp(PAUSE, ATTEMPT));
        match attempt.config().await {
            Ok(config) => {
                let problem = || "its configuration has no status".to_owned();
                return config
                    .status
                    .ok_or_else(|| Error::Answer { problem: problem() });
            }
            Err(source) if is_away(&source) => {
                let waited = start.elapsed();
                if waited + PAUSE > limit {
                    return Err(Error::AgentDown { waited, source });
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(source) => {
                return Err(Error::Agent {
                    operation: "read the agent's configuration",
                    source,
                });
            }
        }
    }
}
