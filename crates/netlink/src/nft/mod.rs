// SPDX-License-Identifier: Apache-2.0
//! nftables over `NETLINK_NETFILTER`: tables of our own, one with source translation and one about tunnels, each
//! replaced as a whole in one transaction, and read back. The encoder is our own: the part of the protocol in use is a page,
//! and the `nft` program is not to be started.

mod encode;
mod program;
mod read;

use std::net::SocketAddr;

use ipnet::IpNet;

use crate::transport::{About, Transport, Until};
use crate::{Error, NetNs, Result};
use encode::Batch;
use program::Hook;
pub use read::{ChainState, TableState};

/// Longest table name that is taken, in bytes.
const NAME_MAX: usize = 64;
/// Most rules that a table may have: a longer list belongs in a set, and would slow every new flow.
const RULES_MAX: usize = 1024;
/// Longest device name, without the closing zero.
const DEVICE_MAX: usize = 15;

/// Names of devices.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum DevicePattern {
    /// This device.
    Exact(String),
    /// All devices whose name begins so.
    Prefix(String),
}

/// A value in some bits of the packet mark.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Mark {
    /// Value of those bits, host byte order.
    pub value: u32,
    /// Which bits.
    pub mask: u32,
}

/// Which packets get the address of the device that they leave by. Only the first packet of a flow is
/// judged; the kernel's own connection tracking translates the rest.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Masquerade {
    /// Those from these addresses, of both families …
    pub sources: Vec<IpNet>,
    /// … and those that come by such a device from such an address …
    pub inputs: Vec<(DevicePattern, IpNet)>,
    /// … to none of these …
    pub except_destinations: Vec<IpNet>,
    /// … by none of these devices …
    pub except_outputs: Vec<DevicePattern>,
    /// … and without any of these marks.
    pub except_marks: Vec<Mark>,
}

/// A table of the family `inet` that belongs to the caller alone, with source translation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableSpec {
    /// Its name.
    pub name: String,
    /// What is translated.
    pub masquerade: Masquerade,
}

/// Such a table that keeps tunnels and connection tracking, which translation brings with it, apart. It needs more of the
/// kernel (the expressions `ct` and `notrack`) than translation does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TunnelSpec {
    /// Its name.
    pub name: String,
    /// Addresses and UDP ports of tunnels that end here. Their packets are not tracked: each flow inside would make an
    /// entry. Packets that were translated to such a port are dropped, here and on their way to others.
    pub tunnels: Vec<SocketAddr>,
}

/// A `NETLINK_NETFILTER` socket of one network namespace.
pub struct Nft {
    transport: Transport,
}

impl Nft {
    /// Opens a socket in the namespace of the calling thread.
    pub fn open() -> Result<Self> {
        Ok(Self {
            transport: Transport::open(libc::NETLINK_NETFILTER as isize, "netfilter")?,
        })
    }

    /// Opens a socket in `netns`.
    pub fn open_in(netns: &NetNs) -> Result<Self> {
        netns.run(Self::open)?
    }

    /// Makes the table exactly as described, in one transaction: other tables are untouched, no packet
    /// sees the table half made, and translated flows go on. An error leaves the old table in force.
    pub fn ensure_table(&self, spec: &TableSpec) -> Result<()> {
        check(spec)?;
        self.commit("replace", &spec.name, |batch| {
            batch.new_table(&spec.name);
            batch.delete_table(&spec.name);
            batch.new_table(&spec.name);
            batch.nat_postrouting_chain(&spec.name, program::CHAIN);
            for rule in program::rules(&spec.masquerade) {
                batch.rule(&spec.name, program::CHAIN, &rule);
            }
        })
    }

    /// The same for a table about tunnels. Entries that are there already stay until they expire.
    pub fn ensure_tunnels(&self, spec: &TunnelSpec) -> Result<()> {
        check_name(&spec.name)?;
        check_rules(&spec.name, Hook::ALL.len() * spec.tunnels.len())?;
        self.commit("replace", &spec.name, |batch| {
            batch.new_table(&spec.name);
            batch.delete_table(&spec.name);
            batch.new_table(&spec.name);
            for hook in Hook::ALL {
                batch.filter_chain(&spec.name, hook);
                for tunnel in &spec.tunnels {
                    batch.rule(&spec.name, hook.chain(), &program::tunnel(hook, *tunnel));
                }
            }
        })
    }

