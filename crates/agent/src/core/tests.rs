// SPDX-License-Identifier: Apache-2.0
//! Orders of events over a kernel in memory: what is written, when, and how much.

use std::net::Ipv4Addr;

use datapath::{Call, EndpointRow, Fake, Map, Typed, table};
use kubernetes::{ObjectEvent, Update, Verdict};
use model::{AddressType, ClusterName, NodeAddress};
use policy::{
    Action, CidrRule, Direction, Entity, Entry, Peers, PolicyKey, PolicyKind, PolicyObject, Rule,
};

use super::*;
use config::Process;
use config::options::Values;

mod api_server;
mod full;
mod groups;
mod in_force;
mod nodes;
mod pods;
mod ports;
mod restarts;
mod room;
mod services;

const WEB: NumericIdentity = NumericIdentity((5 << 16) + 1);
const PEER: NumericIdentity = NumericIdentity((7 << 16) + 1);
const ENDPOINT: EndpointId = EndpointId(9);

thread_local! {
    /// State of the agents of a test, which goes with the test's thread.
    static STATE: tempfile::TempDir = tempfile::tempdir().expect("temporary directory");
}

fn core() -> Core<Fake> {
    core_on(Fake::new())
}

/// An agent that starts on what an earlier one left in the kernel, and is ready at once.
fn core_on(kernel: Fake) -> Core<Fake> {
    let mut core = core_before_lists(kernel);
    core.become_ready();
    core
}

fn core_before_lists(kernel: Fake) -> Core<Fake> {
    let state = STATE.with(|dir| format!("--state-dir={}", dir.path().display()));
    let args = [
        "--cluster-name=cluster5",
        "--cluster-id=5",
        "--enable-ipv6=false",
        &state,
    ];
    let values =
        Values::read(Process::Agent, args.iter().map(Into::into), []).expect("known options");
    let config = Config::new(&values, "n1").expect("valid");
    let node = LocalNode {
        name: name("cluster5", "n1"),
        ipv4: Ipv4Addr::new(172, 30, 5, 1),
        ipv6: None,
        underlay_mtu: 1500,
        pods4: Some("10.5.1.0/24".parse().expect("valid")),
        pods6: None,
        router4: Some(Ipv4Addr::new(10, 5, 1, 1)),
        router6: None,
        boot_id: String::new(),
        ipsec: false,
    };
    let dp = Datapath::new(kernel).expect("readable maps");
    let mut core = Core::new(Arc::new(config), Arc::new(node), dp);
    let row = EndpointRow {
        other_router: false,
        id: ENDPOINT,
        ifindex: 12,
        device: "lxc9".into(),
        ipv4: Some(Ipv4Addr::new(10, 5, 1, 9)),
        ipv6: None,
        mac: [2; 6],
        host_mac: [4; 6],
        identity: WEB,
    };
    core.set_identity(WEB, labels("cluster5", "web"));
    core.engine.upsert_endpoint(ENDPOINT, WEB);
    core.dp.put_endpoint(&row).expect("room");
    core
}

fn name(cluster: &str, node: &str) -> NodeName {
    NodeName {
        cluster: ClusterName::new(cluster).expect("valid"),
        name: node.into(),
    }
}

fn labels(cluster: &str, app: &str) -> Labels {
    let text = format!(
        "k8s:app={app};k8s:io.cilium.k8s.policy.cluster={cluster};k8s:io.kubernetes.pod.namespace=demo;"
    );
    Labels::parse(text.as_bytes()).expect("valid")
}

fn policy(peers: Peers) -> PolicyObject {
    PolicyObject {
        key: PolicyKey {
            kind: PolicyKind::CiliumNetworkPolicy,
            namespace: "demo".into(),
            name: "p".into(),
        },
        uid: String::new(),
        labels: Vec::new(),
        rules: vec![Rule {
            ingress: Some(vec![Entry::new(peers, None)]),
            ..Rule::default()
        }],
    }
}

fn from_cidr(cidr: &str) -> PolicyObject {
    let cidr = cidr.parse().expect("valid");
    policy(Peers {
        cidrs: Some(vec![CidrRule {
            cidr,
            except: Vec::new(),
        }]),
        ..Peers::default()
    })
}

fn objects(core: &mut Core<Fake>, events: Vec<ObjectEvent>) {
    core.take_objects(Update {
        events,
        problems: Vec::new(),
    });
}

