// SPDX-License-Identifier: Apache-2.0
//! The loaded object with the rows of one node: two pods here, one in another cluster.

use abi::{
    ANY_CLUSTER, Addr, Counter, DropEvent, Endpoint, IpInfo, Local, NodeConfig, NodeKey, PolicyKey,
    RowKey, RowVerdict, action, config_flags, endpoint_flags, ip_flags, kind,
};
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, PerCpuArray, RingBuf};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use netlink::{NetNs, Socket, VethEnd, VethSpec};
use tempfile::TempDir;
use zerocopy::{FromBytes, transmute};

pub(crate) const POD_A: [u8; 4] = [10, 5, 0, 10];
pub(crate) const POD_B: [u8; 4] = [10, 5, 0, 11];
pub(crate) const POD_REMOTE: [u8; 4] = [10, 7, 0, 10];
pub(crate) const OUTSIDE: [u8; 4] = [192, 0, 2, 1];
pub(crate) const NODE: [u8; 4] = [172, 16, 5, 1];
pub(crate) const NODE_REMOTE: [u8; 4] = [172, 16, 7, 1];
pub(crate) const ROUTER: [u8; 4] = [10, 5, 0, 1];
pub(crate) const ID_A: u32 = 5 << 16 | 1001;
pub(crate) const ID_B: u32 = 5 << 16 | 1002;
pub(crate) const ID_REMOTE: u32 = 7 << 16 | 2001;
pub(crate) const SYN: u8 = 2;
pub(crate) const ACK: u8 = 16;
pub(crate) const PASS: u32 = 0;
pub(crate) const DROP: u32 = 2;
pub(crate) const REDIRECT: u32 = 7;

pub(crate) fn six(v4: [u8; 4]) -> [u8; 16] {
    let mut out = [0; 16];
    out[0] = 0xfd;
    out[12..].copy_from_slice(&v4);
    out
}

/// What became of a packet under test-run.
pub(crate) struct Run {
    pub(crate) action: u32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) nanoseconds: u128,
}

pub(crate) struct Node {
    pub(crate) bpf: Ebpf,
    pub(crate) config: NodeConfig,
    pub(crate) pods: [Endpoint; 2],
}

/// Runs `test` in a network namespace of its own, which goes with it.
pub(crate) fn in_namespace(test: impl FnOnce() + Send) {
    let directory: TempDir = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("net");
    let netns = NetNs::create(&path).expect("root makes namespaces");
    let result = netns.run(|| std::panic::catch_unwind(std::panic::AssertUnwindSafe(test)));
    drop(netns);
    NetNs::delete(&path).expect("unmounts");
    if let Err(panic) = result.expect("a thread") {
        std::panic::resume_unwind(panic);
    }
}

/// The object with small maps and all programs loaded.
pub(crate) fn load() -> Ebpf {
    let mut loader = EbpfLoader::new();
    for name in [
        abi::MAP_IPCACHE,
        abi::MAP_IDENTITIES,
        abi::MAP_POLICIES,
        abi::MAP_ROWS,
        abi::MAP_PREFIXES,
    ] {
        loader.map_max_entries(name, 1024);
    }
    loader.map_max_entries(abi::MAP_FLOWS, 4096);
    let mut bpf = loader
        .load(datapath::object::OBJECT)
        .expect("the object parses");
    for name in PROGRAMS {
        let program = program_mut(&mut bpf, name);
        program
            .load()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    bpf
}

pub(crate) const PROGRAMS: [&str; 4] = [
    abi::PROG_FROM_POD,
    abi::PROG_TO_POD,
    abi::PROG_FROM_OVERLAY,
    abi::PROG_TO_OVERLAY,
];

pub(crate) fn program_mut<'a>(bpf: &'a mut Ebpf, name: &str) -> &'a mut SchedClassifier {
    let program = bpf.program_mut(name).expect("the object has it");
    program.try_into().expect("a classifier")
}

