// SPDX-License-Identifier: Apache-2.0
//! What whoever runs the cluster must know is told as Events of this node, once when it begins.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clustermesh::State;
use kubernetes::api::{Client, Events, Subject};

use crate::service::Service;

/// It is looked for so often.
const INTERVAL: Duration = Duration::from_secs(5);

/// A word for programs, and what it is about.
type Alarm = (&'static str, String);

/// Tells, for ever.
pub(super) async fn tell(service: Arc<Service>, client: Client) {
    let node = service.core().config.node.clone();
    let (events, subject) = (Events::new(client, &node), Subject::node(&node));
    let mut told: BTreeMap<Alarm, String> = BTreeMap::new();
    loop {
        let alarms = alarms(&service);
        told.retain(|alarm, _| alarms.contains_key(alarm));
        let mut result = Ok(());
        for (alarm, text) in alarms {
            if told.get(&alarm) == Some(&text) {
                continue;
            }
            result = events.warn(&subject, alarm.0, &text).await;
            if result.is_err() {
                break;
            }
            told.insert(alarm, text);
        }
        service.core().note("events", result.err());
        tokio::time::sleep(INTERVAL).await;
    }
}

fn alarms(service: &Service) -> BTreeMap<Alarm, String> {
    let mesh = service
        .mesh
        .as_ref()
        .map(|mesh| mesh.status())
        .unwrap_or_default();
    let refused = mesh
        .into_iter()
        .filter(|remote| matches!(remote.state, State::Refused | State::Misconfigured))
        .map(|remote| {
            let text = format!("remote cluster {}: {}", remote.name, remote.reason);
            (("ClusterRefused", remote.name), text)
        });
    let full = service.core().dp.full_maps();
    let full = full.into_iter().map(|map| {
        let text = format!("map {map} is full: rows are missing in the datapath; raise its limit");
        (("MapFull", map.to_string()), text)
    });
    refused.chain(full).collect()
}
