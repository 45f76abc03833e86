// SPDX-License-Identifier: Apache-2.0
//! Follows the identities of the cluster and repairs keys of those in use here.

use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use model::{Labels, NumericIdentity};
use tables::Event;
use tokio::time::{MissedTickBehavior, interval};

use super::AllocatorOptions;
use super::table::Shared;
use crate::error::Error;
use crate::publisher::Publisher;
use crate::reflect::{Update, reflect};
use crate::schema::{decode_identity, encode_identity, keys};
use crate::store::{KeyValue, Store};

pub(super) struct Keeper<S: Store> {
    pub(super) store: S,
    pub(super) options: Arc<AllocatorOptions>,
    pub(super) shared: Arc<Shared>,
    pub(super) slaves: Arc<Publisher<S>>,
}

impl<S: Store> Keeper<S> {
    pub(super) async fn run(self) {
        let mut updates = pin!(reflect(self.store.clone(), keys::under(keys::IDENTITY_IDS)));
        let mut ticks = interval(self.options.sync_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        loop {
            tokio::select! {
                biased;
                _ = ticks.tick() => self.look_for_deleted().await,
                update = updates.next() => match update {
                    Some(update) => self.take(update).await,
                    None => return,
                },
            }
        }
    }

    async fn take(&self, update: Update) {
        match update {
            Update::Event(Event::Init) => self.shared.state().list_begins(),
            Update::Event(Event::InitApply(key, kv)) => {
                if let Some((id, labels)) = self.decode(&key, &kv) {
                    self.shared.state().listed(id, labels);
                }
            }
            Update::Event(Event::InitDone) => {
                let missing = self.shared.state().list_ends();
                self.shared.synced.send_replace(true);
                for (id, labels) in missing {
                    self.make_again(id, &labels).await;
                }
            }
            Update::Event(Event::Apply(key, kv)) => {
                if let Some((id, labels)) = self.decode(&key, &kv) {
                    self.shared.state().changed(id, labels);
                }
            }
            Update::Event(Event::Delete(key)) => {
                let Some(id) = keys::identity_of(&key) else {
                    return;
                };
                let in_use = self.shared.state().deleted(id);
                if let Some(labels) = in_use {
                    self.make_again(id, &labels).await;
                }
            }
            Update::Skipped { key, error } => {
                let id = keys::identity_of(&key);
                self.shared.state().refused(id, &error.to_string());
            }
            Update::Failed(error) => {
                let is_known = self.shared.state().failing.as_ref() == Some(&error);
                if !is_known {
                    tracing::warn!(%error, "identities cannot be followed, trying again");
                }
                if matches!(error, Error::ClusterIdChanged { .. }) {
                    self.slaves.start_over();
                }
                self.shared.state().failing = Some(error);
            }
        }
    }

    fn decode(&self, key: &str, kv: &KeyValue) -> Option<(NumericIdentity, Labels)> {
        let mut state = self.shared.state();
        let Some(id) = keys::identity_of(key).filter(|id| state.in_range(*id)) else {
            state.refused(
                None,
                &format!("{key}: is no identity of this cluster's range"),
            );
            return None;
        };
        match decode_identity(key, &kv.value) {
            Ok(labels) => Some((id, labels)),
            Err(error) => {
                state.refused(Some(id), &error.to_string());
                None
            }
        }
    }

    async fn make_again(&self, id: NumericIdentity, labels: &Labels) {
        let master = keys::identity(id);
        match self
            .store
            .create(&master, encode_identity(labels), None)
            .await
        {
            Ok(true) => {
                tracing::info!(%id, "master key of an identity in use was gone and is made again");
                // Whatever took it may have taken the use of it along: an etcd that lost its disk did.
                let slave = keys::identity_use(labels, &self.options.suffix);
                self.slaves.refresh(&slave);
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%id, %error, "master key of an identity in use cannot be made again")
            }
        }
    }

    /// Every key of every identity in use, whatever the watch said.
    async fn look_for_deleted(&self) {
        let in_use = self.shared.state().in_use();
        for (id, labels) in in_use {
            self.make_again(id, &labels).await;
            let slave = keys::identity_use(&labels, &self.options.suffix);
            match self.store.get(&slave).await {
                Ok(Some(kv)) if kv.value == id.to_string() => {}
                Ok(_) => self.slaves.refresh(&slave),
                Err(error) => {
                    tracing::warn!(%error, "identity keys cannot be checked");
                    return;
                }
            }
        }
    }
}
