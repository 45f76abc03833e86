// SPDX-License-Identifier: Apache-2.0
//! Routes, marked with the protocol number of who made them, so that only own ones are pruned.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType,
};

use crate::address::family;
use crate::error::absent_ok;
use crate::transport::About;
use crate::{Result, Scope, Socket};

/// The main table.
pub const TABLE_MAIN: u32 = 254;
/// The table of the host's own addresses.
pub const TABLE_LOCAL: u32 = 255;
/// `RTPROT_STATIC`: made by an administrator.
const PROTOCOL_STATIC: u8 = 4;

/// What happens to a packet that takes a route.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum RouteKind {
    /// Sent on.
    Unicast,
    /// Delivered here.
    Local,
    /// Dropped in silence.
    Blackhole,
    /// Refused with an ICMP error.
    Unreachable,
    /// Any other kind, by its number.
    Other(u8),
}

/// A route.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Route {
    /// Destination prefix.
    pub destination: IpNet,
    /// What happens.
    pub kind: RouteKind,
    /// Table.
    pub table: u32,
    /// Who made it.
    pub protocol: u8,
    /// How far it reaches (IPv4; IPv6 has none).
    pub scope: Scope,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// Index of the device that it leaves by.
    pub link: Option<u32>,
    /// Preferred source address.
    pub source: Option<IpAddr>,
    /// MTU of the route in bytes.
    pub mtu: Option<u32>,
    /// Take the gateway as reachable on the device without a route to it.
    pub onlink: bool,
    /// Priority, smaller first. The kernel sets 1024 for IPv6 routes without one.
    pub metric: Option<u32>,
}

impl Route {
    /// A unicast route of the main table without next hop.
    pub const fn new(destination: IpNet) -> Self {
        Self {
            destination,
            kind: RouteKind::Unicast,
            table: TABLE_MAIN,
            protocol: PROTOCOL_STATIC,
            scope: Scope::Global,
            gateway: None,
            link: None,
            source: None,
            mtu: None,
            onlink: false,
            metric: None,
        }
    }

    /// The default route of the family of `gateway`, by way of `gateway`.
    pub const fn default_via(gateway: IpAddr) -> Self {
        let any = match gateway {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let mut route = Self::new(IpNet::new_assert(any, 0));
        route.gateway = Some(gateway);
        route
    }

    /// The key of the table: what the kernel allows once.
    fn same_slot(&self, other: &Route) -> bool {
        (self.table, self.destination.trunc()) == (other.table, other.destination.trunc())
            && self.effective_metric() == other.effective_metric()
    }

    fn effective_metric(&self) -> u32 {
        let default = if self.destination.addr().is_ipv6() {
            1024
        } else {
            0
        };
        self.metric.unwrap_or(default)
    }
}

impl Socket {
    /// All routes of all tables, of both families.
    pub fn routes(&self) -> Result<Vec<Route>> {
        let about = About {
            operation: "list",
            object: &"routes",
        };
        let answers = self.list(
            about,
            RouteNetlinkMessage::GetRoute(RouteMessage::default()),
        )?;
        Ok(answers
            .iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(message) => parse(message),
                _ => None,
            })
            .collect())
    }

    /// Makes a route, or replaces the one with its destination, table and metric.
    pub fn ensure_route(&self, route: &Route) -> Result<()> {
        let object = route_text(route);
        let about = About {
            operation: "set",
            object: &object,
        };
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.change(about, RouteNetlinkMessage::NewRoute(message(route)), flags)
    }

    /// Removes a route. Absent is fine.
    pub fn delete_route(&self, route: &Route) -> Result<()> {
        let object = route_text(route);
        let about = About {
            operation: "delete",
            object: &object,
        };
        absent_ok(self.change(about, RouteNetlinkMessage::DelRoute(message(route)), 0))
    }

    /// Removes the routes of `protocol` that are not in `keep`. Others' routes are never touched. Goes
    /// on after an error and returns the first.
    pub fn prune_routes(&self, protocol: u8, keep: &[Route]) -> Result<()> {
        let mut result = Ok(());
        for route in self.routes()? {
            if route.protocol == protocol && !keep.iter().any(|k| k.same_slot(&route)) {
                result = result.and(self.delete_route(&route));
            }
        }
        result
    }
}

fn route_text(route: &Route) -> String {
    let mut text = format!("route {}", route.destination);
    if let Some(gateway) = route.gateway {
        text += &format!(" via {gateway}");
    }
    if let Some(link) = route.link {
        text += &format!(" on device {link}");
    }
    text
}

fn message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family(route.destination.addr());
    header.destination_prefix_length = route.destination.prefix_len();
    header.protocol = RouteProtocol::from(route.protocol);
    header.scope = route.scope.into();
    header.kind = route.kind.into();
    if route.onlink {
        header.flags |= RouteFlags::Onlink;
    }
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Table(route.table));
    if route.destination.prefix_len() > 0 {
        attributes.push(RouteAttribute::Destination(
            route.destination.network().into(),
        ));
    }
    attributes.extend(route.gateway.map(|ip| RouteAttribute::Gateway(ip.into())));
    attributes.extend(route.link.map(RouteAttribute::Oif));
    attributes.extend(route.source.map(|ip| RouteAttribute::PrefSource(ip.into())));
    attributes.extend(route.metric.map(RouteAttribute::Priority));
    attributes.extend(
        route
            .mtu
            .map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])),
    );
    message
}

pub(crate) fn parse(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let any: IpAddr = match header.address_family {
        netlink_packet_route::AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        netlink_packet_route::AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let mut destination = any;
    let mut route = Route::new(IpNet::new(any, 0).ok()?);
    route.table = header.table.into();
    route.protocol = header.protocol.into();
    route.kind = header.kind.into();
    route.scope = header.scope.into();
    route.onlink = header.flags.contains(RouteFlags::Onlink);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(ip) => destination = address(ip)?,
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Gateway(ip) => route.gateway = address(ip),
            RouteAttribute::Oif(index) => route.link = Some(*index),
            RouteAttribute::PrefSource(ip) => route.source = address(ip),
            RouteAttribute::Priority(metric) => route.metric = Some(*metric),
            RouteAttribute::Metrics(metrics) => {
                route.mtu = metrics.iter().find_map(|m| match m {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    route.destination = IpNet::new(destination, header.destination_prefix_length).ok()?;
    Some(route)
}

fn address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

impl From<RouteKind> for RouteType {
    fn from(kind: RouteKind) -> Self {
        match kind {
            RouteKind::Unicast => RouteType::Unicast,
            RouteKind::Local => RouteType::Local,
            RouteKind::Blackhole => RouteType::BlackHole,
            RouteKind::Unreachable => RouteType::Unreachable,
            RouteKind::Other(number) => RouteType::from(number),
        }
    }
}

impl From<RouteType> for RouteKind {
    fn from(kind: RouteType) -> Self {
        match kind {
            RouteType::Unicast => RouteKind::Unicast,
            RouteType::Local => RouteKind::Local,
            RouteType::BlackHole => RouteKind::Blackhole,
            RouteType::Unreachable => RouteKind::Unreachable,
            other => RouteKind::Other(other.into()),
        }
    }
}

impl From<Scope> for RouteScope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Global => RouteScope::Universe,
            Scope::Link => RouteScope::Link,
            Scope::Host => RouteScope::Host,
        }
    }
}

impl From<RouteScope> for Scope {
    fn from(scope: RouteScope) -> Self {
        match scope {
            RouteScope::Link => Scope::Link,
            RouteScope::Host => Scope::Host,
            _ => Scope::Global,
        }
    }
}
