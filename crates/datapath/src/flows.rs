// SPDX-License-Identifier: Apache-2.0
//! Conntrack from the agent's side: collecting what is dead, keeping shares right, judging flows again.
//!
//! A pass over the table is done in steps of at most [`STEP`] entries, so that a full table does not stall the
//! agent. An entry is dead [`GRACE`] seconds after it expired. It is taken out in one step with a last look: a flow
//! that a packet revived in between is put back.
//!
//! Shares (entries per endpoint) are counted by the programs and drift when an entry is replaced. Each full
//! pass counts anew. A share that is too low is corrected at once. One that is too high may be so because the
//! pass did not see flows that began meanwhile; it is lowered by the smaller surplus of two passes in a row.
//!
//! An endpoint that has used half of its share is crowded: a name server gets each question from another port. There a
//! flow without connection is over after [`REST`] seconds without a packet.

use std::collections::{BTreeMap, BTreeSet};

use abi::{Flow, FlowKey};
use zerocopy::{FromBytes, IntoBytes};

use crate::kernel::{Cursor, Kernel, Put, Scan, Typed};
use crate::maps::table;
use crate::{Datapath, Map, Result};

/// Entries per step.
const STEP: u32 = 2048;
/// Seconds that an expired entry is left alone.
const GRACE: u32 = 2;
/// Seconds without a packet after which a crowded endpoint gives a flow without connection up.
const REST: u32 = 10;
const TCP: u8 = 6;
/// Index of [`abi::SHARE_OF_ALL`] among endpoints.
const ALL: u16 = abi::SHARE_OF_ALL as u16;

/// Result of one step of [`Datapath::collect_flows`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowStats {
    /// Living flows at the end of the last full pass.
    pub live: u32,
    /// Entries removed by this step.
    pub removed: u32,
    /// Shares corrected by this step.
    pub corrected: u32,
    /// This step finished a pass.
    pub finished: bool,
    /// `live` in percent of the table.
    pub pressure: u8,
}

/// Where the pass stands.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    cursor: Cursor,
    counts: BTreeMap<u16, u32>,
    surplus: BTreeMap<u16, u32>,
    live: u32,
    /// Endpoints that had used half of their share at the end of the last full pass.
    crowded: BTreeSet<u16>,
    /// Endpoints with as many as others may begin there.
    full: BTreeSet<u16>,
}

impl Sweep {
    /// Living flows at the end of the last full pass.
    pub(crate) fn live(&self) -> u32 {
        self.live
    }
}

/// When entries are dead.
struct End {
    now: u32,
    /// How much earlier flows without connection end at crowded endpoints.
    earlier: u32,
    crowded: BTreeSet<u16>,
}

impl End {
    fn has_come(&self, key: &[u8], flow: &Flow) -> bool {
        let end = flow.expires.saturating_add(GRACE);
        end < self.now
            || end < self.now.saturating_add(self.earlier)
                && self.crowded.contains(&flow.endpoint)
                && FlowKey::read_from_bytes(key).is_ok_and(|key| key.proto != TCP)
    }
}

/// Endpoints with so many entries.
fn with(counts: &BTreeMap<u16, u32>, many: u32) -> BTreeSet<u16> {
    let those = counts.iter().filter(|(_, count)| **count >= many);
    those.map(|(endpoint, _)| *endpoint).collect()
}

impl<K: Kernel> Datapath<K> {
    /// One step of garbage collection; `now` in the clock of [`Flow::expires`].
    pub fn collect_flows(&mut self, now: u32) -> Result<FlowStats> {
        self.settle()?;
        self.bury_old()?;
        let end = End {
            now,
            earlier: self.config.timeout_any.saturating_sub(REST),
            crowded: self.sweep.crowded.clone(),
        };
        let mut dead = Vec::new();
        let Sweep { cursor, counts, .. } = &mut self.sweep;
        let scan =
            self.kernel.scan(
                Map::Flows,
                cursor,
                STEP,
                &mut |key, value| match Flow::read_from_bytes(value) {
                    Ok(flow) if end.has_come(key, &flow) => dead.push(key.to_vec()),
                    Ok(flow) => *counts.entry(flow.endpoint).or_default() += 1,
                    Err(_) => {}
                },
            );
        let mut stats = FlowStats {
            finished: scan? == Scan::Done,
            ..FlowStats::default()
        };
        for key in &dead {
            stats.removed += u32::from(self.collect(key, &end)?);
        }
        if stats.finished {
            let mut counts = std::mem::take(&mut self.sweep.counts);
            self.sweep.live = counts.values().sum();
            self.sweep.crowded = with(&counts, self.config.flow_share / 2);
            self.sweep.full = with(&counts, self.config.share_for_others());
            counts.insert(ALL, self.sweep.live);
            stats.corrected = self.correct_shares(&counts)?;
        }
        stats.live = self.sweep.live;
        let limit = u64::from(self.kernel.limit(Map::Flows).max(1));
        stats.pressure = (u64::from(stats.live) * 100 / limit).min(100) as u8;
        Ok(stats)
    }