impl Node {
    /// To be called inside a namespace of the test.
    pub(crate) fn new() -> Node {
        let socket = Socket::open().expect("a socket");
        let wire = |name: &str, far: &str| {
            let (near, far) = (VethEnd::new(name), VethEnd::new(far));
            socket
                .add_veth(&VethSpec {
                    near,
                    far,
                    mtu: None,
                })
                .expect("a pair");
            socket.index_of(name).expect("made")
        };
        let pods = [
            pod(1, POD_A, wire("host-a", "pod-a"), ID_A),
            pod(2, POD_B, wire("host-b", "pod-b"), ID_B),
        ];
        let mut node = Node {
            bpf: load(),
            config: config(),
            pods,
        };
        node.set_config();
        for pod in pods {
            node.set_pod(&pod);
            node.allow_all(pod.policy);
        }
        for addr in [Addr::v4(NODE), Addr::v4(ROUTER), Addr::v6(six(ROUTER))] {
            node.hash::<16, 4>(
                abi::MAP_LOCALS,
                transmute!(addr),
                transmute!(Local { endpoint: 0 }),
            );
        }
        let flags = ip_flags::TUNNEL;
        let remote = IpInfo {
            identity: ID_REMOTE,
            flags,
            node: Addr::v4(NODE_REMOTE),
        };
        for addr in [Addr::v4(POD_REMOTE), Addr::v6(six(POD_REMOTE))] {
            node.hash::<16, 24>(abi::MAP_IPCACHE, transmute!(addr), transmute!(remote));
        }
        for cluster in [7, ANY_CLUSTER] {
            let key = NodeKey {
                cluster,
                addr: Addr::v4(NODE_REMOTE),
            };
            node.hash::<20, 4>(abi::MAP_NODES, transmute!(key), transmute!(1u32));
        }
        for identity in [1, 2, 6, 9, 10, ID_A, ID_B, ID_REMOTE] {
            let slot = [[100 + (identity & 0xff), 0, 0, 0]];
            node.hash::<4, 16>(abi::MAP_IDENTITIES, transmute!(identity), transmute!(slot));
        }
        node
    }

    pub(crate) fn hash<const K: usize, const V: usize>(
        &mut self,
        name: &str,
        key: [u8; K],
        value: [u8; V],
    ) {
        let map = self.bpf.map_mut(name).expect("the object has it");
        let mut map = HashMap::<_, [u8; K], [u8; V]>::try_from(map).expect("sizes of abi");
        map.insert(key, value, 0).expect("room");
    }

    /// Nobody answers for any service any more.
    pub(crate) fn clear_members(&mut self) {
        let map = self
            .bpf
            .map_mut(abi::MAP_MEMBERS)
            .expect("the object has it");
        let mut map = HashMap::<_, [u8; 24], [u8; 4]>::try_from(map).expect("sizes of abi");
        let keys: Vec<_> = map.keys().map(|key| key.expect("readable")).collect();
        for key in keys {
            map.remove(&key).expect("there");
        }
    }

    fn array<const V: usize>(&mut self, name: &str, index: u32, value: [u8; V]) {
        let map = self.bpf.map_mut(name).expect("the object has it");
        let mut map = Array::<_, [u8; V]>::try_from(map).expect("sizes of abi");
        map.set(index, value, 0).expect("inside");
    }

    pub(crate) fn set_config(&mut self) {
        let config = self.config;
        self.array::<112>(abi::MAP_CONFIG, 0, transmute!(config));
    }

    pub(crate) fn set_pod(&mut self, pod: &Endpoint) {
        let (id, ifindex) = (pod.id, pod.ifindex);
        self.array::<72>(abi::MAP_ENDPOINTS, id, transmute!(*pod));
        self.hash::<4, 4>(abi::MAP_DEVICES, transmute!(ifindex), transmute!(id));
        for addr in [pod.ipv4, pod.ipv6] {
            self.hash::<16, 4>(
                abi::MAP_LOCALS,
                transmute!(addr),
                transmute!(Local { endpoint: id }),
            );
        }
    }

    /// A verdict for everything (`proto` 0) or for one protocol and port, in one direction.
    pub(crate) fn row(&mut self, row: u32, direction: u8, to: (u8, u16), verdict: RowVerdict) {
        let key = RowKey {
            prefixlen: 0,
            row: row.to_be_bytes(),
            direction,
            proto: to.0,
            port: to.1.to_be_bytes(),
        };
        let all: [u8; 12] = transmute!(key);
        let mut data = [0; 8];
        data.copy_from_slice(&all[4..]);
        let bits = if to.0 == 0 {
            abi::ROW_BITS_ANY
        } else {
            abi::ROW_BITS_PORT
        };
        let map = self.bpf.map_mut(abi::MAP_ROWS).expect("the object has it");
        let mut map = LpmTrie::<_, [u8; 8], [u8; 8]>::try_from(map).expect("sizes of abi");
        let verdict: [u8; 8] = transmute!(verdict);
        map.insert(&Key::new(bits, data), verdict, 0).expect("room");
    }

