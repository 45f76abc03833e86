// SPDX-License-Identifier: Apache-2.0
//! Addresses elsewhere: the ipcache and the nodes.
//!
//! For single addresses the map itself is the memory: a put reads the old row from the kernel, so that a million
//! addresses cost the agent nothing here. Prefixes are few and remembered: a trie answers a question for one
//! prefix with a shorter one.
//!
//! **Epochs.** A change of a single address raises its bucket; the programs read the epoch before the data, so a
//! flow that was judged with the old data carries the old epoch. A prefix has no bucket of its own. Its change
//! is remembered, and [`Datapath::settle`] does for any number of changed prefixes together: wait until no program
//! runs that began before the data was written (flows judged with old data are then all in the table), walk the
//! flows once, raise the buckets of remote addresses inside. Cost: one walk per batch of changes, exact to the
//! address.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use abi::{ANY_CLUSTER, Addr, IpInfo, NodeKey, PrefixKey, addr_bucket, ip_flags};
use ipnet::IpNet;
use model::{ClusterId, NumericIdentity};

use crate::convert::covers;
use crate::kernel::{Kernel, Typed};
use crate::maps::table;
use crate::{Datapath, Result, addr, ip_addr, prefix_key, prefix_net};

/// What an address or prefix is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IpRow {
    /// Its identity.
    pub identity: NumericIdentity,
    /// Underlay address of the node behind which it is; `None` if the tunnel does not lead there. The programs write IPv4
    /// headers before a packet, and no others.
    pub tunnel: Option<Ipv4Addr>,
    /// It is an address of a node of another cluster.
    pub remote_cluster: bool,
}

impl IpRow {
    fn info(&self) -> IpInfo {
        let tunnel = if self.tunnel.is_some() {
            ip_flags::TUNNEL
        } else {
            0
        };
        let remote = if self.remote_cluster {
            ip_flags::REMOTE_CLUSTER
        } else {
            0
        };
        IpInfo {
            identity: self.identity.0,
            flags: tunnel | remote,
            node: self.tunnel.map_or(Addr::NONE, |node| addr(node.into())),
        }
    }

    fn from_info(info: &IpInfo) -> Self {
        let node = match ip_addr(&info.node) {
            Some(IpAddr::V4(node)) => Some(node),
            Some(IpAddr::V6(_)) | None => None,
        };
        Self {
            identity: NumericIdentity(info.identity),
            tunnel: node.filter(|_| info.flags & ip_flags::TUNNEL != 0),
            remote_cluster: info.flags & ip_flags::REMOTE_CLUSTER != 0,
        }
    }
}

/// All of IPv4 in the prefix map.
const ALL_V4: PrefixKey = PrefixKey {
    prefixlen: 96,
    addr: Addr::v4([0; 4]),
};

/// Whether an IPv6 prefix also covers the IPv4-mapped range, which it must not decide about.
fn is_wide(key: &PrefixKey) -> bool {
    key.prefixlen < ALL_V4.prefixlen && covers(key, &ALL_V4.addr)
}

impl<K: Kernel> Datapath<K> {
    /// Adds or replaces; returns whether anything changed. The identity must have been written before.
    pub fn put_ip(&mut self, prefix: IpNet, row: IpRow) -> Result<bool> {
        let info = row.info();
        let key = prefix_key(&prefix);
        if key.prefixlen == 128 {
            if self.kernel.get_row::<table::Ipcache>(&key.addr)? == Some(info) {
                return Ok(false);
            }
            self.upsert::<table::Ipcache>(&key.addr, &info)?;
            self.raise(addr_bucket(&key.addr))?;
            return Ok(true);
        }
        if self.prefixes.get(&rank(&key)) == Some(&info) {
            return Ok(false);
        }
        if is_wide(&key) {
            self.shield_v4()?;
        }
        self.write_prefix(&key, info)?;
        self.unsettled.push(key);
        Ok(true)
    }

