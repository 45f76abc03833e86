// SPDX-License-Identifier: Apache-2.0
//! A peer that writes VXLAN packets by hand, from right and wrong addresses, to a real device.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use abi::{Addr, config_flags};
use aya::programs::TcAttachType;
use netlink::{Dad, Mac, NetNs, Route, Scope, Socket, VethEnd, VethSpec, VxlanSpec};
use tempfile::TempDir;

use crate::frames::Ip;
use crate::node::{
    ID_A, ID_B, ID_REMOTE, Node, OUTSIDE, POD_A, POD_B, POD_REMOTE, ROUTER, in_namespace,
    program_mut, six,
};

const PORT: u16 = 8472;
const OVERLAY: &str = "ist-vxlan";
const OWN: &str = "172.16.5.1";
const PEER: &str = "172.16.7.1";
const STRANGER: &str = "172.16.99.9";

/// The node under test (this namespace), the peer's machine, a pod.
struct Wire {
    node: Node,
    /// A socket of the peer that takes what the node encapsulates.
    peer: UdpSocket,
    stranger: UdpSocket,
    /// A socket in the pod, port 53.
    pod: UdpSocket,
    spaces: Vec<NetNs>,
    directory: TempDir,
}

impl Wire {
    /// To be called inside the node's namespace.
    fn new() -> Wire {
        let directory = tempfile::tempdir().expect("a directory");
        let space = |name: &str| NetNs::create(directory.path().join(name)).expect("a namespace");
        let (peer, pod) = (space("peer"), space("pod"));
        // What the stacks say about themselves would be counted too.
        let own = NetNs::current().expect("a namespace");
        for space in [&own, &pod] {
            let off = [("net/ipv6/conf/all/disable_ipv6", "1")];
            netlink::sysctl::write_in(space, &off).expect("a sysctl");
        }
        let mut node = Node::new();
        let socket = Socket::open().expect("a socket");
        let (near, far) = (VethEnd::new("under"), VethEnd::new("under").in_netns(&peer));
        socket
            .add_veth(&VethSpec {
                near,
                far,
                mtu: None,
            })
            .expect("a pair");
        bring_up(&socket, "under", &[&format!("{OWN}/16")]);
        let outside = Socket::open_in(&peer).expect("a socket");
        bring_up(
            &outside,
            "under",
            &[&format!("{PEER}/16"), &format!("{STRANGER}/16")],
        );
        wire_pod(&socket, &node, &pod);
        attach(&socket, &mut node);
        let listen = |space: &NetNs, at: String| {
            let socket = space
                .run(|| UdpSocket::bind(&at))
                .expect("a thread")
                .expect("binds");
            socket
                .set_read_timeout(Some(Duration::from_secs(2)))
                .expect("a timeout");
            socket
        };
        Wire {
            node,
            peer: listen(&peer, format!("{PEER}:{PORT}")),
            stranger: listen(&peer, format!("{STRANGER}:0")),
            pod: listen(&pod, "0.0.0.0:53".into()),
            spaces: vec![peer, pod],
            directory,
        }
    }

