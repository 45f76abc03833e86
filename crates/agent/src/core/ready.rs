// SPDX-License-Identifier: Apache-2.0
//! The end of a start: what this run knows is in force, and what earlier runs left goes.

use std::time::{Duration, Instant};

use datapath::Kernel;

use super::Core;
use super::room::finish;
use crate::addresses::Source;

/// How long what this cluster's nodes wrote under another id is believed: until all of them have the new one.
const FORMER_ID: Duration = Duration::from_secs(15);

impl<K: Kernel> Core<K> {
    /// The first lists are complete: writes the whole policy, then removes what earlier runs left.
    pub(crate) fn become_ready(&mut self) {
        if self.ready {
            return;
        }
        self.ready = true;
        if self.has_former_id() {
            self.sweep_after = Instant::now() + FORMER_ID;
        }
        self.forget_untold();
        self.dirty = true;
        self.settle();
        self.write_services();
        self.routes_changed.notify_one();
        self.pruned = false;
        self.prune_generations();
        for endpoint in self.endpoints.values_mut() {
            finish(endpoint, &self.engine, "Policy in force");
        }
    }

    /// Every source has said all that it has: rows of before this start that nobody claims are gone. Not earlier, for a
    /// row that is not claimed yet may carry traffic.
    pub(crate) fn sweep(&mut self) {
        if self.swept || !self.ready || Instant::now() < self.sweep_after {
            return;
        }
        self.swept = true;
        let addresses = &self.addresses;
        let result = self.dp.prune_ips(&|prefix| {
            let claim = addresses.get(prefix);
            claim.is_some_and(|(source, _)| *source != Source::Local)
        });
        self.note("address maps", result.err());
        self.write_nodes();
    }

    /// Whether [`Core::sweep`] is still to come.
    pub(crate) fn is_swept(&self) -> bool {
        self.swept
    }

    /// Whether there is work that only time brings on: retries, and what waits for the end of the start.
    pub(crate) fn is_unfinished(&self) -> bool {
        !self.swept
            || !self.pruned
            || self.dp.is_unsettled()
            || self.policy_waits()
            || self.refused.is_due()
            || self.crowd_is_due()
            || !self.unwritten.is_empty()
            || self.services_wait()
    }

    /// Removes what earlier runs left in the policy maps, once no endpoint uses it. While policy waits for room endpoints
    /// seldom flip, so a look now and then is enough.
    pub(crate) fn prune_generations(&mut self) {
        let waits = self.policy_waits() || self.engine.unplaced().len() > 0;
        if !self.ready || self.pruned || waits && self.renewal.was_pruned() {
            return;
        }
        match self.dp.prune_policy() {
            Ok(done) => {
                self.pruned = done;
                self.note("policy maps", None::<String>);
            }
            Err(error) => self.note("policy maps", Some(error)),
        }
    }
}
