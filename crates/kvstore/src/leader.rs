// SPDX-License-Identifier: Apache-2.0
//! One of many: work for the whole cluster is done by whoever holds a leased key, and by another when it is gone.

use std::time::Duration;

use bytes::Bytes;

use crate::error::Error;
use crate::store::{LeaseId, Result, Store};

/// A candidate for one kind of work.
#[derive(Debug)]
pub struct Leader<S: Store> {
    store: S,
    key: String,
    name: Bytes,
    ttl: Duration,
    lease: Option<LeaseId>,
}

impl<S: Store> Leader<S> {
    /// Contends for `key` under `name`, which is for people. Whoever leads and dies is followed after `ttl`.
    pub fn new(store: S, key: impl Into<String>, name: impl Into<Bytes>, ttl: Duration) -> Self {
        Self {
            store,
            key: key.into(),
            name: name.into(),
            ttl,
            lease: None,
        }
    }

    /// The lease of who leads: it lives while nobody else leads.
    pub fn lease(&self) -> Option<LeaseId> {
        self.lease
    }

    /// Whether this candidate leads; it stays so if it asks again within a third of the time.
    pub async fn leads(&mut self) -> Result<bool> {
        if let Some(lease) = self.lease {
            match self.store.keep_alive(lease).await {
                Ok(_) => {
                    self.lease = Some(lease);
                    let found = self.store.get(&self.key).await?;
                    if found.is_some_and(|kv| kv.lease == Some(lease)) {
                        return Ok(true);
                    }
                    // Somebody deleted the key under a lease that lives.
                    self.store.revoke(lease).await?;
                    self.lease = None;
                }
                Err(Error::LeaseGone { .. }) => self.lease = None,
                Err(error) => return Err(error),
            }
        }
        if self.store.get(&self.key).await?.is_some() {
            return Ok(false);
        }
        let lease = self.store.grant(self.ttl).await?;
        let created = self
            .store
            .create(&self.key, self.name.clone(), Some(lease))
            .await;
        match created {
            Ok(true) => self.lease = Some(lease),
            Ok(false) | Err(_) => self.store.revoke(lease).await?,
        }
        created
    }
}
