// SPDX-License-Identifier: Apache-2.0
//! The kernel's maps as hash tables, with its lookups written down once more.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use model::{EndpointId, NumericIdentity};
use policy::{Action, Direction, Op, RowMatch, RowVerdict};

/// All maps.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Kernel {
    pub rows: BTreeMap<(u32, RowMatch), RowVerdict>,
    pub policies: BTreeMap<(u32, u32), u32>,
    pub identities: BTreeMap<NumericIdentity, u32>,
    pub cidrs: BTreeMap<IpNet, NumericIdentity>,
    pub endpoints: BTreeMap<EndpointId, u32>,
}

impl Kernel {
    pub fn apply(&mut self, op: &Op) {
        match op.clone() {
            Op::PutRow {
                row,
                matching,
                verdict,
            } => {
                assert!(
                    self.rows.insert((row, matching), verdict).is_none(),
                    "{op:?}: in use"
                );
            }
            Op::DeleteRow { row, matching } => {
                assert!(
                    self.rows.remove(&(row, matching)).is_some(),
                    "{op:?}: absent"
                );
            }
            Op::PutPolicy { policy, class, row } => {
                self.policies.insert((policy, class), row);
            }
            Op::DeletePolicy { policy, class } => {
                assert!(
                    self.policies.remove(&(policy, class)).is_some(),
                    "{op:?}: absent"
                );
            }
            Op::PutIdentity { identity, class } => {
                assert!(class != 0 && class < 0xffff_ff00);
                self.identities.insert(identity, class);
            }
            Op::DeleteIdentity { identity } => {
                assert!(
                    self.identities.remove(&identity).is_some(),
                    "{op:?}: absent"
                );
            }
            Op::SetEndpointPolicy { endpoint, policy } => {
                self.endpoints.insert(endpoint, policy);
            }
            Op::PutCidr { prefix, identity } => {
                assert!(
                    self.identities.contains_key(&identity),
                    "{op:?}: identity before address"
                );
                self.cidrs.insert(prefix, identity);
            }
            Op::DeleteCidr { prefix } => {
                assert!(self.cidrs.remove(&prefix).is_some(), "{op:?}: absent");
            }
        }
    }

    /// Longest prefix around an address outside the mesh.
    pub fn resolve(&self, address: IpAddr, world: NumericIdentity) -> NumericIdentity {
        let around = self
            .cidrs
            .iter()
            .filter(|(prefix, _)| prefix.contains(&address));
        around
            .max_by_key(|(prefix, _)| prefix.prefix_len())
            .map_or(world, |(_, &id)| id)
    }

    /// The verdict; `None` if an entry is missing that must be there.
    pub fn verdict(
        &self,
        endpoint: EndpointId,
        direction: Direction,
        peer: NumericIdentity,
        proto: u8,
        port: u16,
    ) -> Option<RowVerdict> {
        let policy = *self.endpoints.get(&endpoint)?;
        let class = self.identities.get(&peer).copied().unwrap_or(0);
        let exact = self.policies.get(&(policy, class)).filter(|_| class != 0);
        let row = *exact.or_else(|| self.policies.get(&(policy, kind(peer.0))))?;
        let probe = |matching| self.rows.get(&(row, matching)).copied();
        for bits in (0..=16).rev() {
            let port = if bits == 0 {
                0
            } else {
                port & (u16::MAX << (16 - bits))
            };
            let found = probe(RowMatch {
                direction,
                proto: Some(proto),
                port,
                port_bits: bits,
            });
            if found.is_some() {
                return found;
            }
        }
        probe(RowMatch {
            direction,
            proto: None,
            port: 0,
            port_bits: 0,
        })
    }

    pub fn action(
        &self,
        endpoint: EndpointId,
        direction: Direction,
        peer: NumericIdentity,
        flow: (u8, u16),
    ) -> Option<Action> {
        self.verdict(endpoint, direction, peer, flow.0, flow.1)
            .map(|verdict| verdict.action)
    }
}

fn kind(identity: u32) -> u32 {
    let base = 0xffff_ff00u32;
    match identity {
        2 | 9 | 10 | 0x0100_0000..=0x01ff_ffff => base + 2,
        6 | 0x0200_0000..=0x02ff_ffff => base + 3,
        0..=255 => base + 4,
        _ if identity >> 16 == 5 => base,
        _ => base + 1,
    }
}
