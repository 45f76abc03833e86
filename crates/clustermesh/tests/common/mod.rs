// SPDX-License-Identifier: Apache-2.0
//! A lab of clusters over in-memory kvstores, and an agent that checks what it is told.
#![allow(
    unreachable_pub,
    dead_code,
    reason = "every test file uses another part of the lab"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clustermesh::{IpRow, Mesh, MeshEvent, RemoteStatus, Room, Settings, State};
use ipnet::IpNet;
use kvstore::schema::{
    encode_cluster_config, encode_identity, encode_ip, encode_node, ip_key, keys, now,
};
use kvstore::{Memory, Store};
use model::{
    AddressType, ClusterConfig, ClusterId, ClusterName, IdentityScheme, IpEntry, Labels, NamedPort,
    Node, NodeAddress, NodeName, NumericIdentity,
};
use tables::Event;
use tokio::sync::mpsc;

/// A cluster that others can follow.
pub struct Peer {
    pub name: ClusterName,
    pub id: u16,
    pub store: Memory,
    up: AtomicBool,
    hangs: AtomicBool,
    clients: Mutex<Vec<Memory>>,
    pub connects: Mutex<u32>,
}

pub fn cluster(name: &str) -> ClusterName {
    ClusterName::new(name).expect("a valid name")
}

pub fn net(text: &str) -> IpNet {
    text.parse()
        .unwrap_or_else(|_| text.parse::<IpAddr>().expect("an address").into())
}

impl Peer {
    pub fn new(name: &str, id: u16) -> Arc<Self> {
        Arc::new(Self {
            name: cluster(name),
            id,
            store: Memory::new(0xe000 + u64::from(id)),
            up: AtomicBool::new(true),
            hangs: AtomicBool::new(false),
            clients: Mutex::default(),
            connects: Mutex::default(),
        })
    }

    pub async fn put(&self, key: &str, value: impl Into<Vec<u8>>) {
        self.store
            .client()
            .put(key, value.into().into(), None)
            .await
            .unwrap();
    }

    pub async fn delete(&self, key: &str) {
        self.store.client().delete(key).await.unwrap();
    }

    pub async fn config(&self, id: u16) {
        let config = ClusterConfig {
            id: ClusterId(id),
            max_connected_clusters: 255,
            ..Default::default()
        };
        self.put(
            &keys::cluster_config(self.name.as_str()),
            encode_cluster_config(&config),
        )
        .await;
    }

    pub async fn beat(&self) {
        self.put(keys::HEARTBEAT, now()).await;
    }

    pub fn identity(&self, local: u32) -> NumericIdentity {
        NumericIdentity(u32::from(self.id) * 65536 + local)
    }

    pub fn labels(&self, app: &str) -> Labels {
        let text = format!(
            "k8s:app={app};k8s:io.cilium.k8s.policy.cluster={};",
            self.name
        );
        Labels::parse(text.as_bytes()).unwrap()
    }

    pub async fn put_identity(&self, local: u32) {
        let labels = encode_identity(&self.labels(&format!("app{local}")));
        self.put(&keys::identity(self.identity(local)), labels)
            .await;
    }

    /// Node `n`: underlay 172.id.0.n, pods 10.id.n.0/24.
    pub fn node(&self, n: u8) -> Node {
        let id = self.id as u8;
        let name = NodeName {
            cluster: self.name.clone(),
            name: format!("node{n}").into(),
        };
        let address = NodeAddress {
            kind: AddressType::InternalIp,
            ip: Ipv4Addr::new(172, id, 0, n).into(),
        };
        Node {
            ipv4_alloc: Some(net(&format!("10.{id}.{n}.0/24"))),
            ..Node::new(name, ClusterId(self.id), vec![address])
        }
    }

    pub async fn put_node(&self, n: u8) {
        let key = keys::node(self.name.as_str(), &format!("node{n}"));
        self.put(&key, encode_node(&self.node(n))).await;
    }

    pub fn pod(&self, n: u8, host: u8, local: u32) -> IpEntry {
        let id = self.id as u8;
        let at = Ipv4Addr::new(172, id, 0, n).into();
        let mut entry = IpEntry::new(
            net(&format!("10.{id}.{n}.{host}")),
            self.identity(local),
            Some(at),
        );
        entry.pod = format!("pod-{n}-{host}").into();
        entry.namespace = "default".into();
        entry
    }

    pub async fn put_ip(&self, entry: &IpEntry) {
        self.put(&ip_key(&entry.prefix), encode_ip(entry)).await;
    }

