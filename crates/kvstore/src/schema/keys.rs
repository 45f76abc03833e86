// SPDX-License-Identifier: Apache-2.0
//! Names of the keys.

use model::{Labels, NumericIdentity};

/// Everything that a cluster says about its state.
pub const STATE: &str = "cilium/state";
/// Nodes: `<prefix>/<cluster>/<node>`.
pub const NODES: &str = "cilium/state/nodes/v1";
/// Identities: `<prefix>/id/…`, `<prefix>/value/…`, `<prefix>/locks/…`.
pub const IDENTITIES: &str = "cilium/state/identities/v1";
/// Identity numbers: `<prefix>/<decimal>`, value the labels.
pub const IDENTITY_IDS: &str = "cilium/state/identities/v1/id";
/// Uses of identities: `<prefix>/<labels>/<node address>`, value the decimal number.
pub const IDENTITY_VALUES: &str = "cilium/state/identities/v1/value";
/// Locks of allocations: `<prefix>/<labels>`.
pub const IDENTITY_LOCKS: &str = "cilium/state/identities/v1/locks";
/// Addresses of the only address space: `<prefix>/<address or network>`. No cluster name!
pub const IPS: &str = "cilium/state/ip/v1/default";
/// All address spaces; what the canary of addresses is named after.
pub const IP_STATE: &str = "cilium/state/ip/v1";
/// Global services: `<prefix>/<cluster>/<namespace>/<name>`.
pub const SERVICES: &str = "cilium/state/services/v1";
/// What clusters say about themselves: `<prefix>/<cluster>`.
pub const CLUSTER_CONFIG: &str = "cilium/cluster-config";
/// Sync canaries: `<prefix>/<cluster>/<watched prefix>`.
pub const SYNCED: &str = "cilium/synced";
/// The heartbeat, a key of its own.
pub const HEARTBEAT: &str = "cilium/.heartbeat";
/// Copies made by a mirror: [`STATE`] is replaced by this.
pub const CACHE: &str = "cilium/cache";

/// Key of a node.
pub fn node(cluster: &str, node: &str) -> String {
    format!("{NODES}/{cluster}/{node}")
}

/// Key of an identity number ("master key").
pub fn identity(id: NumericIdentity) -> String {
    format!("{IDENTITY_IDS}/{id}")
}

/// The identity number of a key under any `…/id/`. Below [`IDENTITY_IDS`] no other key names it.
pub fn identity_of(key: &str) -> Option<NumericIdentity> {
    let own = key.strip_prefix(IDENTITY_IDS);
    let digits = match own.and_then(|rest| rest.strip_prefix('/')) {
        Some(digits) => digits,
        None => key.rsplit_once("/id/")?.1,
    };
    let canonical = !digits.is_empty()
        && digits.len() <= 10
        && digits.bytes().all(|c| c.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    canonical.then(|| digits.parse().ok().map(NumericIdentity))?
}

/// Prefix of the uses of an identity, without a slash at its end.
pub fn identity_uses(labels: &Labels) -> String {
    format!("{IDENTITY_VALUES}/{}", labels.canonical())
}

/// Key of one node's use of an identity ("slave key"). `suffix` is the node's address.
pub fn identity_use(labels: &Labels, suffix: &str) -> String {
    format!("{}/{suffix}", identity_uses(labels))
}

/// Whether `key` is a use of exactly the identity whose [`identity_uses`] is `uses`: labels may hold slashes, so the last
/// slash decides.
pub fn is_use_of(uses: &str, key: &str) -> bool {
    key.rfind('/') == Some(uses.len()) && key.starts_with(uses)
}

/// Lock of the allocation for `labels`.
pub fn identity_lock(labels: &Labels) -> String {
    format!("{IDENTITY_LOCKS}/{}", labels.canonical())
}

/// Key of a cluster's configuration.
pub fn cluster_config(cluster: &str) -> String {
    format!("{CLUSTER_CONFIG}/{cluster}")
}

/// Key of a canary; `prefix` is for example [`NODES`].
pub fn synced(cluster: &str, prefix: &str) -> String {
    format!("{SYNCED}/{cluster}/{prefix}")
}

/// The place of a prefix under a mirror: `cilium/state/…` becomes `cilium/cache/…`.
pub fn cached(prefix: &str) -> String {
    match prefix.strip_prefix(STATE) {
        Some(rest) => format!("{CACHE}{rest}"),
        None => prefix.to_owned(),
    }
}

/// The prefix to list and watch: with a slash at its end.
pub fn under(prefix: &str) -> String {
    format!("{}/", prefix.trim_end_matches('/'))
}