    /// Sends a frame in a VXLAN packet and returns the reason that was counted, 0 for forwarded.
    fn inject(&self, from: &UdpSocket, vni: u32, frame: &[u8]) -> u8 {
        let before: Vec<u64> = (0..=255).map(|r| self.node.counted(r)).collect();
        let [_, a, b, c] = vni.to_be_bytes();
        let packet = [&[8, 0, 0, 0, a, b, c, 0][..], frame].concat();
        from.send_to(&packet, (OWN, PORT)).expect("sends");
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline {
            if let Some(reason) =
                (0..=255).find(|r| self.node.counted(*r) != before[usize::from(*r)])
            {
                return reason;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("nothing was counted for VNI {vni} and {frame:x?}");
    }

    fn end(self) {
        let Wire {
            spaces, directory, ..
        } = self;
        let paths: Vec<_> = spaces.iter().map(|s| s.path().to_owned()).collect();
        drop(spaces);
        for path in paths {
            NetNs::delete(path).expect("unmounts");
        }
        drop(directory);
    }
}

fn bring_up(socket: &Socket, device: &str, addresses: &[&str]) {
    let index = socket.index_of(device).expect("made");
    for address in addresses {
        let net = address.parse().expect("valid");
        socket
            .ensure_address(index, net, Scope::Global, Dad::Skip)
            .expect("an address");
    }
    socket.set_up(index).expect("up");
}

/// The pod finds its gateway by ARP, which the program answers.
fn wire_pod(socket: &Socket, node: &Node, pod: &NetNs) {
    let own = &node.pods[0];
    socket.set_mac("host-a", Mac(own.host_mac)).expect("a MAC");
    socket.set_mac("pod-a", Mac(own.mac)).expect("a MAC");
    socket.move_to("pod-a", pod).expect("moves");
    bring_up(socket, "host-a", &[]);
    let inside = Socket::open_in(pod).expect("a socket");
    let [a, b, c, d] = POD_A;
    bring_up(&inside, "pod-a", &[&format!("{a}.{b}.{c}.{d}/32")]);
    let mut default = Route::default_via(ROUTER.into());
    default.link = Some(inside.index_of("pod-a").expect("made"));
    default.onlink = true;
    inside.ensure_route(&default).expect("a route");
}

fn attach(socket: &Socket, node: &mut Node) {
    let vxlan = VxlanSpec {
        name: OVERLAY,
        port: PORT,
        mtu: Some(1450),
        mac: None,
        noarp: true,
    };
    socket.add_vxlan_external(&vxlan).expect("a device");
    bring_up(socket, OVERLAY, &[]);
    node.config.vxlan_ifindex = socket.index_of(OVERLAY).expect("made");
    node.config.flags &= !config_flags::EVENTS;
    node.set_config();
    for (name, device, side) in [
        (abi::PROG_FROM_OVERLAY, OVERLAY, TcAttachType::Ingress),
        (abi::PROG_FROM_POD, "host-a", TcAttachType::Ingress),
        (abi::PROG_TO_POD, "host-a", TcAttachType::Egress),
    ] {
        program_mut(&mut node.bpf, name)
            .attach(device, side)
            .expect("attaches");
    }
}

#[test]
fn a_remote_pod_talks_to_a_pod_here_and_gets_its_answer() {
    in_namespace(|| {
        let wire = Wire::new();
        let frame = Ip::v4(POD_REMOTE, POD_A).udp(4000, 53, 5);
        let mut buffer = [0; 2048];
        for _ in 0..2 {
            assert_eq!(wire.inject(&wire.peer, ID_REMOTE, &frame), 0);
            let (len, from) = wire.pod.recv_from(&mut buffer).expect("the pod gets it");
            assert_eq!((len, from.to_string()), (5, "10.7.0.10:4000".into()));
        }
        let answer = |text: &[u8], buffer: &mut [u8]| {
            wire.pod.send_to(text, "10.7.0.10:4000").expect("sends");
            wire.peer.recv(buffer).expect("the peer gets it")
        };
        let len = answer(b"answer", &mut buffer);
        assert_eq!(
            buffer[..8],
            [&[8, 0, 0, 0][..], &(ID_A << 8).to_be_bytes()].concat()[..]
        );
        assert_eq!(buffer[len - 6..len], *b"answer");
        assert_eq!(
            buffer[8 + 22],
            64,
            "the inner TTL is the receiver's to lower"
        );
        assert_eq!(buffer[34..42], [POD_A, POD_REMOTE].concat());
        wire.end();
    });
}

#[test]
fn forged_packets_are_refused_for_their_reason() {
    in_namespace(|| {
        let wire = Wire::new();
        let to_a = |src| Ip::v4(src, POD_A).udp(9, 53, 4);
        let remote = to_a(POD_REMOTE);
        let mut cut = remote.clone();
        cut[17] = 200;
        let mut tagged = remote.clone();
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        for (what, stranger, vni, frame, want) in [
            ("stranger", true, ID_REMOTE, &remote, 172),
            ("node of another cluster", false, ID_B, &remote, 172),
            ("remote-node of a stranger", true, 6, &remote, 172),
            ("a pod as remote-node", false, 6, &remote, 132),
            ("host", false, 1, &remote, 171),
            ("nothing", false, 0, &remote, 171),
            ("world-ipv6", false, 10, &remote, 171),
            ("our own pod", false, ID_REMOTE, &to_a(POD_B), 132),
            (
                "unknown destination",
                false,
                ID_REMOTE,
                &Ip::v4(POD_REMOTE, [10, 5, 0, 99]).udp(1, 2, 0),
                151,
            ),
            (
                "the world behind us",
                false,
                ID_REMOTE,
                &Ip::v4(POD_REMOTE, OUTSIDE).udp(1, 2, 0),
                151,
            ),
            (
                "no hops left",
                false,
                ID_REMOTE,
                &Ip::v4(POD_REMOTE, POD_A).ttl(1).udp(8, 53, 0),
                196,
            ),
            (
                "unknown protocol",
                false,
                ID_REMOTE,
                &Ip::v4(POD_REMOTE, POD_A).frame(47, &[0; 8]),
                137,
            ),
            (
                "ARP",
                false,
                ID_REMOTE,
                &crate::frames::arp(POD_REMOTE, POD_A),
                139,
            ),
            ("cut", false, ID_REMOTE, &cut, 134),
            ("a VLAN tag inside", false, ID_REMOTE, &tagged, 182),
            (
                "loopback as source",
                false,
                ID_REMOTE,
                &to_a([127, 0, 0, 1]),
                132,
            ),
            ("right", false, ID_REMOTE, &remote, 0),
            (
                "right, IPv6",
                false,
                ID_REMOTE,
                &Ip::v6(six(POD_REMOTE), six(POD_A)).udp(9, 53, 4),
                0,
            ),
            ("remote-node", false, 6, &to_a([10, 7, 0, 1]), 0),
            (
                "the router here",
                false,
                6,
                &Ip::v4([10, 7, 0, 1], ROUTER).udp(9, 53, 4),
                0,
            ),
            ("onto the flow: stranger", true, ID_REMOTE, &remote, 172),
            ("onto the flow: VNI", false, ID_B, &remote, 172),
        ] {
            let from = if stranger { &wire.stranger } else { &wire.peer };
            assert_eq!(wire.inject(from, vni, frame), want, "{what}");
        }
        wire.end();
    });
}

#[test]
fn audit_counts_and_forwards() {
    in_namespace(|| {
        let mut wire = Wire::new();
        wire.node.config.flags &= !config_flags::OUTER_STRICT;
        wire.node.config.flags |= config_flags::OUTER_AUDIT | config_flags::EVENTS;
        wire.node.set_config();
        let frame = Ip::v4(POD_REMOTE, POD_A).udp(4000, 53, 5);
        let _ = wire.inject(&wire.stranger, ID_REMOTE, &frame);
        let mut buffer = [0; 64];
        assert_eq!(wire.pod.recv(&mut buffer).expect("the pod gets it"), 5);
        assert_eq!((wire.node.counted(172), wire.node.counted(0)), (1, 1));
        let events: Vec<_> = wire
            .node
            .events()
            .into_iter()
            .filter(|e| e.reason == 172)
            .collect();
        assert_eq!(events.len(), 1);
        let event = events[0];
        assert_eq!(
            (event.audit, event.src_identity, event.dst_identity),
            (1, ID_REMOTE, ID_A)
        );
        assert_eq!(event.node, Addr::v4([172, 16, 99, 9]));
        wire.end();
    });
}