    pub async fn delete_ip(&self, entry: &IpEntry) {
        self.delete(&ip_key(&entry.prefix)).await;
    }

    /// One node, one identity, one pod, and what a cluster says about itself.
    pub async fn populate(&self) {
        self.config(self.id).await;
        self.beat().await;
        self.put_node(1).await;
        self.put_identity(1).await;
        self.put_ip(&self.pod(1, 5, 1)).await;
    }

    /// Cuts (`false`) or restores the network to it.
    pub fn network(&self, up: bool) {
        self.up.store(up, Ordering::SeqCst);
        for client in self.clients.lock().unwrap().drain(..) {
            client.connect(up);
        }
    }

    /// It accepts connections and never answers.
    pub fn hang(&self) {
        self.hangs.store(true, Ordering::SeqCst);
    }

    async fn connect(&self) -> kvstore::Result<Memory> {
        *self.connects.lock().unwrap() += 1;
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if !self.up.load(Ordering::SeqCst) {
            return Err(kvstore::Error::Connect {
                reason: "connection refused".into(),
            });
        }
        let client = self.store.client();
        self.clients.lock().unwrap().push(client.clone());
        Ok(client)
    }
}

/// What an agent knows, and whether it was told in a sensible way.
#[derive(Default, Debug)]
pub struct Agent {
    pub nodes: BTreeMap<NodeName, Arc<Node>>,
    pub identities: BTreeMap<NumericIdentity, (ClusterName, Labels)>,
    pub ips: BTreeMap<(ClusterName, IpNet), IpRow>,
    pub ports: BTreeMap<NumericIdentity, Arc<[NamedPort]>>,
    pub removed: Vec<ClusterName>,
    lists: BTreeMap<(ClusterName, u8), u8>,
    /// Rows that were named by the first list in progress.
    pub late_identities: u32,
}

impl Agent {
    pub fn take(&mut self, event: MeshEvent) {
        match event {
            MeshEvent::Node(cluster, event) => {
                self.phase(&cluster, 0, &event);
                match event {
                    Event::InitApply(key, node) | Event::Apply(key, node) => {
                        assert_eq!(key.cluster, cluster);
                        self.nodes.insert(key, node);
                    }
                    Event::Delete(key) => {
                        assert!(self.nodes.remove(&key).is_some(), "{key} deleted twice")
                    }
                    Event::Init | Event::InitDone => {}
                }
            }
            MeshEvent::Identity(cluster, event) => {
                self.phase(&cluster, 1, &event);
                match event {
                    Event::InitApply(key, labels) | Event::Apply(key, labels) => {
                        self.identities.insert(key, (cluster, labels));
                    }
                    Event::Delete(key) => {
                        assert!(
                            self.identities.remove(&key).is_some(),
                            "{key} deleted twice"
                        );
                        let user = self.ips.iter().find(|(_, row)| row.identity == key);
                        assert!(
                            user.is_none(),
                            "identity {key} went before its address {user:?}"
                        );
                    }
                    Event::Init | Event::InitDone => {}
                }
            }
            MeshEvent::Ip(cluster, event) => {
                self.phase(&cluster, 2, &event);
                match event {
                    Event::InitApply(key, row) | Event::Apply(key, row) => {
                        if !row.identity.is_reserved()
                            && !self.identities.contains_key(&row.identity)
                        {
                            self.late_identities += 1;
                        }
                        self.ips.insert((cluster, key), row);
                    }
                    Event::Delete(key) => {
                        assert!(
                            self.ips.remove(&(cluster, key)).is_some(),
                            "{key} deleted twice"
                        );
                    }
                    Event::Init | Event::InitDone => {}
                }
            }
            MeshEvent::Ports(_, identity, ports) => drop(self.ports.insert(identity, ports)),
            MeshEvent::Removed(cluster) => {
                assert!(
                    self.nodes.keys().all(|key| key.cluster != cluster),
                    "nodes of {cluster} left"
                );
                assert!(
                    self.identities.values().all(|(of, _)| *of != cluster),
                    "identities of {cluster} left"
                );
                assert!(
                    self.ips.keys().all(|(of, _)| *of != cluster),
                    "addresses of {cluster} left"
                );
                self.lists.retain(|(of, _), _| *of != cluster);
                self.removed.push(cluster);
            }
        }
    }

