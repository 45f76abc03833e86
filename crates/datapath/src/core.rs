// SPDX-License-Identifier: Apache-2.0
//! [`Datapath`]: what it remembers, how it starts from adopted maps, and the parts that fit nowhere else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use abi::{Addr, Counter, Endpoint, IpInfo, NodeConfig, PrefixKey, ServiceKey, config_flags};

use crate::addresses::rank;
use crate::flows::Sweep;
use crate::kernel::{Kernel, Put, Typed};
use crate::maps::table;
use crate::policy_ops::Grave;
use crate::services::Balanced;
use crate::{Attached, Error, Map, Program, Result, Table};

/// The datapath of this node. Reads what adopted maps hold; wipes nothing.
#[derive(Debug)]
pub struct Datapath<K> {
    pub(crate) kernel: K,
    pub(crate) config: NodeConfig,
    /// Slots in use, and free ones that remember a policy.
    pub(crate) endpoints: BTreeMap<u16, Endpoint>,
    /// Addresses of this node in [`Map::Locals`] and whose they are (0: the node's).
    pub(crate) locals: BTreeMap<Addr, u32>,
    /// Cluster and address of each row of [`Map::Nodes`].
    pub(crate) nodes: BTreeSet<(u32, Addr)>,
    /// What [`Map::Services`], [`Map::Backends`] and [`Map::Members`] hold.
    pub(crate) services: BTreeMap<ServiceKey, Balanced>,
    /// What [`Map::Prefixes`] holds.
    pub(crate) prefixes: BTreeMap<(u32, Addr), IpInfo>,
    /// Prefixes whose flows are still to be judged again.
    pub(crate) unsettled: Vec<PrefixKey>,
    /// Node addresses that are gone since flows were last looked through.
    pub(crate) lost_nodes: BTreeSet<Addr>,
    /// Policy operations that wait behind one that failed.
    pub(crate) backlog: VecDeque<policy::Op>,
    /// Removals that wait until no program can follow a number to them.
    pub(crate) graves: BTreeMap<Grave, Instant>,
    /// Generation of this run's policy numbers.
    pub(crate) generation: u32,
    pub(crate) sweep: Sweep,
    entries: BTreeMap<Map, u32>,
    full: BTreeSet<Map>,
}

/// Packets and bytes with one fate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metric {
    /// 0 for forwarded, else [`abi::DropReason`].
    pub reason: u8,
    /// [`abi::Direction`]; 0 if it has none.
    pub direction: u8,
    /// How much.
    pub counter: Counter,
}

/// Maps whose entries are counted.
const COUNTED: [Map; 11] = [
    Map::Devices,
    Map::Locals,
    Map::Ipcache,
    Map::Prefixes,
    Map::Nodes,
    Map::Identities,
    Map::Policies,
    Map::Rows,
    Map::Services,
    Map::Backends,
    Map::Members,
];

impl<K: Kernel> Datapath<K> {
    /// Reads what the maps hold.
    pub fn new(kernel: K) -> Result<Self> {
        let config = kernel.get_row::<table::Config>(&0)?.unwrap_or_default();
        let mut datapath = Self {
            kernel,
            config,
            endpoints: BTreeMap::new(),
            locals: BTreeMap::new(),
            nodes: BTreeSet::new(),
            services: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            unsettled: Vec::new(),
            lost_nodes: BTreeSet::new(),
            backlog: VecDeque::new(),
            graves: BTreeMap::new(),
            generation: 0,
            sweep: Sweep::default(),
            entries: BTreeMap::new(),
            full: BTreeSet::new(),
        };
        datapath.read_maps()?;
        datapath.begin_generation()?;
        Ok(datapath)
    }

    fn read_maps(&mut self) -> Result<()> {
        for (index, endpoint) in self.kernel.dump::<table::Endpoints>()? {
            let used = endpoint.ifindex != 0 || endpoint.policy != 0;
            if let Some(id) = u16::try_from(index).ok().filter(|_| used) {
                self.endpoints.insert(id, endpoint);
            }
        }
        let locals = self.kernel.dump::<table::Locals>()?;
        self.locals = locals
            .into_iter()
            .map(|(addr, local)| (addr, local.endpoint))
            .collect();
        self.nodes = self
            .kernel
            .dump::<table::Nodes>()?
            .into_iter()
            .map(|(key, _)| (key.cluster, key.addr))
            .collect();
        let prefixes = self.kernel.dump::<table::Prefixes>()?;
        self.prefixes = prefixes
            .into_iter()
            .map(|(key, info)| (rank(&key), info))
            .collect();
        self.read_services()?;
        for map in COUNTED {
            let count = self.count(map)?;
            self.entries.insert(map, count);
        }
        Ok(())
    }

    fn count(&self, map: Map) -> Result<u32> {
        let (mut cursor, mut count) = (crate::Cursor::default(), 0);
        while self
            .kernel
            .scan(map, &mut cursor, 8192, &mut |_, _| count += 1)?
            == crate::Scan::More
        {}
        Ok(count)
    }

    /// The kernel below.
    pub fn kernel(&self) -> &K {
        &self.kernel
    }

