// SPDX-License-Identifier: Apache-2.0
//! Addresses of one cluster, compact: 36 bytes a row and the pod's name; everything that rows share is kept once.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kvstore::LeaseId;
use model::{IpEntry, NamedPort, NumericIdentity};

use crate::intern::Interner;

/// A prefix in 17 bytes; IPv4 lengths are stored above 128.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    address: [u8; 16],
    length: u8,
}

impl From<&IpNet> for Key {
    fn from(net: &IpNet) -> Self {
        match net {
            IpNet::V4(v4) => {
                let mut address = [0; 16];
                address[12..].copy_from_slice(&v4.addr().octets());
                Self {
                    address,
                    length: 129 + v4.prefix_len(),
                }
            }
            IpNet::V6(v6) => Self {
                address: v6.addr().octets(),
                length: v6.prefix_len(),
            },
        }
    }
}

impl From<&Key> for IpNet {
    fn from(key: &Key) -> Self {
        if let Some(length) = key.length.checked_sub(129) {
            let [.., a, b, c, d] = key.address;
            Ipv4Net::new(Ipv4Addr::new(a, b, c, d), length)
                .expect("made from a prefix")
                .into()
        } else {
            Ipv6Net::new(Ipv6Addr::from(key.address), key.length)
                .expect("made from a prefix")
                .into()
        }
    }
}

/// Underlay address and encryption key index of a node, and the lease of its keys.
type Host = (Option<IpAddr>, u8, Option<LeaseId>);
/// Namespace, service account, named ports: what the pods of a workload share.
type Workload = (Arc<str>, Arc<str>, Arc<[NamedPort]>);

/// Bytes that a workload takes, about.
fn weight((namespace, account, ports): &Workload) -> usize {
    let ports = ports.iter().map(|port| port.name.len() + 48).sum::<usize>();
    namespace.len() + account.len() + ports + 160
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// 24 bits, and in the top byte [`LISTED`] and [`HELD`].
    identity: u32,
    host: u32,
    workload: u32,
    /// Where the name begins.
    name: u32,
}

const IDENTITY: u32 = 0x00ff_ffff;
const LISTED: u32 = 1 << 24;
const HELD: u32 = 1 << 25;

/// What the datapath needs to know about an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IpRow {
    /// Identity behind the address.
    pub identity: NumericIdentity,
    /// Underlay address of the node that has it.
    pub host: Option<IpAddr>,
    /// Encryption key index of that node; 0 none.
    pub key: u8,
}

/// Addresses of a cluster.
#[derive(Clone, Default, Debug)]
pub(crate) struct Table {
    rows: HashMap<Key, Slot>,
    hosts: Interner<Host>,
    workloads: Interner<Workload>,
    /// Length byte and name, one after the other.
    names: Vec<u8>,
    /// Bytes of `names` that no row uses.
    garbage: usize,
    /// Bytes of all distinct workloads.
    workload_bytes: usize,
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    fn row_of(&self, slot: &Slot) -> IpRow {
        let (host, key, _) = *self.hosts.get(slot.host);
        IpRow {
            identity: NumericIdentity(slot.identity & IDENTITY),
            host,
            key,
        }
    }

    pub(crate) fn get(&self, net: &IpNet) -> Option<IpRow> {
        self.rows.get(&Key::from(net)).map(|slot| self.row_of(slot))
    }

    /// The lease that the key hangs on.
    pub(crate) fn lease(&self, net: &IpNet) -> Option<LeaseId> {
        let slot = self.rows.get(&Key::from(net))?;
        self.hosts.get(slot.host).2
    }

    /// The ports that its pod names.
    pub(crate) fn ports(&self, net: &IpNet) -> Arc<[NamedPort]> {
        let slot = self.rows.get(&Key::from(net));
        slot.map_or_else(Arc::default, |slot| {
            self.workloads.get(slot.workload).2.clone()
        })
    }

    fn entry_of(&self, net: IpNet, slot: &Slot) -> IpEntry {
        let row = self.row_of(slot);
        let mut entry = IpEntry::new(net, row.identity, row.host);
        entry.key = row.key;
        let (namespace, account, ports) = self.workloads.get(slot.workload);
        entry.namespace = namespace.clone();
        entry.service_account = account.clone();
        entry.named_ports = ports.clone();
        entry.pod = String::from_utf8_lossy(self.name(slot)).into();
        entry
    }

    /// The whole entry, without its metadata text, which is not kept.
    pub(crate) fn entry(&self, net: &IpNet) -> Option<IpEntry> {
        self.rows
            .get(&Key::from(net))
            .map(|slot| self.entry_of(*net, slot))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (IpNet, IpRow)> + '_ {
        self.rows
            .iter()
            .map(|(key, slot)| (key.into(), self.row_of(slot)))
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = IpEntry> + '_ {
        self.rows
            .iter()
            .map(|(key, slot)| self.entry_of(key.into(), slot))
    }

    fn name(&self, slot: &Slot) -> &[u8] {
        let at = slot.name as usize;
        &self.names[at + 1..at + 1 + usize::from(self.names[at])]
    }

    /// Stores `entry`; returns the row before. A name longer than 255 bytes is cut.
    pub(crate) fn put(&mut self, entry: &IpEntry, lease: Option<LeaseId>) -> Option<IpRow> {
        let host = self.hosts.take(&(entry.host, entry.key, lease));
        let workload = (
            entry.namespace.clone(),
            entry.service_account.clone(),
            entry.named_ports.clone(),
        );
        let workload = self.take_workload(&workload);
        let pod = &entry.pod.as_bytes()[..entry.pod.len().min(255)];
        let key = Key::from(&entry.prefix);
        let before = self.rows.get(&key).copied();
        let name = match before {
            Some(slot) if self.name(&slot) == pod => slot.name,
            _ => {
                self.garbage += before.map_or(0, |slot| self.name(&slot).len() + 1);
                self.add_name(pod)
            }
        };
        let slot = Slot {
            identity: entry.identity.0 & IDENTITY | LISTED,
            host,
            workload,
            name,
        };
        let old = before.map(|slot| self.row_of(&slot));
        self.rows.insert(key, slot);
        if let Some(slot) = before {
            self.hosts.give(slot.host);
            self.give_workload(slot.workload);
        }
        self.tidy();
        old
    }

