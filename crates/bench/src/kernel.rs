// SPDX-License-Identifier: Apache-2.0
//! The programs and maps of one node, loaded a second time and attached to nothing: for test runs.

use abi::{
    ANY_CLUSTER, Addr, Endpoint, Flow, IpInfo, Local, NodeConfig, NodeKey, PolicyKey, RowKey,
    RowVerdict, action, config_flags, endpoint_flags, ip_flags, kind,
};
use abi::{Backend, BackendKey, MemberKey, Service, ServiceKey, member_flags};
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, MapData};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use zerocopy::transmute;

use crate::error::{Error, Result};

/// The pod that sends.
pub(crate) const POD: [u8; 4] = [10, 5, 0, 10];
const NODE: [u8; 4] = [172, 16, 5, 1];
const REMOTE_NODE: [u8; 4] = [172, 16, 7, 1];
/// Verdict of a packet that leaves by the tunnel.
const REDIRECT: u32 = 7;
/// Interface numbers: loopback stands for both devices, nothing is sent.
const IFINDEX: u32 = 1;

/// Flow table of a test run.
pub(crate) type Flows = HashMap<MapData, [u8; 40], [u8; size_of::<Flow>()]>;

/// The loaded object.
pub(crate) struct Kernel {
    bpf: Ebpf,
    /// Conntrack.
    pub(crate) flows: Flows,
    /// Single addresses.
    pub(crate) ipcache: HashMap<MapData, [u8; 16], [u8; 24]>,
    /// Classes of identities.
    pub(crate) identities: HashMap<MapData, [u8; 4], [u8; 16]>,
    /// Epochs of buckets.
    pub(crate) epochs: Array<MapData, u32>,
    shares: Array<MapData, u32>,
}

fn failed(doing: impl Into<String>, error: impl std::error::Error) -> Error {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        reason = format!("{reason}: {inner}");
        source = inner.source();
    }
    Error::Kernel {
        doing: doing.into(),
        reason,
    }
}

macro_rules! take {
    ($bpf:expr, $name:expr) => {
        $bpf.take_map($name)
            .expect("the object has it")
            .try_into()
            .map_err(|error: aya::maps::MapError| failed($name, error))?
    };
}

impl Kernel {
    /// Loads with tables of the product's sizes, and one pod that may talk to all.
    pub(crate) fn load() -> Result<Self> {
        let sizes = datapath::Settings::default();
        let mut loader = EbpfLoader::new();
        for map in datapath::Map::ALL {
            loader.map_max_entries(map.name(), map.limit(&sizes));
        }
        let load = loader.load(datapath::object::OBJECT);
        let mut bpf = load.map_err(|error| failed("load the object", error))?;
        let from_pod = program(&mut bpf);
        from_pod
            .load()
            .map_err(|error| failed("load from_pod", error))?;
        configure(&mut bpf)?;
        Ok(Self {
            flows: take!(bpf, abi::MAP_FLOWS),
            ipcache: take!(bpf, abi::MAP_IPCACHE),
            identities: take!(bpf, abi::MAP_IDENTITIES),
            epochs: take!(bpf, abi::MAP_EPOCHS),
            shares: take!(bpf, abi::MAP_SHARES),
            bpf,
        })
    }

