// SPDX-License-Identifier: Apache-2.0
//! Services: who answers at a ClusterIP.
//!
//! Three maps hold a service. Its row names an id and a number of backends; under the id, numbered from 0, are those that
//! new flows choose from, of which the row itself has the first few; and a row per backend, also of one that takes no new
//! flows, says that its flows go on.
//!
//! **Order.** A backend is a member before it can be chosen and can no longer be chosen before it ceases to be one. One that
//! is gone has its bucket raised afterwards: its flows are judged again, and end. Before that, and after it ceased to be a
//! member, rises the bucket of the service's own address: who chose while that stayed as it was chose a backend, or is judged
//! again. It rises too when the service is new: flows that pods have with its address are judged again, and find it.
//!
//! A change writes what it is about: a backend more is two rows and the number, one less moves the last into its place.

mod rows;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use abi::{Addr, Backend, BackendKey, Service, ServiceKey, addr_bucket, member_flags};
use model::{Backends, Frontend};
use rows::{backend, few, frontend, member_key, seconds, service_key, ticks};

use crate::kernel::{Kernel, Typed};
use crate::maps::table;
use crate::{Datapath, Result, addr, ip_addr};

/// Address and port (big endian) of a backend.
type At = (Addr, [u8; 2]);

/// What the maps hold about a service.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Balanced {
    row: Service,
    /// Backends by index; those from `row.count` on are to be removed.
    slots: Vec<At>,
    /// Bits of [`member_flags`].
    members: BTreeMap<At, u32>,
}

/// A service as the maps hold it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceRow {
    /// Where it is reached.
    pub frontend: Frontend,
    /// Its number in the maps.
    pub id: u32,
    /// Its backends.
    pub backends: Backends,
}

/// A service as the programs find it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceSlots {
    /// Where it is reached.
    pub frontend: Frontend,
    /// Its number in the maps.
    pub id: u32,
    /// How long a client keeps its backend, seconds; 0: every flow chooses anew.
    pub affinity: u32,
    /// The backends that new flows choose from, by slot.
    pub slots: Vec<SocketAddr>,
}

impl<K: Kernel> Datapath<K> {
    /// Adds or replaces a service; returns whether anything changed.
    ///
    /// # Errors
    /// The first; all else is done, and what did not fit is tried again with the next call.
    pub fn put_service(&mut self, frontend: &Frontend, backends: &Backends) -> Result<bool> {
        let key = service_key(frontend);
        let mut wanted = BTreeMap::new();
        for backend in &backends.list {
            let selectable = if backend.selectable {
                member_flags::SELECTABLE
            } else {
                0
            };
            let at = (addr(backend.addr), backend.port.to_be_bytes());
            *wanted.entry(at).or_default() |= member_flags::MEMBER | selectable;
        }
        let mut now = self.services.remove(&key).unwrap_or_default();
        let before = now.clone();
        if now.row.id == 0 {
            now.row.id = self.free_id();
        }
        let affinity = ticks(backends.affinity);
        let mut result = self.balance(&key, &mut now, &wanted, affinity);
        // The room that it gave up is its own first: others may wait for it.
        if result.is_err()
            && before
                .members
                .keys()
                .any(|at| !now.members.contains_key(at))
        {
            result = self.balance(&key, &mut now, &wanted, affinity);
        }
        let changed = now != before;
        self.services.insert(key, now);
        result.map(|()| changed)
    }

    /// Removes a service; absent is fine. Its flows end. Returns whether there was one.
    pub fn remove_service(&mut self, frontend: &Frontend) -> Result<bool> {
        self.drop_service(&service_key(frontend))
    }

    /// Removes every service that `keep` does not name.
    ///
    /// # Errors
    /// The first; all else is done.
    pub fn prune_services(&mut self, keep: &dyn Fn(&Frontend) -> bool) -> Result<()> {
        let gone: Vec<_> = self
            .services
            .keys()
            .filter(|key| !frontend(key).is_some_and(|frontend| keep(&frontend)))
            .copied()
            .collect();
        let results: Vec<_> = gone.iter().map(|key| self.drop_service(key)).collect();
        results.into_iter().try_for_each(|result| result.map(drop))
    }

