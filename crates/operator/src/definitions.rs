// SPDX-License-Identifier: Apache-2.0
//! The definitions of the custom resources stay as this version knows them.

use std::time::Duration;

use kubernetes::api::{Client, keep_definitions};
use tokio::time::sleep;

use crate::status::Status;

/// What others changed or deleted is put right so often.
const AGAIN: Duration = Duration::from_secs(60);
/// After a failure.
const RETRY: Duration = Duration::from_secs(5);

/// Puts them right, for ever.
pub(crate) async fn keep(client: &Client, status: &Status) {
    loop {
        let result = keep_definitions(client).await;
        if let Ok(changed) = &result
            && !changed.is_empty()
        {
            tracing::info!(definitions = ?changed, "definitions of custom resources are written");
        }
        let pause = if result.is_ok() { AGAIN } else { RETRY };
        status.note("definitions of custom resources", result.err());
        sleep(pause).await;
    }
}
