// SPDX-License-Identifier: Apache-2.0
//! Where this cluster's objects come from: a directory, or Kubernetes, or nowhere.

use kubernetes::api::{self, Client, PodNetworks};
use kubernetes::{Follow, Source};

use super::AppError;
use config::Config;

/// The last good state of the API server.
const OBJECTS_FILE: &str = "kubernetes.objects";
/// The policies in force of a directory.
const POLICIES_FILE: &str = "manifests.policies";
/// The pod networks that the cluster gave this node.
pub(super) const NETWORKS_FILE: &str = "kubernetes.networks";

/// A client of the API server, if there is one to be the source.
pub(super) async fn client(config: &Config) -> Result<Option<Client>, AppError> {
    match &config.kubernetes {
        Some(kubernetes) if kubernetes.is_explicit() || api::is_in_pod() => {
            Ok(Some(api::connect(&kubernetes.settings).await?))
        }
        _ => Ok(None),
    }
}

/// Waits for the pod networks that no option gives; answers which those are.
pub(super) async fn find_networks(client: &Client, config: &mut Config) -> PodNetworks {
    let Some(kubernetes) = &config.kubernetes else {
        return PodNetworks::default();
    };
    let wanted = (
        config.ipv4 && config.ipv4_range.is_none(),
        config.ipv6 && config.ipv6_range.is_none(),
    );
    if wanted == (false, false) {
        return PodNetworks::default();
    }
    let file = config.state_dir.join(NETWORKS_FILE);
    let found = api::pod_networks(client, &config.node, &kubernetes.ipam, wanted, &file).await;
    let found = PodNetworks {
        v4: found.v4.filter(|_| wanted.0),
        v6: found.v6.filter(|_| wanted.1),
    };
    config.ipv4_range = config.ipv4_range.or(found.v4);
    config.ipv6_range = config.ipv6_range.or(found.v6);
    found
}

/// Begins to follow the source.
pub(super) fn start(config: &Config, client: Option<&Client>) -> Result<Option<Source>, AppError> {
    if let Some(dir) = &config.manifests {
        let file = config.state_dir.join(POLICIES_FILE);
        let follow = Follow::new(dir, Some(file))?;
        return Ok(Some(Source::Directory(Box::new(follow))));
    }
    Ok(client.map(|client| {
        let file = config.state_dir.join(OBJECTS_FILE);
        Source::Api(Box::new(api::Source::new(client, &config.node, Some(file))))
    }))
}
