// SPDX-License-Identifier: Apache-2.0
//! Leases with a limited number of keys each: the cost of a write grows with the keys of its lease.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;
use crate::store::{LeaseId, Result, Store};

struct Slot {
    id: LeaseId,
    keys: usize,
    renew: Instant,
}

/// The leases of one publisher.
pub(super) struct Leases {
    ttl: Duration,
    most: usize,
    slots: Vec<Slot>,
}

impl Leases {
    pub(super) fn new(ttl: Duration, most: usize) -> Self {
        Self {
            ttl,
            most: most.max(1),
            slots: Vec::new(),
        }
    }

    /// A lease with room for one more key.
    pub(super) async fn with_room<S: Store>(&mut self, store: &S) -> Result<LeaseId> {
        if let Some(slot) = self.slots.iter().find(|slot| slot.keys < self.most) {
            return Ok(slot.id);
        }
        let id = store.grant(self.ttl).await?;
        self.slots.push(Slot {
            id,
            keys: 0,
            renew: Instant::now() + self.ttl / 3,
        });
        Ok(id)
    }

    pub(super) fn add_key(&mut self, lease: LeaseId) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.id == lease) {
            slot.keys += 1;
        }
    }

    pub(super) fn remove_key(&mut self, lease: LeaseId) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.id == lease) {
            slot.keys = slot.keys.saturating_sub(1);
        }
    }

    /// When the next renewal is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.slots.iter().map(|slot| slot.renew).min()
    }

    pub(super) fn has(&self, lease: LeaseId) -> bool {
        self.slots.iter().any(|slot| slot.id == lease)
    }

    pub(super) fn forget(&mut self, lease: LeaseId) {
        self.slots.retain(|slot| slot.id != lease);
    }

    pub(super) fn forget_all(&mut self) {
        self.slots.clear();
    }

    /// Renews the lease that is due. `Ok(Some(_))`: that lease is gone with its keys.
    pub(super) async fn renew<S: Store>(&mut self, store: &S) -> Result<Option<LeaseId>> {
        let ttl = self.ttl;
        let Some(slot) = self.slots.iter_mut().min_by_key(|slot| slot.renew) else {
            return Ok(None);
        };
        match store.keep_alive(slot.id).await {
            Ok(_) => {
                slot.renew = Instant::now() + ttl / 3;
                Ok(None)
            }
            Err(Error::LeaseGone { lease }) => {
                self.forget(lease);
                Ok(Some(lease))
            }
            Err(error) => {
                // Often enough to come back before the lease ends, not more.
                let soon = (ttl / 20).clamp(Duration::from_secs(1), Duration::from_secs(10));
                slot.renew = Instant::now() + soon;
                Err(error)
            }
        }
    }
}