    /// Removes the table. Absent is fine.
    pub fn delete_table(&self, name: &str) -> Result<()> {
        check_name(name)?;
        self.commit("delete", name, |batch| {
            // Deleting is an error without the table, so it is made first, in the same transaction.
            batch.new_table(name);
            batch.delete_table(name);
        })
    }

    /// What the kernel has under this name, or nothing.
    pub fn read_table(&self, name: &str) -> Result<Option<TableState>> {
        check_name(name)?;
        let object = format!("nftables table inet {name}");
        let about = About {
            operation: "read",
            object: &object,
        };
        let mut inner = self.transport.lock();
        let mut list = |request: fn(u32, &str) -> Vec<u8>| {
            let sequence = inner.next_sequence();
            inner.exchange(about, &request(sequence, name), Until::Done(sequence))
        };
        let chains = list(encode::list_chains)?;
        let rules = list(encode::list_rules)?;
        Ok(read::table(name, &chains.messages, &rules.messages))
    }

    fn commit(
        &self,
        operation: &'static str,
        name: &str,
        fill: impl FnOnce(&mut Batch),
    ) -> Result<()> {
        let object = format!("nftables table inet {name}");
        let about = About {
            operation,
            object: &object,
        };
        let mut inner = self.transport.lock();
        let mut batch = Batch::begin(inner.next_sequence());
        fill(&mut batch);
        let (bytes, until) = batch.finish();
        if let Until::Ack { last, .. } = until {
            inner.skip_to(last);
        }
        inner.exchange(about, &bytes, until).map(drop)
    }
}

fn check_name(name: &str) -> Result<()> {
    let good = (1..=NAME_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if good {
        Ok(())
    } else {
        Err(bad(name, "its name is not letters, digits, `_` and `-`"))
    }
}

fn check_rules(name: &str, rules: usize) -> Result<()> {
    if rules > RULES_MAX {
        let detail = format!("{rules} rules, at most {RULES_MAX} are taken");
        return Err(bad(name, detail));
    }
    Ok(())
}

fn check(spec: &TableSpec) -> Result<()> {
    check_name(&spec.name)?;
    let m = &spec.masquerade;
    let rules = m.sources.len()
        + m.inputs.len()
        + m.except_destinations.len()
        + m.except_outputs.len()
        + m.except_marks.len();
    check_rules(&spec.name, rules)?;
    let inputs = m.inputs.iter().map(|(pattern, _)| pattern);
    for pattern in m.except_outputs.iter().chain(inputs) {
        let (DevicePattern::Exact(name) | DevicePattern::Prefix(name)) = pattern;
        if name.is_empty() || name.len() > DEVICE_MAX || name.contains('\0') {
            return Err(bad(&spec.name, format!("`{name}` is not a device name")));
        }
    }
    Ok(())
}

fn bad(name: &str, detail: impl Into<String>) -> Error {
    let name: String = name.chars().take(NAME_MAX).collect();
    Error::Spec {
        object: format!("nftables table inet {name}"),
        detail: detail.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, device: &str) -> TableSpec {
        let except_outputs = vec![DevicePattern::Prefix(device.into())];
        TableSpec {
            name: name.into(),
            masquerade: Masquerade {
                except_outputs,
                ..Masquerade::default()
            },
        }
    }

    #[test]
    fn descriptions_are_checked() {
        assert!(check(&spec("mine", "veth")).is_ok());
        for (name, device) in [
            ("", "veth"),
            ("a b", "veth"),
            ("mine", ""),
            ("mine", "0123456789abcdef"),
        ] {
            assert!(check(&spec(name, device)).is_err(), "{name} {device}");
        }
        let mut long = spec("mine", "veth");
        long.masquerade.except_marks = vec![Mark { value: 1, mask: 1 }; RULES_MAX];
        assert_eq!(
            check(&long).expect_err("too long").to_string(),
            "cannot describe nftables table inet mine: 1025 rules, at most 1024 are taken"
        );
    }
}