    /// Sends one frame from the pod; nanoseconds of the program.
    pub(crate) fn send(&mut self, frame: &[u8]) -> Result<f64> {
        let mut context = [0u8; 192];
        context[36..40].copy_from_slice(&IFINDEX.to_ne_bytes());
        context[40..44].copy_from_slice(&IFINDEX.to_ne_bytes());
        let options = TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            repeat: 1,
            ..TestRunOptions::default()
        };
        let run = program(&mut self.bpf).test_run(options);
        let run = run.map_err(|error| failed("run from_pod", error))?;
        if run.return_value != REDIRECT {
            return Err(Error::Kernel {
                doing: "send a packet by test run".to_owned(),
                reason: format!("verdict {} instead of {REDIRECT}", run.return_value),
            });
        }
        Ok(run.duration.as_nanos() as f64)
    }

    /// Makes a remote pod known.
    pub(crate) fn remote(&mut self, address: [u8; 4], identity: u32) -> Result<()> {
        let info = IpInfo {
            identity,
            flags: ip_flags::TUNNEL,
            node: Addr::v4(REMOTE_NODE),
        };
        let (key, value): ([u8; 16], [u8; 24]) = (transmute!(Addr::v4(address)), transmute!(info));
        self.ipcache
            .insert(key, value, 0)
            .map_err(|error| failed("write an address", error))?;
        let slot: [u8; 16] = transmute!([100u32, 0, 0, 0]);
        self.identities
            .insert(identity.to_ne_bytes(), slot, 0)
            .map_err(|error| failed("write an identity", error))
    }

    /// A service at UDP port 53 of `address` that `backend` answers at port 5353.
    pub(crate) fn service(&mut self, address: [u8; 4], backend: [u8; 4]) -> Result<()> {
        let (id, proto, addr) = (1u32, 17, Addr::v4(backend));
        let port = 5353u16.to_be_bytes();
        let member = MemberKey {
            addr,
            service: id,
            port,
            pad: [0; 2],
        };
        let flags = member_flags::MEMBER | member_flags::SELECTABLE;
        let member: [u8; 24] = transmute!(member);
        hash(&mut self.bpf, abi::MAP_MEMBERS, member, flags.to_ne_bytes())?;
        let key: [u8; 8] = transmute!(BackendKey {
            service: id,
            index: 0
        });
        let mut few = abi::Few::default();
        few[0] = Backend {
            addr,
            port,
            pad: [0; 2],
        };
        let value: [u8; 20] = transmute!(few[0]);
        hash(&mut self.bpf, abi::MAP_BACKENDS, key, value)?;
        let key: [u8; 20] = transmute!(ServiceKey {
            addr: Addr::v4(address),
            port: 53u16.to_be_bytes(),
            proto,
            pad: 0
        });
        let value: [u8; size_of::<Service>()] = transmute!(Service {
            id,
            count: 1,
            affinity: 0,
            few,
        });
        hash(&mut self.bpf, abi::MAP_SERVICES, key, value)
    }

    /// Raises the epoch of a bucket, as the agent does after a change.
    pub(crate) fn raise(&mut self, bucket: u16) -> Result<()> {
        let index = u32::from(bucket);
        let epoch = self.epoch(bucket)?;
        self.epochs
            .set(index, epoch.wrapping_add(1), 0)
            .map_err(|error| failed("raise an epoch", error))
    }

    /// The epoch of a bucket.
    pub(crate) fn epoch(&self, bucket: u16) -> Result<u32> {
        self.epochs
            .get(&u32::from(bucket), 0)
            .map_err(|error| failed("read an epoch", error))
    }

    /// Forgets flows that were just made.
    pub(crate) fn forget(&mut self, keys: impl Iterator<Item = [u8; 40]>) -> Result<()> {
        for key in keys {
            self.flows
                .remove(&key)
                .map_err(|error| failed("remove a flow", error))?;
        }
        for share in [abi::SHARE_OF_ALL, 1] {
            self.shares
                .set(share, 0, 0)
                .map_err(|error| failed("reset the pod's share", error))?;
        }
        Ok(())
    }
}

fn program(bpf: &mut Ebpf) -> &mut SchedClassifier {
    let program = bpf.program_mut(abi::PROG_FROM_POD);
    let program = program.expect("the object has it").try_into();
    program.expect("it is a classifier")
}

