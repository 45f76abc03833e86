// SPDX-License-Identifier: Apache-2.0
//! The kubelet's probes. The port opens when the node can serve pods, so a startup probe succeeds exactly then.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::service::Service;

/// Time between two looks for the end of the start.
const STEP: Duration = Duration::from_millis(10);
/// Pause after the port could not be had.
const RETRY: Duration = Duration::from_secs(5);

/// Serves the probes once the agent is ready, for ever. Somebody else's port is told in status and tried again.
pub(crate) async fn serve(service: Arc<Service>, port: u16) {
    while !service.core().ready {
        tokio::time::sleep(STEP).await;
    }
    let address = (IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let subject = format!("probes on 127.0.0.1:{port}");
    loop {
        let served = match TcpListener::bind(address).await {
            Ok(listener) => {
                service.core().note(&subject, None::<String>);
                api::serve_health(listener, service.clone()).await
            }
            Err(error) => Err(error),
        };
        service.core().note(&subject, served.err());
        tokio::time::sleep(RETRY).await;
    }
}
