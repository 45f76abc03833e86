// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! The tables of one node of cluster 5, which knows another node of its own and one of cluster 7.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use abi::*;
use fastpath::{FlowRef, Insert, Tables};

use super::entry::Entry;
use super::names::*;
use super::services::VIP;

/// All tables. Fields are public: tests change what they need.
pub(crate) struct World {
    pub(crate) config: NodeConfig,
    pub(crate) endpoints: HashMap<u32, Endpoint>,
    pub(crate) devices: HashMap<u32, u32>,
    pub(crate) locals: HashMap<Addr, u32>,
    pub(crate) addresses: HashMap<Addr, IpInfo>,
    pub(crate) prefixes: Vec<(Addr, u32, IpInfo)>,
    pub(crate) nodes: Vec<NodeKey>,
    pub(crate) classes: HashMap<u32, u32>,
    pub(crate) rows: HashMap<PolicyKey, u32>,
    pub(crate) verdicts: HashMap<(u32, u8, u8, u16), RowVerdict>,
    pub(crate) flows: RefCell<HashMap<FlowKey, Entry>>,
    pub(crate) flow_room: usize,
    pub(crate) epochs: RefCell<HashMap<u16, u32>>,
    pub(crate) shares: RefCell<HashMap<u32, u32>>,
    pub(crate) fragments: RefCell<HashMap<FragKey, FragPorts>>,
    pub(crate) services: HashMap<ServiceKey, Service>,
    pub(crate) backends: HashMap<BackendKey, Backend>,
    pub(crate) members: HashMap<MemberKey, u32>,
    pub(crate) affinity: RefCell<HashMap<AffinityKey, Affinity>>,
    /// What the next random number is; it grows by one with each.
    pub(crate) dice: Cell<u32>,
    /// How many of the next choices the agent overtakes: it changes what they are made from, and raises [`VIP`]'s epoch.
    pub(crate) overtaken: Cell<u32>,
    pub(crate) now: Cell<u32>,
    pub(crate) lookups: Cell<u32>,
    pub(crate) flow_lookups: Cell<u32>,
}

impl Default for World {
    fn default() -> World {
        let mut world = World {
            config: NodeConfig {
                flags: config_flags::IPV4 | config_flags::IPV6 | config_flags::OUTER_STRICT,
                vxlan_ifindex: VXLAN,
                tunnel_mtu: MTU,
                cluster_id: 5,
                cluster_shift: 16,
                flow_share: 1000,
                flow_room: 7500,
                node: Addr::v4(NODE),
                router4: Addr::v4(ROUTER),
                router6: Addr::v6(six(ROUTER)),
                timeout_tcp: 8000,
                timeout_syn: 60,
                timeout_fin: 10,
                timeout_any: 60,
                world4: 9,
                world6: 10,
                clock: 30,
                event_rate: 100,
                tunnel_port: 8472,
            },
            endpoints: HashMap::new(),
            devices: HashMap::new(),
            locals: HashMap::new(),
            addresses: HashMap::new(),
            prefixes: Vec::new(),
            nodes: Vec::new(),
            classes: HashMap::new(),
            rows: HashMap::new(),
            verdicts: HashMap::new(),
            flows: RefCell::default(),
            flow_room: 10_000,
            epochs: RefCell::default(),
            shares: RefCell::default(),
            fragments: RefCell::default(),
            services: HashMap::new(),
            backends: HashMap::new(),
            members: HashMap::new(),
            affinity: RefCell::default(),
            dice: Cell::new(0),
            overtaken: Cell::default(),
            now: Cell::new(1000),
            lookups: Cell::new(0),
            flow_lookups: Cell::new(0),
        };
        world.pod(1, POD_A, IF_A, ID_A);
        world.pod(2, POD_B, IF_B, ID_B);
        for addr in [
            Addr::v4(NODE),
            Addr::v4(ROUTER),
            Addr::v6(six(ROUTER)),
            Addr::v6(six(NODE)),
        ] {
            world.locals.insert(addr, 0);
        }
        world.remote(POD_REMOTE, ID_REMOTE, NODE_REMOTE);
        world.remote(POD_NEAR, ID_NEAR, NODE_NEAR);
        world.remote(ROUTER_REMOTE, 6, NODE_REMOTE);
        for (cluster, node) in [(5, NODE_NEAR), (7, NODE_REMOTE)] {
            for cluster in [cluster, ANY_CLUSTER] {
                world.nodes.push(NodeKey {
                    cluster,
                    addr: Addr::v4(node),
                });
            }
        }
        for identity in [1, 2, 6, 9, 10, ID_A, ID_B, ID_REMOTE, ID_NEAR] {
            world.classes.insert(identity, 100 + (identity & 0xff));
        }
        world
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let mut flows = self.flows.borrow_mut();
        flows.drain().for_each(|(_, entry)| entry.reuse());
    }
}

