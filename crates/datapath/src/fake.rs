// SPDX-License-Identifier: Apache-2.0
//! A kernel in memory, for tests: same answers, limits that can be lowered, and a record of every change in order.

use std::collections::BTreeMap;

use abi::Counter;
use zerocopy::FromBytes;

use crate::kernel::{Attached, Cursor, Kernel, Put, Scan, hex};
use crate::{Error, Map, Program, Result, Settings, Shape};

/// A change that [`Fake`] saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Call {
    /// A value was written.
    Put(Map, Vec<u8>, Vec<u8>),
    /// A value was removed.
    Delete(Map, Vec<u8>),
    /// A counter was changed.
    Add(Map, u32, i32),
    /// A program was attached or replaced.
    Attach(String, Program, Attached),
    /// A program was detached.
    Detach(String, Program),
}

/// A kernel in memory. Moving it from one [`crate::Datapath`] to the next is a restart of the agent.
#[derive(Clone, Debug)]
pub struct Fake {
    maps: BTreeMap<Map, BTreeMap<Vec<u8>, Vec<u8>>>,
    limits: BTreeMap<Map, u32>,
    links: BTreeMap<(String, Program), u32>,
    /// Everything that changed, in order.
    pub calls: Vec<Call>,
    /// What [`Kernel::counters`] returns.
    pub counters: Vec<Counter>,
}

impl Default for Fake {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            maps: BTreeMap::new(),
            limits: Map::ALL
                .iter()
                .map(|map| (*map, map.limit(&settings)))
                .collect(),
            links: BTreeMap::new(),
            calls: Vec::new(),
            counters: Vec::new(),
        }
    }
}

impl Fake {
    /// Empty maps of the default sizes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the limit of a map, also below what it holds.
    pub fn set_limit(&mut self, map: Map, limit: u32) {
        self.limits.insert(map, limit);
    }

    /// Entries of a map.
    pub fn len(&self, map: Map) -> usize {
        self.maps.get(&map).map_or(0, BTreeMap::len)
    }

    /// Whether a map has no entries.
    pub fn is_empty(&self, map: Map) -> bool {
        self.len(map) == 0
    }

    fn check(&self, map: Map, key: &[u8]) -> Result<()> {
        let index = u32::read_from_bytes(key).unwrap_or(u32::MAX);
        let inside = map.shape() != Shape::Array || index < self.limit(map);
        if key.len() == map.key_size() && inside {
            return Ok(());
        }
        Err(Error::Invalid {
            map,
            what: format!("{} is no key of this map", hex(key)),
        })
    }

    fn table(&self, map: Map) -> Option<&BTreeMap<Vec<u8>, Vec<u8>>> {
        self.maps.get(&map)
    }
}

impl Kernel for Fake {
    fn get(&self, map: Map, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.check(map, key)?;
        let value = self.table(map).and_then(|rows| rows.get(key)).cloned();
        let zero = (map.shape() == Shape::Array).then(|| vec![0; map.value_size()]);
        Ok(value.or(zero))
    }

    fn put(&mut self, map: Map, key: &[u8], value: &[u8], mode: Put) -> Result<bool> {
        self.check(map, key)?;
        if value.len() != map.value_size() {
            return Err(Error::Invalid {
                map,
                what: format!("value of {} bytes", value.len()),
            });
        }
        let max = self.limit(map);
        let rows = self.maps.entry(map).or_default();
        let exists = rows.contains_key(key);
        if exists && mode == Put::New {
            return Ok(false);
        }
        if !exists && rows.len() as u64 >= u64::from(max) {
            return Err(Error::MapFull { map, max });
        }
        rows.insert(key.to_vec(), value.to_vec());
        self.calls
            .push(Call::Put(map, key.to_vec(), value.to_vec()));
        Ok(true)
    }

    fn delete(&mut self, map: Map, key: &[u8]) -> Result<bool> {
        Ok(self.take(map, key)?.is_some())
    }

    fn take(&mut self, map: Map, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.check(map, key)?;
        let value = self.maps.entry(map).or_default().remove(key);
        if value.is_some() {
            self.calls.push(Call::Delete(map, key.to_vec()));
        }
        Ok(value)
    }

    fn scan(
        &self,
        map: Map,
        cursor: &mut Cursor,
        limit: u32,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<Scan> {
        use std::ops::Bound;
        let start = cursor
            .position
            .take()
            .map_or(Bound::Unbounded, Bound::Excluded);
        let Some(rows) = self.table(map) else {
            return Ok(Scan::Done);
        };
        let mut rest = rows.range((start, Bound::Unbounded));
        for (key, value) in rest.by_ref().take(limit as usize) {
            visit(key, value);
            cursor.position = Some(key.clone());
        }
        if rest.next().is_some() {
            return Ok(Scan::More);
        }
        cursor.position = None;
        Ok(Scan::Done)
    }

    fn add(&mut self, map: Map, index: u32, delta: i32) -> Result<u32> {
        let key = index.to_ne_bytes();
        let old = self.get(map, &key)?.unwrap_or_default();
        let old = u32::read_from_bytes(old.as_slice()).unwrap_or(0);
        let new = match delta {
            0.. => old.wrapping_add(delta as u32),
            _ => old.saturating_sub(delta.unsigned_abs()),
        };
        self.maps
            .entry(map)
            .or_default()
            .insert(key.to_vec(), new.to_ne_bytes().to_vec());
        self.calls.push(Call::Add(map, index, delta));
        Ok(new)
    }

    fn counters(&self) -> Result<Vec<Counter>> {
        Ok(self.counters.clone())
    }

    fn limit(&self, map: Map) -> u32 {
        self.limits.get(&map).copied().unwrap_or(0)
    }

    fn barrier(&self) {}

    fn attach(&mut self, device: &str, ifindex: u32, program: Program) -> Result<Attached> {
        let old = self.links.insert((device.to_owned(), program), ifindex);
        let attached = if old == Some(ifindex) {
            Attached::Replaced
        } else {
            Attached::New
        };
        self.calls
            .push(Call::Attach(device.to_owned(), program, attached));
        Ok(attached)
    }

    fn detach(&mut self, device: &str, program: Program) -> Result<()> {
        if !program.is_of_pod() && self.links.remove(&(device.to_owned(), program)).is_some() {
            self.calls.push(Call::Detach(device.to_owned(), program));
        }
        Ok(())
    }

    fn links(&self) -> Result<Vec<(String, Program)>> {
        let pinned = self
            .links
            .keys()
            .filter(|(_, program)| !program.is_of_pod());
        Ok(pinned.cloned().collect())
    }
}
