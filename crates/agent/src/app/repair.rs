// SPDX-License-Identifier: Apache-2.0
//! What other hands take away comes back: the tunnel's device, the programs of pods' devices, forwarding, the translation of
//! what leaves the mesh. People flush firewalls, restart networks, and remove what they do not know.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use datapath::devices::OVERLAY_DEVICE;
use netlink::{Notice, Socket};

use super::news::{News, socket};
use crate::service::Service;
use crate::start;

/// Without news the node is looked at so often.
const CHECK: Duration = Duration::from_secs(5);
/// Time between two repairs: whoever takes things away again and again must not keep the agent busy.
const PAUSE: Duration = Duration::from_millis(100);

/// Looks after the node, for ever.
pub(super) async fn repair(service: Arc<Service>) {
    let socket = socket(&service, "tunnel device").await;
    let mut news = News::new();
    loop {
        let notices = news.of(|notice| is_about_us(&service, notice));
        let notices = tokio::time::timeout(CHECK, notices).await;
        look(&service, &socket, &notices.unwrap_or_default());
        tokio::time::sleep(PAUSE).await;
    }
}

fn is_about_us(service: &Service, notice: &Notice) -> bool {
    match notice {
        Notice::Link(link) => link.name == OVERLAY_DEVICE && !link.up,
        Notice::LinkGone(link) => link.name == OVERLAY_DEVICE,
        Notice::FilterGone(ifindex) => {
            let core = service.core();
            let mut endpoints = core.endpoints.values();
            endpoints.any(|endpoint| endpoint.attachment.ifindex == *ifindex)
        }
        Notice::Lost => true,
        Notice::Address(_) | Notice::AddressGone(_) => false,
    }
}

fn look(service: &Service, socket: &Socket, notices: &[Notice]) {
    let filters = notices.iter().filter_map(|notice| match notice {
        Notice::FilterGone(ifindex) => Some(*ifindex),
        _ => None,
    });
    let filters: BTreeSet<u32> = filters.collect();
    let is_lost = notices.contains(&Notice::Lost);
    let suspects = |ifindex: u32| is_lost || filters.contains(&ifindex);
    let mut core = service.core();
    let result = start::ensure_tunnel(&mut core, socket, false);
    core.note("tunnel device", result.err());
    let result = start::restore_programs(&mut core, socket, &suspects);
    core.note("programs of pods", result.err());
    let result = start::ensure_switches(&core);
    core.note("kernel switches", result.err());
    let result = start::restore_masquerade(&mut core);
    core.note("masquerade", result.err());
    if !notices.is_empty() {
        // Routes go with devices that are down.
        core.routes_changed.notify_one();
    }
}