fn hash<const K: usize, const V: usize>(
    bpf: &mut Ebpf,
    name: &str,
    key: [u8; K],
    value: [u8; V],
) -> Result<()> {
    let map = bpf.map_mut(name).expect("the object has it");
    HashMap::<_, [u8; K], [u8; V]>::try_from(map)
        .and_then(|mut map| map.insert(key, value, 0))
        .map_err(|error| failed(name, error))
}

fn array<const V: usize>(bpf: &mut Ebpf, name: &str, index: u32, value: [u8; V]) -> Result<()> {
    let map = bpf.map_mut(name).expect("the object has it");
    Array::<_, [u8; V]>::try_from(map)
        .and_then(|mut map| map.set(index, value, 0))
        .map_err(|error| failed(name, error))
}

fn configure(bpf: &mut Ebpf) -> Result<()> {
    array::<112>(bpf, abi::MAP_CONFIG, 0, transmute!(config()))?;
    let pod = pod();
    array::<72>(bpf, abi::MAP_ENDPOINTS, 1, transmute!(pod))?;
    hash(
        bpf,
        abi::MAP_DEVICES,
        IFINDEX.to_ne_bytes(),
        1u32.to_ne_bytes(),
    )?;
    let local: [u8; 4] = transmute!(Local { endpoint: 1 });
    hash::<16, 4>(bpf, abi::MAP_LOCALS, transmute!(pod.ipv4), local)?;
    for cluster in [7, ANY_CLUSTER] {
        let addr = Addr::v4(REMOTE_NODE);
        let key: [u8; 20] = transmute!(NodeKey { cluster, addr });
        hash(bpf, abi::MAP_NODES, key, 1u32.to_ne_bytes())?;
    }
    for class in (kind::BASE..=kind::OTHER).chain([100]) {
        let key: [u8; 8] = transmute!(PolicyKey { policy: 1, class });
        hash(bpf, abi::MAP_POLICIES, key, 1u32.to_ne_bytes())?;
    }
    for direction in [1, 2] {
        let key = RowKey {
            prefixlen: 0,
            row: 1u32.to_be_bytes(),
            direction,
            proto: 0,
            port: [0; 2],
        };
        let all: [u8; 12] = transmute!(key);
        let data: [u8; 8] = all[4..].try_into().expect("8 of 12 bytes");
        let verdict = RowVerdict {
            action: action::ALLOW,
            rule: 0,
        };
        let verdict: [u8; 8] = transmute!(verdict);
        let map = bpf.map_mut(abi::MAP_ROWS).expect("the object has it");
        LpmTrie::<_, [u8; 8], [u8; 8]>::try_from(map)
            .and_then(|mut map| map.insert(&Key::new(abi::ROW_BITS_ANY, data), verdict, 0))
            .map_err(|error| failed(abi::MAP_ROWS, error))?;
    }
    Ok(())
}

fn config() -> NodeConfig {
    NodeConfig {
        flags: config_flags::IPV4 | config_flags::OUTER_STRICT,
        vxlan_ifindex: 1,
        tunnel_mtu: 1450,
        cluster_id: 5,
        cluster_shift: 16,
        flow_share: 262_144,
        flow_room: 262_144,
        node: Addr::v4(NODE),
        router4: Addr::v4([10, 5, 0, 1]),
        router6: Addr::NONE,
        timeout_tcp: 8000,
        timeout_syn: 8000,
        timeout_fin: 10,
        timeout_any: 8000,
        world4: 2,
        world6: 2,
        clock: 30,
        event_rate: 1000,
        tunnel_port: 8472,
    }
}

fn pod() -> Endpoint {
    Endpoint {
        policy: 1,
        epoch: 1,
        ifindex: IFINDEX,
        identity: 5 << 16 | 1001,
        ipv4: Addr::v4(POD),
        ipv6: Addr::NONE,
        mac: [2, 0, 0, 0, 1, 1],
        host_mac: [2, 0, 0, 0, 2, 1],
        flags: endpoint_flags::READY,
        id: 1,
        reserved: 0,
    }
}
