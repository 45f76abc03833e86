// SPDX-License-Identifier: Apache-2.0
//! The underlay may change under a running agent: an address is replaced, an MTU is lowered, IPsec set up. Peers accept the tunnel only
//! from addresses that this node publishes, so the new address is sent from and published at once.

use std::sync::Arc;
use std::time::Duration;

use netlink::{Notice, Socket};

use super::news::{News, socket};
use crate::node::LocalNode;
use crate::service::Service;
use crate::start;

/// Without news the node is looked at so often.
const CHECK: Duration = Duration::from_secs(5);

/// Follows the underlay, for ever.
pub(super) async fn underlay(service: Arc<Service>) {
    let socket = socket(&service, "underlay").await;
    let mut news = News::new();
    // Devices come and go with every pod; they are looked at with the next check.
    let is_about = |notice: &Notice| {
        matches!(
            notice,
            Notice::Address(_) | Notice::AddressGone(_) | Notice::Lost
        )
    };
    loop {
        look(&service, &socket);
        // Either way everything is read again.
        let _ = tokio::time::timeout(CHECK, news.of(is_about)).await;
    }
}

/// Takes over what changed. A node without an address keeps the last one, and says so.
fn look(service: &Service, socket: &Socket) {
    let config = service.core().config.clone();
    let found = LocalNode::detect(&config, socket);
    let mut core = service.core();
    let found = match found {
        Ok(found) => found,
        Err(error) => return core.note("underlay", Some(error)),
    };
    core.note("underlay", None::<String>);
    let Some(node) = core.node.moved_to(&found) else {
        return;
    };
    tracing::warn!(from = %core.node.ipv4, to = %node.ipv4, mtu = node.underlay_mtu, ipsec = node.ipsec, "the underlay changed");
    let result = core.move_underlay(node);
    core.note("node configuration", result.err());
    let result = start::refresh_host_addresses(&mut core, socket);
    core.note("host addresses", result.err());
    let result = start::ensure_tunnel(&mut core, socket, false);
    core.note("tunnel device", result.err());
    let result = start::ensure_masquerade(&mut core);
    core.note("masquerade", result.err());
    core.routes_changed.notify_one();
    let endpoints: Vec<_> = core.endpoints.keys().copied().collect();
    drop(core);
    service.publish_node();
    for id in endpoints {
        service.publish(id);
    }
}