fn node(n: u32) -> Arc<Node> {
    let [_, _, c, d] = n.to_be_bytes();
    let address = |kind, a, b| NodeAddress {
        kind,
        ip: IpAddr::from([a, b, c, d]),
    };
    let addresses = vec![
        address(AddressType::InternalIp, 172, 30),
        address(AddressType::CiliumInternalIp, 10, 7),
    ];
    let name = name("cluster7", &format!("n{n}"));
    Arc::new(Node::new(name, ClusterId(7), addresses))
}

fn mesh() -> Source {
    Source::ClusterMesh(ClusterName::new("cluster7").expect("valid"))
}

fn addresses_of(core: &Core<Fake>) -> usize {
    core.dp.kernel().len(Map::Ipcache) + core.dp.kernel().len(Map::Prefixes)
}

#[test]
fn a_policy_that_goes_and_comes_in_one_scan_was_never_gone() {
    let mut core = core();
    let nobody = || {
        policy(Peers {
            endpoints: Some(Vec::new()),
            ..Peers::default()
        })
    };
    objects(&mut core, vec![ObjectEvent::Policy(nobody())]);
    let judged = |core: &Core<Fake>| {
        let why = core
            .engine
            .explain(ENDPOINT, Direction::Ingress, PEER, 6, 80);
        why.expect("committed").verdict
    };
    assert_eq!(judged(&core), Action::DefaultDeny);
    let slot = |core: &Core<Fake>| {
        let slot = core
            .dp
            .kernel()
            .get_row::<table::Endpoints>(&ENDPOINT.0.into());
        slot.expect("readable").expect("an array")
    };
    let before = slot(&core);
    core.dp.kernel_mut().calls.clear();
    let gone = ObjectEvent::PolicyGone(nobody().key);
    let mut renamed = nobody();
    renamed.key.name = "q".into();
    objects(&mut core, vec![gone, ObjectEvent::Policy(renamed)]);
    assert_eq!(judged(&core), Action::DefaultDeny);
    let calls = core.dp.kernel().calls.iter();
    let flips = calls
        .filter(|call| matches!(call, Call::Put(Map::Endpoints, ..)))
        .count();
    assert_eq!(flips, 1, "one flip, from one closed policy to the other");
    assert_ne!(slot(&core).policy, before.policy);
}

/// Withdrawn, back under the same number with other labels, with its address: at no time is the address there with the
/// labels of before.
#[test]
fn a_number_that_comes_again_means_its_new_labels() {
    let mut core = core();
    let frontend = policy(Peers {
        endpoints: Some(vec![model::Selector::new([
            model::Requirement::new("app", model::Operator::In(["frontend".to_owned()].into())),
            model::Requirement::new("io.cilium.k8s.policy.cluster", model::Operator::Exists),
        ])]),
        ..Peers::default()
    });
    objects(&mut core, vec![ObjectEvent::Policy(frontend)]);
    let ip: IpNet = "10.7.1.2/32".parse().expect("valid");
    let class = |core: &Core<Fake>| {
        let row = core.dp.kernel().get_row::<table::Identities>(&PEER.0);
        row.expect("readable")
    };
    core.set_identity(PEER, labels("cluster7", "frontend"));
    core.set_remote_ip(mesh(), ip, PEER, None);
    let allowed = class(&core);
    assert!(allowed.is_some(), "identity before address");
    for gap in [false, true] {
        core.withdraw(&ip, &mesh());
        core.drop_identity(PEER);
        if gap {
            core.settle();
            assert_eq!(class(&core), None, "nobody speaks for the number");
        }
        core.set_identity(PEER, labels("cluster7", "reports"));
        core.dp.kernel_mut().calls.clear();
        core.set_remote_ip(mesh(), ip, PEER, None);
        let maps = core.dp.kernel().calls.iter().filter_map(|call| match call {
            Call::Put(map @ (Map::Identities | Map::Ipcache), ..) => Some(*map),
            _ => None,
        });
        assert_eq!(maps.collect::<Vec<_>>(), [Map::Identities, Map::Ipcache]);
        assert_ne!(class(&core), allowed);
        let why = core
            .engine
            .explain(ENDPOINT, Direction::Ingress, PEER, 6, 80);
        assert_eq!(why.expect("committed").verdict, Action::DefaultDeny);
        core.set_identity(PEER, labels("cluster7", "frontend"));
        core.settle();
        let why = core
            .engine
            .explain(ENDPOINT, Direction::Ingress, PEER, 6, 80);
        assert_eq!(why.expect("committed").verdict, Action::Allow);
    }
}

