// SPDX-License-Identifier: Apache-2.0
//! Listening on TCP as long as the agent runs. Somebody else's port is told in status and tried again.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::service::Service;

/// Pause after the port could not be had.
const RETRY: Duration = Duration::from_secs(5);

/// Serves on the first of `addresses` that can be had, for ever. `subject` is what status calls it.
pub(crate) async fn listen<F>(
    service: &Service,
    subject: impl Display,
    addresses: &[SocketAddr],
    serve: impl Fn(TcpListener) -> F,
) where
    F: Future<Output = io::Result<()>>,
{
    let subject = subject.to_string();
    loop {
        let served = match TcpListener::bind(addresses).await {
            Ok(listener) => {
                service.core().note(&subject, None::<String>);
                serve(listener).await
            }
            Err(error) => Err(error),
        };
        service.core().note(&subject, served.err());
        tokio::time::sleep(RETRY).await;
    }
}
