// SPDX-License-Identifier: Apache-2.0
//! Routes of the node's stack: to pods here, to pods elsewhere, and nowhere for addresses of ours that nobody has.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink::{Route, RouteKind, Scope, Socket, TABLE_MAIN};

use crate::Result;

/// Protocol number of our routes; those of other numbers are never changed.
pub const ROUTE_PROTOCOL: u8 = 173;
/// What the kernel gives an IPv6 route without a metric.
const METRIC_V6: u32 = 1024;

/// Everything that [`routes`] needs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RoutePlan {
    /// Index of the VXLAN device.
    pub overlay: u32,
    /// Largest inner packet, bytes.
    pub mtu: u32,
    /// Router address, IPv4: source of what the node sends to pods.
    pub router4: Option<Ipv4Addr>,
    /// Router address, IPv6.
    pub router6: Option<Ipv6Addr>,
    /// Pod CIDRs of other nodes and clusters.
    pub remote: BTreeSet<IpNet>,
    /// This node's pod CIDRs.
    pub own: BTreeSet<IpNet>,
    /// This node's pods and their devices.
    pub pods: BTreeMap<IpAddr, u32>,
}

/// The routes of a plan, at most one per destination: a pod wins over an own CIDR, that over a remote one.
/// A default route is nobody's pod CIDR.
pub fn routes(plan: &RoutePlan) -> Vec<Route> {
    let mut routes = BTreeMap::new();
    for net in plan.remote.iter().filter(|net| net.prefix_len() != 0) {
        let mut route = on_device(plan, net.trunc(), plan.overlay);
        route.mtu = Some(plan.mtu);
        routes.insert(route.destination, route);
    }
    for net in &plan.own {
        let mut route = base(net.trunc());
        route.kind = RouteKind::Unreachable;
        routes.insert(route.destination, route);
    }
    for (ip, device) in &plan.pods {
        let route = on_device(plan, IpNet::from(*ip), *device);
        routes.insert(route.destination, route);
    }
    routes.into_values().collect()
}

fn base(destination: IpNet) -> Route {
    let mut route = Route::new(destination);
    route.protocol = ROUTE_PROTOCOL;
    if destination.addr().is_ipv6() {
        route.metric = Some(METRIC_V6);
    }
    route
}

fn on_device(plan: &RoutePlan, destination: IpNet, device: u32) -> Route {
    let mut route = base(destination);
    route.link = Some(device);
    if destination.addr().is_ipv4() {
        route.scope = Scope::Link;
        route.source = plan.router4.map(IpAddr::V4);
    } else {
        route.source = plan.router6.map(IpAddr::V6);
    }
    route
}

/// The parts of a route that we set.
fn essence(route: &Route) -> (IpNet, RouteKind, Option<u32>, Option<IpAddr>, Option<u32>) {
    let link = route.link.filter(|_| route.kind == RouteKind::Unicast);
    (
        route.destination.trunc(),
        route.kind,
        link,
        route.source,
        route.mtu,
    )
}

/// Makes the routes of the main table that are ours exactly those of the plan. Returns the destinations that were
/// left alone because somebody else has a route to them.
pub fn ensure_routes(socket: &Socket, plan: &RoutePlan) -> Result<Vec<IpNet>> {
    let wanted = routes(plan);
    let all = socket.routes()?;
    let main = all.into_iter().filter(|route| route.table == TABLE_MAIN);
    let (own, foreign): (Vec<Route>, Vec<Route>) =
        main.partition(|route| route.protocol == ROUTE_PROTOCOL);
    let metric = |route: &Route| {
        route
            .metric
            .unwrap_or(if route.destination.addr().is_ipv6() {
                METRIC_V6
            } else {
                0
            })
    };
    let taken: BTreeSet<(IpNet, u32)> = foreign
        .iter()
        .map(|route| (route.destination.trunc(), metric(route)))
        .collect();
    // One look per route: a large mesh has thousands of each.
    let there: HashSet<_> = own.iter().map(essence).collect();
    let destinations: HashSet<IpNet> = wanted.iter().map(|route| route.destination).collect();
    let mut conflicts = Vec::new();
    let mut result = Ok(());
    for route in &wanted {
        if taken.contains(&(route.destination, metric(route))) {
            conflicts.push(route.destination);
        } else if !there.contains(&essence(route)) {
            let set = socket.ensure_route(route);
            // The device of a pod that ends goes before its endpoint.
            let of_pod = route.link.is_some_and(|link| link != plan.overlay);
            if !(of_pod && set.as_ref().is_err_and(netlink::Error::is_absent)) {
                result = result.and(set);
            }
        }
    }
    for route in own {
        if !destinations.contains(&route.destination.trunc()) {
            result = result.and(socket.delete_route(&route));
        }
    }
    result?;
    Ok(conflicts)
}

/// Removes every route of ours.
pub fn remove_routes(socket: &Socket) -> Result<()> {
    Ok(socket.prune_routes(ROUTE_PROTOCOL, &[])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("valid")
    }

    #[test]
    fn one_route_per_destination_and_the_closest_wins() {
        let plan = RoutePlan {
            overlay: 7,
            mtu: 1450,
            router4: Some(Ipv4Addr::new(10, 5, 1, 1)),
            router6: None,
            remote: [
                net("10.5.2.0/24"),
                net("10.5.1.0/24"),
                net("0.0.0.0/0"),
                net("fd05::/64"),
            ]
            .into(),
            own: [net("10.5.1.0/24")].into(),
            pods: [("10.5.1.9".parse().expect("valid"), 12)].into(),
        };
        let routes = routes(&plan);
        let find = |text| routes.iter().find(|route| route.destination == net(text));
        assert_eq!(routes.len(), 4);
        assert!(find("0.0.0.0/0").is_none());
        assert_eq!(
            find("10.5.1.0/24").map(|route| route.kind),
            Some(RouteKind::Unreachable)
        );
        let remote = find("10.5.2.0/24").expect("planned");
        assert_eq!((remote.link, remote.mtu), (Some(7), Some(1450)));
        assert_eq!(remote.source, plan.router4.map(IpAddr::V4));
        let pod = find("10.5.1.9/32").expect("planned");
        assert_eq!((pod.link, pod.mtu), (Some(12), None));
        assert_eq!(find("fd05::/64").expect("planned").source, None);
    }
}
