// SPDX-License-Identifier: Apache-2.0
//! CHECK: is everything still as ADD left it? STATUS: could a pod be added?

use std::time::Duration;

use netlink::{Link, NetNs, Route, Socket};

use crate::input::{Check, Request};
use crate::names::{attachment, host_device};
use crate::result::{PreviousInterface, PreviousRoute};
use crate::{Error, agent};

/// How long CHECK and STATUS wait for an agent that does not answer.
const CONNECT: Duration = Duration::from_secs(5);

pub(crate) async fn check(request: &Request, check: &Check) -> Result<String, Error> {
    let netns = NetNs::open(&check.netns).map_err(|source| Error::Namespace { source })?;
    let client = agent::client(request);
    agent::connect(&client, CONNECT.min(request.connect_timeout)).await?;
    let id = attachment(&check.container, Some(&check.interface));
    let health = client
        .endpoint_health(&id)
        .await
        .map_err(|source| Error::Agent {
            operation: "read the endpoint's health",
            source,
        })?;
    // What differs on this side is said first: it may be why the agent is not content.
    devices(check, &netns)?;
    if health.overall_health == "Failure" {
        let log = client.endpoint_log(&id).await.unwrap_or_default();
        return Err(Error::Unhealthy {
            container: check.container.clone(),
            health: health.overall_health,
            reason: log.first().map(|newest| newest.message.clone()),
        });
    }
    Ok(String::new())
}

/// The pair, its addresses and its routes are as ADD made them. What the agent made is the agent's to look at.
fn devices(check: &Check, netns: &NetNs) -> Result<(), Error> {
    let (near, far) = (
        host_device(&check.container, &check.interface),
        &check.interface,
    );
    let host = Socket::open()?.link(&near)?;
    let host = usable(host, &near, "host")?;
    let pod = Socket::open_in(netns)?;
    let link = usable(pod.link(far)?, far, "container")?;
    if host.parent != Some(link.index) {
        return changed(format!(
            "devices {near} of the host and {far} of the container are no pair"
        ));
    }
    let previous = &check.previous;
    let of_host = |i: &PreviousInterface| i.name == near && i.sandbox.is_empty();
    let of_pod = |i: &PreviousInterface| i.name == *far && !i.sandbox.is_empty();
    let position = previous.interfaces.iter().position(of_pod);
    as_told(&host, previous.interfaces.iter().find(|i| of_host(i)))?;
    as_told(&link, position.map(|at| &previous.interfaces[at]))?;
    // Plugins after this one may have it less ("tuning"): that breaks nothing. More is lost between the two.
    if link.mtu > host.mtu {
        let (near_mtu, far_mtu) = (host.mtu, link.mtu);
        return changed(format!(
            "{near} has the MTU {near_mtu}, {far} the MTU {far_mtu}"
        ));
    }
    let addresses = pod.addresses_of(link.index)?;
    for ip in &previous.ips {
        let ours = ip.interface.is_none() || ip.interface == position;
        if ours && !addresses.iter().any(|a| a.net == ip.address) {
            return changed(format!("address {} of {far} is gone", ip.address));
        }
    }
    let routes = pod.routes()?;
    previous
        .routes
        .iter()
        .try_for_each(|wanted| route(&routes, wanted, &link))
}

fn changed<T>(problem: String) -> Result<T, Error> {
    Err(Error::Changed { problem })
}

fn usable(link: Option<Link>, name: &str, owner: &str) -> Result<Link, Error> {
    match link {
        None => changed(format!("device {name} of the {owner} is gone")),
        Some(link) if !link.up => changed(format!("device {name} of the {owner} is down")),
        Some(link) => Ok(link),
    }
}

/// Whether a device has what the result of ADD says of it.
fn as_told(link: &Link, told: Option<&PreviousInterface>) -> Result<(), Error> {
    let Some(told) = told else { return Ok(()) };
    let name = &link.name;
    let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    let wanted = told.mac.to_lowercase();
    if !wanted.is_empty() && wanted != mac {
        return changed(format!("device {name} has the address {mac}, not {wanted}"));
    }
    match told.mtu {
        Some(mtu) if mtu != 0 && mtu != link.mtu => {
            changed(format!("device {name} has the MTU {}, not {mtu}", link.mtu))
        }
        _ => Ok(()),
    }
}

fn route(routes: &[Route], wanted: &PreviousRoute, link: &Link) -> Result<(), Error> {
    let (destination, name) = (wanted.dst, &link.name);
    let same = |r: &&Route| {
        r.destination == destination
            && r.link == Some(link.index)
            && (wanted.gw.is_none() || r.gateway == wanted.gw)
    };
    let Some(found) = routes.iter().find(same) else {
        return changed(format!("route {destination} by {name} is gone"));
    };
    match wanted.mtu {
        Some(mtu) if mtu != 0 && found.mtu != Some(mtu) => {
            let has = found
                .mtu
                .map_or("no MTU".into(), |mtu| format!("the MTU {mtu}"));
            changed(format!(
                "route {destination} by {name} has {has}, not {mtu}"
            ))
        }
        _ => Ok(()),
    }
}

pub(crate) async fn status(request: &Request) -> Result<String, Error> {
    let client = agent::client(request);
    let not_ready = |problem: String| Error::NotReady { problem };
    agent::connect(&client, CONNECT.min(request.connect_timeout))
        .await
        .map_err(|error| not_ready(error.to_string()))?;
    // What it is short of or cannot reach costs some pods something. A runtime takes the whole node out for this.
    match client.version().await {
        Ok(version) if !version.ready => Err(not_ready("it waits for its first lists".into())),
        // Of another release it is known that it answers.
        Ok(_) | Err(api::Error::Version { .. }) => Ok(String::new()),
        Err(error) => Err(not_ready(error.to_string())),
    }
}
