// SPDX-License-Identifier: Apache-2.0
//! Drops, as they happen: the kernel's ring is read while somebody listens, every event gets its labels and its
//! rule, and a slow listener loses some and is told how many.

use std::net::IpAddr;
use std::sync::Arc;

use abi::{DropEvent, DropReason, ExtError};
use api::models::{DropNotice, EventQuery, Party, RuleNote};
use api::{Feed, Timestamp};
use datapath::{EventReader, Kernel, Linux, ip_addr};
use futures::StreamExt;
use model::{EndpointId, NumericIdentity};
use tokio::io::unix::AsyncFd;
use tokio::sync::broadcast;

use crate::core::Core;
use crate::shared::Shared;
use crate::summary::summarize;

/// Events that a listener may be behind.
const QUEUE: usize = 1024;

/// Listeners to drops.
pub(crate) struct Hub {
    sender: broadcast::Sender<Arc<DropNotice>>,
    core: Arc<Shared>,
}

/// Switches the programs' events off when the last listener is gone.
struct Listening {
    hub: Arc<Hub>,
    receiver: Option<broadcast::Receiver<Arc<DropNotice>>>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.receiver = None;
        self.hub.switch();
    }
}

impl Hub {
    pub(crate) fn new(core: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            sender: broadcast::channel(QUEUE).0,
            core,
        })
    }

    /// Drops from now on.
    pub(crate) fn subscribe(self: &Arc<Self>, query: EventQuery) -> Feed<DropNotice> {
        let listening = Listening {
            receiver: Some(self.sender.subscribe()),
            hub: self.clone(),
        };
        self.switch();
        futures::stream::unfold((listening, 0u64), move |(mut listening, mut lost)| {
            let query = query.clone();
            async move {
                let receiver = listening.receiver.as_mut()?;
                loop {
                    match receiver.recv().await {
                        Ok(notice) if query.accepts(&notice) => {
                            let notice = DropNotice {
                                lost: std::mem::take(&mut lost),
                                ..(*notice).clone()
                            };
                            return Some((notice, (listening, 0)));
                        }
                        Ok(_) => {}
                        Err(broadcast::error::RecvError::Lagged(count)) => lost += count,
                        Err(broadcast::error::RecvError::Closed) => return None,
                    }
                }
            }
        })
        .boxed()
    }

    /// Events are made only while somebody listens.
    fn switch(&self) {
        let mut core = self.core.lock();
        let on = self.sender.receiver_count() > 0;
        let result = core.dp.set_events(on);
        core.note("events", result.err());
    }

    /// Reads the ring for ever.
    pub(crate) async fn run(self: Arc<Self>, reader: EventReader) {
        #[expect(
            deprecated,
            reason = "its successor is unsafe; the reader owns its descriptor and moves in, which is what is asked for"
        )]
        let ring = AsyncFd::new(reader);
        let mut ring = match ring {
            Ok(ring) => ring,
            Err(error) => {
                tracing::error!(%error, "cannot wait for drop events");
                return;
            }
        };
        loop {
            let Ok(mut guard) = ring.readable_mut().await else {
                return;
            };
            while let Some(event) = guard.get_inner_mut().next() {
                // Nobody listening any more is no error.
                let _ = self.sender.send(Arc::new(self.describe(&event)));
            }
            guard.clear_ready();
        }
    }

    fn describe(&self, event: &DropEvent) -> DropNotice {
        let captured = (event.captured as usize).min(event.capture.len());
        let summary = summarize(&event.capture[..captured]);
        let core = self.core.lock();
        let party = |identity: u32, ip: Option<std::net::IpAddr>, port: u16| Party {
            identity,
            labels: core
                .identities
                .get(&NumericIdentity(identity))
                .or_else(|| core.engine.labels_of(NumericIdentity(identity)))
                .map(|labels| labels.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            address: ip.map(|ip| ip.to_string()).unwrap_or_default(),
            port,
            name: ip
                .and_then(|ip| name_of(&core, ip, identity))
                .unwrap_or_default(),
        };
        let egress = event.direction != abi::Direction::Ingress as u8;
        // Whatever address it wrote as its own.
        let sender = egress.then(|| pod_of(&core, event.endpoint)).flatten();
        let endpoint_of = |ip: Option<std::net::IpAddr>| {
            let found = core
                .endpoints
                .values()
                .find(|e| e.attachment.ips().any(|own| Some(own) == ip));
            found.map_or(0, |e| e.attachment.id.0)
        };
        let rule = core.engine.rule(event.rule).map(|info| RuleNote {
            id: event.rule,
            kind: if info.text.starts_with("default deny") {
                "default-deny"
            } else {
                "rule"
            }
            .into(),
            text: info.text.clone(),
            policies: info.policies.iter().map(ToString::to_string).collect(),
        });
        let ext = ExtError::from_number(event.ext);
        DropNotice {
            time: Timestamp::now(),
            node: core.node.name.to_string(),
            code: event.reason,
            reason: DropReason::from_number(event.reason).map_or_else(
                || event.reason.to_string(),
                |reason| reason.text().to_owned(),
            ),
            ext_code: event.ext,
            ext_error: ext.map(ExtError::text).unwrap_or_default().into(),
            audit: event.audit != 0,
            direction: if egress { "egress" } else { "ingress" }.into(),
            endpoint: event.endpoint,
            dst_endpoint: endpoint_of(summary.destination),
            source: {
                let party = party(event.src_identity, summary.source, summary.source_port);
                let name = sender.unwrap_or_else(|| party.name.clone());
                Party { name, ..party }
            },
            destination: party(
                event.dst_identity,
                summary.destination,
                summary.destination_port,
            ),
            protocol: summary.protocol,
            rule,
            ifindex: event.ifindex,
            interface: interface_of(&core, event.ifindex),
            hash: event.hash,
            bytes: event.len,
            tunnel: ip_addr(&event.node)
                .filter(|_| event.node != abi::Addr::NONE)
                .map(|ip| ip.to_string())
                .unwrap_or_default(),
            summary: summary.text,
            ..DropNotice::default()
        }
    }
}

