// SPDX-License-Identifier: Apache-2.0
//! A node of its own for one test: a BPF filesystem, a network namespace, one pod. Gone after the test, also
//! after a failed one.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use datapath::devices::{self, OverlaySpec, PodDevice};
use datapath::{Datapath, EndpointRow, Linux, Settings};
use model::{EndpointId, NumericIdentity};
use netlink::{Mac, NetNs, Route, Socket, VethEnd, VethSpec};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use super::support::{allow_all, ip, map_addr};

pub(crate) const POD_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
pub(crate) const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 1, 9];
pub(crate) const POD_IP: &str = "10.5.1.9";
pub(crate) const ROUTER: &str = "10.5.1.1";
/// The device of [`Lab::change_under_traffic`].
pub(crate) const SERVED: &str = "lxc.test";
const PORT: u16 = 9000;

pub(crate) struct Lab {
    directory: TempDir,
    pub(crate) node: NetNs,
    pub(crate) pod: NetNs,
}

impl Lab {
    pub(crate) fn new() -> Lab {
        let directory = tempfile::tempdir().expect("a directory");
        let bpf = directory.path().join("bpf");
        std::fs::create_dir(&bpf).expect("a directory");
        mount(
            Some("bpf"),
            &bpf,
            Some("bpf"),
            MsFlags::empty(),
            None::<&str>,
        )
        .expect("root mounts bpffs");
        let node = NetNs::create(directory.path().join("node")).expect("root makes namespaces");
        let pod = NetNs::create(directory.path().join("pod")).expect("root makes namespaces");
        Lab {
            directory,
            node,
            pod,
        }
    }

    pub(crate) fn bpf(&self) -> PathBuf {
        self.directory.path().join("bpf")
    }

    /// Small maps: the tests fill them.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            bpf_root: self.bpf(),
            flows_max: 4096,
            ipcache_max: 64,
            prefixes_max: 64,
            events_bytes: 1 << 16,
            ..Settings::default()
        }
    }

    pub(crate) fn open(&self) -> Datapath<Linux> {
        let linux = Linux::open(&self.settings()).unwrap_or_else(|error| panic!("{error}"));
        Datapath::new(linux).expect("adopts")
    }

    /// Makes the veth pair; returns the index of the host side.
    pub(crate) fn wire(&self, device: &str) -> u32 {
        let socket = Socket::open_in(&self.node).expect("a socket");
        let far = VethEnd::new("eth0")
            .with_mac(Mac(POD_MAC))
            .in_netns(&self.pod);
        let near = VethEnd::new(device).with_mac(Mac(HOST_MAC));
        socket
            .add_veth(&VethSpec {
                near,
                far,
                mtu: None,
            })
            .expect("a pair");
        let inside = Socket::open_in(&self.pod).expect("a socket");
        let eth0 = inside.index_of("eth0").expect("made");
        inside.set_up(eth0).expect("up");
        let own = format!("{POD_IP}/32").parse().expect("valid");
        inside
            .ensure_address(eth0, own, netlink::Scope::Global, netlink::Dad::Skip)
            .expect("an address");
        let mut default = Route::default_via(ip(ROUTER));
        default.link = Some(eth0);
        default.onlink = true;
        inside.ensure_route(&default).expect("a route");
        inside
            .ensure_neighbour(eth0, ip(ROUTER), Mac(HOST_MAC))
            .expect("a neighbour");
        socket.index_of(device).expect("made")
    }

    /// Everything that the node does so that the pod reaches it. To be called inside the node.
    pub(crate) fn serve(&self, datapath: &mut Datapath<Linux>, device: &str, ifindex: u32) {
        let socket = Socket::open().expect("a socket");
        let overlay = self.overlay();
        let pod = PodDevice {
            device,
            ifindex,
            mac: POD_MAC,
            addresses: vec![(ip(POD_IP), Some(ip(ROUTER)))],
        };
        devices::ensure_pod_device(&socket, &pod).expect("a pod's device");
        datapath.set_config(config(overlay)).expect("room");
        datapath
            .set_host_addresses(&[ip(ROUTER)].into())
            .expect("room");
        let row = EndpointRow {
            other_router: false,
            id: EndpointId(9),
            ifindex,
            device: device.into(),
            ipv4: POD_IP.parse().ok(),
            ipv6: None,
            mac: POD_MAC,
            host_mac: HOST_MAC,
            identity: NumericIdentity(5 << 16 | 1),
        };
        datapath.put_endpoint(&row).expect("room");
        datapath.apply(&allow_all(1, 9)).expect("room");
        datapath
            .attach_overlay(devices::OVERLAY_DEVICE, overlay)
            .expect("attaches");
        datapath.attach_pod(device, ifindex).expect("attaches");
    }

    /// To be called inside the node.
    pub(crate) fn overlay(&self) -> u32 {
        let socket = Socket::open().expect("a socket");
        let device = devices::OVERLAY_DEVICE;
        let spec = OverlaySpec {
            device,
            port: 8472,
            mtu: 1450,
            routers: vec![ip(ROUTER)],
        };
        devices::ensure_overlay(&socket, &spec)
            .expect("a device")
            .ifindex
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let remove = |path: &Path| {
            // Best effort: the next test has its own.
            let _ = NetNs::delete(path);
        };
        remove(self.pod.path());
        remove(self.node.path());
        let _ = umount2(&self.bpf(), MntFlags::MNT_DETACH);
    }
}

