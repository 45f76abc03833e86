// SPDX-License-Identifier: Apache-2.0
//! What this node wrote under a name that its cluster does not have any more. Nobody renews these keys, but until their
//! leases end everybody would believe them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clustermesh::persist;
use kvstore::schema::keys;
use kvstore::{Etcd, Store};
use model::{Labels, keys::CLUSTER};
use tables::Backoff;

use crate::service::Service;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Deletes it once the node serves its pods under the new name, then waits for ever. `labels` are those of the pods of
/// before this start, `rows` the directory with the rows of the own cluster.
pub(crate) async fn forget(service: Arc<Service>, store: Etcd, labels: Vec<Labels>, rows: PathBuf) {
    let names = former_names(&rows, service.core().config.cluster.as_str());
    if !names.is_empty() {
        service.until_ready().await;
        let mut pause = Backoff::new(FIRST, LONGEST);
        while let Err(error) = erase(&service, &store, &names, &labels).await {
            tracing::warn!(%error, ?names, "keys of a former name of this cluster are still there");
            tokio::time::sleep(pause.next(rand::random())).await;
        }
        for name in &names {
            // Otherwise the next start deletes what is not there.
            let _ = std::fs::remove_file(persist::path(&rows, name));
        }
        tracing::info!(?names, "keys of a former name of this cluster are deleted");
    }
    std::future::pending().await
}

/// Names of clusters that this node belonged to, by the rows that it saved.
fn former_names(rows: &Path, now: &str) -> Vec<String> {
    let entries = std::fs::read_dir(persist::directory(rows));
    let files = entries.into_iter().flatten().flatten();
    files
        .filter_map(|file| {
            file.file_name()
                .to_str()?
                .strip_suffix(".rows")
                .map(str::to_owned)
        })
        .filter(|name| name != now)
        .collect()
}

async fn erase(
    service: &Service,
    store: &Etcd,
    names: &[String],
    labels: &[Labels],
) -> kvstore::Result<()> {
    let (node, suffix) = {
        let core = service.core();
        (core.config.node.clone(), core.node.ipv4.to_string())
    };
    for name in names {
        store.delete(&keys::node(name, &node)).await?;
        // Whoever still has that name writes these again.
        store.delete(&keys::cluster_config(name)).await?;
        for canary in store.list(&keys::under(&keys::synced(name, ""))).await?.kvs {
            store.delete(&canary.key).await?;
        }
    }
    let is_former = |labels: &&Labels| {
        let mut own = labels.iter().filter(|label| label.key() == CLUSTER);
        own.any(|label| names.iter().any(|name| name == label.value()))
    };
    for labels in labels.iter().filter(is_former) {
        store.delete(&keys::identity_use(labels, &suffix)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn former_names_are_those_of_other_files() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(former_names(dir.path(), "east").is_empty());
        let rows = persist::directory(dir.path());
        std::fs::create_dir_all(&rows).expect("made");
        for name in ["east.rows", "default.rows", "west.rows.new"] {
            std::fs::write(rows.join(name), "").expect("written");
        }
        assert_eq!(former_names(dir.path(), "east"), ["default"]);
    }
}
