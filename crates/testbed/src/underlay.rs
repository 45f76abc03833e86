// SPDX-License-Identifier: Apache-2.0
//! The wire between all hosts of a lab, its router, and a host in the world beyond the router.
//!
//! ```text
//! node ─┐
//! node ─┼─ bridge (own namespace) ── router ── world
//! etcd ─┘  172.31.0.0/16, fd00:31::/64         198.51.100.10, 2001:db8:100::10
//! ```
//! The router has no route to any pod address: what is not masqueraded gets no answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::Result;
use crate::layout::Layout;
use crate::namespace::Place;

/// The host beyond the router.
pub const WORLD_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// The host beyond the router.
pub const WORLD_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 0x10);

/// Address of host `host` in block `block` (a cluster id) of the underlay.
#[must_use]
pub fn address_v4(block: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 31, block, host)
}

/// As [`address_v4`].
#[must_use]
pub fn address_v6(block: u8, host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x31, 0, 0, 0, 0, block.into(), host.into())
}

/// The bridge's namespace, router and world.
#[derive(Debug)]
pub struct Underlay {
    layout: Layout,
    fabric: Place,
    /// Forwards between the underlay and the world.
    pub router: Place,
    /// A host that is in no cluster.
    pub world: Place,
}

impl Underlay {
    /// Builds all three.
    ///
    /// # Errors
    /// A namespace or device cannot be made.
    pub fn create(layout: &Layout) -> Result<Self> {
        let fabric = Place::create(&layout.netns("fabric"))?;
        fabric.ip("link add br0 type bridge mcast_snooping 0\nlink set br0 up")?;
        let router = Place::create(&layout.netns("router"))?;
        let world = Place::create(&layout.netns("world"))?;
        let underlay = Self {
            layout: layout.clone(),
            fabric,
            router,
            world,
        };
        underlay.plug(&underlay.router, "router", 0, 1)?;
        let peer = underlay.world.netns.display();
        underlay.router.ip(&format!(
            "link add world type veth peer name eth0 netns {peer}\n\
             link set world up\n\
             addr add 198.51.100.1/24 dev world\n\
             addr add 2001:db8:100::1/64 dev world nodad"
        ))?;
        underlay.world.ip(&format!(
            "link set eth0 up\n\
             addr add {WORLD_V4}/24 dev eth0\n\
             addr add {WORLD_V6}/64 dev eth0 nodad\n\
             route add default via 198.51.100.1\n\
             route add default via 2001:db8:100::1"
        ))?;
        underlay.router.sysctl("net/ipv4/ip_forward", "1")?;
        underlay
            .router
            .sysctl("net/ipv6/conf/all/forwarding", "1")?;
        Ok(underlay)
    }

    /// A new host on the wire with `eth0`, both addresses and a default route through the router.
    ///
    /// # Errors
    /// A namespace or device cannot be made.
    pub fn host(&self, name: &str, port: &str, block: u8, host: u8) -> Result<Place> {
        let place = Place::create(&self.layout.netns(name))?;
        self.plug(&place, port, block, host)?;
        place.ip("route add default via 172.31.0.1\nroute add default via fd00:31::1")?;
        Ok(place)
    }

    /// A second wire's end in a host: `eth1` with 172.30.`block`.`host`.
    ///
    /// # Errors
    /// The device cannot be made.
    pub fn second_interface(
        &self,
        place: &Place,
        port: &str,
        block: u8,
        host: u8,
    ) -> Result<Ipv4Addr> {
        let address = Ipv4Addr::new(172, 30, block, host);
        self.cable(place, &format!("{port}b"), "eth1")?;
        place.ip(&format!("addr add {address}/16 dev eth1\nlink set eth1 up"))?;
        Ok(address)
    }

    /// Loses every frame of a port without taking the carrier away, or lets them pass again.
    ///
    /// # Errors
    /// There is no such port.
    pub fn cut(&self, port: &str, cut: Wire) -> Result<()> {
        let state = match cut {
            Wire::Cut => "0",
            Wire::Whole => "3",
        };
        self.fabric
            .run("bridge", &["link", "set", "dev", port, "state", state])
            .map(drop)
    }

    /// Takes a host's port away, and with it the host's end.
    ///
    /// # Errors
    /// There is no such port.
    pub fn unplug(&self, port: &str) -> Result<()> {
        self.fabric.ip(&format!("link del {port}"))
    }

    fn plug(&self, place: &Place, port: &str, block: u8, host: u8) -> Result<()> {
        self.cable(place, port, "eth0")?;
        let v4 = address_v4(block, host);
        let v6 = address_v6(block, host);
        place.ip(&format!(
            "addr add {v4}/16 dev eth0\naddr add {v6}/64 dev eth0 nodad\nlink set eth0 up"
        ))
    }

    fn cable(&self, place: &Place, port: &str, device: &str) -> Result<()> {
        let netns = place.netns.display();
        self.fabric.ip(&format!(
            "link add {port} type veth peer name {device} netns {netns}\nlink set {port} master br0 up"
        ))
    }
}

/// State of a port of the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Every frame is lost.
    Cut,
    /// Frames pass.
    Whole,
}

/// `http://address/`, with brackets where needed.
#[must_use]
pub fn url(address: IpAddr, port: u16) -> String {
    format!("http://{}/", std::net::SocketAddr::new(address, port))
}
