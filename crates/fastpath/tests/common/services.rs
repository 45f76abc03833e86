// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! A service of the node in memory, and packets with right checksums.

use abi::{Addr, Backend, BackendKey, MemberKey, Service, ServiceKey, member_flags};

use super::frames::{Ip, is_sound, seal};
use super::{World, six};

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const VIP: [u8; 4] = [10, 96, 0, 10];
pub(crate) const ID: u32 = 3;

pub(crate) type Way = fn([u8; 4], [u8; 4]) -> Ip;

pub(crate) fn v6(src: [u8; 4], dst: [u8; 4]) -> Ip {
    Ip::v6(six(src), six(dst))
}

pub(crate) const WAYS: [Way; 2] = [Ip::v4, v6];

/// Both families' addresses.
pub(crate) fn addrs(addr: [u8; 4]) -> [Addr; 2] {
    [Addr::v4(addr), Addr::v6(six(addr))]
}

/// A service at port 80 of [`VIP`], both protocols and families, with these backends at port 8080.
pub(crate) fn service(world: &mut World, backends: &[[u8; 4]], affinity: u32) {
    for (family, vip) in addrs(VIP).into_iter().enumerate() {
        for proto in [TCP, UDP] {
            let id = ID + family as u32 * 10 + u32::from(proto);
            let key = ServiceKey {
                addr: vip,
                port: 80u16.to_be_bytes(),
                proto,
                pad: 0,
            };
            let mut service = Service {
                id,
                count: backends.len() as u32,
                affinity,
                ..Service::default()
            };
            for (index, backend) in backends.iter().enumerate() {
                let addr = addrs(*backend)[family];
                let port = 8080u16.to_be_bytes();
                let slot = BackendKey {
                    service: id,
                    index: index as u32,
                };
                let row = Backend {
                    addr,
                    port,
                    pad: [0; 2],
                };
                world.backends.insert(slot, row);
                if let Some(few) = service.few.get_mut(index) {
                    *few = row;
                }
                let member = MemberKey {
                    addr,
                    service: id,
                    port,
                    pad: [0; 2],
                };
                let flags = member_flags::MEMBER | member_flags::SELECTABLE;
                world.members.insert(member, flags);
            }
            world.services.insert(key, service);
        }
    }
}

pub(crate) fn with(backends: &[[u8; 4]]) -> World {
    let mut world = World::default();
    service(&mut world, backends, 0);
    world
}

/// Takes a backend away, as the agent does.
pub(crate) fn remove(world: &mut World, backend: [u8; 4]) {
    let gone = addrs(backend);
    world.backends.retain(|_, b| !gone.contains(&b.addr));
    world.members.retain(|key, _| !gone.contains(&key.addr));
    for service in world.services.values_mut() {
        service.count = 0;
    }
    for addr in addrs(VIP).into_iter().chain(gone) {
        *world
            .epochs
            .borrow_mut()
            .entry(abi::addr_bucket(&addr))
            .or_default() += 1;
    }
}

pub(crate) fn tcp(ip: Ip, sport: u16, dport: u16, flags: u8) -> Vec<u8> {
    seal(ip.tcp(sport, dport, flags))
}

pub(crate) fn udp(ip: Ip, sport: u16, dport: u16) -> Vec<u8> {
    seal(ip.udp(sport, dport, 6))
}

/// The same packet but for MACs and what a hop changes.
#[track_caller]
pub(crate) fn assert_packet(got: &[u8], want: &[u8]) {
    assert!(is_sound(got), "checksums of {got:02x?}");
    let strip = |bytes: &[u8]| {
        let mut bytes = bytes[12..].to_vec();
        if bytes[0] == 8 {
            bytes[2 + 8] = 0;
            bytes[2 + 10..2 + 12].fill(0);
        } else {
            bytes[2 + 7] = 0;
        }
        bytes
    };
    assert_eq!(strip(got), strip(want));
}