    /// Takes an entry out unless it came to life again.
    fn collect(&mut self, key: &[u8], end: &End) -> Result<bool> {
        let Some(value) = self.kernel.take(Map::Flows, key)? else {
            return Ok(false);
        };
        let Ok(flow) = Flow::read_from_bytes(value.as_slice()) else {
            return Ok(true);
        };
        if !end.has_come(key, &flow) {
            self.kernel
                .put(Map::Flows, key, flow.as_bytes(), Put::New)?;
            *self.sweep.counts.entry(flow.endpoint).or_default() += 1;
            return Ok(false);
        }
        if u32::from(flow.endpoint) < abi::MAX_ENDPOINTS {
            self.kernel.add(Map::Shares, u32::from(flow.endpoint), -1)?;
            self.kernel.add(Map::Shares, abi::SHARE_OF_ALL, -1)?;
        }
        Ok(true)
    }

    fn correct_shares(&mut self, counts: &BTreeMap<u16, u32>) -> Result<u32> {
        let mut corrected = 0;
        let before = std::mem::take(&mut self.sweep.surplus);
        for (index, share) in self.kernel.dump::<table::Shares>()? {
            let Ok(id) = u16::try_from(index) else {
                continue;
            };
            let count = counts.get(&id).copied().unwrap_or(0);
            let mut delta = i64::from(count) - i64::from(share);
            if delta < 0 {
                let surplus = delta.unsigned_abs().min(u64::from(u32::MAX)) as u32;
                self.sweep.surplus.insert(id, surplus);
                delta = -i64::from(before.get(&id).map_or(0, |old| surplus.min(*old)));
            }
            let delta = delta.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
            if delta != 0 {
                self.kernel.add(Map::Shares, index, delta)?;
                self.sweep.surplus.remove(&id);
                corrected += 1;
            }
        }
        Ok(corrected)
    }

    /// Whether the whole table had no room for flows that others begin when the last full pass ended.
    pub fn is_crowded(&self) -> bool {
        self.sweep.live >= self.config.flow_room
    }

    /// Endpoints that had no room for flows that others begin when the last full pass ended.
    pub fn full_endpoints(&self) -> &BTreeSet<u16> {
        &self.sweep.full
    }

    /// All flows.
    pub fn flows(&self) -> Result<Vec<(FlowKey, Flow)>> {
        self.kernel.dump::<table::Flows>()
    }

    /// Whether what was decided about the flow holds for its next packet, as far as epochs say.
    pub fn is_current(&self, flow: &Flow) -> Result<bool> {
        let epoch = |bucket: u16| -> Result<u32> {
            let epoch = self.kernel.get_row::<table::Epochs>(&u32::from(bucket))?;
            Ok(epoch.unwrap_or_default())
        };
        let policy = self.endpoints.get(&flow.endpoint).map(|slot| slot.epoch);
        let (addr, identity) = (epoch(flow.addr_bucket)?, epoch(flow.identity_bucket)?);
        Ok(policy.is_some_and(|policy| flow.epoch == Flow::epoch_of(policy, addr, identity)))
    }

    /// Removes the flows of an endpoint that is gone.
    pub(crate) fn remove_flows(&mut self, endpoint: u16) -> Result<()> {
        let mut gone = Vec::new();
        self.kernel.each::<table::Flows>(&mut |key, flow| {
            if flow.endpoint == endpoint {
                gone.push(key);
            }
        })?;
        for key in &gone {
            self.kernel.delete_row::<table::Flows>(key)?;
        }
        let fewer = i32::try_from(gone.len()).unwrap_or(i32::MAX);
        self.kernel.add(Map::Shares, abi::SHARE_OF_ALL, -fewer)?;
        self.reset_share(endpoint)
    }

    /// Raises the bucket of the address of every flow that `about` names.
    pub(crate) fn raise_flows(&mut self, about: &dyn Fn(&FlowKey, &Flow) -> bool) -> Result<()> {
        let mut buckets = BTreeSet::new();
        self.kernel.each::<table::Flows>(&mut |key, flow| {
            if about(&key, &flow) {
                buckets.insert(flow.addr_bucket);
            }
        })?;
        for bucket in buckets {
            self.raise(bucket)?;
        }
        Ok(())
    }
}