    /// Removes; absent is fine. Returns whether there was a row.
    pub fn remove_ip(&mut self, prefix: &IpNet) -> Result<bool> {
        let key = prefix_key(prefix);
        if key.prefixlen == 128 {
            let found = self.erase::<table::Ipcache>(&key.addr)?;
            if found {
                self.raise(addr_bucket(&key.addr))?;
            }
            return Ok(found);
        }
        if self.prefixes.remove(&rank(&key)).is_none() {
            return Ok(false);
        }
        if key == ALL_V4 && self.has_wide() {
            self.shield_v4()?;
        } else {
            self.erase::<table::Prefixes>(&key)?;
        }
        self.unsettled.push(key);
        if is_wide(&key) && !self.has_wide() {
            self.unshield_v4()?;
        }
        Ok(true)
    }

    /// Removes every row that `keep` does not name.
    pub fn prune_ips(&mut self, keep: &dyn Fn(&IpNet) -> bool) -> Result<()> {
        for (prefix, _) in self.ips()? {
            if !keep(&prefix) {
                self.remove_ip(&prefix)?;
            }
        }
        Ok(())
    }

    /// All rows, prefixes last.
    pub fn ips(&self) -> Result<Vec<(IpNet, IpRow)>> {
        let mut rows = Vec::new();
        self.kernel.each::<table::Ipcache>(&mut |key, info| {
            if let Some(ip) = ip_addr(&key) {
                rows.push((IpNet::from(ip), IpRow::from_info(&info)));
            }
        })?;
        for ((prefixlen, addr), info) in &self.prefixes {
            let key = PrefixKey {
                prefixlen: *prefixlen,
                addr: *addr,
            };
            if let Some(net) = prefix_net(&key) {
                rows.push((net, IpRow::from_info(info)));
            }
        }
        Ok(rows)
    }

    /// Whether [`Datapath::settle`] has something to do.
    pub fn is_unsettled(&self) -> bool {
        !self.unsettled.is_empty() || !self.lost_nodes.is_empty()
    }

    /// Has the flows inside changed prefixes, and those by way of nodes that are gone, judged again. Call it once after a
    /// batch of changes; without any it costs nothing. [`Datapath::collect_flows`] calls it too.
    pub fn settle(&mut self) -> Result<()> {
        if !self.is_unsettled() {
            return Ok(());
        }
        self.kernel.barrier();
        let changed = self.unsettled.clone();
        let lost = self.lost_nodes.clone();
        self.raise_flows(&|key, flow| {
            let subject = flow.subject(key.remote);
            lost.contains(&Addr::v4(flow.node))
                || changed.iter().any(|prefix| covers(prefix, &subject))
        })?;
        self.unsettled.clear();
        self.lost_nodes.clear();
        Ok(())
    }

    /// Node addresses that are known, by cluster; what adopted maps held included.
    pub fn nodes(&self) -> BTreeSet<(ClusterId, IpAddr)> {
        let own = self
            .nodes
            .iter()
            .filter(|(cluster, _)| *cluster != ANY_CLUSTER);
        own.filter_map(|(cluster, addr)| {
            Some((ClusterId(u16::try_from(*cluster).ok()?), ip_addr(addr)?))
        })
        .collect()
    }

    /// Which cluster's nodes publish which underlay addresses. Flows by way of a node that is gone are judged again with
    /// the next [`Datapath::settle`].
    ///
    /// # Errors
    /// The first; all else is done.
    pub fn set_nodes(&mut self, rows: &BTreeSet<(ClusterId, IpAddr)>) -> Result<()> {
        let own = rows
            .iter()
            .map(|(cluster, ip)| (u32::from(cluster.0), addr(*ip)));
        let any = rows.iter().map(|(_, ip)| (ANY_CLUSTER, addr(*ip)));
        let wanted: BTreeSet<(u32, Addr)> = own.chain(any).collect();
        let new: Vec<_> = wanted.difference(&self.nodes).copied().collect();
        let gone: Vec<_> = self.nodes.difference(&wanted).copied().collect();
        let refused = self.add_nodes(new);
        let mut result = Ok(());
        for row in gone {
            result = result.and(self.erase_node(row));
        }
        result.and(self.add_refused(refused))
    }