impl World {
    fn pod(&mut self, id: u32, addr: [u8; 4], ifindex: u32, identity: u32) {
        let endpoint = Endpoint {
            policy: id,
            epoch: 1,
            ifindex,
            identity,
            ipv4: Addr::v4(addr),
            ipv6: Addr::v6(six(addr)),
            mac: [2, 0, 0, 0, 1, id as u8],
            host_mac: [2, 0, 0, 0, 2, id as u8],
            flags: endpoint_flags::READY,
            id,
            reserved: 0,
        };
        self.endpoints.insert(id, endpoint);
        self.devices.insert(ifindex, id);
        self.locals.insert(Addr::v4(addr), id);
        self.locals.insert(Addr::v6(six(addr)), id);
        self.allow_all(id);
    }

    pub(crate) fn remote(&mut self, addr: [u8; 4], identity: u32, node: [u8; 4]) {
        let info = IpInfo {
            identity,
            flags: ip_flags::TUNNEL,
            node: Addr::v4(node),
        };
        self.addresses.insert(Addr::v4(addr), info);
        self.addresses.insert(Addr::v6(six(addr)), info);
    }

    /// Lets a policy allow everything: row 1 for every kind.
    pub(crate) fn allow_all(&mut self, policy: u32) {
        for kind in kind::BASE..=kind::OTHER {
            self.rows.insert(
                PolicyKey {
                    policy,
                    class: kind,
                },
                1,
            );
        }
        for direction in [1, 2] {
            let allow = RowVerdict {
                action: action::ALLOW,
                rule: 0,
            };
            self.verdicts.insert((1, direction, 0, 0), allow);
        }
    }

    /// Lets a policy deny everything in one direction by default (rule 900), and leave the other as it is.
    pub(crate) fn default_deny(&mut self, policy: u32, direction: Direction) {
        let row = 10 + policy;
        for kind in kind::BASE..=kind::OTHER {
            self.rows.insert(
                PolicyKey {
                    policy,
                    class: kind,
                },
                row,
            );
        }
        for d in [1, 2] {
            let allow = RowVerdict {
                action: action::ALLOW,
                rule: 0,
            };
            self.verdicts.entry((row, d, 0, 0)).or_insert(allow);
        }
        let deny = RowVerdict {
            action: action::DEFAULT_DENY,
            rule: 900,
        };
        self.verdicts.insert((row, direction as u8, 0, 0), deny);
    }

    /// A rule of `policy` about one identity and destination port.
    pub(crate) fn rule(
        &mut self,
        policy: u32,
        identity: u32,
        key: (Direction, u8, u16),
        verdict: RowVerdict,
    ) {
        let class = self.classes[&identity];
        let row = 1000 + policy * 1000 + class;
        self.rows.insert(PolicyKey { policy, class }, row);
        self.verdicts
            .insert((row, key.0 as u8, key.1, key.2), verdict);
        for direction in [1, 2] {
            let rest = RowVerdict {
                action: action::DEFAULT_DENY,
                rule: 900,
            };
            self.verdicts.entry((row, direction, 0, 0)).or_insert(rest);
        }
    }

    /// Makes every decision of the endpoint old.
    pub(crate) fn bump(&mut self, id: u32) {
        self.endpoints
            .get_mut(&id)
            .expect("endpoint of the test")
            .epoch += 1;
    }

    pub(crate) fn bump_addr(&self, addr: [u8; 4]) {
        *self
            .epochs
            .borrow_mut()
            .entry(addr_bucket(&Addr::v4(addr)))
            .or_default() += 1;
    }

    /// The entry of a TCP flow as its endpoint sees it.
    pub(crate) fn entry(
        &self,
        local: [u8; 4],
        remote: [u8; 4],
        lport: u16,
        rport: u16,
    ) -> Option<Flow> {
        let key = FlowKey {
            local: Addr::v4(local),
            remote: Addr::v4(remote),
            local_port: lport.to_be_bytes(),
            remote_port: rport.to_be_bytes(),
            proto: 6,
            pad: [0; 3],
        };
        self.flows.borrow().get(&key).map(|e| e.get())
    }
}

fn covers(prefix: &Addr, bits: u32, addr: &Addr) -> bool {
    let (a, b) = (u128::from_be_bytes(prefix.0), u128::from_be_bytes(addr.0));
    bits == 0 || (a ^ b) >> (128 - bits) == 0
}