    pub(crate) fn policy(&mut self, policy: u32, class: u32, row: u32) {
        let key = PolicyKey { policy, class };
        self.hash::<8, 4>(abi::MAP_POLICIES, transmute!(key), transmute!(row));
    }

    fn allow_all(&mut self, policy: u32) {
        for class in kind::BASE..=kind::OTHER {
            self.policy(policy, class, 1);
        }
        for direction in [1, 2] {
            self.row(
                1,
                direction,
                (0, 0),
                RowVerdict {
                    action: action::ALLOW,
                    rule: 0,
                },
            );
        }
    }

    pub(crate) fn run(&mut self, program: &str, ifindex: u32, ingress: u32, frame: &[u8]) -> Run {
        self.repeat(program, (ifindex, ingress), frame, 1)
    }

    /// From pod A (0) or B (1).
    pub(crate) fn send(&mut self, pod: usize, frame: &[u8]) -> Run {
        let ifindex = self.pods[pod].ifindex;
        self.run(abi::PROG_FROM_POD, ifindex, ifindex, frame)
    }

    pub(crate) fn repeat(
        &mut self,
        program: &str,
        (ifindex, ingress): (u32, u32),
        frame: &[u8],
        repeat: u32,
    ) -> Run {
        let mut context = [0u8; 192];
        context[36..40].copy_from_slice(&ingress.to_ne_bytes());
        context[40..44].copy_from_slice(&ifindex.to_ne_bytes());
        let mut bytes = vec![0; 4096];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut bytes),
            ctx_in: Some(&context),
            repeat,
            ..TestRunOptions::default()
        };
        let result = program_mut(&mut self.bpf, program)
            .test_run(options)
            .expect("runs");
        bytes.truncate(result.data_size_out as usize);
        let nanoseconds = result.duration.as_nanos();
        Run {
            action: result.return_value,
            bytes,
            nanoseconds,
        }
    }

    /// Packets counted under a reason, both directions.
    pub(crate) fn counted(&self, reason: u8) -> u64 {
        let map = self.bpf.map(abi::MAP_METRICS).expect("the object has it");
        let map = PerCpuArray::<_, [u64; 2]>::try_from(map).expect("sizes of abi");
        const _: () = assert!(size_of::<Counter>() == 16);
        let slots = (0..4).map(|direction| u32::from(reason) * 4 + direction);
        slots
            .flat_map(|slot| map.get(&slot, 0).expect("inside").to_vec())
            .map(|c| c[0])
            .sum()
    }

    /// Runs and returns the reason that was counted; 0 if none.
    pub(crate) fn reason_of(&mut self, pod: usize, frame: &[u8]) -> u8 {
        let before: Vec<u64> = REASONS.iter().map(|r| self.counted(*r as u8)).collect();
        let run = self.send(pod, frame);
        let hit = REASONS
            .iter()
            .zip(before)
            .find(|(r, b)| self.counted(**r as u8) != *b);
        let reason = hit.map_or(0, |(r, _)| *r as u8);
        assert_eq!(
            run.action == DROP,
            reason != 0,
            "action {}, reason {reason}",
            run.action
        );
        reason
    }

    pub(crate) fn share(&self, endpoint: u32) -> u32 {
        let map = self.bpf.map(abi::MAP_SHARES).expect("the object has it");
        let map = Array::<_, u32>::try_from(map).expect("sizes of abi");
        map.get(&endpoint, 0).expect("inside")
    }

    pub(crate) fn events(&mut self) -> Vec<DropEvent> {
        let map = self
            .bpf
            .map_mut(abi::MAP_EVENTS)
            .expect("the object has it");
        let mut ring = RingBuf::try_from(map).expect("a ring buffer");
        let mut out = Vec::new();
        while let Some(item) = ring.next() {
            out.push(DropEvent::read_from_bytes(&item).expect("the size of abi"));
        }
        out
    }
}

const REASONS: &[abi::DropReason] = abi::DropReason::ALL;

fn config() -> NodeConfig {
    NodeConfig {
        flags: config_flags::IPV4
            | config_flags::IPV6
            | config_flags::OUTER_STRICT
            | config_flags::EVENTS,
        vxlan_ifindex: 1,
        tunnel_mtu: 1450,
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
        event_rate: 1000,
        tunnel_port: 8472,
    }
}

fn pod(id: u32, addr: [u8; 4], ifindex: u32, identity: u32) -> Endpoint {
    Endpoint {
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
    }
}
