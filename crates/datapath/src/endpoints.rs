// SPDX-License-Identifier: Apache-2.0
//! This node's endpoints and addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use abi::{Addr, Endpoint, Local, addr_bucket, endpoint_flags};
use model::{EndpointId, NumericIdentity};

use crate::kernel::{Kernel, Typed};
use crate::maps::table;
use crate::{Datapath, Error, Map, Result, addr};

/// A pod's attachment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointRow {
    /// Its number on this node.
    pub id: EndpointId,
    /// Host side of its veth pair.
    pub ifindex: u32,
    /// Name of that device.
    pub device: String,
    /// Its IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// MAC of the pod's side.
    pub mac: [u8; 6],
    /// MAC of the host side.
    pub host_mac: [u8; 6],
    /// Its identity.
    pub identity: NumericIdentity,
    /// Its IPv6 address is of a network that the node had before, and so is the router that it knows.
    pub other_router: bool,
}

impl EndpointRow {
    /// The slot, with the policy and epoch of `old`.
    fn slot(&self, old: &Endpoint) -> Endpoint {
        Endpoint {
            policy: old.policy,
            epoch: old.epoch,
            ifindex: self.ifindex,
            identity: self.identity.0,
            ipv4: self.ipv4.map_or(Addr::NONE, |ip| addr(IpAddr::V4(ip))),
            ipv6: self.ipv6.map_or(Addr::NONE, |ip| addr(IpAddr::V6(ip))),
            mac: self.mac,
            host_mac: self.host_mac,
            flags: ready(old.policy)
                | if self.other_router {
                    endpoint_flags::OTHER_ROUTER
                } else {
                    0
                },
            id: u32::from(self.id.0),
            reserved: 0,
        }
    }
}

/// An endpoint without a policy is not ready.
pub(crate) fn ready(policy: u32) -> u32 {
    if policy == 0 {
        0
    } else {
        endpoint_flags::READY
    }
}

fn addresses(slot: &Endpoint) -> BTreeSet<Addr> {
    [slot.ipv4, slot.ipv6]
        .into_iter()
        .filter(|addr| *addr != Addr::NONE)
        .collect()
}

impl<K: Kernel> Datapath<K> {
    /// Adds or replaces an endpoint. An equal row changes nothing, so that adopted flows stay valid.
    pub fn put_endpoint(&mut self, row: &EndpointRow) -> Result<()> {
        let id = row.id.0;
        let old = self.slot(id)?;
        let mut new = row.slot(&old);
        let changed = new != old;
        if changed {
            new.epoch = old.epoch.wrapping_add(1);
            self.write_slot(id, new)?;
        }
        let (before, after) = (addresses(&old), addresses(&new));
        for gone in before.difference(&after) {
            self.remove_local(gone, u32::from(id))?;
        }
        for addr in &after {
            self.put_local(*addr, u32::from(id))?;
            if changed {
                self.raise(addr_bucket(addr))?;
            }
        }
        if old.ifindex != new.ifindex && old.ifindex != 0 {
            self.remove_device(old.ifindex, id)?;
        }
        let device = self.kernel.get_row::<table::Devices>(&row.ifindex)?;
        if device != Some(u32::from(id)) {
            self.upsert::<table::Devices>(&row.ifindex, &u32::from(id))?;
        }
        Ok(())
    }

    /// Removes an endpoint, its addresses and its flows; absent is fine. The epoch of its slot stays raised, so that
    /// the next endpoint with this id finds no flow of this one valid.
    pub fn remove_endpoint(&mut self, id: EndpointId) -> Result<()> {
        let id = id.0;
        let old = self.slot(id)?;
        if self.endpoints.contains_key(&id) {
            let cleared = Endpoint {
                epoch: old.epoch.wrapping_add(1),
                ..Endpoint::default()
            };
            self.write_slot(id, cleared)?;
            self.endpoints.remove(&id);
        }
        let owned = |owner: &u32| *owner == u32::from(id);
        let gone: Vec<Addr> = self
            .locals
            .iter()
            .filter(|(_, owner)| owned(owner))
            .map(|(addr, _)| *addr)
            .collect();
        for addr in &gone {
            self.remove_local(addr, u32::from(id))?;
        }
        if old.ifindex != 0 {
            self.remove_device(old.ifindex, id)?;
            self.remove_flows(id)?;
        }
        Ok(())
    }