impl Tables for World {
    type Flow = Entry;
    fn config(&self) -> Option<&NodeConfig> {
        Some(&self.config)
    }
    fn endpoint(&self, id: u32) -> Option<&Endpoint> {
        self.endpoints.get(&id)
    }
    fn policy_word(&self, endpoint: &Endpoint) -> (u32, u32) {
        (endpoint.policy, endpoint.epoch)
    }
    fn device(&self, ifindex: u32) -> Option<u32> {
        self.devices.get(&ifindex).copied()
    }
    fn local(&self, addr: &Addr) -> Option<u32> {
        self.lookups.set(self.lookups.get() + 1);
        self.locals.get(addr).copied()
    }
    fn address(&self, addr: &Addr) -> Option<&IpInfo> {
        self.lookups.set(self.lookups.get() + 1);
        self.addresses.get(addr)
    }
    fn prefix(&self, addr: &Addr) -> Option<&IpInfo> {
        let matching = self
            .prefixes
            .iter()
            .filter(|(p, bits, _)| covers(p, *bits, addr));
        matching
            .max_by_key(|(_, bits, _)| *bits)
            .map(|(_, _, info)| info)
    }
    fn node(&self, key: &NodeKey) -> bool {
        self.nodes.contains(key)
    }
    fn class(&self, identity: u32, generation: u32) -> Option<u32> {
        assert_eq!(generation, 0);
        self.classes.get(&identity).copied()
    }
    fn row(&self, key: &PolicyKey) -> Option<u32> {
        self.rows.get(key).copied()
    }
    fn verdict(&self, key: &RowKey) -> Option<RowVerdict> {
        self.lookups.set(self.lookups.get() + 1);
        let row = u32::from_be_bytes(key.row);
        let port = u16::from_be_bytes(key.port);
        [(key.proto, port), (key.proto, 0), (0, 0)]
            .iter()
            .find_map(|(proto, port)| self.verdicts.get(&(row, key.direction, *proto, *port)))
            .copied()
    }
    fn epoch(&self, bucket: u16) -> u32 {
        self.epochs.borrow().get(&bucket).copied().unwrap_or(0)
    }
    fn flow(&self, key: &FlowKey) -> Option<Entry> {
        self.flow_lookups.set(self.flow_lookups.get() + 1);
        self.flows.borrow().get(key).copied()
    }
    fn create_flow(&self, key: &FlowKey, flow: &Flow) -> Insert {
        let mut flows = self.flows.borrow_mut();
        if flows.contains_key(key) {
            return Insert::Exists;
        }
        if flows.len() >= self.flow_room {
            return Insert::Full;
        }
        flows.insert(*key, Entry::new(flow));
        Insert::Created
    }
    fn overwrite_flow(&self, key: &FlowKey, flow: &Flow) -> bool {
        let before = self.flows.borrow_mut().insert(*key, Entry::new(flow));
        before.into_iter().for_each(Entry::reuse);
        true
    }
    fn share(&self, endpoint: u32) -> u32 {
        self.shares.borrow().get(&endpoint).copied().unwrap_or(0)
    }
    fn add_share(&self, endpoint: u32, delta: i32) {
        let mut shares = self.shares.borrow_mut();
        let share = shares.entry(endpoint).or_default();
        *share = share.wrapping_add_signed(delta);
    }
    fn fragment(&self, key: &FragKey) -> Option<FragPorts> {
        self.fragments.borrow().get(key).copied()
    }
    fn remember_fragment(&self, key: &FragKey, ports: FragPorts) {
        self.fragments.borrow_mut().insert(*key, ports);
    }
    fn service(&self, key: &ServiceKey) -> Option<&Service> {
        self.services.get(key)
    }
    fn backend(&self, key: &BackendKey) -> Option<&Backend> {
        self.backends.get(key)
    }
    fn member(&self, key: &MemberKey) -> u32 {
        self.members.get(key).copied().unwrap_or(0)
    }
    fn affinity(&self, key: &AffinityKey) -> Option<Affinity> {
        self.affinity.borrow().get(key).copied()
    }
    fn remember_affinity(&self, key: &AffinityKey, chosen: &Affinity) {
        self.affinity.borrow_mut().insert(*key, *chosen);
    }
    fn random(&self) -> u32 {
        if let more @ 1.. = self.overtaken.get() {
            self.overtaken.set(more - 1);
            self.bump_addr(VIP);
        }
        // Choices take the first bits.
        (self.dice.replace(self.dice.get().wrapping_add(1))).reverse_bits()
    }
    fn now(&self) -> u32 {
        self.now.get()
    }
}