    fn take_workload(&mut self, workload: &Workload) -> u32 {
        let number = self.workloads.take(workload);
        if self.workloads.users(number) == 1 {
            self.workload_bytes += weight(workload);
        }
        number
    }

    fn give_workload(&mut self, number: u32) {
        if self.workloads.users(number) == 1 {
            self.workload_bytes -= weight(self.workloads.get(number));
        }
        self.workloads.give(number);
    }

    /// Bytes of all texts.
    pub(crate) fn text_bytes(&self) -> usize {
        self.names.len() + self.workload_bytes
    }

    fn add_name(&mut self, pod: &[u8]) -> u32 {
        let at = self.names.len();
        if self.names.capacity() - at < pod.len() + 1 {
            // Doubling would waste as much as all names together.
            self.names.reserve_exact(at / 8 + 4096);
        }
        self.names.push(pod.len() as u8);
        self.names.extend_from_slice(pod);
        u32::try_from(at).expect("a million names of 256 bytes fit")
    }

    pub(crate) fn remove(&mut self, net: &IpNet) -> Option<IpRow> {
        let slot = self.rows.remove(&Key::from(net))?;
        let row = self.row_of(&slot);
        self.garbage += self.name(&slot).len() + 1;
        self.hosts.give(slot.host);
        self.give_workload(slot.workload);
        self.tidy();
        Some(row)
    }

    /// Gives memory back after many changes.
    fn tidy(&mut self) {
        if self.garbage > 65536 && self.garbage > self.names.len() / 2 {
            let old = std::mem::take(&mut self.names);
            let mut names = Vec::with_capacity(old.len() - self.garbage + 4096);
            for slot in self.rows.values_mut() {
                let at = slot.name as usize;
                slot.name = names.len() as u32;
                names.extend_from_slice(&old[at..at + 1 + usize::from(old[at])]);
            }
            (self.names, self.garbage) = (names, 0);
        }
        if self.rows.capacity() > 1024 && self.rows.len() < self.rows.capacity() / 8 {
            self.rows.shrink_to(self.rows.len() * 2);
        }
    }

    /// A list begins: rows that it does not name are stale at its end.
    pub(crate) fn begin(&mut self) {
        self.rows
            .values_mut()
            .for_each(|slot| slot.identity &= !LISTED);
    }

    /// `net` stays although the list refused its new value.
    pub(crate) fn keep(&mut self, net: &IpNet) {
        if let Some(slot) = self.rows.get_mut(&Key::from(net)) {
            slot.identity |= LISTED;
        }
    }

    /// Rows that the list did not name.
    pub(crate) fn stale(&self) -> Vec<IpNet> {
        let stale = self
            .rows
            .iter()
            .filter(|(_, slot)| slot.identity & LISTED == 0);
        stale.map(|(key, _)| key.into()).collect()
    }

    /// Whether the row waits for its identity.
    pub(crate) fn is_held(&self, net: &IpNet) -> bool {
        self.rows
            .get(&Key::from(net))
            .is_some_and(|slot| slot.identity & HELD != 0)
    }

    pub(crate) fn hold(&mut self, net: &IpNet, held: bool) {
        if let Some(slot) = self.rows.get_mut(&Key::from(net)) {
            slot.identity = if held {
                slot.identity | HELD
            } else {
                slot.identity & !HELD
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u32, pod: &str) -> IpEntry {
        let net = Ipv4Net::from(Ipv4Addr::from(0x0a00_0000 + n)).into();
        let mut entry = IpEntry::new(
            net,
            NumericIdentity(65536 + n % 7),
            Some([10, 9, 0, 1].into()),
        );
        entry.pod = pod.into();
        entry.namespace = "shop".into();
        entry
    }

    #[test]
    fn rows_come_back_as_they_went() {
        let mut table = Table::default();
        let mut six = entry(1, "web-1");
        six.prefix = "fd00::/64".parse().unwrap();
        for row in [entry(1, "web-1"), entry(2, ""), six] {
            assert_eq!(table.put(&row, Some(LeaseId(7))), None);
            assert_eq!(table.lease(&row.prefix), Some(LeaseId(7)));
            assert_eq!(table.entry(&row.prefix), Some(row));
        }
        table.remove(&entry(1, "").prefix);
        assert_eq!(table.len(), 2);
        assert_eq!(table.get(&entry(1, "").prefix), None);
    }

    #[test]
    fn names_are_compacted_and_lists_leave_stale_rows() {
        let mut table = Table::default();
        for round in 0..20 {
            for n in 0..1000 {
                table.put(&entry(n, &format!("pod-{n}-of-round-{round}")), None);
            }
        }
        assert!(table.names.len() < 100_000, "{}", table.names.len());
        assert_eq!(
            &*table.entry(&entry(999, "").prefix).unwrap().pod,
            "pod-999-of-round-19"
        );
        table.begin();
        table.put(&entry(5, "a"), None);
        table.keep(&entry(6, "").prefix);
        let stale = table.stale();
        assert_eq!(stale.len(), 998);
        assert!(!stale.contains(&entry(5, "").prefix) && !stale.contains(&entry(6, "").prefix));
    }
}
