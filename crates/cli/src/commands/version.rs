// SPDX-License-Identifier: Apache-2.0
//! `version`.

use api::Client;
use serde_json::json;

use crate::output::Format;
use crate::{Error, output};

/// Version of this program.
pub(super) const OWN: &str = env!("CARGO_PKG_VERSION");

pub(super) async fn run(client: &Client, format: Option<Format>) -> Result<(), Error> {
    let daemon = match client.version().await {
        Ok(version) => Ok(version.version),
        // The mismatch itself is news here, and says both versions.
        Err(error @ api::Error::Version { .. }) => return Err(error.into()),
        Err(error) => Err(error),
    };
    let daemon = daemon.unwrap_or_else(|_| "Not responding".into());
    let model = json!({"Client": {"Version": OWN}, "Daemon": {"Version": daemon}});
    output::answer(format.as_ref(), &model, |_| {
        format!("Client: {OWN}\nDaemon: {}\n", crate::text::clean(&daemon))
    })
}
