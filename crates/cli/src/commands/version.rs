// SPDX-License-Identifier: Apache-2.0
//! `version`: of this program and of the agent.

use std::process::ExitCode;

use api::Client;
use serde_json::json;

use crate::output::Format;
use crate::text::clean;
use crate::{Error, output};

/// Version of this program.
const OWN: &str = env!("CARGO_PKG_VERSION");
/// Release of Rust that it asks for at least.
const RUST: &str = env!("CARGO_PKG_RUST_VERSION");

pub(super) async fn run(client: &Client, format: Option<Format>) -> Result<ExitCode, Error> {
    let daemon = client.version().await;
    let arch = format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
    let own = json!({"Version": OWN, "RustVersion": RUST, "Arch": arch});
    let agent = match &daemon {
        Ok(version) => json!({"Version": version.version, "API": version.api, "ABI": version.abi}),
        Err(_) => json!({}),
    };
    let model = json!({"Client": own, "Daemon": agent});
    let answer = match &daemon {
        Ok(version) => clean(&version.version),
        Err(api::Error::Version { .. }) => "another release".into(),
        Err(_) => "Not responding".into(),
    };
    output::answer(format.as_ref(), &model, |_| {
        format!("Client: {OWN} rust version {RUST} {arch}\nDaemon: {answer}\n")
    })?;
    // What is known is printed; why the rest is not goes where failures go.
    daemon?;
    Ok(ExitCode::SUCCESS)
}
