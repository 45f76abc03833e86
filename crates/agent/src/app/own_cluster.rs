// SPDX-License-Identifier: Apache-2.0
//! This cluster's etcd: the client, what this node writes there, and what it reads from there.

use std::sync::Arc;

use clustermesh::Kind;
use clustermesh::publish::{Announcement, Announcer};
use kvstore::{
    Allocator, AllocatorOptions, ClientOptions, Etcd, Leftover, Publisher, PublisherOptions, schema,
};
use tables::Tasks;

use super::AppError;
use super::collect::collect;
use crate::own::{self, Follower, OwnStatus};
use crate::shared::Shared;
use config::{Config, KvstoreConfig};

/// This cluster's etcd and what lives on it.
pub(super) struct Own {
    pub(super) allocator: Allocator<Etcd>,
    pub(super) publisher: Publisher<Etcd>,
    pub(super) status: Arc<OwnStatus>,
    pub(super) follower: Follower,
    pub(super) announcer: Option<Announcer>,
    pub(super) store: Etcd,
}

impl Own {
    pub(super) fn start(
        kvstore: &KvstoreConfig,
        config: &Arc<Config>,
        core: &Arc<Shared>,
        tasks: &mut Tasks,
        in_kubernetes: bool,
    ) -> Result<Own, AppError> {
        let client = kvstore.client().map_err(AppError::Kvstore)?;
        let endpoints = client.endpoints.iter().map(url).collect();
        let store = Etcd::lazy(client, ClientOptions::default());
        let status = OwnStatus::new(endpoints);
        let follower = Follower::new(config.clone(), core.clone(), status.clone());
        follower.restore();
        let node = core.lock().node.clone();
        let options = AllocatorOptions {
            scheme: config.scheme,
            lease_ttl: kvstore.lease_ttl,
            known: own::known_identities(&core.lock()),
            ..AllocatorOptions::new(config.cluster_id, node.ipv4.to_string())
        };
        let allocator = Allocator::start(store.clone(), options);
        let publisher = Publisher::start(
            store.clone(),
            PublisherOptions {
                lease_ttl: kvstore.lease_ttl,
                ops_per_second: f64::from(kvstore.qps),
                prefixes: vec![
                    format!("{}/{}/", schema::keys::NODES, config.cluster),
                    format!("{}/", schema::keys::IPS),
                ],
                leftover: of_gone_pods(core.clone()),
                ..PublisherOptions::default()
            },
        );
        tasks.spawn(
            "own identities",
            follower.clone().identities(allocator.subscribe()),
        );
        for (name, kind) in [("own nodes", Kind::Nodes), ("own addresses", Kind::Ips)] {
            tasks.spawn(name, follower.clone().follow(store.clone(), kind));
        }
        tasks.spawn("own rows", follower.clone().tick());
        tasks.spawn("own rows on disk", follower.clone().save());
        tasks.spawn("own etcd", status.clone().probe(store.clone()));
        if let Some(interval) = kvstore.identity_gc
            && !in_kubernetes
        {
            let collection = collect(store.clone(), follower.clone(), config.clone(), interval);
            tasks.spawn("collection", collection);
        }
        let announcer = (config.cluster_id.0 != 0).then(|| {
            Announcer::start(
                store.clone(),
                Announcement {
                    cluster: config.cluster.clone(),
                    id: config.cluster_id,
                    scheme: config.scheme,
                    lease_ttl: kvstore.lease_ttl,
                },
            )
        });
        Ok(Own {
            allocator,
            publisher,
            status,
            follower,
            announcer,
            store,
        })
    }
}

/// Addresses that an earlier run of this agent published for pods that went while no agent ran.
fn of_gone_pods(core: Arc<Shared>) -> Leftover {
    Leftover::new(move |kv| {
        let prefix = schema::ip_of_key(schema::keys::IPS, &kv.key);
        let entry = schema::decode_ip(&kv.key, &kv.value);
        let Ok((prefix, entry)) = prefix.and_then(|prefix| Ok((prefix, entry?))) else {
            return false;
        };
        prefix == entry.prefix && core.lock().is_leftover(&entry)
    })
}

fn url(endpoint: &kvstore::config::Endpoint) -> String {
    let scheme = if endpoint.tls { "https" } else { "http" };
    let host = if endpoint.host.contains(':') {
        format!("[{}]", endpoint.host)
    } else {
        endpoint.host.clone()
    };
    format!("{scheme}://{host}:{}", endpoint.port)
}
