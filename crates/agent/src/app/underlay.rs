// SPDX-License-Identifier: Apache-2.0
//! The underlay may change under a running agent: an address is replaced, an MTU is lowered, IPsec set up. Peers accept the tunnel only
//! from addresses that this node publishes, so the new address is sent from and published at once.

use std::sync::Arc;
use std::time::Duration;

use netlink::{Monitor, Notice, Socket};

use crate::node::LocalNode;
use crate::service::Service;
use crate::start;

/// Without news the node is looked at so often.
const CHECK: Duration = Duration::from_secs(5);
/// The kernel's news are taken so often.
const GLANCE: Duration = Duration::from_millis(100);

/// Follows the underlay, for ever.
pub(super) async fn underlay(service: Arc<Service>, overlay: u32) {
    let socket = loop {
        match Socket::open() {
            Ok(socket) => break socket,
            Err(error) => {
                service.core().note("underlay", Some(error));
                tokio::time::sleep(CHECK).await;
            }
        }
    };
    // Without a subscription changes are still seen, later.
    let monitor = Monitor::open().ok();
    loop {
        look(&service, &socket, overlay);
        let news = async {
            while !monitor.as_ref().is_some_and(has_news) {
                tokio::time::sleep(GLANCE).await;
            }
        };
        // Either way everything is read again.
        let _ = tokio::time::timeout(CHECK, news).await;
    }
}

/// Whether an address changed. Devices come and go with every pod; they are looked at with the next check.
fn has_news(monitor: &Monitor) -> bool {
    let of_address = |notice: &Notice| !matches!(notice, Notice::Link(_) | Notice::LinkGone(_));
    monitor
        .read()
        .is_ok_and(|notices| notices.iter().any(of_address))
}

/// Takes over what changed. A node without an address keeps the last one, and says so.
fn look(service: &Service, socket: &Socket, overlay: u32) {
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
    let result = core.move_underlay(node, overlay);
    core.note("node configuration", result.err());
    let result = start::refresh_host_addresses(&mut core, socket);
    core.note("host addresses", result.err());
    let result = start::ensure_overlay(&core, socket);
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