fn config(overlay: u32) -> abi::NodeConfig {
    abi::NodeConfig {
        flags: abi::config_flags::IPV4 | abi::config_flags::OUTER_STRICT,
        vxlan_ifindex: overlay,
        tunnel_mtu: 1450,
        cluster_id: 5,
        cluster_shift: 16,
        flow_share: 1000,
        flow_room: 7500,
        router4: map_addr(ROUTER),
        timeout_tcp: 8000,
        timeout_syn: 60,
        timeout_fin: 10,
        timeout_any: 60,
        world4: 2,
        world6: 2,
        clock: 30,
        event_rate: 1000,
        tunnel_port: 8472,
        ..abi::NodeConfig::default()
    }
}

impl Lab {
    /// Has a pod served and pinged while the datapath changes, round by round; at least `least` pings, all answered.
    pub(crate) fn change_under_traffic(
        &self,
        least: u32,
        rounds: u32,
        mut change: impl FnMut(u32, Datapath<Linux>, &Pings, u32) -> Datapath<Linux> + Send,
    ) -> Datapath<Linux> {
        let ifindex = self.wire(SERVED);
        let all_rounds = || {
            let mut datapath = self.open();
            self.serve(&mut datapath, SERVED, ifindex);
            let pings = Pings::start(self);
            eventually("an answer", || (pings.answered() > 0).then_some(()));
            for round in 0..rounds {
                datapath = change(round, datapath, &pings, ifindex);
            }
            let (sent, answered) = pings.stop();
            assert!(
                sent > least && sent == answered,
                "{answered} of {sent} answered"
            );
            datapath
        };
        self.node.run(all_rounds).expect("the node")
    }
}

/// Datagrams from the pod to the node and back, one every 2 ms.
pub(crate) struct Pings {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU32>,
    client: std::thread::JoinHandle<u32>,
    server: std::thread::JoinHandle<()>,
}

impl Pings {
    pub(crate) fn start(lab: &Lab) -> Pings {
        let router: IpAddr = ip(ROUTER);
        let bind = move |addr: SocketAddr| UdpSocket::bind(addr).expect("a socket");
        let server = lab
            .node
            .run(|| bind(SocketAddr::new(router, PORT)))
            .expect("the node");
        let client = lab
            .pod
            .run(|| bind(SocketAddr::new(ip(POD_IP), 0)))
            .expect("the pod");
        let stop = Arc::new(AtomicBool::new(false));
        server
            .set_read_timeout(Some(Duration::from_millis(200)))
            .expect("a timeout");
        client
            .set_read_timeout(Some(Duration::from_millis(500)))
            .expect("a timeout");
        let stopping = stop.clone();
        let server = std::thread::spawn(move || {
            let mut bytes = [0; 64];
            while !stopping.load(Ordering::Relaxed) {
                if let Ok((length, from)) = server.recv_from(&mut bytes) {
                    let _ = server.send_to(&bytes[..length], from);
                }
            }
        });
        let stopping = stop.clone();
        let answered = Arc::new(AtomicU32::new(0));
        let counter = answered.clone();
        let client = std::thread::spawn(move || {
            let mut sent = 0;
            let mut bytes = [0; 64];
            while !stopping.load(Ordering::Relaxed) {
                sent += 1;
                let _ = client.send_to(b"ping", SocketAddr::new(router, PORT));
                let answer = client.recv_from(&mut bytes).is_ok();
                counter.fetch_add(u32::from(answer), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
            sent
        });
        Pings {
            stop,
            answered,
            client,
            server,
        }
    }

    /// How many were answered so far.
    pub(crate) fn answered(&self) -> u32 {
        self.answered.load(Ordering::Relaxed)
    }

    /// How many were sent, and how many answered.
    pub(crate) fn stop(self) -> (u32, u32) {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.client.join().expect("no panic");
        self.server.join().expect("no panic");
        (sent, self.answered.load(Ordering::Relaxed))
    }
}

/// Waits until `probe` says something.
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within 5 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}