    /// The kernel below, e.g. to make a [`crate::Fake`] fail.
    pub fn kernel_mut(&mut self) -> &mut K {
        &mut self.kernel
    }

    /// Gives the kernel back, as a restart of the agent would leave it.
    pub fn into_kernel(self) -> K {
        self.kernel
    }

    /// Writes the node's configuration; [`config_flags::EVENTS`] stays as [`Datapath::set_events`] left it.
    pub fn set_config(&mut self, config: NodeConfig) -> Result<()> {
        let events = self.config.flags & config_flags::EVENTS;
        let flags = config.flags & !config_flags::EVENTS | events;
        self.write_config(NodeConfig { flags, ..config })
    }

    /// Says whether somebody listens to drop events.
    pub fn set_events(&mut self, on: bool) -> Result<()> {
        let others = self.config.flags & !config_flags::EVENTS;
        let flags = if on {
            others | config_flags::EVENTS
        } else {
            others
        };
        self.write_config(NodeConfig {
            flags,
            ..self.config
        })
    }

    fn write_config(&mut self, config: NodeConfig) -> Result<()> {
        self.kernel.put_row::<table::Config>(&0, &config)?;
        self.config = config;
        Ok(())
    }

    /// The configuration in force.
    pub fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// Attaches the programs of the VXLAN device, or replaces them.
    pub fn attach_overlay(&mut self, device: &str, ifindex: u32) -> Result<Attached> {
        self.attach_pair(device, ifindex, [Program::FromOverlay, Program::ToOverlay])
    }

    /// Attaches the programs of a pod's device (host side), or replaces them.
    pub fn attach_pod(&mut self, device: &str, ifindex: u32) -> Result<Attached> {
        self.attach_pair(device, ifindex, [Program::FromPod, Program::ToPod])
    }

    fn attach_pair(
        &mut self,
        device: &str,
        ifindex: u32,
        programs: [Program; 2],
    ) -> Result<Attached> {
        let [first, second] = programs;
        let one = self.kernel.attach(device, ifindex, first)?;
        let two = self.kernel.attach(device, ifindex, second)?;
        Ok(if one == Attached::New { one } else { two })
    }

    /// Removes the pinned links of every device that `keep` does not name.
    pub fn prune_links(&mut self, keep: &dyn Fn(&str) -> bool) -> Result<()> {
        let links = self.kernel.links()?;
        let results: Vec<_> = links
            .iter()
            .filter(|(device, _)| !keep(device))
            .map(|(device, program)| self.kernel.detach(device, *program))
            .collect();
        results.into_iter().collect()
    }

    /// Packets and bytes by reason and direction, those that are not zero.
    pub fn metrics(&self) -> Result<Vec<Metric>> {
        let counters = self.kernel.counters()?;
        let metrics = counters
            .into_iter()
            .enumerate()
            .filter(|(_, counter)| counter.packets != 0);
        Ok(metrics
            .map(|(index, counter)| Metric {
                reason: (index / 4) as u8,
                direction: (index % 4) as u8,
                counter,
            })
            .collect())
    }

    /// Map, entries, limit, for every map that can fill up. Conntrack's entries are those of the last full pass.
    pub fn map_pressure(&self) -> Vec<(&'static str, u32, u32)> {
        let flows = (Map::Flows, self.sweep.live());
        let counted = self.entries.iter().map(|(map, entries)| (*map, *entries));
        counted
            .chain([flows])
            .map(|(map, entries)| (map.name(), entries, self.kernel.limit(map)))
            .collect()
    }

    /// Maps that refused a row for want of room, and have taken none since, unless nothing waits for room in them.
    pub fn full_maps(&self) -> Vec<&'static str> {
        self.full.iter().map(|map| map.name()).collect()
    }

    /// What these maps refused is not wanted any more, or has its place.
    pub fn nothing_waits_for(&mut self, maps: &[Map]) {
        self.full.retain(|map| !maps.contains(map));
    }

    /// Adds or replaces a row of a counted map.
    pub(crate) fn upsert<T: Table>(&mut self, key: &T::Key, value: &T::Value) -> Result<()> {
        use zerocopy::IntoBytes;
        match self
            .kernel
            .put(T::MAP, key.as_bytes(), value.as_bytes(), Put::New)
        {
            Ok(true) => {
                *self.entries.entry(T::MAP).or_default() += 1;
                self.full.remove(&T::MAP);
                Ok(())
            }
            Ok(false) => self.kernel.put_row::<T>(key, value),
            Err(error) => {
                if matches!(error, Error::MapFull { .. }) {
                    self.full.insert(T::MAP);
                }
                Err(error)
            }
        }
    }

    /// Removes a row of a counted map; returns whether there was one.
    pub(crate) fn erase<T: Table>(&mut self, key: &T::Key) -> Result<bool> {
        let found = self.kernel.delete_row::<T>(key)?;
        if found {
            let entries = self.entries.entry(T::MAP).or_default();
            *entries = entries.saturating_sub(1);
        }
        Ok(found)
    }

    /// Has the flows with a remote address or identity in `bucket` judged again.
    pub(crate) fn raise(&mut self, bucket: u16) -> Result<()> {
        self.kernel.add(Map::Epochs, u32::from(bucket), 1).map(drop)
    }
}
