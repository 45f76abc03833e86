// SPDX-License-Identifier: Apache-2.0
//! A CiliumNode that somebody deletes: its node writes it again.

use futures::{Stream, StreamExt};
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use tables::Backoff;

use super::publish::Published;
use super::watches::{FIRST, LONGEST, Pause};

/// Says so whenever there is no CiliumNode called `node`, for ever. How the server is otherwise, the source of objects tells.
pub fn lost_node(client: Client, node: &str) -> impl Stream<Item = ()> + Send + use<> {
    // Of its content nothing is of interest, and nothing comes along.
    let resource = Published::Node.resource();
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &resource);
    let config = watcher::Config::default().fields(&format!("metadata.name={node}"));
    let node = node.to_owned();
    let is_own = move |object: &PartialObjectMeta<DynamicObject>| {
        object.metadata.name.as_deref() == Some(&*node)
    };
    let mut is_listed = false;
    watcher::watcher(api, config)
        .backoff(Pause(Backoff::new(FIRST, LONGEST)))
        .filter_map(move |event| {
            let is_lost = match event {
                Ok(watcher::Event::Init) => {
                    is_listed = false;
                    false
                }
                Ok(watcher::Event::InitApply(object)) => {
                    is_listed |= is_own(&object);
                    false
                }
                Ok(watcher::Event::InitDone) => !is_listed,
                Ok(watcher::Event::Delete(object)) => is_own(&object),
                Ok(watcher::Event::Apply(_)) | Err(_) => false,
            };
            std::future::ready(is_lost.then_some(()))
        })
}