    /// Some of what [`Datapath::set_nodes`] says in whole: costs what changes.
    ///
    /// # Errors
    /// As there.
    pub fn change_nodes(
        &mut self,
        new: &[(ClusterId, IpAddr)],
        gone: &[(ClusterId, IpAddr)],
    ) -> Result<()> {
        let rows = |&(cluster, ip): &(ClusterId, IpAddr)| {
            [(u32::from(cluster.0), addr(ip)), (ANY_CLUSTER, addr(ip))]
        };
        let refused = self.add_nodes(new.iter().flat_map(rows));
        let mut result = Ok(());
        for [own, any] in gone.iter().map(rows) {
            result = result.and(self.erase_node(own));
            if !self.is_node(any.1) {
                result = result.and(self.erase_node(any));
            }
        }
        result.and(self.add_refused(refused))
    }

    /// What is new comes first, so that an address that moves is never nobody's. Returns what was refused: it may find room
    /// when others are gone, and keeps none of them.
    fn add_nodes(&mut self, rows: impl IntoIterator<Item = (u32, Addr)>) -> Vec<(u32, Addr)> {
        let mut refused = Vec::new();
        for row in rows {
            if self.add_node(row).is_err() {
                refused.push(row);
            }
        }
        refused
    }

    fn add_refused(&mut self, rows: Vec<(u32, Addr)>) -> Result<()> {
        let results: Vec<_> = rows.into_iter().map(|row| self.add_node(row)).collect();
        results.into_iter().collect()
    }

    fn add_node(&mut self, row: (u32, Addr)) -> Result<()> {
        if !self.nodes.contains(&row) {
            let (cluster, addr) = row;
            self.upsert::<table::Nodes>(&NodeKey { cluster, addr }, &1)?;
            self.nodes.insert(row);
        }
        Ok(())
    }

    fn erase_node(&mut self, row: (u32, Addr)) -> Result<()> {
        if self.nodes.contains(&row) {
            let (cluster, addr) = row;
            self.erase::<table::Nodes>(&NodeKey { cluster, addr })?;
            self.nodes.remove(&row);
            self.lost_nodes.insert(addr);
        }
        Ok(())
    }

    /// Whether nodes of some cluster publish it: one look per cluster, not per node.
    fn is_node(&self, addr: Addr) -> bool {
        let mut from = 0;
        while let Some(&(cluster, _)) = self.nodes.range((from, Addr::NONE)..).next() {
            if cluster != ANY_CLUSTER && self.nodes.contains(&(cluster, addr)) {
                return true;
            }
            match cluster.checked_add(1) {
                Some(next) => from = next,
                None => return false,
            }
        }
        false
    }

    fn write_prefix(&mut self, key: &PrefixKey, info: IpInfo) -> Result<()> {
        self.upsert::<table::Prefixes>(key, &info)?;
        self.prefixes.insert(rank(key), info);
        Ok(())
    }

    /// Whether some IPv6 prefix covers the IPv4-mapped range.
    fn has_wide(&self) -> bool {
        (0..ALL_V4.prefixlen).any(|length| {
            let addr = crate::convert::truncate(&ALL_V4.addr, length);
            self.prefixes.contains_key(&(length, addr))
        })
    }

    /// The row of an IPv4 address that no prefix covers.
    fn unknown_v4(&self) -> IpInfo {
        IpInfo {
            identity: self.config.world4,
            ..IpInfo::default()
        }
    }

    /// While a wide IPv6 prefix exists, IPv4 has a row of its own: that of an unknown address.
    fn shield_v4(&mut self) -> Result<()> {
        if self.prefixes.contains_key(&rank(&ALL_V4)) {
            return Ok(());
        }
        self.write_prefix(&ALL_V4, self.unknown_v4())
    }

    fn unshield_v4(&mut self) -> Result<()> {
        if self.prefixes.get(&rank(&ALL_V4)) == Some(&self.unknown_v4()) {
            self.prefixes.remove(&rank(&ALL_V4));
            self.erase::<table::Prefixes>(&ALL_V4)?;
        }
        Ok(())
    }
}

/// Key of the agent's copy of the prefixes.
pub(crate) fn rank(key: &PrefixKey) -> (u32, Addr) {
    (key.prefixlen, key.addr)
}