    /// All services, in the order of their addresses.
    pub fn services(&self) -> Vec<ServiceRow> {
        let rows = self.services.iter().filter_map(|(key, now)| {
            let list = now.members.iter().filter_map(|((at, port), flags)| {
                Some(model::Backend {
                    addr: ip_addr(at)?,
                    port: u16::from_be_bytes(*port),
                    selectable: flags & member_flags::SELECTABLE != 0,
                })
            });
            Some(ServiceRow {
                frontend: frontend(key)?,
                id: now.row.id,
                backends: Backends {
                    affinity: seconds(now.row.affinity),
                    list: list.collect(),
                },
            })
        });
        rows.collect()
    }

    /// What the maps hold, read from the kernel, in the order of addresses.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn service_map(&self) -> Result<Vec<ServiceSlots>> {
        let mut rows = self.kernel.dump::<table::Services>()?;
        rows.sort_by_key(|(key, _)| *key);
        let backends: HashMap<BackendKey, Backend> =
            self.kernel.dump::<table::Backends>()?.into_iter().collect();
        let slots = |row: &Service| {
            let service = row.id;
            let keys = (0..row.count).map(move |index| BackendKey { service, index });
            // A backend may go between the two reads.
            let found = keys.filter_map(|key| backends.get(&key));
            let at = |to: &Backend| Some((ip_addr(&to.addr)?, u16::from_be_bytes(to.port)).into());
            found.filter_map(at).collect()
        };
        let services = rows.iter().filter_map(|(key, row)| {
            Some(ServiceSlots {
                frontend: frontend(key)?,
                id: row.id,
                affinity: seconds(row.affinity),
                slots: slots(row),
            })
        });
        Ok(services.collect())
    }

    /// Reads what the maps hold.
    pub(crate) fn read_services(&mut self) -> Result<()> {
        let mut services: BTreeMap<u32, Balanced> = BTreeMap::new();
        let rows = self.kernel.dump::<table::Services>()?;
        for (_, row) in &rows {
            services.entry(row.id).or_default().row = *row;
        }
        let mut backends = self.kernel.dump::<table::Backends>()?;
        backends.sort_by_key(|(key, _)| (key.service, key.index));
        for (key, backend) in backends {
            let known = services.get_mut(&key.service);
            match known.filter(|now| now.slots.len() == key.index as usize) {
                Some(now) => now.slots.push((backend.addr, backend.port)),
                None => drop(self.erase::<table::Backends>(&key)?),
            }
        }
        for (key, flags) in self.kernel.dump::<table::Members>()? {
            match services.get_mut(&key.service) {
                Some(now) => drop(now.members.insert((key.addr, key.port), flags)),
                None => drop(self.erase::<table::Members>(&key)?),
            }
        }
        self.services = rows
            .into_iter()
            .filter_map(|(key, row)| Some((key, services.remove(&row.id)?)))
            .collect();
        Ok(())
    }

    fn free_id(&self) -> u32 {
        let used = self.services.values().map(|now| now.row.id);
        used.max().unwrap_or(0).checked_add(1).unwrap_or_else(|| {
            let used: std::collections::BTreeSet<u32> =
                self.services.values().map(|now| now.row.id).collect();
            (1..).find(|id| !used.contains(id)).unwrap_or(u32::MAX)
        })
    }

    /// Brings the maps from `now` to `wanted` and has `now` say how far it came. `affinity` in ticks.
    fn balance(
        &mut self,
        key: &ServiceKey,
        now: &mut Balanced,
        wanted: &BTreeMap<At, u32>,
        affinity: u32,
    ) -> Result<()> {
        let id = now.row.id;
        let mut result = Ok(());
        for (at, flags) in wanted {
            let has = now.members.get(at).copied().unwrap_or(0);
            if has | flags == has {
                continue;
            }
            match self.upsert::<table::Members>(&member_key(id, *at), &(has | flags)) {
                Ok(()) => drop(now.members.insert(*at, has | flags)),
                Err(error) => result = result.and(Err(error)),
            }
        }
        let slots = now.slots.clone();
        let filled = self.fill_slots(now, wanted);
        let row = Service {
            id,
            count: now.slots.len() as u32,
            affinity,
            few: few(&now.slots),
        };
        result = result.and(filled);
        let there = self.kernel.get_row::<table::Services>(key)?;
        let has_changed = there != Some(row) || slots != now.slots;
        if there != Some(row)
            && let Err(error) = self.upsert::<table::Services>(key, &row)
        {
            return result
                .and(self.raise(addr_bucket(&key.addr)))
                .and(Err(error));
        }
        now.row = row;
        result.and(self.retire(key, now, wanted, has_changed))
    }

    /// Has `now.slots` be those of `wanted` that may be chosen, and writes what moved.
    fn fill_slots(&mut self, now: &mut Balanced, wanted: &BTreeMap<At, u32>) -> Result<()> {
        let may = |at: &At| {
            let both = [wanted.get(at), now.members.get(at)];
            let selectable =
                |flags: &Option<&u32>| flags.is_some_and(|f| f & member_flags::SELECTABLE != 0);
            both.iter().all(selectable)
        };
        let held: std::collections::BTreeSet<At> = now.slots.iter().copied().collect();
        let mut new: Vec<At> = wanted
            .keys()
            .filter(|at| may(at) && !held.contains(at))
            .copied()
            .collect();
        let mut slots = now.slots.clone();
        let mut index = 0;
        let mut moved = Vec::new();
        while index < slots.len() {
            let at = slots[index];
            if may(&at) {
                index += 1;
            } else if let Some(other) = new.pop() {
                slots[index] = other;
                moved.push(index);
                index += 1;
            } else {
                slots.swap_remove(index);
                // What came into this place is looked at next, and written if it stays.
                if index < slots.len() {
                    moved.push(index);
                }
            }
        }
        moved.extend(slots.len()..slots.len() + new.len());
        slots.append(&mut new);
        moved.retain(|index| *index < slots.len());
        moved.dedup();
        for index in moved {
            let row = backend(&slots[index]);
            let key = BackendKey {
                service: now.row.id,
                index: index as u32,
            };
            if let Err(error) = self.upsert::<table::Backends>(&key, &row) {
                // Indices have no gaps: what comes after this one has no room either.
                slots.truncate(index);
                now.slots = slots;
                return Err(error);
            }
        }
        now.slots = slots;
        Ok(())
    }

    /// Removes what new flows can no longer reach, and raises the epochs: the service's, for who just chose in what its rows were
    /// and, if it is new, for what pods send there already; then those of the backends that are gone.
    fn retire(
        &mut self,
        key: &ServiceKey,
        now: &mut Balanced,
        wanted: &BTreeMap<At, u32>,
        has_changed: bool,
    ) -> Result<()> {
        let mut gone = Vec::new();
        let mut result = self.remove_rest(now, wanted, &mut gone);
        let service = (has_changed || !gone.is_empty()).then(|| addr_bucket(&key.addr));
        let backends = gone.iter().map(|(addr, _)| addr_bucket(addr));
        for bucket in service.into_iter().chain(backends) {
            result = result.and(self.raise(bucket));
        }
        result
    }

    /// Removes surplus numbers, flags, and members, which are in `gone` then.
    fn remove_rest(
        &mut self,
        now: &mut Balanced,
        wanted: &BTreeMap<At, u32>,
        gone: &mut Vec<At>,
    ) -> Result<()> {
        let id = now.row.id;
        let mut index = now.row.count;
        while self.erase::<table::Backends>(&BackendKey { service: id, index })? {
            index += 1;
        }
        let mut surplus = Vec::new();
        for (at, flags) in &mut now.members {
            let wants = wanted.get(at).copied().unwrap_or(0);
            if wants == 0 {
                surplus.push(*at);
            } else if *flags & !wants != 0 {
                self.upsert::<table::Members>(&member_key(id, *at), &wants)?;
                *flags = wants;
            }
        }
        let mut result = Ok(());
        for at in surplus {
            match self.erase::<table::Members>(&member_key(id, at)) {
                Ok(_) => {
                    now.members.remove(&at);
                    gone.push(at);
                }
                Err(error) => result = result.and(Err(error)),
            }
        }
        result
    }

    fn drop_service(&mut self, key: &ServiceKey) -> Result<bool> {
        let Some(mut now) = self.services.remove(key) else {
            return Ok(false);
        };
        let result = self.erase::<table::Services>(key).and_then(|_| {
            now.row.count = 0;
            now.slots.clear();
            self.retire(key, &mut now, &BTreeMap::new(), true)
        });
        if result.is_err() {
            self.services.insert(*key, now);
        }
        result.map(|()| true)
    }
}