/// `cluster/namespace/pod` or `cluster/node`, as far as known. A pod has its address only with its identity: with another one
/// somebody else wrote it.
pub(crate) fn name_of<K: Kernel>(core: &Core<K>, ip: IpAddr, identity: u32) -> Option<String> {
    let (source, claim) = core.addresses.get(&ip.into())?;
    let cluster = match source {
        crate::addresses::Source::ClusterMesh(cluster) => cluster.clone(),
        _ => core.config.cluster.clone(),
    };
    if let Some((namespace, pod)) = &claim.pod {
        let its = identity == 0 || identity == claim.identity.0;
        return its.then(|| format!("{cluster}/{namespace}/{pod}"));
    }
    let node = core
        .nodes
        .values()
        .find(|known| known.node.addresses.iter().any(|address| address.ip == ip))?;
    Some(node.node.name.to_string())
}

/// `cluster/namespace/pod` of an endpoint.
pub(crate) fn pod_of<K: Kernel>(core: &Core<K>, endpoint: u16) -> Option<String> {
    let pod = &core.endpoints.get(&EndpointId(endpoint))?.attachment.pod;
    let (cluster, namespace) = (&core.config.cluster, &pod.namespace);
    (!pod.name.is_empty()).then(|| format!("{cluster}/{namespace}/{}", pod.name))
}

fn interface_of(core: &Core<Linux>, ifindex: u32) -> String {
    let endpoint = core
        .endpoints
        .values()
        .find(|endpoint| endpoint.attachment.ifindex == ifindex);
    endpoint
        .map(|endpoint| endpoint.attachment.interface.clone())
        .unwrap_or_default()
}
