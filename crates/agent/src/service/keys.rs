// SPDX-License-Identifier: Apache-2.0
//! `/isthmus/kvstore`: what this cluster's etcd holds.

use api::models::KvstoreEntry;
use api::{Answer, ApiError, Feed};
use futures::StreamExt;
use kvstore::{KeyValue, Page, Store};

use super::{Service, failed};

impl Service {
    /// A key, or all keys that begin with it.
    pub(super) async fn keys(&self, key: String, recursive: bool) -> Answer<Feed<KvstoreEntry>> {
        let store = self.store.clone();
        let store = store.ok_or_else(|| ApiError::not_found("no kvstore is configured"))?;
        keys(store, key, recursive).await
    }
}

async fn keys<S: Store>(store: S, key: String, recursive: bool) -> Answer<Feed<KvstoreEntry>> {
    if !recursive {
        let found = store.get(&key).await.map_err(failed)?;
        let found = found.ok_or_else(|| ApiError::not_found(format!("key {key} is not found")))?;
        return Ok(futures::stream::iter([entry(found)]).boxed());
    }
    let first = store.list_page(&key, None).await.map_err(failed)?;
    let pages = futures::stream::unfold(State::Page(first), move |state| {
        next(store.clone(), key.clone(), state)
    });
    Ok(pages.flat_map(futures::stream::iter).boxed())
}

/// How far a list has come.
enum State {
    Page(Page),
    Over,
}

/// The entries of a page, and the page after it.
async fn next<S: Store>(
    store: S,
    prefix: String,
    state: State,
) -> Option<(Vec<KvstoreEntry>, State)> {
    let State::Page(page) = state else {
        return None;
    };
    let mut entries: Vec<_> = page.listing.kvs.into_iter().map(entry).collect();
    let state = match page.next {
        None => State::Over,
        Some(token) => match store.list_page(&prefix, Some(token)).await {
            Ok(page) => State::Page(page),
            Err(error) => {
                entries.push(KvstoreEntry {
                    error: error.to_string(),
                    ..KvstoreEntry::default()
                });
                State::Over
            }
        },
    };
    Some((entries, state))
}

fn entry(kv: KeyValue) -> KvstoreEntry {
    KvstoreEntry {
        value: String::from_utf8_lossy(&kv.value).into_owned(),
        key: kv.key,
        error: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use kvstore::Memory;

    use super::*;

    #[tokio::test]
    async fn a_key_or_all_that_begin_with_it() {
        let store = Memory::new(1);
        for n in 0..600 {
            let key = format!("a/{n:03}");
            store.put(&key, "v".into(), None).await.expect("written");
        }
        store.put("b", "other".into(), None).await.expect("written");
        let ask = async |key: &str, recursive| {
            let feed = keys(store.clone(), key.into(), recursive).await?;
            Ok::<_, ApiError>(feed.collect::<Vec<_>>().await)
        };
        let one = ask("b", false).await.expect("there");
        assert_eq!((one.len(), one[0].value.as_str()), (1, "other"));
        let all = ask("a/", true).await.expect("answered");
        assert_eq!((all.len(), all[599].key.as_str()), (600, "a/599"));
        assert!(ask("c", true).await.expect("answered").is_empty());
        let error = ask("a/", false).await.expect_err("no such key");
        assert_eq!(error.text, "key a/ is not found");
    }
}
