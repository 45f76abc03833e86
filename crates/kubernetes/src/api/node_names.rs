// SPDX-License-Identifier: Apache-2.0
//! Which Nodes a cluster has, by name. Their content is of no interest here, and does not come along.

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use tables::{Backoff, Event};

use super::watches::{FIRST, LONGEST, Pause};

/// Follows the names of Nodes for ever; failures are retried, and told by whoever follows objects.
pub fn node_names(client: Client) -> impl Stream<Item = Event<String, ()>> + Send {
    let nodes: Api<PartialObjectMeta<Node>> = Api::all(client);
    let name = |node: PartialObjectMeta<Node>| node.metadata.name.unwrap_or_default();
    watcher::watcher(nodes, watcher::Config::default())
        .backoff(Pause(Backoff::new(FIRST, LONGEST)))
        .filter_map(move |event| {
            let event = event.ok().map(|event| match event {
                watcher::Event::Init => Event::Init,
                watcher::Event::InitApply(node) => Event::InitApply(name(node), ()),
                watcher::Event::InitDone => Event::InitDone,
                watcher::Event::Apply(node) => Event::Apply(name(node), ()),
                watcher::Event::Delete(node) => Event::Delete(name(node)),
            });
            std::future::ready(event)
        })
}