    fn phase<K, V>(&mut self, cluster: &ClusterName, kind: u8, event: &Event<K, V>) {
        let phase = self.lists.entry((cluster.clone(), kind)).or_default();
        match event {
            Event::Init => assert_eq!(
                std::mem::replace(phase, 1),
                0,
                "second list of {cluster}/{kind}"
            ),
            Event::InitApply(..) => assert_eq!(*phase, 1),
            Event::InitDone => assert_eq!(std::mem::replace(phase, 2), 1),
            Event::Apply(..) => assert_eq!(*phase, 2),
            Event::Delete(_) => {}
        }
    }

    pub fn nets(&self) -> BTreeSet<String> {
        self.ips
            .keys()
            .map(|(of, net)| format!("{of} {}", net.addr()))
            .collect()
    }
}

/// Our cluster, id 5, pods in 10.5.0.0/16, and its peers.
pub struct Lab {
    pub dir: tempfile::TempDir,
    pub peers: BTreeMap<ClusterName, Arc<Peer>>,
    pub mesh: Option<Mesh>,
    pub agent: Agent,
    /// For the next start.
    pub room: Room,
    events: Option<mpsc::Receiver<MeshEvent>>,
    /// Tells the mesh to look at its directory.
    changed: Option<mpsc::Sender<()>>,
}

impl Lab {
    pub fn new(peers: &[&Arc<Peer>]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("config")).unwrap();
        let peers = peers
            .iter()
            .map(|peer| (peer.name.clone(), (*peer).clone()))
            .collect();
        let lab = Self {
            dir,
            peers,
            mesh: None,
            agent: Agent::default(),
            room: Room::ENDLESS,
            events: None,
            changed: None,
        };
        for name in lab.peers.keys() {
            lab.file(name.as_str(), Some("endpoints: [\"http://peer:2379\"]\n"));
        }
        lab.file("cluster5", Some("endpoints: [\"http://self:2379\"]\n"));
        lab
    }

    pub fn config_dir(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    /// From now on nobody tells of changes in the directory.
    pub fn without_notices(&mut self) {
        self.changed = None;
    }

    pub fn file(&self, name: &str, content: Option<&str>) {
        let path = self.config_dir().join(name);
        match content {
            Some(content) => std::fs::write(path, content).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
        if let Some(changed) = &self.changed {
            // A full channel already holds a reason to look.
            let _ = changed.try_send(());
        }
    }

    pub fn settings(&self) -> Settings {
        Settings {
            cluster: cluster("cluster5"),
            id: ClusterId(5),
            scheme: IdentityScheme::default(),
            own_pod_cidrs: vec![net("10.5.0.0/16")],
            room: self.room,
            config_dir: self.config_dir(),
            state_dir: Some(self.dir.path().join("state")),
            sync_timeout: Duration::from_secs(60),
        }
    }

    /// A new agent, which knows nothing.
    pub fn start(&mut self) {
        let peers = self.peers.clone();
        let connector = move |name: &ClusterName, _: &kvstore::config::Config| {
            let peer = peers.get(name).cloned();
            async move {
                match peer {
                    Some(peer) => peer.connect().await,
                    None => Err(kvstore::Error::Connect {
                        reason: "no such host".into(),
                    }),
                }
            }
        };
        let (sender, receiver) = mpsc::channel(256);
        self.agent = Agent::default();
        self.events = Some(receiver);
        let (changed, told) = mpsc::channel(1);
        self.changed = Some(changed);
        self.mesh = Some(Mesh::start_told(self.settings(), connector, sender, told).unwrap());
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        self.start();
    }

    pub async fn stop(&mut self) {
        if let Some(mesh) = self.mesh.take() {
            mesh.shutdown().await;
        }
    }

    /// Lets virtual time pass while the agent listens.
    pub async fn pass(&mut self, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        let events = self.events.as_mut().expect("started");
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.agent.take(event),
                    None => return tokio::time::sleep_until(until).await,
                },
                () = tokio::time::sleep_until(until) => return,
            }
        }
    }

    pub async fn seconds(&mut self, seconds: u64) {
        self.pass(Duration::from_secs(seconds)).await;
    }

    pub fn status(&self, name: &str) -> RemoteStatus {
        let all = self.mesh.as_ref().expect("started").status();
        all.into_iter()
            .find(|status| status.name == name)
            .unwrap_or_else(|| panic!("no status of {name}"))
    }

    pub fn state(&self, name: &str) -> State {
        self.status(name).state
    }

    /// Every line that an operator would read about a cluster.
    pub fn words(&self, name: &str) -> String {
        let status = self.status(name);
        let mut lines = vec![format!("{}: {}", status.state, status.reason)];
        let refused = status.refused.iter();
        lines.extend(refused.map(|row| format!("{} {}: {}", row.kind, row.key, row.reason)));
        lines.join("\n")
    }
}
