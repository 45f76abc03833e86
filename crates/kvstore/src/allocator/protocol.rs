// SPDX-License-Identifier: Apache-2.0
//! The allocation protocol, step by step as Cilium's agents do it, so that both can share a kvstore.

use std::time::Duration;

use model::{Labels, NumericIdentity};

use super::{Allocator, IsNew};
use crate::error::{Error, cut};
use crate::lock::Guard;
use crate::schema::{decode_identity_number, encode_identity, keys};
use crate::store::{Result, Store};

const ATTEMPTS: u32 = 16;
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// One attempt.
enum Outcome {
    Done(NumericIdentity, IsNew),
    /// Somebody was quicker.
    Again,
}

impl<S: Store> Allocator<S> {
    /// Allocates through the kvstore.
    pub(super) async fn ask(&self, labels: &Labels) -> Result<(NumericIdentity, IsNew)> {
        let _gate = self.gate.lock().await;
        // Free numbers are those that the complete list does not name.
        let mut synced = self.shared.synced.subscribe();
        let waited = synced.wait_for(|synced| *synced).await;
        drop(waited);
        let mut pause = FIRST_PAUSE;
        for _ in 0..ATTEMPTS {
            if let Some(id) = self.shared.state().reuse(labels) {
                return Ok((id, IsNew::Known));
            }
            let guard = self.store.lock(&keys::identity_lock(labels)).await?;
            let failure = match self.under_lock(labels, &guard).await {
                // No more waiting: a use that nobody is told of would never end.
                Ok(Outcome::Done(id, is_new)) => return Ok((id, is_new)),
                Ok(Outcome::Again) | Err(Error::LockLost { .. }) => None,
                Err(error) => Some(error),
            };
            if let Err(error) = guard.release().await {
                tracing::debug!(%error, "an identity lock is left to its lease");
            }
            if let Some(failure) = failure {
                return Err(failure);
            }
            tokio::time::sleep(pause.mul_f64(0.5 + 0.5 * rand::random::<f64>())).await;
            pause *= 2;
        }
        Err(Error::Allocation {
            labels: cut(&labels.canonical(), 512),
            reason: format!("other nodes were quicker {ATTEMPTS} times: try again"),
        })
    }

    async fn under_lock(&self, labels: &Labels, guard: &Guard<S>) -> Result<Outcome> {
        if let Some(id) = self.in_use_anywhere(labels).await? {
            return self.publish_use(labels, id, IsNew::Known, guard).await;
        }
        let known = self.shared.state().number_of(labels);
        if let Some(id) = known {
            let master = keys::identity(id);
            let created = self
                .store
                .create_if_locked(&master, encode_identity(labels), None, guard)
                .await?;
            if !created && !self.master_is(id, labels).await? {
                return Ok(Outcome::Again);
            }
            return self.publish_use(labels, id, IsNew::Known, guard).await;
        }
        let id = self.shared.state().free(rand::random())?;
        let master = keys::identity(id);
        let created = self
            .store
            .create_if_locked(&master, encode_identity(labels), None, guard)
            .await?;
        match created {
            true => self.publish_use(labels, id, IsNew::New, guard).await,
            false => Ok(Outcome::Again),
        }
    }

    async fn master_is(&self, id: NumericIdentity, labels: &Labels) -> Result<bool> {
        let master = self.store.get(&keys::identity(id)).await?;
        Ok(master.is_some_and(|kv| kv.value == encode_identity(labels)))
    }

    /// The number under which any node uses these labels.
    async fn in_use_anywhere(&self, labels: &Labels) -> Result<Option<NumericIdentity>> {
        let uses = keys::identity_uses(labels);
        let mut page = self.store.list_page(&keys::under(&uses), None).await?;
        loop {
            for kv in &page.listing.kvs {
                if !keys::is_use_of(&uses, &kv.key) {
                    continue;
                }
                match decode_identity_number(&kv.key, &kv.value) {
                    Ok(id) if self.shared.state().in_range(id) => return Ok(Some(id)),
                    Ok(id) => {
                        tracing::warn!(key = %kv.key, %id, "identity outside this cluster's range is ignored")
                    }
                    Err(error) => tracing::warn!(%error, "slave key is ignored"),
                }
            }
            let Some(token) = page.next.take() else {
                return Ok(None);
            };
            page = self
                .store
                .list_page(&keys::under(&uses), Some(token))
                .await?;
        }
    }

    /// Writes this node's slave key while the lock is held.
    async fn publish_use(
        &self,
        labels: &Labels,
        id: NumericIdentity,
        is_new: IsNew,
        guard: &Guard<S>,
    ) -> Result<Outcome> {
        let id = self.adopt(labels, id)?;
        let slave = keys::identity_use(labels, &self.options.suffix);
        let mut undo = Undo(Some((self, labels)));
        self.slaves.written(&slave).await;
        let held = self.store.txn(vec![guard.compare()], Vec::new()).await?;
        if !held.succeeded {
            return Err(guard.lost());
        }
        undo.0 = None;
        Ok(Outcome::Done(id, is_new))
    }
}

/// Takes a use back if the allocation fails or its caller gives up.
struct Undo<'a, S: Store>(Option<(&'a Allocator<S>, &'a Labels)>);

impl<S: Store> Drop for Undo<'_, S> {
    fn drop(&mut self) {
        if let Some((allocator, labels)) = self.0.take() {
            allocator.release(labels);
        }
    }
}
