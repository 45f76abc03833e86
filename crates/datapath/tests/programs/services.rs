// SPDX-License-Identifier: Apache-2.0
//! Services in the real kernel: what its helpers make of addresses, ports and checksums.

use abi::{Addr, Backend, BackendKey, DropReason, MemberKey, Service, ServiceKey, member_flags};
use zerocopy::transmute;

use crate::frames::{Ip, is_sound, seal};
use crate::node::{ACK, Node, POD_A, POD_B, POD_REMOTE, REDIRECT, SYN, in_namespace, six};

const VIP: [u8; 4] = [10, 96, 0, 10];
const UDP: u8 = 17;

/// A service at port 80 of [`VIP`] with this backend at port 8080, or none; both families and protocols.
fn service(node: &mut Node, backend: Option<[u8; 4]>) {
    for (number, proto) in [(0, 6), (1, 6), (2, UDP), (3, UDP)] {
        let addr = |v4| match number % 2 {
            0 => Addr::v4(v4),
            _ => Addr::v6(six(v4)),
        };
        let id = 1 + number;
        let key = ServiceKey {
            addr: addr(VIP),
            port: 80u16.to_be_bytes(),
            proto,
            pad: 0,
        };
        let port = 8080u16.to_be_bytes();
        let backend = backend.map(|backend| Backend {
            addr: addr(backend),
            port,
            pad: [0; 2],
        });
        let mut row = Service {
            id,
            count: backend.is_some().into(),
            ..Service::default()
        };
        // UDP's are found as those beyond the first few are.
        if let (Some(backend), 6) = (backend, proto) {
            row.few[0] = backend;
        }
        node.hash::<20, { size_of::<Service>() }>(
            abi::MAP_SERVICES,
            transmute!(key),
            transmute!(row),
        );
        let Some(row) = backend else {
            continue;
        };
        let key = BackendKey {
            service: id,
            index: 0,
        };
        node.hash::<8, 20>(abi::MAP_BACKENDS, transmute!(key), transmute!(row));
        let key = MemberKey {
            addr: row.addr,
            service: id,
            port,
            pad: [0; 2],
        };
        let flags = member_flags::MEMBER | member_flags::SELECTABLE;
        node.hash::<24, 4>(abi::MAP_MEMBERS, transmute!(key), transmute!(flags));
    }
}

type Way = fn([u8; 4], [u8; 4]) -> Ip;

fn ways() -> [Way; 2] {
    [Ip::v4, |src, dst| Ip::v6(six(src), six(dst))]
}

/// From the network header on, without TTL and header checksum.
fn strip(frame: &[u8]) -> Vec<u8> {
    let mut bytes = frame[12..].to_vec();
    if bytes[0] == 8 {
        bytes[10] = 0;
        bytes[12..14].fill(0);
    } else {
        bytes[9] = 0;
    }
    bytes
}

#[test]
fn packets_are_readdressed_with_their_checksums() {
    in_namespace(|| {
        let mut node = Node::new();
        service(&mut node, Some(POD_B));
        for way in ways() {
            for make in [
                |ip: Ip, from, to, flags| seal(ip.tcp(from, to, flags)),
                |ip: Ip, from, to, _| seal(ip.udp(from, to, 5)),
            ] {
                for flags in [SYN, ACK] {
                    let run = node.send(0, &make(way(POD_A, VIP), 4000, 80, flags));
                    assert_eq!(run.action, REDIRECT);
                    assert!(is_sound(&run.bytes), "{:02x?}", run.bytes);
                    let want = make(way(POD_A, POD_B), 4000, 8080, flags);
                    assert_eq!(strip(&run.bytes), strip(&want));
                    let run = node.send(1, &make(way(POD_B, POD_A), 8080, 4000, flags | ACK));
                    assert_eq!(run.action, REDIRECT);
                    assert!(is_sound(&run.bytes), "{:02x?}", run.bytes);
                    let want = make(way(VIP, POD_A), 80, 4000, flags | ACK);
                    assert_eq!(strip(&run.bytes), strip(&want));
                }
            }
        }
        let mut bare = Ip::v4(POD_A, VIP).udp(4001, 80, 5);
        bare[40..42].fill(0);
        let run = node.send(0, &bare);
        assert_eq!(run.bytes[30..34], POD_B);
        assert_eq!(run.bytes[40..42], [0, 0], "no checksum stays none");
    });
}

#[test]
fn what_nobody_answers_is_refused_and_what_nobody_has_ends() {
    in_namespace(|| {
        let mut node = Node::new();
        service(&mut node, None);
        for way in ways() {
            let before = node.counted(DropReason::NoBackend as u8);
            let run = node.send(0, &seal(way(POD_A, VIP).udp(4000, 80, 5)));
            assert_eq!(run.action, REDIRECT);
            assert!(is_sound(&run.bytes), "{:02x?}", run.bytes);
            let l4 = if run.bytes[12] == 8 { 34 } else { 54 };
            let code = if l4 == 34 { [3, 3] } else { [1, 4] };
            assert_eq!(run.bytes[l4..l4 + 2], code);
            let run = node.send(0, &seal(way(POD_A, VIP).tcp(4000, 80, SYN)));
            assert_eq!(run.action, REDIRECT);
            assert!(is_sound(&run.bytes), "{:02x?}", run.bytes);
            assert_eq!(run.bytes[l4 + 13], 20, "RST and ACK");
            assert_eq!(node.counted(DropReason::NoBackend as u8), before + 2);
        }
        service(&mut node, Some(POD_REMOTE));
        for way in ways() {
            assert_eq!(
                node.send(0, &seal(way(POD_A, VIP).tcp(4001, 80, SYN)))
                    .action,
                REDIRECT
            );
        }
        node.clear_members();
        for pod in node.pods {
            node.set_pod(&abi::Endpoint {
                epoch: pod.epoch + 1,
                ..pod
            });
        }
        for way in ways() {
            let run = node.send(0, &seal(way(POD_A, VIP).tcp(4001, 80, ACK)));
            assert_eq!(run.action, REDIRECT);
            assert!(is_sound(&run.bytes), "{:02x?}", run.bytes);
            let l4 = if run.bytes[12] == 8 { 34 } else { 54 };
            assert_eq!((run.bytes.len(), run.bytes[l4 + 13]), (l4 + 20, 4));
        }
    });
}

/// Prints what a service adds to a packet. No bound: `make bench` compares.
#[test]
fn services_are_cheap() {
    in_namespace(|| {
        let mut node = Node::new();
        service(&mut node, Some(POD_REMOTE));
        for way in ways() {
            let frames = [
                seal(way(POD_A, POD_REMOTE).tcp(5000, 8080, ACK)),
                seal(way(POD_A, VIP).tcp(4000, 80, ACK)),
            ];
            let syn = seal(way(POD_A, VIP).tcp(4000, 80, SYN));
            assert_eq!(node.send(0, &syn).action, REDIRECT);
            let mut sums = [0; 2];
            for _ in 0..5_000 {
                for (sum, frame) in sums.iter_mut().zip(&frames) {
                    *sum += node.send(0, frame).nanoseconds;
                }
            }
            let [direct, service] = sums.map(|sum| sum / 5_000);
            println!("from_pod, established: {direct} ns to a pod, {service} ns to a service");
        }
    });
}