    /// Removes every endpoint that `keep` does not name.
    pub fn prune_endpoints(&mut self, keep: &dyn Fn(EndpointId) -> bool) -> Result<()> {
        let owners = self
            .locals
            .values()
            .filter_map(|owner| u16::try_from(*owner).ok());
        let known: BTreeSet<u16> = self.endpoints.keys().copied().chain(owners).collect();
        for id in known
            .into_iter()
            .filter(|id| *id != 0 && !keep(EndpointId(*id)))
        {
            self.remove_endpoint(EndpointId(id))?;
        }
        for (ifindex, owner) in self.kernel.dump::<table::Devices>()? {
            let owner = u16::try_from(owner).unwrap_or(0);
            if self
                .endpoints
                .get(&owner)
                .is_none_or(|slot| slot.ifindex != ifindex)
            {
                self.erase::<table::Devices>(&ifindex)?;
            }
        }
        Ok(())
    }

    /// Endpoints that the kernel knows.
    pub fn endpoints(&self) -> impl Iterator<Item = (EndpointId, &Endpoint)> {
        let used = self.endpoints.iter().filter(|(_, slot)| slot.ifindex != 0);
        used.map(|(id, slot)| (EndpointId(*id), slot))
    }

    /// The addresses of the node itself.
    pub fn set_host_addresses(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<()> {
        let wanted: BTreeSet<Addr> = addresses.iter().map(|ip| addr(*ip)).collect();
        let hosts = self.locals.iter().filter(|(_, owner)| **owner == 0);
        let gone: Vec<Addr> = hosts
            .map(|(addr, _)| *addr)
            .filter(|addr| !wanted.contains(addr))
            .collect();
        for addr in &wanted {
            self.put_local(*addr, 0)?;
        }
        for addr in &gone {
            self.remove_local(addr, 0)?;
        }
        Ok(())
    }

    /// Whether the address is the node's or one of its endpoints'.
    pub fn is_local(&self, ip: IpAddr) -> bool {
        self.locals.contains_key(&addr(ip))
    }

    /// The slot of `id` as the kernel has it.
    pub(crate) fn slot(&self, id: u16) -> Result<Endpoint> {
        if id == 0 || u32::from(id) >= abi::MAX_ENDPOINTS {
            return Err(Error::EndpointId { id });
        }
        match self.endpoints.get(&id) {
            Some(slot) => Ok(*slot),
            None => Ok(self
                .kernel
                .get_row::<table::Endpoints>(&u32::from(id))?
                .unwrap_or_default()),
        }
    }

    pub(crate) fn write_slot(&mut self, id: u16, slot: Endpoint) -> Result<()> {
        self.kernel
            .put_row::<table::Endpoints>(&u32::from(id), &slot)?;
        self.endpoints.insert(id, slot);
        Ok(())
    }

    /// What the address is changes for whoever has flows to it: its bucket is raised.
    fn put_local(&mut self, addr: Addr, owner: u32) -> Result<()> {
        if self.locals.get(&addr) == Some(&owner) {
            return Ok(());
        }
        self.upsert::<table::Locals>(&addr, &Local { endpoint: owner })?;
        self.locals.insert(addr, owner);
        self.raise(addr_bucket(&addr))
    }

    /// Removes an address unless it has another owner by now.
    fn remove_local(&mut self, addr: &Addr, owner: u32) -> Result<()> {
        if self.locals.get(addr) != Some(&owner) {
            return Ok(());
        }
        self.erase::<table::Locals>(addr)?;
        self.locals.remove(addr);
        self.raise(addr_bucket(addr))
    }

    fn remove_device(&mut self, ifindex: u32, id: u16) -> Result<()> {
        if self.kernel.get_row::<table::Devices>(&ifindex)? == Some(u32::from(id)) {
            self.erase::<table::Devices>(&ifindex)?;
        }
        Ok(())
    }

    pub(crate) fn reset_share(&mut self, id: u16) -> Result<()> {
        self.kernel
            .add(Map::Shares, u32::from(id), i32::MIN)
            .map(drop)
    }
}
