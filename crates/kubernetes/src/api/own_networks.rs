// SPDX-License-Identifier: Apache-2.0
//! The CiliumNode of a node whose networks are of the cluster's pool says which they are, for as long as the node uses them:
//! what no CiliumNode has is free for others.

use std::future::Future;

use futures::StreamExt;
use ipnet::IpNet;
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::runtime::{WatchStreamExt, watcher};
use tables::Backoff;

use super::pool::{Pools, is_v4, lost, networks_of};
use super::publish::Published;
use super::turn::Seen;
use super::watches::{FIRST, LONGEST, Pause, told};

/// Follows the CiliumNode called `node` for ever, and writes those of `own` into it that are of a family of which it has no
/// network. A network of another value stays: it is the node's when its agent starts again. `tell` hears how it goes.
pub async fn keep_networks(
    client: Client,
    node: &str,
    pools: &Pools,
    own: &[IpNet],
    tell: impl Fn(Result<(), String>),
) {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &Published::Node.resource());
    let config = watcher::Config::default().fields(&format!("metadata.name={node}"));
    let events = watcher::watcher(api, config).backoff(Pause(Backoff::new(FIRST, LONGEST)));
    let mut events = std::pin::pin!(events);
    // What the list that is being read says.
    let mut listed = None;
    let is_own = |object: &DynamicObject| object.metadata.name.as_deref() == Some(node);
    while let Some(event) = events.next().await {
        let said = match event {
            Ok(watcher::Event::Init) => {
                listed = None;
                continue;
            }
            Ok(watcher::Event::InitApply(object)) => {
                listed = is_own(&object).then(|| networks_of(&object)).or(listed);
                continue;
            }
            Ok(watcher::Event::InitDone) => listed.take().unwrap_or_default(),
            Ok(watcher::Event::Apply(object)) if is_own(&object) => networks_of(&object),
            Ok(watcher::Event::Delete(object)) if is_own(&object) => Vec::new(),
            Err(
                watcher::Error::InitialListFailed(refusal @ kube::Error::Api(_))
                | watcher::Error::WatchStartFailed(refusal @ kube::Error::Api(_)),
            ) => {
                tell(Err(told(&refusal)));
                continue;
            }
            // How the server is otherwise, the source of objects tells.
            Ok(_) | Err(_) => continue,
        };
        if let Some(other) = changed(own, &said) {
            tell(Err(other));
            continue;
        }
        if !lost(own, &said).is_empty() {
            let seen = Seen::default();
            until_done(|| pools.put_back(&client, node, own, &seen), &tell).await;
        }
        tell(Ok(()));
    }
}

/// Repeats `work` until it succeeds.
async fn until_done<F: Future<Output = Result<(), String>>>(
    work: impl Fn() -> F,
    tell: &impl Fn(Result<(), String>),
) {
    let mut pause = Backoff::new(FIRST, LONGEST);
    while let Err(reason) = work().await {
        tell(Err(reason));
        tokio::time::sleep(pause.next(rand::random())).await;
    }
}

/// What to say of a network that somebody changed.
fn changed(own: &[IpNet], said: &[IpNet]) -> Option<String> {
    own.iter().find_map(|net| {
        // The first of a family is the node's.
        let said = said.iter().find(|said| is_v4(said) == is_v4(net))?;
        (said != net).then(|| {
            format!(
                "the CiliumNode says {said}, pods of this node have {net}: set it back, or take the pods away and restart the agent"
            )
        })
    })
}
