// SPDX-License-Identifier: Apache-2.0
//! The kubelet's probes. The port opens when the node can serve pods, so a startup probe succeeds exactly then.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crate::listen::listen;
use crate::service::Service;

/// Serves the probes once the agent is ready, for ever.
pub(crate) async fn serve(service: Arc<Service>, port: u16) {
    service.until_ready().await;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let probes = |listener| api::serve_health(listener, service.clone());
    listen(&service, format!("probes on {address}"), &[address], probes).await;
}