#[test]
fn reserved_identities_are_not_forgotten() {
    let mut core = core();
    objects(
        &mut core,
        vec![ObjectEvent::Policy(policy(Peers {
            entities: Some(vec![Entity::World]),
            ..Peers::default()
        }))],
    );
    core.drop_identity(reserved::WORLD);
    core.settle();
    let why = core
        .engine
        .explain(ENDPOINT, Direction::Ingress, reserved::WORLD, 6, 80);
    assert_eq!(why.expect("committed").verdict, Action::Allow);
}

/// A pod that waits for its object.
fn endpoint(id: EndpointId, pod: PodKey) -> Endpoint {
    let attachment = crate::endpoint::Attachment {
        id,
        container_id: "c".into(),
        container_interface: "eth0".into(),
        netns: String::new(),
        interface: format!("lxc{id}"),
        ifindex: 13,
        mac: netlink::Mac([6; 6]),
        host_mac: netlink::Mac([8; 6]),
        ipv4: Some(Ipv4Addr::new(10, 5, 1, 10)),
        ipv6: None,
        pod,
        uid: String::new(),
    };
    Endpoint {
        attachment,
        labels: Core::<Fake>::init_labels(),
        identity: reserved::INIT,
        counted: true,
        state: api::models::EndpointState::Ready,
        log: VecDeque::new(),
    }
}

/// A pod whose object comes after its container is closed until then, and has its labels' policy from then on.
#[test]
fn an_endpoint_without_an_object_is_closed_until_the_object_comes() {
    let mut core = core();
    // No file is written: this one is no directory.
    core.endpoint_dir = "/dev/null/endpoints".into();
    let late = EndpointId(10);
    let key = PodKey {
        namespace: "default".into(),
        name: "late".into(),
    };
    let endpoint = endpoint(late, key.clone());
    core.restore_endpoint(endpoint).expect("room");
    core.settle();
    let verdict = |core: &Core<Fake>, direction| {
        let why = core.engine.explain(late, direction, WEB, 6, 80);
        why.expect("committed").verdict
    };
    for direction in [Direction::Ingress, Direction::Egress] {
        assert_eq!(verdict(&core, direction), Action::DefaultDeny);
    }
    assert!(core.stale_labels().is_empty());

    let pod = model::Pod {
        key,
        uid: "".into(),
        mirrored: "".into(),
        node: "n1".into(),
        service_account: "default".into(),
        host_network: false,
        labels: [("app".to_owned(), "late".to_owned())].into(),
        named_ports: [].into(),
    };
    objects(&mut core, vec![ObjectEvent::Pod(pod)]);
    let stale = core.stale_labels();
    let [Relabel { id, labels }] = &stale[..] else {
        panic!("one endpoint: {} are stale", stale.len());
    };
    assert_eq!(*id, late);
    assert_eq!(verdict(&core, Direction::Ingress), Action::DefaultDeny);
    let new = NumericIdentity(WEB.0 + 1);
    assert_eq!(
        core.relabel(late, labels.clone(), new),
        Some(Core::<Fake>::init_labels())
    );
    assert!(core.stale_labels().is_empty());
    let local = core.dp.kernel().get_row::<table::Endpoints>(&10);
    assert_eq!(local.expect("readable").expect("there").identity, new.0);
    for direction in [Direction::Ingress, Direction::Egress] {
        assert_eq!(verdict(&core, direction), Action::Allow);
    }
}

/// Who drops are about: the pod that sent, and not the one whose address it wrote.
#[test]
fn a_forged_address_names_nobody() {
    let mut core = core();
    core.endpoint_dir = "/dev/null/endpoints".into();
    let key = PodKey {
        namespace: "default".into(),
        name: "owner".into(),
    };
    core.restore_endpoint(endpoint(EndpointId(10), key))
        .expect("room");
    core.settle();
    let name = |identity: NumericIdentity| {
        let address = Ipv4Addr::new(10, 5, 1, 10).into();
        crate::events::name_of(&core, address, identity.0)
    };
    let owner = Some("cluster5/default/owner".to_owned());
    assert_eq!(name(reserved::INIT), owner);
    assert_eq!(name(WEB), None, "somebody else's identity");
    assert_eq!(crate::events::pod_of(&core, 10), owner);
    assert_eq!(crate::events::pod_of(&core, 11), None);
}
