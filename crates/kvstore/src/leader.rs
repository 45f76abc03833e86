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
    /// Contends for `key` under `name`, which no other candidate has. Whoever leads and dies is followed after `ttl`, or
    /// goes on leading if it is back under its name before.
    pub fn new(store: S, key: impl Into<String>, name: impl Into<Bytes>, ttl: Duration) -> Self {
        Self {
            store,
            key: key.into(),
            name: name.into(),
            ttl,
            lease: None,
        }
    }

    /// Whether this candidate leads; it stays so if it asks again within a third of the time.
    pub async fn leads(&mut self) -> Result<bool> {
        let found = self.store.get(&self.key).await?;
        let own = found.as_ref().filter(|kv| kv.value == self.name);
        let held = own.and_then(|kv| kv.lease);
        if let Some(lease) = held {
            match self.store.keep_alive(lease).await {
                Ok(_) => {
                    self.lease = Some(lease);
                    return Ok(true);
                }
                Err(Error::LeaseGone { .. }) => self.lease = None,
                Err(error) => return Err(error),
            }
        } else if let Some(lease) = self.lease {
            // Its key is gone, or another's: somebody deleted it under a lease that may live.
            self.store.revoke(lease).await?;
            self.lease = None;
        }
        if held.is_none() && found.is_some() {
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
