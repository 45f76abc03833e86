// SPDX-License-Identifier: Apache-2.0
//! What this node shows in Kubernetes: its CiliumNode, and a CiliumEndpoint per pod.

mod json;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ::api::models::EndpointState;
use datapath::Kernel;
use futures::StreamExt;
use kubernetes::api::{
    self, Body, Client, Ipam, PodNetworks, Pools, Publication, Published, ResourceKey,
};
use model::{EndpointId, Labels, NumericIdentity, Pod};
use tokio::time::Instant;

use super::source::NETWORKS_FILE;
use crate::core::Core;
use crate::endpoint::{Attachment, Endpoint};
use crate::service::Service;

/// What changed is written so often.
const INTERVAL: Duration = Duration::from_secs(1);
/// A CiliumNode that is gone is written at once, but so often at most: one whose Node is gone is deleted again by the cluster.
const LOST: Duration = Duration::from_secs(60);
/// Longest pause after failures.
const LONGEST: Duration = Duration::from_secs(30);

/// Keeps them as they shall be, for ever.
pub(super) async fn publish(service: Arc<Service>, client: Client) {
    let name = service.core().config.node.to_string();
    let mut lost = std::pin::pin!(api::lost_node(client.clone(), &name));
    let node = (Published::Node, String::new(), name);
    let (mut is_lost, mut forgotten) = (false, None::<Instant>);
    let mut publication = Publication::new(client);
    let mut made = HashMap::new();
    let mut pause = tables::Backoff::new(INTERVAL, LONGEST);
    loop {
        let wanted = wanted(&service.core(), &mut made);
        let result = publication.sync(&wanted).await;
        let wait = match &result {
            Ok(()) => {
                pause.reset();
                INTERVAL
            }
            Err(_) => pause.next(0.0),
        };
        service.core().note("custom resources", result.err());
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            Some(()) = lost.next() => is_lost = true,
        }
        if is_lost && forgotten.is_none_or(|at| at.elapsed() >= LOST) {
            publication.forget(&node);
            (is_lost, forgotten) = (false, Some(Instant::now()));
        }
    }
}

/// Keeps this node's Node open for pods once the agent serves them. Ends when it says other networks than `given`, so that the
/// next run of the agent has them: to take networks over beside pods of former ones is a start's work.
pub(super) async fn keep_open(service: Arc<Service>, client: Client, given: PodNetworks) {
    service.until_ready().await;
    let (node, own, file) = {
        let core = service.core();
        let kubernetes = core.config.kubernetes.as_ref();
        let is_from_node = kubernetes.is_some_and(|settings| settings.ipam == Ipam::Kubernetes);
        let own = if is_from_node {
            given
        } else {
            PodNetworks::default()
        };
        let file = core.config.state_dir.join(NETWORKS_FILE);
        (core.config.node.clone(), own, file)
    };
    let seen = |uid: &str| service.core().node_uid = Some(uid.to_owned());
    let tell = |result: Result<(), String>| service.core().note("own Node", result.err());
    let others = api::keep_open(client, &node, &own, &file, seen, tell).await;
    tracing::warn!(
        ?own,
        ?others,
        "the Node has other networks for this node's pods"
    );
}

/// Keeps the networks of this node's pods, which are of `pools`, in its CiliumNode, for ever.
pub(super) async fn keep_networks(service: Arc<Service>, client: Client, pools: Pools) {
    let (node, own) = {
        let core = service.core();
        (core.config.node.clone(), core.node.pod_cidrs())
    };
    let tell = |result: Result<(), String>| service.core().note("pod networks", result.err());
    api::keep_networks(client, &node, &pools, &own, tell).await;
}

/// What a CiliumEndpoint and the CiliumIdentity of its endpoint tell of.
struct Seen {
    attachment: Attachment,
    labels: Labels,
    identity: NumericIdentity,
    state: EndpointState,
    pod: Pod,
    /// Ingress, egress.
    enforcement: (bool, bool),
}

impl Seen {
    /// `None` if the endpoint's pod is none of the cluster's: by its name people look for another one. Nor is one shown that has
    /// no identity of its own yet.
    fn of(core: &Core<impl Kernel>, endpoint: &Endpoint) -> Option<Self> {
        let pod = core.pod_of(&endpoint.attachment)?;
        if endpoint.identity.is_reserved() {
            return None;
        }
        Some(Self {
            attachment: endpoint.attachment.clone(),
            labels: endpoint.labels.clone(),
            identity: endpoint.identity,
            state: endpoint.state,
            pod: pod.clone(),
            enforcement: core.engine.enforcement(endpoint.attachment.id),
        })
    }

    fn is_as_before(&self, core: &Core<impl Kernel>, endpoint: &Endpoint) -> bool {
        self.identity == endpoint.identity
            && self.state == endpoint.state
            && self.enforcement == core.engine.enforcement(endpoint.attachment.id)
            && Some(&self.pod) == core.pod_of(&endpoint.attachment)
            && self.labels == endpoint.labels
            && self.attachment == endpoint.attachment
    }
}

/// An endpoint's resources, and what they were made of.
struct Made {
    of: Seen,
    resources: [(ResourceKey, Body); 2],
}

impl Made {
    fn new(core: &Core<impl Kernel>, endpoint: &Endpoint) -> Option<Self> {
        let of = Seen::of(core, endpoint)?;
        let pod = &of.attachment.pod;
        let (namespace, name) = (pod.namespace.to_string(), pod.name.to_string());
        let body = json::endpoint(&of, &core.node.ipv4.to_string());
        let identity = (Published::Identity, String::new(), of.identity.to_string());
        let resources = [
            ((Published::Endpoint, namespace, name), Body::from(&body)),
            (identity, Body::from(&json::identity(&of))),
        ];
        Some(Self { of, resources })
    }
}

/// What the node shall show. Resources of endpoints are made only if they are not as before.
fn wanted(
    core: &Core<impl Kernel>,
    made: &mut HashMap<EndpointId, Made>,
) -> BTreeMap<ResourceKey, Body> {
    made.retain(|id, _| core.endpoints.contains_key(id));
    for (id, endpoint) in &core.endpoints {
        let is_current = |made: &Made| made.of.is_as_before(core, endpoint);
        if !made.get(id).is_some_and(is_current) {
            match Made::new(core, endpoint) {
                Some(new) => drop(made.insert(*id, new)),
                None => drop(made.remove(id)),
            }
        }
    }
    let name = core.config.node.to_string();
    let node = (Published::Node, String::new(), name);
    let of_endpoints = made
        .values()
        .flat_map(|made| made.resources.iter().cloned());
    std::iter::once((node, Body::from(&json::node(core))))
        .chain(of_endpoints)
        .collect()
}
